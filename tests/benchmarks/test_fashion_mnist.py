"""Debian packages with the pinned checksum are read without installing them."""

import gzip
import hashlib
import io
import shutil
import stat
import tarfile
from pathlib import Path

import numpy as np
import pytest

from edgecascade.benchmarks.pairs.fashion_mnist import DebianPackage, fetch_debian, idx, member
from edgecascade.types.errors import BenchmarkError

PACKAGE = DebianPackage("some-data", "1.0-1", "", megabytes=0)


def _deb(files: dict[str, bytes]) -> bytes:
    """Return a package as `dpkg-deb` builds it, with members of odd length before the data."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    packed = b"!<arch>\n"
    for name, content in parts.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        packed += header + content + b"\n" * (len(content) % 2)
    return packed


def _pinned(content: bytes) -> DebianPackage:
    return DebianPackage("some-data", "1.0-1", hashlib.sha256(content).hexdigest(), megabytes=0)


def test_a_file_is_extracted_unchanged(tmp_path: Path) -> None:
    """The reader skips the padding of members of odd length."""
    path = tmp_path / PACKAGE.file
    path.write_bytes(_deb({"usr/share/a": b"first", "usr/share/b": b"second"}))
    assert member(path, "usr/share/b") == b"second"


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs Debian's own tool")
def test_packages_of_dpkg_deb_are_read(tmp_path: Path) -> None:
    """Every compression of `dpkg-deb` is supported."""
    import subprocess

    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN").chmod(0o755)
    (root / "DEBIAN" / "control").write_text(
        "Package: some-data\nVersion: 1.0-1\nArchitecture: all\nMaintainer: n <n@example.org>\nDescription: d\n"
    )
    (root / "usr").mkdir()
    (root / "usr" / "data").write_bytes(b"content")
    built = tmp_path / "built.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zxz", "-b", root, built], check=True, capture_output=True)
    assert member(built, "usr/data") == b"content"


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"!<arch>\n", _deb({"usr/share/a": b"first"})])
def test_an_invalid_package_is_refused(tmp_path: Path, content: bytes) -> None:
    """The error names the file."""
    path = tmp_path / PACKAGE.file
    path.write_bytes(content)
    with pytest.raises(BenchmarkError, match=f"{PACKAGE.file}: expected a Debian package with the file usr/share/b"):
        member(path, "usr/share/b")


def test_a_package_copied_by_hand_is_used_if_it_is_the_pinned_one(tmp_path: Path) -> None:
    """Without apt, users copy the file; a file with another checksum is refused and left unchanged."""
    content = _deb({"a": b"1"})
    path = tmp_path / PACKAGE.file
    path.write_bytes(content)
    assert fetch_debian(_pinned(content), tmp_path) == path
    path.write_bytes(content + b" ")
    with pytest.raises(BenchmarkError, match="expected SHA-256 "):
        fetch_debian(_pinned(content), tmp_path)
    assert path.exists()


def test_without_apt_the_message_gives_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the file and the folder to copy it to."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        BenchmarkError, match=rf"apt-get is not installed; download {PACKAGE.file} .* put it into {tmp_path}"
    ):
        fetch_debian(PACKAGE, tmp_path)


def test_a_failing_apt_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the last line of apt, and no file is left."""
    _apt(tmp_path, "echo 'E: Unable to locate package' >&2; exit 100", monkeypatch)
    with pytest.raises(BenchmarkError, match=r"some-data: apt-get failed with 'E: Unable to locate package'"):
        fetch_debian(PACKAGE, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_download_is_stored_only_if_it_is_the_pinned_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact version is requested, and its checksum is verified before it is stored."""
    content = _deb({"a": b"1"})
    (tmp_path / "mirror").write_bytes(content)
    _apt(tmp_path, f'[ "$3" = some-data=1.0-1 ] && cp {tmp_path}/mirror {PACKAGE.file}', monkeypatch)
    with pytest.raises(BenchmarkError, match="expected SHA-256 "):
        fetch_debian(PACKAGE, tmp_path / "cache")
    assert fetch_debian(_pinned(content), tmp_path / "cache").read_bytes() == content


def _apt(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "bin").mkdir()
    apt = folder / "bin" / "apt-get"
    apt.write_text(f"#!/bin/sh\n{script}\n")
    apt.chmod(apt.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")


def test_idx_arrays_have_their_stated_shape() -> None:
    """They are decompressed as in the MNIST files."""
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    data = b"\0\0\x08\x03" + np.array(values.shape, ">u4").tobytes() + values.tobytes()
    assert np.array_equal(idx(gzip.decompress(gzip.compress(data))), values)
    with pytest.raises(BenchmarkError, match="expected an IDX array of unsigned bytes"):
        idx(b"\0\0\x0d\x01" + bytes(8))
