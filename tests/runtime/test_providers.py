"""Execution providers are chosen by preference: the one in use is reported, and there is no silent fallback."""

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
    """Set the available providers."""

    def here(*names: str) -> None:
        monkeypatch.setattr(module, "available", lambda: [PROVIDERS[name] for name in names])

    return here


def test_the_first_named_provider_is_used(here: Callable[..., None]) -> None:
    """It is named by its short or full name."""
    here("cuda", "cpu")
    assert preferred("cuda") == preferred(CUDA) == [CUDA]
    assert preferred(("cuda", "cpu")) == [CUDA, CPU]
    assert preferred(("cpu",)) == [CPU]


def test_auto_is_every_available_provider_fastest_first(here: Callable[..., None]) -> None:
    """The order is that of the table, not that of onnxruntime."""
    here("cpu", "xnnpack", "cuda", "tensorrt")
    assert preferred("auto") == [PROVIDERS[name] for name in ("tensorrt", "cuda", "xnnpack", "cpu")]


def test_an_unavailable_provider_is_replaced_only_if_allowed(here: Callable[..., None]) -> None:
    """Naming a second provider does not allow it, since many users name one by habit."""
    here("cpu")
    with pytest.raises(ModelFileError, match=r"^providers: .* got CUDAExecutionProvider; it has CPU"):
        preferred(("cuda", "cpu"))
    assert preferred(("cuda", "cpu"), fallback=True) == [CPU]
    with pytest.raises(ModelFileError, match=r"^providers: .* got CUDAExecutionProvider"):
        preferred("cuda", fallback=True)


@pytest.mark.parametrize(("names", "said"), [("gpu", "gpu"), ((), "none"), (("cuda", "tpu"), "tpu")])
def test_an_unknown_provider_is_refused(names: Any, said: str) -> None:
    """The error lists the existing ones."""
    with pytest.raises(ArgumentError, match=rf"^providers: expected names among auto, tensorrt, .*, got {said}$"):
        preferred(names)


def test_compiled_engines_are_stored_in_the_given_folder(tmp_path: Path) -> None:
    """The folder is created, and only the providers that compile use it."""
    folder = tmp_path / "engines"
    assert engine_options(PROVIDERS["tensorrt"], folder, 1)["trt_engine_cache_path"] == str(folder)
    assert engine_options(PROVIDERS["openvino"], folder, 2) == {"num_of_threads": "2", "cache_dir": str(folder)}
    assert folder.is_dir()
    assert engine_options(CPU, folder, 1) == engine_options(CUDA, None, 1) == {}


def test_a_cascade_reports_its_provider(file: Path, pair: Path) -> None:
    """It can be warmed up with the file's golden inputs or any input, without being counted."""
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
def test_openvino_gives_the_same_decisions(environment: Callable[..., Path], pair: Path, tmp_path: Path) -> None:
    """In its own environment, labels agree and confidences agree to 1e-4, and its compiled engine is reused."""
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
