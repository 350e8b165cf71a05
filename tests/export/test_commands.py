"""`edgecascade export` and `edgecascade calibrate` as a new user runs them."""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from edgecascade.cli import main
from edgecascade.runtime import Cascade
from edgecascade.runtime.engine import open_session

NETWORK = """
import torch
from PIL import Image

def small():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8), torch.nn.Flatten(), torch.nn.Linear(8, 3))

def sized(n):
    return torch.nn.Linear(n, 3)

ready = small()
number = 3
"""


def run(*arguments: object) -> int:
    """Run a command and return its exit code, including those of argparse."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture
def folder(tmp_path: Path, pair: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with a network, its weights, images and a remote."""
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
    torch.save({"0.weight": weights["0.weight"]}, tmp_path / "half.pt")
    (tmp_path / "broken.py").write_text("def (:")
    calibration = dict(np.load(tmp_path / "calibration.npz"))
    np.savez(tmp_path / "labels.npz", **{**calibration, "y": calibration["y"] + 1})
    np.savez(tmp_path / "names.npz", **{**calibration, "names": ["red", "green"]})
    np.savez(tmp_path / "float.npz", **{**calibration, "x": calibration["x"].astype(np.float32)})
    np.savez(tmp_path / "few.npz", **{name: array[:10] for name, array in calibration.items()})
    np.save(tmp_path / "other.npy", np.zeros((600, 4)))
    np.save(tmp_path / "short.npy", np.zeros((599, 3)))
    (tmp_path / "noise.npy").write_bytes(b"noise" * 9)
    return tmp_path


def test_from_a_torch_module_to_answers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The four steps of the README work: export with preprocessing and int8, calibrate, run."""
    source = ["nets.py:small", "--shape", "3,8,8", "--weights", "small.pt"]
    image = ["--image-size", "8x8", "--mean", "127,127,127", "--std", "128,128,128", "--int8", "test.npz"]
    assert run("export", *source, *image, "-o", "body.onnx") == 0
    shown = capsys.readouterr()
    *lines, serve = shown.out.splitlines()
    assert "edgecascade serve body.onnx " in serve
    assert [line.split()[0] for line in lines[-4:]] == ["wrote", "inputs", "classes", "next"]
    assert re.search(r"body.onnx \(\d+\.\d MB\)", lines[-4])
    assert "image: uint8 [batch, height, width, 3]" in lines[-3]
    assert lines[-2].split()[1].startswith("3")
    assert "edgecascade calibrate body.onnx " in lines[-1]
    assert ["export" in shown.err, "quantizing on 400 inputs" in shown.err] == [True, True]
    arguments = ["--remote", "remote.onnx", "--data", "calibration.npz", "--offload-rate", "0.5", "-o", "cascade.onnx"]
    assert run("calibrate", "body.onnx", *arguments) == 0
    shown = capsys.readouterr()
    assert ["running the body on 600" in shown.err, "running the remote on 600" in shown.err] == [True, True]
    printed = shown.out
    for part in (
        "local       accuracy",
        "remote      accuracy",
        "policy      most accuracy at about 50%",
        "parity      128 inputs agree",
    ):
        assert part in printed
    with Cascade.load(folder / "cascade.onnx", remote=folder / "remote.onnx") as cascade:
        answers = cascade.predict_batch(np.load(folder / "test.npz")["x"])
    assert 0.3 < np.mean([answer.forwarded for answer in answers]) <= 0.65


def test_the_document_is_written_beside_the_file(folder: Path) -> None:
    """`calibrate` writes what is in the file, if it is asked to, and `recalibrate` renews it."""
    arguments = ["--remote", "remote.onnx", "--data", "calibration.npz", "--offload-rate", "0.5", "-o", "cascade.onnx"]
    assert run("calibrate", "corner.onnx", *arguments) == 0
    beside = folder / "cascade.onnx.json"
    assert not beside.exists()
    assert run("calibrate", "corner.onnx", *arguments, "--document") == 0
    first = beside.read_text()
    moved = ["--offload-rate", "0.1", "-o", "cascade.onnx", "--document"]
    assert run("recalibrate", "cascade.onnx", *moved) == 0
    with Cascade.load(folder / "cascade.onnx") as cascade:
        assert json.loads(beside.read_text()) == json.loads(cascade.document.to_json()) != json.loads(first)


def test_a_file_is_calibrated_for_another_population(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Class frequencies by name and groups of the data reach the file, and `inspect` shows the groups."""
    calibration = dict(np.load(folder / "calibration.npz"))
    site = np.where(np.arange(len(calibration["y"])) % 3 == 0, "night", "day")
    np.savez(folder / "sites.npz", **{**calibration, "names": ["red", "green", "blue"], "site": site})
    (folder / "prior.json").write_text('{"red": 6, "green": 3, "blue": 1}')
    arguments = ["--remote", "remote.onnx", "--data", "sites.npz", "--offload-rate", "0.3", "-o", "cascade.onnx"]
    assert run("calibrate", "corner.onnx", *arguments, "--prior", "prior.json", "--groups", "site") == 0
    assert re.search(r"site +n  local .*\n +(night|day) ", capsys.readouterr().out)
    with Cascade.load(folder / "cascade.onnx") as cascade:
        document = cascade.document
    assert document.groups is not None
    assert (document.groups.by, sum(one.n for one in document.groups.groups)) == ("site", len(site))
    assert document.effective_n is not None
    assert document.effective_n < len(site)
    assert run("inspect", "cascade.onnx") == 0
    shown = capsys.readouterr().out
    assert "weighted calibration inputs are worth" in shown
    assert "by site" in shown
    assert "night" in shown


