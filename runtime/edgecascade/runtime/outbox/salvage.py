"""Copy the undamaged rows of a damaged outbox file into a new one.

The file is read page by page, since SQLite gives up a whole table at a damaged page. Tables are found by their root
pages, which the schema determines, so that a damaged header costs no row. Only if the tree of a table is damaged, all
pages are searched except the free ones. Source: "Database File Format" and "WAL-mode File Format", sqlite.org.
"""

from __future__ import annotations

import math
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.outbox.file import PAGE, Ending, checksum, roots
from edgecascade.runtime.outbox.packed import PackedError, Packing, unpack
from edgecascade.types.errors import InputError

__all__ = ["DamagedFile", "log_is_damaged", "restore"]

Row: TypeAlias = list[Any]

_MAGIC = b"SQLite format 3\0"
_LEAF, _INTERIOR = 13, 5  # types of a table's pages
_FIRST = 100  # bytes of the file's header, before the content of page 1
_LOG_HEADER, _FRAME_HEADER = 32, 24  # bytes
_LOG_MAGIC = {b"\x37\x7f\x06\x82": "<u4", b"\x37\x7f\x06\x83": ">u4"}  # and the words that its checksums add up
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # bytes of the integers, by type
_MOST_WRITTEN = 16 << 20  # bytes in the log of the new file
_BROKEN = (IndexError, ValueError, struct.error, RecursionError)


def restore(path: str, db: sqlite3.Connection, counts: Mapping[str, int] | None) -> None:
    """Copy all rows whose checksums match, and count the others as damaged.

    Args:
        path: the damaged file.
        db: the new, empty file.
        counts: the counts of the damaged file if they are known; otherwise they are read from it, too.

    Raises:
        OSError: the damaged file cannot be read.
        sqlite3.Error: the new file cannot be written.
    """
    root = roots()
    with DamagedFile(path, PAGE) as file:
        if counts is None:
            counts = {name: n for _, (name, n) in file.rows(root["count"], 2) if type(n) is int and n >= 0}
        answers = {row[1]: row for i, row in file.rows(root["answer"], 12) if _is_answer(i, row)}
        inputs = {row[1]: row for i, row in file.rows(root["input"], 8) if _is_input(i, row) and row[1] not in answers}
        tried = {row[1]: row[5:] for _, row in file.rows(root["question"], 7) if _all_numbers(row[5:])}
        moments = [row for _, row in file.rows(root["moment"], 4) if _all_numbers(row[:3]) and type(row[3]) is str]
        latest = max([row[3] for row in (*answers.values(), *inputs.values())], default=0.0)
        db.execute("BEGIN IMMEDIATE")
        moment = moments[0] if moments else [latest, 0.0, 0.0, ""]
        db.execute("INSERT INTO moment VALUES(?,?,?,?)", moment)
        for row in answers.values():
            row[5] = moment[0]  # when it is delivered: now, as all that waits, since the last moment may be lost
            db.execute(f"INSERT OR IGNORE INTO answer VALUES({','.join('?' * 12)})", row)
        db.execute("COMMIT")
        waiting: dict[bytes, list[Row]] = {}
        for row in inputs.values():
            waiting.setdefault(row[2], []).append(row)
        restored, written = len(answers), 0
        for i, (_, data) in file.rows(root["content"], 2):
            digest = blake2b(data, digest_size=16).digest() if isinstance(data, bytes) else b""
            if digest in waiting and (kind := _kind(data)) is not None:
                rows = waiting.pop(digest)
                _add(db, i, [digest, kind, len(data), moment[0], *tried.get(digest, (0.0, 0))], data, rows)
                restored, written = restored + len(rows), written + len(data)
                if written > _MOST_WRITTEN:
                    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                    written = 0
    known = {"waiting", "answered"} <= counts.keys()
    lost = counts["waiting"] + counts["answered"] if known else len(inputs) + len(answers)
    totals = {one.value: counts.get(one.value, 0) for one in Ending}
    totals[Ending.DAMAGED.value] += max(0, lost - restored)
    db.executemany("UPDATE count SET n=n+? WHERE name=?", [(n, name) for name, n in totals.items()])


def _add(db: sqlite3.Connection, id: int, question: Row, data: bytes, inputs: list[Row]) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT OR REPLACE INTO question VALUES(?,?,?,?,?,?,?)", (id, *question))
    db.execute("INSERT OR REPLACE INTO content VALUES(?,?)", (id, data))
    for row in inputs:
        db.execute("INSERT OR IGNORE INTO input VALUES(?,?,?,?,?,?,?,?)", row)
    db.execute("COMMIT")


def _is_input(id: int, row: Row) -> bool:
    """Return whether the values of a row in `input` are undamaged, and give it its id."""
    row[0] = id
    _, key, digest, since, wall, size, total, local = row
    return _all_numbers([id, since, wall, size]) and checksum(key, digest, local) == total


