"""Outputs of three experts on rows of which some have wrong labels, and the suspects among them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration.commands.clean.suspects_file import SuspectsFile, read_suspects
from edgecascade.cli import main

NAMES = ("plane", "car", "bird", "cat", "deer", "dog")
JUDGED, HELD_OUT = 900, 500

Run = Callable[..., int]


def command(*arguments: object) -> int:
    """Run a step of `edgecascade clean` and return its exit code, including those of argparse."""
    try:
        return main(["clean", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture(scope="session")
def run() -> Run:
    """Return a function that runs a step of `edgecascade clean`."""
    return command


def saved(folder: Path, name: str, arrays: dict[str, Any]) -> None:
    """Save arrays by name as one .npz file."""
    np.savez(folder / name, allow_pickle=False, **arrays)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with outputs, held-out outputs, images, texts, the true labels and the suspects."""
    folder = tmp_path_factory.mktemp("clean")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, len(NAMES), JUDGED + HELD_OUT)
    outputs = {
        name: (size * np.eye(len(NAMES))[truth] + rng.normal(size=(len(truth), len(NAMES)))).astype(np.float32)
        for name, size in (("small", 2.0), ("large", 4.0), ("weak", 0.7))
    }
    labels = np.where(rng.random(len(truth)) < 0.08, (truth + 1) % len(NAMES), truth)
    parts = {"outputs.npz": slice(0, JUDGED), "held-out.npz": slice(JUDGED, None)}
    for name, part in parts.items():
        arrays: dict[str, Any] = {expert: some[part] for expert, some in outputs.items()}
        arrays |= {"labels": labels[part], "names": np.array(NAMES)}
        if name == "outputs.npz":
            arrays["ids"] = np.array([f"{NAMES[label]}/{row}.png" for row, label in enumerate(labels[part])])
        saved(folder, name, arrays)
    colours = rng.integers(0, 200, (len(NAMES), 3))
    images = colours[truth[:JUDGED], None, None] + rng.integers(0, 50, (JUDGED, 16, 16, 3))
    np.save(folder / "images.npy", images.astype(np.uint8))
    np.save(folder / "truth.npy", truth[:JUDGED])
    (folder / "texts.txt").write_text("".join(f"text {row}\n" for row in range(JUDGED)), encoding="utf-8")
    outputs_file, held_out = folder / "outputs.npz", folder / "held-out.npz"
    assert command("find", outputs_file, "--held-out", held_out, "-o", folder / "suspects.parquet") == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a folder with a copy of these files."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def suspects(folder: Path) -> SuspectsFile:
    """Return the suspects in the folder."""
    return read_suspects(folder / "suspects.parquet")


@pytest.fixture
def truth(folder: Path) -> NDArray[np.int64]:
    """Return the true labels of the judged rows."""
    found: NDArray[np.int64] = np.load(folder / "truth.npy")
    return found
