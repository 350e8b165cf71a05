"""Each built-in pair has its own options and refuses those of other pairs."""

import sys
from pathlib import Path

import numpy as np
import pytest

from edgecascade.benchmarks.commands import demo
from edgecascade.benchmarks.pairs.built_in import BUILT_IN
from edgecascade.benchmarks.pairs.prepared import Prepared
from edgecascade.cli import main
from edgecascade.export import read_labelled
from edgecascade.export.scores import remote_scores
from edgecascade.types.errors import BenchmarkError


def test_the_command_offers_every_pair() -> None:
    """The command's list of pairs equals the table of pairs."""
    assert tuple(BUILT_IN) == demo._CLASSIFIERS


@pytest.mark.parametrize("name", ["fashion-mnist", "languages"])
def test_options_of_another_pair_are_refused(name: str) -> None:
    """The error is raised before anything is downloaded."""
    with pytest.raises(BenchmarkError, match=f"^images: expected none with {name}"):
        BUILT_IN[name].prepared(Path("/nowhere"), images=(1, 2, 3))


@pytest.mark.parametrize(
    ("name", "package"), [("flagship", "starlette"), ("comparable", "torch"), ("languages", "lingua")]
)
def test_a_missing_package_is_named_at_the_start(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is raised before anything is downloaded, and names the extra."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BenchmarkError, match=rf"^{name} needs {package}: .*\[{BUILT_IN[name].extra}\]"):
        BUILT_IN[name].prepared(Path("/nowhere"))


@pytest.mark.parametrize("name", ["flagship", "comparable"])
def test_the_method_states_the_number_of_images(name: str) -> None:
    """It states the requested number or the default."""
    assert "5000 CIFAR-10 images fitted" in BUILT_IN[name].described()
    assert "12 CIFAR-10 images fitted both linear heads, 34 others" in BUILT_IN[name].described((12, 34, 56))


def test_wrong_arguments_end_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Every wrong argument gives exit code 2 and one sentence."""
    assert main(["bench", "demo", "--latency", "1", "--pair", "languages"]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("edgecascade: --latency: expected ")
    assert told.endswith("languages")
    assert main(["bench", "demo", "--certify", "0"]) == 2
    assert "loss: expected a number between 0 and 1" in capsys.readouterr().err
    wrongs = (
        "--latency 0",
        "--pair mine",
        "--images 1,2",
        "--offload-rate 20",
        "--certify 2",
        "--offload-rate .2 --certify .01",
    )
    for wrong in map(str.split, wrongs):
        with pytest.raises(SystemExit):
            main(["bench", "demo", *wrong])
        assert "edgecascade bench demo: error: argument --" in capsys.readouterr().err


def test_a_prepared_pair_is_served_if_its_remote_is_a_file(pair: Path) -> None:
    """A second process serves a remote that is a file; any other remote is called directly."""
    data = read_labelled(pair / "test.npz")
    scores = remote_scores(str(pair / "remote.onnx"), data.inputs)
    served = Prepared(pair / "local.onnx", pair / "remote.onnx", data, scores).measure(30)

    class Here:
        def infer(self, inputs: object, _: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            return remote_scores(str(pair / "remote.onnx"), np.asarray(inputs))

        def close(self) -> None: ...

    here = Prepared(pair / "local.onnx", Here(), data, scores).measure(30)
    assert served.served.requests == 400 - served.served.reasons["confident"]
    assert here.served.requests is None
    assert here.cascade.accuracy == served.cascade.accuracy
