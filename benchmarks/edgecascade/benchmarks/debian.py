"""Files from Debian packages, by exact name and SHA-256; read without installing anything."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgecascade.benchmarks.packages import sha256_of
from edgecascade.export.cache import once
from edgecascade.types.errors import BenchmarkError

__all__ = ["DebianPackage", "fetch_debian", "member"]

_MAGIC, _HEADER = b"!<arch>\n", 60  # of the ar format: the outer archive of a Debian package


@dataclass(frozen=True)
class DebianPackage:
    """One architecture-independent package.

    Attributes:
        name: of the package.
        version: its exact version.
        sha256: of the file, hexadecimal.
        megabytes: roughly, for whoever waits.
    """

    name: str
    version: str
    sha256: str
    megabytes: int

    @property
    def file(self) -> str:
        """What the file is called on a mirror."""
        return f"{self.name}_{self.version}_all.deb"


def fetch_debian(package: DebianPackage, folder: Path) -> Path:
    """The package's file in `folder`, downloaded by apt unless it lies there already; never installed.

    Raises:
        BenchmarkError: apt is not here or failed, or the file is not the one that was pinned.
    """
    path = folder / package.file
    if path.exists():
        _check(package, path)
    return once(path, lambda part: _download(package, part))


def member(package: Path, name: str) -> bytes:
    """The file that the package would install as `/name`.

    Raises:
        BenchmarkError: this is not a Debian package, or it holds no such file.
    """
    with tarfile.open(fileobj=io.BytesIO(_data(package))) as archive:
        try:
            extracted = archive.extractfile(f"./{name}")
        except KeyError:
            extracted = None
        if extracted is None:
            raise BenchmarkError(f"{package}: it has no {name}")
        return extracted.read()


def _download(package: DebianPackage, part: Path) -> None:
    print(f"downloading {package.file} ({package.megabytes} MB)", file=sys.stderr, flush=True)
    by_hand = f"download {package.file} from any Debian mirror and put it into {part.parent}"
    apt = shutil.which("apt-get")
    if apt is None:
        raise BenchmarkError(f"{package.name}: there is no apt-get here; {by_hand}")
    with tempfile.TemporaryDirectory() as folder:
        command = [apt, "-q", "download", f"{package.name}={package.version}"]
        done = subprocess.run(command, cwd=folder, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
        files = list(Path(folder).iterdir())
        if done.returncode or len(files) != 1:
            last = (done.stderr.strip().splitlines() or ["no explanation"])[-1]
            raise BenchmarkError(
                f"{package.name}: apt-get said {last!r}; run `apt-get update` if it never ran here, or {by_hand}"
            )
        _check(package, files[0])
        shutil.move(files[0], part)


def _check(package: DebianPackage, path: Path) -> None:
    seen = sha256_of(path)
    if seen != package.sha256:
        raise BenchmarkError(f"{path}: expected SHA-256 {package.sha256}, got {seen}; not used")


def _data(package: Path) -> bytes:
    """The inner archive of installed files, compressed as it is."""
    with package.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise BenchmarkError(f"{package}: expected a Debian package, got something else")
        while len(header := file.read(_HEADER)) == _HEADER:
            size = int(header[48:58])
            if header[:16].startswith(b"data.tar"):
                return file.read(size)
            file.seek(size + size % 2, 1)
    raise BenchmarkError(f"{package}: it holds no data.tar")
