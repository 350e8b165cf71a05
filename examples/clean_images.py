"""Find images in the wrong folder: two models dispute labels, and a person judges a random sample of the disputed ones.

pip install 'edgecascade[cpu,clean,export]'
python clean_images.py photos/ checked/ small.onnx large.onnx    # a folder for each class, in both
"""

import sys
from pathlib import Path
from shutil import copyfile

from edgecascade.calibration.cleaning import Experts, check_held_out, draw_audit, find_suspects, fit_pool
from edgecascade.export import local_scores, read_labelled


def main(judged: str, held_out: str, *models: str) -> None:
    """Print the most suspect images, and copy those to judge into the folder audit/, which must be new.

    The models must not have been trained on the images of either folder. Those of `held_out` weight the models. Classes
    are in the alphabetical order of their folders: that of the models' outputs, or an error says otherwise.
    """
    photos, checked = read_labelled(judged), read_labelled(held_out)
    here, there = (Experts.of([local_scores(one, data.inputs) for one in models]) for data in (photos, checked))
    check_held_out(here, photos.labels, there, checked.labels)
    pool = fit_pool(there, checked.labels)
    print(pool)
    suspects = find_suspects(here, photos.labels, pool)
    print(f"{suspects.flagged.sum()} of {suspects.n} labels are disputed")
    for row, given, suggested in list(zip(suspects.row, suspects.given, suspects.suggested, strict=True))[:10]:
        print(f"{photos.files[row]}: {photos.names[given]}, or rather {photos.names[suggested]}?")
    # Only people can say how many labels are wrong. They judge copies, as the folder of an image tells its given label;
    # with the verdict on copy 007 as that on row `audit.rows[7]`, call `judge`.
    audit, copies = draw_audit(suspects, 100), Path("audit")
    copies.mkdir()
    for number, row in enumerate(audit.rows):
        copyfile(photos.files[row], copies / f"{number:03}{Path(photos.files[row]).suffix}")
    print(f"judge the {len(audit)} images in audit/")


if __name__ == "__main__":
    main(*sys.argv[1:])