GENERAL = """
import torch
from PIL import Image

class Gauge(torch.nn.Module):
    def forward(self, x):
        return {"mean": x.mean((1, 2, 3)), "level": x.mean(1)}
"""


def test_the_body_of_a_general_task(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It takes images and has the outputs that are named, as has an ONNX file of them; the next step names the task."""
    (folder / "gauge.py").write_text(GENERAL)
    source, image = ("gauge.py:Gauge", "--shape", "3,8,8"), ("--image-size", "8x8", "--std", "1,1,1")
    assert run("export", *source, *image, "--outputs", "mean,level", "-o", "direct.onnx") == 0
    said = capsys.readouterr().out
    assert "outputs     mean: float32 [batch], level: float32 [batch, 8, 8]" in said
    assert "calibrate direct.onnx --task TASK " in said
    assert "classes" not in said
    assert run("export", *source, "--outputs", "mean,level", "-o", "raw.onnx") == 0
    assert run("export", "raw.onnx", *image, "--outputs", "level", "-o", "level.onnx") == 0
    x = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    for file, names in (("direct.onnx", ["mean", "level"]), ("level.onnx", ["level"])):
        session = open_session(file)
        assert [one.name for one in session.get_outputs()] == names
        np.testing.assert_allclose(session.run(["level"], {"image": x})[0], x.mean(3), rtol=1e-4)


def test_a_body_of_one_number_is_said_to_be_a_binary_classifier(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines name the option for a number that is none."""
    (folder / "number.py").write_text("import torch\nnet = torch.nn.Linear(3, 1)\n")
    assert run("export", "number.py:net", "--shape", "3", "-o", "number.onnx") == 0
    assert "for a number, give --outputs" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ready", "small"])
def test_a_module_or_its_factory_is_exported(folder: Path, name: str) -> None:
    """A file may name a module or a function that returns one."""
    assert run("export", f"nets.py:{name}", "--shape", "3,8,8", "-o", "body.onnx") == 0
    assert (folder / "body.onnx").exists()


@pytest.mark.parametrize("path", ["types.py", "elsewhere/nets.py"])
def test_the_named_file_is_read_despite_namesakes(folder: Path, path: str) -> None:
    """The named file is loaded even if the standard library or another folder has a module of the same name."""
    assert run("export", "nets.py:ready", "--shape", "3,8,8", "-o", "first.onnx") == 0
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text("import torch\n\nlinear = torch.nn.Linear(2, 3)\n")
    assert run("export", f"{path}:linear", "--shape", "2", "-o", "body.onnx") == 0


def test_weights_are_read_from_the_file(folder: Path) -> None:
    """The exported weights are those of the state dict, not those of the module's constructor."""
    source = ["nets.py:small", "--shape", "3,8,8", "--weights", "small.pt"]
    assert run("export", *source, "-o", "body.onnx") == 0
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    (found,) = open_session(folder / "body.onnx").run(["logits"], {"input": x})
    np.testing.assert_allclose(found, 0.4 * x[:, :, :4, :4].sum(axis=(2, 3)), atol=1e-4)


def test_an_onnx_file_is_checked_and_copied(folder: Path) -> None:
    """An ONNX body that needs no change is checked and copied."""
    assert run("export", "corner.onnx", "-o", "deep/body.onnx") == 0
    assert (folder / "deep" / "body.onnx").read_bytes() == (folder / "corner.onnx").read_bytes()


def test_a_model_that_cannot_run_is_not_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is the source overwritten by its own export."""
    import onnx

    model = onnx.load("remote.onnx")
    model.graph.node[-1].op_type = "Unknown"
    model.graph.node[-1].domain = "somewhere"
    model.opset_import.add(domain="somewhere", version=1)
    onnx.save(model, "unknown.onnx")
    assert run("export", "unknown.onnx", "-o", "out.onnx") == 2
    assert "Unknown" in capsys.readouterr().err
    assert not (folder / "out.onnx").exists()
    before = (folder / "remote.onnx").read_bytes()
    assert run("export", "remote.onnx", "-o", "./remote.onnx") == 2
    assert "--out: expected another file than the source" in capsys.readouterr().err
    assert (folder / "remote.onnx").read_bytes() == before


def test_weights_that_contain_code_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights are loaded with `weights_only`: code in them causes an error and is not run."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path("touched"),)  # type: ignore[return-value]

    (folder / "small.pt").write_bytes(pickle.dumps(Evil()))
    assert run("export", "nets.py:small", "--shape", "3,8,8", "--weights", "small.pt", "-o", "body.onnx") == 2
    assert not (folder / "touched").exists()
    assert capsys.readouterr().err.startswith("edgecascade: --weights: ")


@pytest.mark.parametrize(
    "options",
    [
        ("--offload-rate", "0"),
        ("--max-loss", "0.2"),
        ("--cost", "0,1,0.1,10"),
        ("--offload-rate", "0.3", "--estimate", "confidences", "--bins", "10"),
        ("--offload-rate", "0.3", "--estimate", "labels", "--score", "margin", "--merge", "average"),
    ],
    ids=" ".join,
)
def test_every_objective_and_option_is_stored_in_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    """The document records the requested options, and the runtime uses them."""
    assert run(*CALIBRATE, *options) == 0
    assert "wrote       out.onnx" in capsys.readouterr().out
    with Cascade.load(folder / "out.onnx", remote=folder / "remote.onnx") as cascade:
        policy = cascade.document.to_dict()["policy"]
        assert len(cascade.predict_batch(np.load(folder / "test.npz")["x"][:5])) == 5
    asked = dict(zip(options[::2], options[1::2], strict=True))
    for option, key in (("--estimate", "estimate"), ("--score", "score"), ("--merge", "merge"), ("--bins", "bins")):
        if option in asked:
            assert str(policy[key]) == asked[option]
    if asked.get("--offload-rate") == "0":
        assert policy["chosen"]["offload_rate"] == 0


@pytest.mark.usefixtures("folder")
def test_a_certificate_can_be_requested(capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate that the data do not support is refused with the reason."""
    arguments = ["corner.onnx", "--remote", "remote.onnx", "--data", "calibration.npz", "-o", "cascade.onnx"]
    assert run("calibrate", *arguments, "--certify", "0.2", "--risk", "0.1") == 0
    assert "certificate loss against asking the remote always at most 20.0%" in capsys.readouterr().out
    assert run("calibrate", *arguments, "--certify", "0.0001") == 2
    assert "edgecascade: certificate: 600 inputs do not show a loss of at most 0.01%" in capsys.readouterr().err


def test_the_body_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path may be spelled in another way."""
    body = (folder / "corner.onnx").read_bytes()
    assert run(*CALIBRATE[:-1], folder / "corner.onnx", "--while-it-helps") == 2
    assert "--out: " in capsys.readouterr().err
    assert (folder / "corner.onnx").read_bytes() == body


IN_VAIN = {
    "labels out of range": ({"--data": "labels.npz"}, "labels: expected 0 to "),
    "weights that are not there": ({"--weights": "nowhere.npy"}, "nowhere.npy"),
    "a prior of two": ({"--prior": "1,2"}, "--prior: expected 3 frequencies"),
}
IN_VAIN_FOR_BOTH = {
    "a remote that cannot be reached": ({"--remote": "http://127.0.0.1:9/v2/models/m"}, "it failed after 0 inputs"),
    "a remote's outputs for other data": ({"--remote": "short.npy"}, "short.npy: expected logits [600, classes]"),
    "a folder as output": ({"-o": "."}, "--out: expected a file to write"),
    "a file as the folder of the output": ({"-o": "corner.onnx/out.onnx"}, "--out: expected a folder"),
    "a remote that is not there": ({"--remote": "nowhere.onnx"}, "--remote: nowhere.onnx: no such file"),
    "a header for a file": ({"--header": "a: b"}, "--header: expected with --remote and an address"),
    "a risk without a certificate": ({"--risk": "0.1"}, "--risk: expected --certify"),
    "a confidence without an aim": ({"--confidence": "0.9"}, "--confidence: expected"),
}


@pytest.mark.parametrize("wrong", [*IN_VAIN, *IN_VAIN_FOR_BOTH])
def test_nothing_is_asked_in_vain(wrong: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can be refused before the remote runs, which may cost money, is; and before the body."""
    changed, said = (IN_VAIN | IN_VAIN_FOR_BOTH)[wrong]
    given = {**dict(zip(CALIBRATE[2::2], CALIBRATE[3::2], strict=True)), **changed}
    options = [part for option in given.items() for part in option]
    assert run(*CALIBRATE[:2], *options, "--while-it-helps") == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "running" not in shown
    assert not list(folder.parent.glob("*.part"))
    if wrong in IN_VAIN_FOR_BOTH:
        assert run("recalibrate", "local.onnx", *options, "--while-it-helps") == 2
        shown = capsys.readouterr().err
        assert said in shown
        assert "running" not in shown


def test_a_file_that_the_disk_has_no_room_for_is_named(folder: Path) -> None:
    """The error of the system does not name it; and nothing is left of it."""
    program = f"{sys.executable} -m edgecascade.cli"
    shell = f"ulimit -f 0; {program} export corner.onnx -o 'no room.onnx'"
    ran = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=120, check=False)
    assert ran.stderr == "edgecascade: no room.onnx: File too large\n"
    assert ran.returncode == 2
    assert not [file for file in folder.iterdir() if file.suffix == ".part"]