def _is_answer(id: int, row: Row) -> bool:
    """Return whether the values of a row in `answer` are undamaged, and give it its id."""
    row[0] = id
    _, key, digest, *numbers, total, local, remote = row
    return _all_numbers([id, *numbers]) and checksum(key, digest, local, remote) == total


def _all_numbers(values: Row) -> bool:
    return all(isinstance(one, (int, float)) and math.isfinite(one) and abs(one) < 1e15 for one in values)


def _kind(data: bytes) -> str | None:
    try:
        return Packing(unpack(data)).kind
    except (PackedError, InputError):
        return None


class DamagedFile:
    """The pages of a file, with those in its write-ahead log. A context manager: leaving it closes both.

    Args:
        path: the file; `path-wal` is its log.
        page_size: bytes of a page.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: str, page_size: int) -> None:
        self._size = page_size
        with ExitStack() as opened:
            self._file = opened.enter_context(open(path, "rb"))
            log = Path(f"{path}-wal")
            self._log = opened.enter_context(log.open("rb")) if log.is_file() else None
            self._opened = opened.pop_all()
        pages = self._file.seek(0, 2) // page_size
        self._in_log = self._frames(pages)
        self._pages = max([pages, *self._in_log])
        header = self._page(1)[:_FIRST]
        good = header.startswith(_MAGIC)
        self._usable = page_size - (header[20] if good else 0)
        self._free = self._freelist(_number(header, 32)) if good else set[int]()

    def __enter__(self) -> DamagedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def rows(self, root: int, columns: int) -> Iterator[tuple[int, Row]]:
        """Yield id and values of each readable row of a table; the caller checks the values.

        Args:
            root: its root page.
            columns: number of its columns, which no other table has.
        """
        try:
            leaves = list(self._leaves(root, set()))
        except _BROKEN:  # with it, the pages of the other tables, whose rows have other columns
            leaves = [n for n in range(1, self._pages + 1) if n not in self._free]
        for n in leaves:
            page, start = self._page(n), _FIRST if n == 1 else 0
            with suppress(*_BROKEN):
                if page[start] != _LEAF:
                    continue
                for i in range(int.from_bytes(page[start + 3 : start + 5], "big")):
                    at = start + 8 + 2 * i
                    with suppress(*_BROKEN):
                        row = self._row(page, int.from_bytes(page[at : at + 2], "big"), columns)
                        if row is not None:
                            yield row

    def _leaves(self, n: int, seen: set[int]) -> Iterator[int]:
        page, start = self._page(n), _FIRST if n == 1 else 0
        if n in seen or page[start] not in (_LEAF, _INTERIOR):
            raise ValueError("the tree is damaged")
        seen.add(n)
        if page[start] == _LEAF:
            yield n
            return
        for i in range(int.from_bytes(page[start + 3 : start + 5], "big")):
            at = start + 12 + 2 * i
            yield from self._leaves(_number(page, int.from_bytes(page[at : at + 2], "big")), seen)
        yield from self._leaves(_number(page, start + 8), seen)

    def _row(self, page: bytes, at: int, columns: int) -> tuple[int, Row] | None:
        """Return id and values of the row that begins here; None if it has another number of columns."""
        size, at = _varint(page, at)
        id, at = _varint(page, at)
        end, first = _varint(page, at)
        types: list[int] = []
        while first < at + end:
            one, first = _varint(page, first)
            types.append(one)
        if len(types) != columns or size > self._pages * self._size:
            return None
        return id, _values(self._payload(page, at, size)[end:], types)

    def _payload(self, page: bytes, at: int, size: int) -> bytes:
        most, least = self._usable - 35, (self._usable - 12) * 32 // 255 - 23
        if size <= most:
            return page[at : at + size]
        local = least + (size - least) % (self._usable - 4)
        local = local if local <= most else least
        parts, rest, n = [page[at : at + local]], size - local, _number(page, at + local)
        while rest > 0:
            following = self._page(n)
            part = following[4 : self._usable][:rest]
            parts.append(part)
            rest, n = rest - len(part), _number(following, 0)
        return b"".join(parts)

    def _page(self, n: int) -> bytes:
        if not 0 < n <= 1 << 31:
            raise ValueError("no such page")
        if n in self._in_log and self._log is not None:
            self._log.seek(self._in_log[n])
            page = self._log.read(self._size)
        else:
            self._file.seek((n - 1) * self._size)
            page = self._file.read(self._size)
        return page.ljust(self._size, b"\0")

    def _frames(self, pages: int) -> dict[int, int]:
        """Return where the log has the latest committed content of each page, for a file of so many pages."""
        found, uncommitted = dict[int, int](), dict[int, int]()
        if self._log is None:
            return found
        for place, head in _log_frames(self._log, self._size):
            uncommitted[_number(head, 0)] = place + _FRAME_HEADER
            if _number(head, 4):  # the last frame of a transaction
                found |= uncommitted
                uncommitted.clear()
        most = pages + len(found)  # a log adds at most a page a frame; other numbers are damaged
        return {n: at for n, at in found.items() if 0 < n <= most}

    def _freelist(self, trunk: int) -> set[int]:
        free = set[int]()
        with suppress(*_BROKEN):
            while trunk and trunk not in free:
                free.add(trunk)
                page = self._page(trunk)
                n = min(_number(page, 4), self._size // 4 - 2)
                free.update(_number(page, 8 + 4 * i) for i in range(n))
                trunk = _number(page, 0)
        return free


def log_is_damaged(path: str, page_size: int) -> bool:
    """Return whether the write-ahead log of a file has a whole transaction behind a damaged place.

    SQLite ends the log at the first checksum that does not match, and drops what follows without an error. Such a place
    is expected in the last transaction only, which the end of the process may have cut short.

    Args:
        path: the file, which is not open; `path-wal` is its log.
        page_size: bytes of a page.

    Raises:
        OSError: the log cannot be read.
    """
    log = Path(f"{path}-wal")
    if not (log.is_file() and Path(path).is_file()):
        return False
    with log.open("rb") as file:
        header = file.read(_LOG_HEADER)
        whole, end, sums = _is_log_header(header), _LOG_HEADER, header[24:]
        for place, head in _log_frames(file, page_size):
            if whole and place == end:
                sums = _log_checksum(head[:8] + file.read(page_size), sums, header)
                whole, end = sums == head[16:], place + _FRAME_HEADER + page_size
            elif _number(head, 4):  # the last frame of a transaction
                return True
            else:
                whole = False
    return False


def _log_frames(log: BinaryIO, page_size: int) -> Iterator[tuple[int, bytes]]:
    """Yield place and header of each frame since the log was last begun anew; the page may be read after it."""
    end = log.seek(0, 2)
    log.seek(0)
    header = log.read(_LOG_HEADER)
    places = range(_LOG_HEADER, end - _FRAME_HEADER - page_size + 1, _FRAME_HEADER + page_size)
    salts = header[16:24] if _is_log_header(header) else _salts(_head(log, place) for place in places)
    for place in places if any(salts) else ():  # zeros: disk space that is held for the log
        head = _head(log, place)
        if head[8:16] == salts:
            yield place, head


def _head(log: BinaryIO, place: int) -> bytes:
    log.seek(place)
    return log.read(_FRAME_HEADER)


def _salts(heads: Iterable[bytes]) -> bytes:
    """Return the salts of the first two frames in a row that agree, or those of the first, if a log has no header."""
    first = before = b""
    for head in heads:
        salts = head[8:16]
        if salts == before and any(salts):
            return salts
        first, before = first or salts, salts
    return first


def _is_log_header(header: bytes) -> bool:
    if len(header) < _LOG_HEADER or header[:4] not in _LOG_MAGIC:
        return False
    return _log_checksum(header[:24], bytes(8), header) == header[24:]


def _log_checksum(data: bytes, before: bytes, header: bytes) -> bytes:
    """Return SQLite's checksum of bytes, after that of others; the log's header tells the order of bytes in a word.

    It is two sums: for each two words x0 and x1, s0 += x0 + s1 and s1 += x1 + s0.
    """
    words = np.frombuffer(before, ">u4"), np.frombuffer(data, _LOG_MAGIC[header[:4]])
    joined = np.concatenate(words).astype(np.uint32)
    sums: NDArray[np.uint32] = (_weights(len(joined)) * joined).sum(axis=1, dtype=np.uint32)
    return sums.astype(">u4").tobytes()


@cache
def _weights(n: int) -> NDArray[np.uint32]:
    """Return how often each of n words counts in either sum; the first two words are the sums before: [2, n]."""
    rows = []
    for a, b in ((1, 0), (0, 1)):
        row = list[int]()
        for _ in range(n // 2 - 1):  # from the last words to the first
            row.append(b)
            a = (a + b) % 2**32
            row.append(a)
            b = (a + b) % 2**32
        rows.append([a, b, *reversed(row)])
    return np.array(rows, np.uint32)


def _values(data: bytes, types: list[int]) -> Row:
    """Return the values of a record; None also stands for a number that is the row's id."""
    values, at = Row(), 0
    for kind in types:
        size = _INTEGERS.get(kind, 8 if kind == 7 else (kind - 12) // 2 if kind >= 12 else 0)
        part = data[at : at + size]
        if len(part) < size or kind in (10, 11):
            raise ValueError("the row is damaged")
        at += size
        if kind in _INTEGERS:
            values.append(int.from_bytes(part, "big", signed=True))
        elif kind == 7:
            values.append(struct.unpack(">d", part)[0])
        elif kind >= 12:
            values.append(part if kind % 2 == 0 else part.decode())
        else:
            values.append({8: 0, 9: 1}.get(kind))
    return values


def _number(page: bytes, at: int) -> int:
    return int(struct.unpack_from(">I", page, at)[0])


def _varint(page: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins here, and where it ends."""
    value = 0
    for i in range(9):
        byte = page[at + i]
        if i == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 127
        if byte < 128:
            break
    return value, at + i + 1
