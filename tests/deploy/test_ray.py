"""Two stages anywhere, and on Ray: the answers are those of one call, and a worker that dies changes none."""

import json
import os
import pickle
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from edgecascade import Cascade
from edgecascade.deploy.ray import app
from edgecascade.deploy.stages import Answer, Decide
from edgecascade.runtime import Columns
from edgecascade.types.errors import ArgumentError, EdgecascadeError, InputError
from task_files import twice_file

ROOT = Path(__file__).parent.parent.parent
RAY = ("ray[data,serve]==2.60.0", "onnxruntime==1.32.0")


def answers(folder: Path, threshold: float | None = None) -> Columns:
    """Return the answers to all images."""
    with Cascade.load(folder / "local.onnx", remote=folder / "remote.onnx", threshold=threshold) as cascade:
        return cascade.predict_columns(np.load(folder / "test.npz")["x"])


def assert_same(found: dict[str, Any], expected: Columns) -> None:
    """Check every column, bit for bit."""
    for name in ("label", "confidence", "advantage", "forward", "probabilities", "source", "reason"):
        np.testing.assert_array_equal(found[name], getattr(expected, name), err_msg=name)


def test_two_stages_give_what_one_call_does(files: Path) -> None:
    """Also where no row of a table is forwarded, and where the first stage was pickled."""
    first = pickle.loads(pickle.dumps(Decide(files / "local.onnx", "image", threshold=-0.1)))
    second = Answer(files / "local.onnx", files / "remote.onnx", "image")
    table = {"image": np.load(files / "test.npz")["x"], "id": np.arange(400)}
    decided, expected = first(table), answers(files, -0.1)
    found = second(decided)
    assert_same(found, expected)
    assert found.keys() >= {"id"}
    assert "image" not in found
    stay = {name: column[~decided["forward"]] for name, column in decided.items()}
    assert set(second(stay)["source"]) == {"local"}


def test_a_stage_refuses_other_columns_and_another_large_model(files: Path) -> None:
    """Before any row is answered, in one sentence."""
    with pytest.raises(InputError, match="columns: expected image, got id"):
        Decide(files / "local.onnx", "image")({"id": np.arange(3)})
    with pytest.raises(ArgumentError, match=r"^remote: expected scores \[n, 3\]"):
        Answer(files / "local.onnx", files / "two.onnx", "image")
    with pytest.raises(ArgumentError, match=r"^remote: expected tensor\(uint8\)"):
        Answer(files / "local.onnx", files / "features.onnx", "image")
    images = np.load(files / "test.npz")["x"][:3]
    for columns in ({"image": images, "label": np.arange(3)}, {"image": images, "reason": np.arange(3)}):
        with pytest.raises(InputError, match="columns: expected none named"):  # they would be lost
            Decide(files / "local.onnx", "image")(columns)
    with pytest.raises(InputError, match="columns: expected label"):
        Answer(files / "local.onnx", files / "remote.onnx", "image")({"image": images})
    with pytest.raises(InputError, match="columns: expected arrays by name, got Table"):
        Decide(files / "local.onnx", "image")(pa.table({"image": images.tolist()}))
    with pytest.raises(ArgumentError, match="general task"):
        Decide(twice_file(files), "x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"remote": ""},
        {"remote": "two.onnx"},
        {"remote": "features.onnx"},
        {"remote": "http://127.0.0.1:9/v2/models/large"},
        {"name": "a/b"},
        {"remote": "nobody.onnx"},
        {"local": "corner.onnx"},
        {"deadline": "soon"},
        {"deadline": "0"},
        {"max_batch": "0"},
        {"treshold": "0"},
    ],
)
@pytest.mark.usefixtures("files")
def test_the_application_is_checked_before_it_is_deployed(wrong: dict[str, str]) -> None:
    """Errors are those of edgecascade, in one sentence, and need no Ray."""
    with pytest.raises(EdgecascadeError) as raised:
        app({"local": "local.onnx", "remote": "remote.onnx", **wrong})
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_ray_answers_as_the_cascade_does(environment: Callable[..., Path], pair: Path, tmp_path: Path) -> None:
    """Ray Data, one of whose workers is killed, answers every row once; so does Ray Serve over HTTP."""
    shutil.copytree(pair, tmp_path / "files")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("run_ray.py")
    command = [str(one) for one in (environment(*RAY), script, tmp_path / "files", port)]
    variables = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "runtime"), "RAY_USAGE_STATS_ENABLED": "0"}
    with (tmp_path / "log").open("w") as log:
        ran = subprocess.run(command, env={**os.environ, **variables}, stdout=log, stderr=log, timeout=400, check=False)
    assert ran.returncode == 0, (tmp_path / "log").read_text()[-3000:]
    found = dict(np.load(tmp_path / "files" / "data.npz"))
    assert sorted(found["id"]) == list(range(400))
    order = np.argsort(found["id"])
    assert_same({name: column[order] for name, column in found.items()}, answers(pair))
    served = {one["name"]: one for one in json.loads((tmp_path / "files" / "served.json").read_text())["outputs"]}
    expected = answers(pair, -0.1)
    for name in ("label", "source", "reason"):
        assert served[name]["data"] == getattr(expected, name)[:40].tolist()
    probabilities = np.array(served["probabilities"]["data"], np.float32).reshape(40, 3)
    np.testing.assert_array_equal(probabilities, expected.probabilities[:40])
