"""`edgecascade export` and `edgecascade calibrate`, as a newcomer uses them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from edgecascade.cli import main
from edgecascade.runtime import Cascade

NETWORK = """
import torch

def small():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8), torch.nn.Flatten(), torch.nn.Linear(8, 3))

ready = small()
"""


def run(*arguments: object) -> int:
    """The exit code, argparse's included."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture
def folder(tmp_path: Path, pair: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a network, its weights, images and a remote."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETWORK)
    for name in ("calibration.npz", "test.npz", "remote.onnx", "corner.onnx", "local.onnx"):
        (tmp_path / name).write_bytes((pair / name).read_bytes())
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    weights = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    for colour in range(3):
        weights["0.weight"][colour, colour, :4, :4] = 0.4  # a corner of each colour, as far as it tells
        weights["2.weight"][colour, colour] = 1.0
    torch.save(weights, tmp_path / "small.pt")
    return tmp_path


def test_from_a_torch_module_to_answers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Export with preprocessing and int8, calibrate, run: the README's four steps."""
    source = ["nets.py:small", "--shape", "3,8,8", "--weights", "small.pt"]
    image = ["--image-size", "8x8", "--mean", "127,127,127", "--std", "128,128,128", "--int8", "test.npz"]
    assert run("export", *source, *image, "-o", "body.onnx") == 0
    assert "ready for `edgecascade calibrate`" in capsys.readouterr().out
    arguments = ["--remote", "remote.onnx", "--data", "calibration.npz", "--offload-rate", "0.5", "-o", "cascade.onnx"]
    assert run("calibrate", "body.onnx", *arguments) == 0
    printed = capsys.readouterr().out
    for part in (
        "local    accuracy",
        "remote   accuracy",
        "policy   most accuracy at 50%",
        "parity   128 inputs agree",
    ):
        assert part in printed
    with Cascade.load(folder / "cascade.onnx", remote=folder / "remote.onnx") as cascade:
        answers = cascade.predict_batch(np.load(folder / "test.npz")["x"])
    assert 0.3 < np.mean([answer.forwarded for answer in answers]) <= 0.65


@pytest.mark.parametrize("name", ["ready", "small"])
def test_a_module_or_a_function_that_makes_one(folder: Path, name: str) -> None:
    """By name, from a file."""
    assert run("export", f"nets.py:{name}", "--shape", "3,8,8", "-o", "body.onnx") == 0
    assert (folder / "body.onnx").exists()


def test_weights_with_code_in_them_are_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Loaded as weights only: a sentence, and no side effect."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path("touched"),)  # type: ignore[return-value]

    (folder / "small.pt").write_bytes(pickle.dumps(Evil()))
    assert run("export", "nets.py:small", "--shape", "3,8,8", "--weights", "small.pt", "-o", "body.onnx") == 2
    assert not (folder / "touched").exists()
    assert capsys.readouterr().err.startswith("edgecascade: --weights: ")


@pytest.mark.usefixtures("folder")
def test_a_promise_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """And is refused with the reason where the data do not show it."""
    arguments = ["corner.onnx", "--remote", "remote.onnx", "--data", "calibration.npz", "-o", "cascade.onnx"]
    assert run("calibrate", *arguments, "--certify", "0.2", "--risk", "0.1") == 0
    assert (
        "promise  loss against asking the remote always at most 20.0% with probability 0.9" in capsys.readouterr().out
    )
    assert run("calibrate", *arguments, "--certify", "0.0001") == 2
    assert "edgecascade: certificate: 400 inputs do not show" in capsys.readouterr().err


CALIBRATE = ("calibrate", "corner.onnx", "--remote", "remote.onnx", "--data", "calibration.npz", "-o", "out.onnx")
WRONG = {
    "a module without a shape": ("export", "nets.py:small", "-o", "out.onnx"),
    "a shape of text": ("export", "nets.py:small", "--shape", "big", "-o", "out.onnx"),
    "a shape it cannot take": ("export", "nets.py:small", "--shape", "4,8,8", "-o", "out.onnx"),
    "no name": ("export", "nets.py", "--shape", "3,8,8", "-o", "out.onnx"),
    "an unknown name": ("export", "nets.py:large", "--shape", "3,8,8", "-o", "out.onnx"),
    "a missing module": ("export", "other.py:small", "--shape", "3,8,8", "-o", "out.onnx"),
    "a missing model": ("export", "other.onnx", "-o", "out.onnx"),
    "missing weights": ("export", "nets.py:small", "--shape", "3,8,8", "--weights", "w.pt", "-o", "out.onnx"),
    "a size of one number": ("export", "corner.onnx", "--image-size", "8", "-o", "out.onnx"),
    "a mean of two": ("export", "nets.py:small", "--shape", "3,8,8", "--mean", "1,2", "-o", "out.onnx"),
    "another size": ("export", "nets.py:small", "--shape", "3,8,8", "--image-size", "9x9", "-o", "out.onnx"),
    "images for a model that takes none": (
        "export",
        "nets.py:small",
        "--shape",
        "3,8,8",
        "--int8",
        "test.npz",
        "-o",
        "out.onnx",
    ),
    "a cascade model as body": ("calibrate", "local.onnx", *CALIBRATE[2:], "--while-it-helps"),
    "too many bins": (*CALIBRATE, "--while-it-helps", "--bins", "300"),
    "an accuracy out of reach": (*CALIBRATE, "--accuracy", "1"),
    "three costs": (*CALIBRATE, "--cost", "1,2,3"),
    "a cost below nothing": (*CALIBRATE, "--cost=-1,2,3,4"),
    "an output that is not there": (*CALIBRATE, "--while-it-helps", "--logits", "scores"),
    "a remote that is no model": (*CALIBRATE[:3], "calibration.npz", *CALIBRATE[4:], "--while-it-helps"),
    "data that is no data": (*CALIBRATE[:5], "remote.onnx", *CALIBRATE[6:], "--while-it-helps"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_one_sentence(wrong: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, no traceback, nothing written."""
    assert run(*WRONG[wrong]) == 2
    shown = capsys.readouterr()
    assert [line for line in shown.err.splitlines() if line.startswith("edgecascade")] == shown.err.splitlines()[-1:]
    assert "Traceback" not in shown.err
    assert not (folder / "out.onnx").exists()
