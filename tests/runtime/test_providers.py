"""Execution providers by preference: which one really runs is known, and another one never steps in silently."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.runtime import ArgumentError, Cascade, ModelFileError
from edgecascade.runtime import providers as module
from edgecascade.runtime.providers import PROVIDERS, engine_options, preferred

CUDA, CPU = PROVIDERS["cuda"], PROVIDERS["cpu"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets which providers there are."""

    def here(*names: str) -> None:
        monkeypatch.setattr(module, "available", lambda: [PROVIDERS[name] for name in names])

    return here


def test_the_first_that_is_named_is_the_one(here: Callable[..., None]) -> None:
    """By short or full name."""
    here("cuda", "cpu")
    assert preferred("cuda") == preferred(CUDA) == [CUDA]
    assert preferred(("cuda", "cpu")) == [CUDA, CPU]
    assert preferred(("cpu",)) == [CPU]


def test_auto_is_all_that_are_here_fastest_first(here: Callable[..., None]) -> None:
    """In the order of the table, not of onnxruntime."""
    here("cpu", "xnnpack", "cuda", "tensorrt")
    assert preferred("auto") == [PROVIDERS[name] for name in ("tensorrt", "cuda", "xnnpack", "cpu")]


def test_one_that_is_not_here_is_replaced_only_if_told(here: Callable[..., None]) -> None:
    """Naming a second one is not telling: people write that without thinking."""
    here("cpu")
    with pytest.raises(ModelFileError, match=r"^providers: .* got CUDAExecutionProvider; it has CPU"):
        preferred(("cuda", "cpu"))
    assert preferred(("cuda", "cpu"), fallback=True) == [CPU]
    with pytest.raises(ModelFileError, match=r"^providers: .* got CUDAExecutionProvider"):
        preferred("cuda", fallback=True)


@pytest.mark.parametrize(("names", "said"), [("gpu", "gpu"), ((), "none"), (("cuda", "tpu"), "tpu")])
def test_a_name_that_nothing_has_is_refused(names: Any, said: str) -> None:
    """With those that exist."""
    with pytest.raises(ArgumentError, match=rf"^providers: expected names among auto, tensorrt, .*, got {said}$"):
        preferred(names)


def test_engines_are_kept_where_asked(tmp_path: Path) -> None:
    """In a folder that is made, by each provider that compiles; and by no other."""
    folder = tmp_path / "engines"
    assert engine_options(PROVIDERS["tensorrt"], folder, 1)["trt_engine_cache_path"] == str(folder)
    assert engine_options(PROVIDERS["openvino"], folder, 2) == {"num_of_threads": "2", "cache_dir": str(folder)}
    assert folder.is_dir()
    assert engine_options(CPU, folder, 1) == engine_options(CUDA, None, 1) == {}


def test_a_cascade_says_what_runs_it(file: Path, pair: Path) -> None:
    """And can be warmed up with the file's golden inputs, or any input, without counting one."""
    with Cascade.load(pair / "local.onnx", providers="auto") as cascade:
        assert cascade.provider == CPU
        assert cascade.warm_up() > 0
        assert cascade.counts().inputs == 0
    with Cascade.load(file) as cascade:
        with pytest.raises(ArgumentError, match=r"^x: expected an input to warm up with"):
            cascade.warm_up()
        assert cascade.warm_up(np.zeros(3, np.float32)) > 0


ELSEWHERE = """
import sys, json
import numpy as np
from edgecascade.runtime import Cascade
images, found = np.load(sys.argv[2]), {}
for name in ("cpu", "openvino", "auto"):
    with Cascade.load(sys.argv[1], providers=name, engine_cache=sys.argv[3]) as cascade:
        cascade.warm_up()
        answers = [cascade.predict(image) for image in images]
        found[name] = [cascade.provider, [a.label for a in answers], [a.confidence for a in answers]]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_another_real_provider_decides_alike(environment: Callable[..., Path], pair: Path, tmp_path: Path) -> None:
    """OpenVINO, in an environment of its own: the same labels, confidences to 1e-4, and engines kept for next time."""
    python = environment("onnxruntime-openvino==1.24.1", "numpy")
    images = tmp_path / "images.npy"
    np.save(images, np.load(pair / "test.npz")["x"][:40])
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        list(map(str, (python, "-c", ELSEWHERE, pair / "local.onnx", images, tmp_path / "engines"))),
        env={**os.environ, "PYTHONPATH": str(root / "runtime")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert [found[name][0] for name in ("cpu", "openvino", "auto")] == [CPU, *[PROVIDERS["openvino"]] * 2]
    for name in ("openvino", "auto"):
        assert found[name][1] == found["cpu"][1]
        np.testing.assert_allclose(found[name][2], found["cpu"][2], atol=1e-4)
    assert list((tmp_path / "engines").iterdir())
