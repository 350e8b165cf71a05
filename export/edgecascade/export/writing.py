"""Write files whole, and check beforehand whether they can be written and what they would replace."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgecascade.types.errors import ExportError

__all__ = ["check_out", "check_tokenizer", "move", "refuse_same", "temporary", "write_tokenizer", "write_whole"]


def check_out(path: str | os.PathLike[str], argument: str = "out") -> None:
    """Check that a file can be written, before there is anything to write. A folder that is missing will be made.

    Args:
        path: of the file.
        argument: what messages call it.

    Raises:
        ExportError: the path is that of a folder, or is in one that cannot be written to.
    """
    place = Path(path)
    if place.is_dir():
        raise ExportError(f"{argument}: expected a file to write, got the folder {place}")
    if not place.exists() or place.is_file():  # a device or a pipe is written to in place
        folder = next(one for one in place.resolve().parents if one.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ExportError(f"{argument}: expected a folder that can be written to, got {folder}")


def refuse_same(out: str | os.PathLike[str], read: Mapping[str, str | os.PathLike[str]], argument: str = "out") -> None:
    """Check that a file to write is none of the files that are read.

    Args:
        out: the file to write.
        read: the files that are read, or written before, by what messages call them; addresses are passed over.
        argument: what messages call the file to write.

    Raises:
        ExportError: it is one of them.
    """
    for name, path in read.items():
        both = os.path.exists(out) and os.path.exists(path)
        if os.path.samefile(path, out) if both else os.path.realpath(path) == os.path.realpath(out):
            raise ExportError(f"{argument}: expected another file than {name}, got {os.fspath(out)}")


def write_whole(content: bytes, path: str | os.PathLike[str]) -> None:
    """Write a file. It appears whole or not at all. A symbolic link stays one, and a device or a pipe is written to."""
    place = Path(path).resolve()
    if place.exists() and not place.is_file() and not place.is_dir():
        place.write_bytes(content)
        return
    with temporary(place, named=path) as part:
        part.write(content)
        move(part, place)


@contextmanager
def temporary(place: Path, named: str | os.PathLike[str] | None = None) -> Iterator[Any]:
    """Give an open file beside a place, to write and then to `move`; without that it does not stay.

    Args:
        place: of the file that is meant, whose folder is made.
        named: what errors without a file name are about; by default the place.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=place.parent, suffix=".part", delete=False) as part:
        try:
            yield part
        except BaseException as error:
            os.unlink(part.name)
            if isinstance(error, OSError) and error.filename is None:  # of `write`, such as a full disk
                error.filename = str(place if named is None else named)
            raise


def move(part: Any, place: Path) -> None:
    """Move a file of `temporary` to its place."""
    part.close()
    os.chmod(part.name, 0o644)
    os.replace(part.name, place)


def check_tokenizer(name: str, content: bytes, out: str | os.PathLike[str]) -> None:
    """Check that a tokenizer can be written beside a model that is to be written.

    Raises:
        ExportError: the model would be a new file in a folder with another tokenizer, which another model needs.
    """
    file = Path(out).parent / name
    if file.exists() and not Path(out).exists() and file.read_bytes() != content:
        raise ExportError(f"out: expected a folder without the {name} of another model, got {file.parent}")


def write_tokenizer(name: str, content: bytes, out: str | os.PathLike[str]) -> None:
    """Write a tokenizer beside a model that is to be written; raises what `check_tokenizer` does."""
    check_tokenizer(name, content, out)
    write_whole(content, Path(out).parent / name)