def test_a_body_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading one of 1 GB takes seconds, and twice its size in memory."""
    read = []

    def load(path: str, **options: Any) -> Any:
        read.append(Path(path).name)
        return original(path, **options)

    original = onnx.load
    monkeypatch.setattr(onnx, "load", load)
    assert run(*CALIBRATE, "--while-it-helps") == 0
    assert read.count("corner.onnx") == 1
    assert (folder / "out.onnx").is_file()


def test_inputs_to_quantize_on_are_finite(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the argument and the row."""
    images = np.random.default_rng(0).normal(size=(32, 3, 8, 8)).astype(np.float32)
    images[5, 0, 0, 0] = np.nan
    np.savez("nan.npz", x=images, y=np.arange(32) % 3)
    assert run("export", *NET, "--int8", "nan.npz", "-o", "out.onnx") == 2
    said = capsys.readouterr().err
    assert [part in said for part in ("--int8", "row 5", "Traceback")] == [True, True, False]
    assert not (folder / "out.onnx").exists()


NET = ("nets.py:small", "--shape", "3,8,8")
CALIBRATE = ("calibrate", "corner.onnx", "--remote", "remote.onnx", "--data", "calibration.npz", "-o", "out.onnx")
WRONG = {
    "outputs of a dict that it lacks": ("export", *NET, "--outputs", "a,b", "-o", "out.onnx"),
    "outputs that a file lacks": ("export", "corner.onnx", "--outputs", "boxes", "-o", "out.onnx"),
    "an output without a name": ("export", "corner.onnx", "--outputs", "a,,b", "-o", "out.onnx"),
    "outputs and class names": ("export", *NET, "--outputs", "a", "--names", "x,y,z", "-o", "out.onnx"),
    "outputs of a Hugging Face model": ("export", "hf:some/model", "--outputs", "a", "-o", "out.onnx"),
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
    "a size of nothing": ("export", "nets.py:small", "--shape", "3,8,8", "--image-size", "0x8", "-o", "out.onnx"),
    "a std of nothing": ("export", "corner.onnx", "--image-size", "8x8", "--std", "0,1,1", "-o", "out.onnx"),
    "a mean of text": ("export", "corner.onnx", "--mean", "a,b,c", "-o", "out.onnx"),
    "preprocessing twice": ("export", "corner.onnx", "--image-size", "8x8", "-o", "out.onnx"),
    "weights of another network": ("export", *NET, "--weights", "half.pt", "-o", "out.onnx"),
    "weights that are a model": ("export", *NET, "--weights", "corner.onnx", "-o", "out.onnx"),
    "no data to quantize on": ("export", *NET, "--int8", "none.npz", "-o", "out.onnx"),
    "an output that is a folder": ("export", "corner.onnx", "-o", "."),
    "no objective": CALIBRATE,
    "two objectives": (*CALIBRATE, "--while-it-helps", "--offload-rate", "0.3"),
    "a rate of two": (*CALIBRATE, "--offload-rate", "2"),
    "bins below nothing": (*CALIBRATE, "--while-it-helps", "--bins=-3"),
    "an unknown estimate": (*CALIBRATE, "--while-it-helps", "--estimate", "guesses"),
    "labels out of range": (*CALIBRATE[:5], "labels.npz", *CALIBRATE[6:], "--while-it-helps"),
    "a name too few": (*CALIBRATE[:5], "names.npz", *CALIBRATE[6:], "--while-it-helps"),
    "data of another type": (*CALIBRATE[:5], "float.npz", *CALIBRATE[6:], "--while-it-helps"),
    "no data": (*CALIBRATE[:5], "none.npz", *CALIBRATE[6:], "--while-it-helps"),
    "data for less than a bin": (*CALIBRATE[:5], "few.npz", *CALIBRATE[6:], "--while-it-helps"),
    "a remote with other classes": (*CALIBRATE[:3], "other.npy", *CALIBRATE[4:], "--while-it-helps"),
    "a remote's outputs for other data": (*CALIBRATE[:3], "short.npy", *CALIBRATE[4:], "--while-it-helps"),
    "a remote that is not there": (*CALIBRATE[:3], "http://127.0.0.1:9/v2/models/m", *CALIBRATE[4:], "--accuracy", "0"),
    "a remote of another protocol": (*CALIBRATE[:3], "ftp://host/model", *CALIBRATE[4:], "--while-it-helps"),
    "a name that is no module": ("export", "nets.py:number", *NET[1:], "-o", "out.onnx"),
    "a function of something": ("export", "nets.py:sized", *NET[1:], "-o", "out.onnx"),
    "a file that is no Python": ("export", "broken.py:net", *NET[1:], "-o", "out.onnx"),
    "a std that is no number": ("export", *NET, "--image-size", "8x8", "--std", "nan,1,1", "-o", "out.onnx"),
    "a mean without a size": ("export", *NET, "--mean", "1,2,3", "-o", "out.onnx"),
    "weights for an ONNX file": ("export", "corner.onnx", "--weights", "small.pt", "-o", "out.onnx"),
    "a remote that is noise": (*CALIBRATE[:3], "noise.npy", *CALIBRATE[4:], "--while-it-helps"),
    "a cascade model as source": ("export", "local.onnx", "-o", "out.onnx"),
    "no bins": (*CALIBRATE, "--while-it-helps", "--bins", "0"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_end_in_one_sentence(wrong: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 2, there is no traceback, and nothing is written."""
    assert run(*WRONG[wrong]) == 2
    shown = capsys.readouterr()
    assert [line for line in shown.err.splitlines() if line.startswith("edgecascade")] == shown.err.splitlines()[-1:]
    assert "Traceback" not in shown.err
    assert not (folder / "out.onnx").exists()


def test_what_needs_no_model_is_checked_before_an_exporter_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The module is not even imported."""
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text("raise SystemExit('imported')\n")
    wrong = {
        "--image-size: expected the height and width in --shape 3,48,48, got 64x64": ["--image-size", "64x64"],
        "--names: cannot read class names from names.txt": ["--names", "names.txt"],
        "--names: expected a name for each class, got none for class 1": ["--names", "a,,b"],
        "--crop: expected with --image-size": ["--crop", "50"],
    }
    for message, options in wrong.items():
        assert main(["export", "nets.py:net", "--shape", "3,48,48", *options, "-o", "out.onnx"]) == 2
        assert message in capsys.readouterr().err
    assert main(["export", "net.py:net", "--shape", "3,48,48", "-o", "out.onnx"]) == 2
    assert "source: net.py: no such file" in capsys.readouterr().err


def test_data_that_the_models_do_not_take_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also a folder above those of the classes."""
    data = dict(np.load(folder / "calibration.npz"))
    np.savez("channels.npz", **{**data, "x": data["x"].transpose(0, 3, 1, 2)})
    for part in ("calibration", "test"):
        Path("data", part, "red").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(f"data/{part}/red/0.png")
    arguments = ["corner.onnx", "--remote", "remote.onnx", "--offload-rate", "0.2", "-o", "out.onnx"]
    for given, message in (
        (
            "channels.npz",
            "channels.npz: x: expected uint8 [height, width, 3] per input, got uint8 [3, 8, 8], as remote.onnx",
        ),
        ("data", "such folders are in data/calibration, data/test"),
    ):
        assert run("calibrate", *arguments, "--data", given) == 2
        assert message in capsys.readouterr().err


def test_an_unknown_option_is_named_where_another_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """It is likelier misspelt than forgotten."""
    arguments = ["body.onnx", "--remote", "large.onnx", "--data", "data", "-o", "out.onnx"]
    assert run("calibrate", *arguments, "--offload_rate", "0.2") == 2
    said = capsys.readouterr().err
    assert "is required; unrecognized arguments: --offload_rate" in said
    assert run("calibrate", *arguments) == 2
    assert "unrecognized" not in capsys.readouterr().err
