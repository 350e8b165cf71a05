"""Progress bars on standard error, with the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from edgecascade.export.scores import Progress

__all__ = ["counting", "stepping"]

_STYLE: dict[str, Any] = {"ncols": 90, "mininterval": 0.5, "leave": True}


@contextmanager
def counting(what: str, total: int) -> Iterator[Progress]:
    """Show a bar; give a function to call with the number of inputs just done."""
    with tqdm(desc=f"{what:<28}", total=total, unit="", **_STYLE) as bar:
        yield bar.update


@contextmanager
def stepping(total: int) -> Iterator[tqdm[Any]]:
    """Show a bar over steps of different lengths; the time left is estimated from the mean of all done so far."""
    with tqdm(total=total, unit="", smoothing=0, **_STYLE) as bar:
        yield bar
