"""A file of JSON objects, one a line, that is added to: what an interruption leaves is read, and goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from edgecascade.export.writing import check_out
from edgecascade.types.errors import ExportError, first_line

__all__ = ["LineFile", "read_lines"]


class LineFile:
    """A file that lines are added to, each written at once. Thread-safe.

    Args:
        path: the file; it is made with the first line.
        argument: what messages call it.

    Raises:
        ExportError: the path is that of a folder, or in one that cannot be written to.
    """

    def __init__(self, path: str | os.PathLike[str], argument: str = "replies") -> None:
        check_out(path, argument)
        self.path = Path(path)
        self._lock = Lock()
        content = self.path.read_bytes() if self.path.is_file() else b""
        self._cut = len(content) - content.rfind(b"\n") - 1  # bytes at the end, of a line that was cut off

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a line.

        Raises:
            OSError: the file cannot be written.
        """
        text = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace")
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                if self._cut:
                    file.truncate(file.tell() - self._cut)
                    self._cut = 0
                file.write(text + b"\n")


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place of each line, for error messages, and its object; a last line without an end is left out.

    Raises:
        ExportError: a line is no object.
    """
    *lines, _ = path.read_bytes().split(b"\n")  # what has no end was cut off by an interruption
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path}:{number}: not a line of a replies file"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ExportError(f"{place}: {first_line(error)}") from error
        if not isinstance(found, dict):
            raise ExportError(f"{place}: expected a JSON object, got another value")
        yield place, found
