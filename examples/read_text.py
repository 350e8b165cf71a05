"""Make a cascade of two text recognisers, and read lines: the small one on the device, hard lines by the large one.

pip install 'edgecascade[cpu,images,tasks]'
python read_text.py body.onnx large.onnx keys.txt lines/    # 0001.png (or .npy) with 0001.txt beside it, and so on
"""

import sys
from pathlib import Path
from typing import Any

from edgecascade import Cascade
from edgecascade.calibration import MostAccuracy
from edgecascade.calibration.verifiers import CharacterAccuracy
from edgecascade.export import calibrate_task, read_references
from edgecascade.runtime import Ctc


def main(body: str, large: str, keys: str, folder: str) -> None:
    """Calibrate on the first half of the lines, and read the second."""
    read = Ctc(Path(keys).read_text(encoding="utf-8").splitlines())
    data = read_references(folder)
    lines: Any = data.inputs
    half = len(lines) // 2
    found = calibrate_task(
        body,
        "reader.onnx",
        lines[:half],
        data.references[:half],
        confidence="mean-log-probability:blank=0",
        verifier=CharacterAccuracy(),
        remote=large,
        decode=read,
        objective=MostAccuracy(0.3),
    )
    print(found.plan)
    texts: dict[str, list[str]] = {"cascade": [], "small alone": []}
    with Cascade.load("reader.onnx", remote=large, decode=read) as cascade:
        for answer in cascade.stream(lines[half:]):
            texts["cascade"].append(answer.result)
            texts["small alone"].append(read(answer.local.outputs))
    for name, some in texts.items():
        values = CharacterAccuracy()(some, data.references[half:])
        print(f"{name:<12} 1 - CER {sum(values) / len(values):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
