"""The comparison of the server with Triton: what is measured is there, and it counts what it says."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from studies.serving import MODELS, Load, _summary, measure_serving

_SERVERS = ("serve", "serve --max-batch 1", "Triton")


@pytest.mark.parametrize("model", MODELS)
def test_the_models_take_any_number_of_inputs(model: str, tmp_path: Path) -> None:
    """A batch gives the rows of its inputs, none of which is a constant."""
    path, x = MODELS[model](tmp_path)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (one,) = session.run(["logits"], {"x": x})
    (three,) = session.run(["logits"], {"x": np.concatenate([x, -x, x])})
    assert one.shape == (1, 10)
    np.testing.assert_allclose(three[[0, 2]], one[[0, 0]], rtol=1e-4, atol=1e-5)
    assert not np.allclose(three[1], one[0])


def test_ratios_are_those_of_the_same_round() -> None:
    """A machine that becomes slower from round to round does not change them."""
    speeds = {"serve": 80.0, "serve --max-batch 1": 20.0, "Triton": 100.0}
    loads = {server: [Load(rate / i, 1.0 * i, 2.0 * i, 0.5 * i) for i in (1, 2, 3)] for server, rate in speeds.items()}
    found = _summary({"some": loads}, {"some": (20.0, 200.0)})
    assert found.against_triton["some"].value == pytest.approx(0.8)
    assert found.batching["some"].value == pytest.approx(4.0)
    assert found.rate["some"]["Triton"].value == 50
    shown = (found.median, found.late, found.cpu)
    assert [one["some"]["serve"].value for one in shown] == [2, 4, 1]


@pytest.mark.slow
def test_both_servers_are_measured(environment: Callable[..., Path]) -> None:
    """Both give the answers of the model, to all of wrk's requests."""
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    python = environment("nvidia-pytriton==0.7.0", "numpy<2", "onnxruntime==1.32.0")
    found = measure_serving(str(python), models=["784-128-10 network"], rounds=1, seconds=1)
    (servers,) = found.rate.values()
    assert tuple(servers) == _SERVERS
    assert all(one.value > 0 for one in servers.values())
    (spent,) = found.cpu.values()
    assert all(0.01 < one.value < 100 for one in spent.values())
    assert len(str(found).splitlines()) == 7
