"""Share cascade files on the Hugging Face Hub, with a model card that is written from the document in the file."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from edgecascade.runtime.engine import open_session, read_document
from edgecascade.runtime.golden import read_golden
from edgecascade.runtime.weights_file import check_weights
from edgecascade.types.document import CascadeDocument, ImagePreprocessing, TaskDocument, TextPreprocessing
from edgecascade.types.document.summary import document_rows
from edgecascade.types.errors import ExportError, first_line, printable
from edgecascade.types.extras import naming_extras

__all__ = ["from_hub", "model_card", "push_to_hub"]

_SUFFIXES = (".onnx", ".tflite")
_CARD = """---
{data}
---

# {title}

A small model that knows how confident it is, and how much it would gain from asking a larger one about an input. It
answers on the device, and forwards only inputs for which the remote is expected to do better. The file is a
cascade file of [edgecascade](https://github.com/edgecascade/edgecascade): temperature, decision and policy are part of
its graph. The remote is not part of this repository. The device needs `edgecascade[{needs}]`, and
`edgecascade[hf]` to download the file.

```python
from edgecascade import Cascade
from edgecascade.export import from_hub

with Cascade.load(from_hub("{repo}"), remote="http://HOST:PORT/v2/models/NAME") as cascade:
    answer = cascade.predict({x})
    print(answer.{what}, answer.confidence, answer.source.value)
```

## What was measured

All figures are those of the calibration data, with 95 % intervals. They hold for inputs that are drawn like these, and
for the remote that was calibrated with them.

```text
{rows}
```
"""
_NEEDS = {"image": "cpu,images", "text": "cpu,text"}
_log = logging.getLogger(__name__)


def model_card(path: str | os.PathLike[str], repo_id: str, *, license: str | None = None) -> str:
    """Return the model card of a cascade file, in Markdown with the Hub's metadata.

    Args:
        path: the cascade file.
        repo_id: the repository that it is for, such as `you/colours`.
        license: of the model, by the Hub's name, such as `apache-2.0`; None leaves it out.

    Raises:
        ModelFileError: the file is not a cascade file.
        ModuleNotFoundError: the `hf` extra is not installed.
    """
    with naming_extras():
        from huggingface_hub import ModelCardData

    document = read_document(open_session(path), path)
    tags = ["onnx", "model-cascade", "calibration", "edge"]
    task = {ImagePreprocessing: "image", TextPreprocessing: "text"}.get(type(document.preprocessing))
    x = {"image": '"photo.jpg"', "text": '"A sentence."'}.get(task or "", "x")
    classifies = isinstance(document, CascadeDocument)
    data = ModelCardData(
        license=license,
        library_name="edgecascade",
        tags=tags,
        pipeline_tag=f"{task}-classification" if classifies and task else None,
    )
    lines = (f"{head:<12}{text}".replace("\n", "\\n") for head, text in document_rows(document))
    rows = printable("\n".join(lines)).replace("```", "'''")  # a name must not end the block
    what = "name" if classifies else "outputs"
    needs = _NEEDS.get(task or "", "cpu")
    shown = {"title": repo_id.split("/")[-1], "repo": repo_id, "x": x, "what": what, "needs": needs, "rows": rows}
    return _CARD.format(data=data.to_yaml(), **shown)


def push_to_hub(
    path: str | os.PathLike[str],
    repo_id: str,
    *,
    card: str | None = None,
    license: str | None = None,
    private: bool | None = None,
    message: str = "Add a cascade file",
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Upload a cascade file, what belongs to it and its model card in one commit, and return the commit's address.

    Weights and a tokenizer beside the file go with it. Golden inputs in the file are calibration inputs: a warning says
    so where the repository is not private. `edgecascade calibrate --no-golden` leaves them out.

    Args:
        path: the cascade file.
        repo_id: the repository, which is made if there is none.
        card: the text of its README.md; by default that of `model_card`.
        license: as in `model_card`.
        private: whether a new repository is private; None for the account's default.
        message: of the commit.
        token: for the Hub; by default the one that `hf auth login` stored.
        endpoint: the address of the Hub, if it is another.

    Raises:
        ModelFileError: the file is not a cascade file, or lacks its weights.
        ExportError: the Hub refuses it, or cannot be reached.
        ModuleNotFoundError: the `hf` extra is not installed.
    """
    with naming_extras():
        from huggingface_hub import CommitOperationAdd, HfApi

    place = Path(path)
    session = open_session(path)
    document = read_document(session, path)
    golden = read_golden(session, path) is not None
    files = [place, *_beside(place, document)]
    operations = [CommitOperationAdd(file.name, str(file)) for file in files]
    text = model_card(path, repo_id, license=license) if card is None else card
    operations.append(CommitOperationAdd("README.md", text.encode()))
    api = HfApi(endpoint=endpoint, token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if golden and not api.repo_info(repo_id).private:  # one that was there may be public in any case
            _log.warning("%s: some of its calibration inputs, the golden inputs, are in it and will be public", path)
        return str(api.create_commit(repo_id, operations, commit_message=message).commit_url)
    except (OSError, ValueError) as error:  # of the Hub's client, all its own errors included
        raise ExportError(f"{repo_id}: cannot upload to the Hub: {first_line(error)}") from error


def from_hub(
    repo_id: str,
    *,
    file: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Path:
    """Download a cascade file with what belongs to it, and return its path, for `Cascade.load`.

    Files that are there already are not downloaded again; without a network, they are taken as they are.

    Args:
        repo_id: the repository, such as `you/colours`.
        file: its name, if the repository has several.
        revision: a branch, a tag or the hash of a commit; name a hash to get the same file for ever.
        token: for the Hub; by default the one that `hf auth login` stored.
        endpoint: the address of the Hub, if it is another.
        folder: where to put the files; by default the Hub's cache.

    Raises:
        ExportError: it cannot be downloaded, or there is no such file.
        ModuleNotFoundError: the `hf` extra is not installed.
    """
    with naming_extras():
        from huggingface_hub import snapshot_download

    place = None if folder is None else Path(folder)
    try:
        found = snapshot_download(
            repo_id, revision=revision, token=token, endpoint=endpoint, local_dir=place, ignore_patterns=["*.md"]
        )
    except (OSError, ValueError) as error:
        raise ExportError(f"{repo_id}: cannot download from the Hub: {first_line(error)}") from error
    names = sorted(one.name for one in Path(found).iterdir() if one.suffix in _SUFFIXES)
    chosen = names if file is None else [name for name in names if name == file]
    if len(chosen) != 1:
        wanted = "one cascade file; name one with `file`" if file is None else f"the file {file}"
        raise ExportError(f"{repo_id}: expected {wanted}, got {', '.join(names) or 'none'}")
    return Path(found) / chosen[0]


def _beside(path: Path, document: CascadeDocument | TaskDocument) -> list[Path]:
    """Return the files that belong to a cascade file."""
    weights = check_weights(path)
    preprocessing = document.preprocessing
    if not isinstance(preprocessing, TextPreprocessing):
        return [] if weights is None else [weights]
    tokenizer = path.parent / Path(preprocessing.tokenizer).name  # also if the file names one elsewhere
    return [tokenizer] if weights is None else [weights, tokenizer]
