"""A few of the inputs themselves, where they are images or text: forwarded ones and wrong local answers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.offload.predictions import Predictions
from edgecascade.benchmarks.report.contents import Example, Examples
from edgecascade.export.data import Inputs

__all__ = ["find_examples"]

_MOST = 6
_SIDE = 160  # pixels of an image in the page
_CHARACTERS = 300
_SEED = 2601


def find_examples(inputs: Inputs, v: Predictions, names: Sequence[str]) -> tuple[Examples, ...]:
    """Return inputs drawn at random from three groups by the file's decision; nothing if they are not images or text.

    Args:
        inputs: The inputs [n, ...].
        v: What both models say about them.
        names: The names of the classes.
    """
    if isinstance(inputs, Mapping) or _content(inputs[0]) is None:
        return ()
    sent, right, after = v.forward, v.local_correct, v.merged_correct
    groups = {
        "Forwarded and corrected": sent & ~right & after,
        "Forwarded and made wrong": sent & right & ~after,
        "Answered on the device and wrong": ~sent & ~right,
    }
    rng = np.random.default_rng(_SEED)
    found = []
    for title, members in groups.items():
        where = np.flatnonzero(members)
        drawn = sorted(rng.permutation(where)[:_MOST].tolist())
        shown = tuple(
            Example(content, _caption(v, i, names)) for i in drawn if (content := _content(inputs[i])) is not None
        )
        if shown:
            found.append(Examples(f"{title}: {len(shown)} of {len(where)}, drawn at random", shown))
    return tuple(found)


def _caption(v: Predictions, i: int, names: Sequence[str]) -> str:
    local, remote, true = (names[int(labels[i])] for labels in (v.local_label, v.remote_label, v.label))
    return f"local {local} {v.confidence[i]:.2f}, remote {remote} {v.remote_confidence[i]:.2f}; labelled {true}"


def _content(x: Any) -> str | bytes | None:
    """Return a text, or a PNG of an image; None for anything else."""
    if isinstance(x, str):
        return x if len(x) <= _CHARACTERS else f"{x[:_CHARACTERS]}..."
    pixels = _pixels(np.asarray(x))
    if pixels is None:
        return None
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _pixels(x: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return uint8 [height, width] or [height, width, 3]; also of floats in [0, 1], channels first."""
    if x.dtype.kind == "f" and x.ndim == 3 and x.shape[0] in (1, 3) and x.min() >= 0 and x.max() <= 1:
        x = np.round(x.transpose(1, 2, 0) * 255).astype(np.uint8)
    if x.dtype != np.uint8 or x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[2] not in (1, 3)):
        return None
    return np.ascontiguousarray(x[..., 0] if x.ndim == 3 and x.shape[2] == 1 else x)
