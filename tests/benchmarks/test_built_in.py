"""The built-in pairs are told apart, and refuse what they are not made of."""

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
    """By the names that they have here, so that neither list can run ahead of the other."""
    assert tuple(BUILT_IN) == demo._PAIRS


@pytest.mark.parametrize("name", ["fashion-mnist", "languages"])
def test_what_a_pair_is_not_made_of_is_refused(name: str) -> None:
    """Before anything is downloaded."""
    with pytest.raises(BenchmarkError, match=f"^images: expected none with {name}"):
        BUILT_IN[name].prepared(Path("/nowhere"), images=(1, 2, 3))


@pytest.mark.parametrize("name", ["flagship", "comparable"])
def test_the_method_tells_how_many_images(name: str) -> None:
    """Those that were asked for, or the usual ones."""
    assert "5000 CIFAR-10 images fitted" in BUILT_IN[name].described()
    assert "12 CIFAR-10 images fitted both linear heads, 34 others" in BUILT_IN[name].described((12, 34, 56))


def test_wrong_arguments_are_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is wrong with them."""
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
    """From a second process, which is asked over the wire; a remote in this process is asked directly."""
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
