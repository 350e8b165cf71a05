"""Progress on standard error, with the time left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

from edgecascade.export.scores import Progress

__all__ = ["counting", "progress", "stepping"]

T = TypeVar("T")
_STYLE: dict[str, Any] = {"ncols": 90, "mininterval": 0.5, "leave": True}


def progress(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The items, with a bar that says what is being done to them."""
    yield from tqdm(items, desc=f"{what:<28}", total=total, unit="", **_STYLE)


@contextmanager
def counting(what: str, total: int) -> Iterator[Progress]:
    """A function to call with the number of inputs just done."""
    with tqdm(desc=f"{what:<28}", total=total, unit="", **_STYLE) as bar:
        yield bar.update


@contextmanager
def stepping(total: int) -> Iterator[tqdm[Any]]:
    """A bar over steps; the time left is by the mean of all that were done, as one takes much longer than another."""
    with tqdm(total=total, unit="", smoothing=0, **_STYLE) as bar:
        yield bar
