"""Cached steps are atomic and done once, and downloads must have the pinned checksum."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgecascade.benchmarks.cache import _PIP, cache_folder, fetch, once
from edgecascade.types.errors import BenchmarkError


def test_a_finished_step_is_not_repeated(tmp_path: Path) -> None:
    """The second call returns the first one's file."""
    calls = []

    def make(part: Path) -> None:
        calls.append(part)
        part.write_text("made")

    assert once(tmp_path / "a" / "step", make).read_text() == "made"
    assert once(tmp_path / "a" / "step", make).read_text() == "made"
    assert len(calls) == 1


def test_an_interrupted_step_leaves_nothing(tmp_path: Path) -> None:
    """A step that fails leaves no file."""

    def make(part: Path) -> None:
        part.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once(tmp_path / "step", make)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_folder_is_configurable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`EDGECASCADE_CACHE` sets the folder."""
    monkeypatch.setenv("EDGECASCADE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


@pytest.mark.slow
def test_a_download_with_other_bytes_is_refused(tmp_path: Path) -> None:
    """A package with another checksum is neither used nor stored."""
    with pytest.raises(BenchmarkError, match="expected SHA-256 0000"):
        fetch(replace(_PIP, sha256="0000"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_missing_package_ends_in_one_sentence(tmp_path: Path) -> None:
    """The error has the last line of pip and the name of the package."""
    with pytest.raises(BenchmarkError, match=r"could not download pip==0\.0\.0"):
        fetch(replace(_PIP, version="0.0.0"), tmp_path)
