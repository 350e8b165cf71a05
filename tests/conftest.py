"""Settings of the whole suite, environments of third-party packages, and a pair of image classifiers.

The models of the pair are a few weights: the local model reads one corner of an image, the remote all of it.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecascade.benchmarks.cache import cache_folder
from edgecascade.cli import main
from edgecascade.export import ImagePreprocessing, prepend, save_model
from real_servers import LLAMA, running

IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
ROOT = Path(__file__).parent.parent
SIDE = 8

# Examples have no deadline, because machines differ, and are the same in every run of the CI.
settings.register_profile("tests", deadline=None, database=None, derandomize=IN_CI, print_blob=True)
settings.load_profile("tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give parallel workers the files with slow tests first, so that all workers finish at about the same time."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _signals() -> Iterator[None]:
    """Give child processes the default action on signals that are ignored here: in the background, or under nohup."""
    ignored = [one for one in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_IGN]
    for one in ignored:
        signal.signal(one, signal.default_int_handler if one == signal.SIGINT else signal.SIG_DFL)
    yield
    for one in ignored:
        signal.signal(one, signal.SIG_IGN)


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], None]:
    """Skip a test whose requirement is missing on this machine; fail it in the CI (CI=true), which must have all."""

    def unavailable(reason: str) -> None:
        (pytest.fail if IN_CI else pytest.skip)(reason)

    return unavailable


@pytest.fixture(scope="session")
def environment(unavailable: Callable[[str], None]) -> Callable[..., Path]:
    """Return the Python of an environment with certain packages, made once in the user's cache folder.

    The folder is named for the packages and their pins, so that another pin makes another environment. Without one,
    the test is skipped, or fails in the CI.
    """

    def environment(*packages: str, options: tuple[str, ...] = ("--only-binary=:all:",)) -> Path:
        key = hashlib.sha256("\n".join([sys.version, *packages, *options]).encode()).hexdigest()[:12]
        folder = cache_folder() / "environments" / f"{re.sub('[^A-Za-z0-9.]+', '-', packages[0])}-{key}"
        python = folder / "bin" / "python"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # other workers, and other checkouts, wait
            if (folder / "ready").exists():  # written last: an interrupted installation starts again
                return python
            shutil.rmtree(folder, ignore_errors=True)
            install = [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                *options,
                *packages,
            ]
            try:
                for command in ([sys.executable, "-m", "venv", str(folder)], install):
                    subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
            except (OSError, subprocess.SubprocessError) as error:
                said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
                unavailable(f"{' '.join(packages)} cannot be installed: {said[-1]}")
            (folder / "ready").touch()
        return python

    return environment


@pytest.fixture(scope="session")
def npm() -> Path:
    """Return the `node_modules` with what the npm package is developed with, installed once in the cache folder.

    Without Node or the npm registry, the test is skipped, in the CI too.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node is not installed")
    description = ROOT / "runtime" / "js" / "package.json"
    wanted = [f"{name}@{version}" for name, version in json.loads(description.read_text())["devDependencies"].items()]
    folder = cache_folder() / "environments" / f"npm-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "ready").exists():
            # Their scripts would download CUDA.
            command = [
                "npm",
                "install",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--prefix",
                str(folder),
                *wanted,
            ]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"{' '.join(wanted)} cannot be installed: {error}")
            (folder / "ready").touch()
    return folder / "node_modules"


@pytest.fixture(scope="session")
def packages(npm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the jobs' scripts, and `node_modules` with the package as npm packs it."""
    folder = tmp_path_factory.mktemp("javascript")
    modules = folder / "node_modules"
    modules.mkdir()
    for one in npm.iterdir():
        (modules / one.name).symlink_to(one)
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), str(ROOT / "runtime" / "js")]
    subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=folder)
    (archive,) = folder.glob("*.tgz")
    shutil.unpack_archive(archive, folder)
    (folder / "package").rename(modules / "edgecascade")
    for script in (ROOT / "tests" / "runtime" / "javascript").iterdir():
        shutil.copy(script, folder)
    return folder


@pytest.fixture(scope="module")
def browser(unavailable: Callable[[str], None]) -> Iterator[Any]:
    """Start the system's Chromium."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        unavailable("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Pages that a test gives itself have no address; Chromium would ask the user before they reach a local server.
        arguments = ["--no-sandbox", "--disable-features=LocalNetworkAccessChecks"]
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Start `edgecascade serve` with these arguments, return the model's address, and end it after the tests."""
    started = []

    def serving(*arguments: object) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = tmp_path_factory.mktemp("serve") / "log"
        command = [sys.executable, "-m", "edgecascade.cli", "serve", *map(str, arguments), "--port", str(port)]
        with log.open("w") as output:
            started.append(subprocess.Popen(command, stdout=output, stderr=output))
        address, end = f"http://127.0.0.1:{port}/v2/models/model", time.monotonic() + 60
        while time.monotonic() < end and started[-1].poll() is None:
            try:
                with urllib.request.urlopen(f"{address}/ready", timeout=1):
                    return address
            except OSError:
                time.sleep(0.1)
        return pytest.fail(f"the server did not come up: {log.read_text()[-500:]}")

    yield serving
    for one in started:
        one.kill()
        one.wait()


@pytest.fixture(scope="session")
def llama(environment: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of llama.cpp's server with SmolLM2-135M, which always ends with this process."""
    log = tmp_path_factory.mktemp("xllamacpp") / "log"
    script = ROOT / "tests" / "runtime" / "servers" / "serve_xllamacpp.py"
    python = environment(*LLAMA, options=("--no-deps",))
    with running([python, script], log) as (_, url):
        yield url


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, Path]:
    """Return the wheels of both distributions by name, built once for all workers."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "wheels"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            for source in (ROOT, ROOT / "benchmarks"):
                command = [sys.executable, "-m", "build", "--wheel", "--outdir", f"{folder}.part", str(source)]
                subprocess.run(command, check=True, capture_output=True)
            os.rename(f"{folder}.part", folder)
    return {wheel.name.split("-")[0]: wheel for wheel in folder.glob("*.whl")}


@pytest.fixture(scope="session")
def unpacked(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the contents of the runtime wheel, for the PYTHONPATH of other environments."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheels["edgecascade"]) as wheel:
        wheel.extractall(folder)
    return folder


def _looking_at(weight: NDArray[np.float64], sharpness: float) -> ModelProto:
    """Return weights for logits of three colours: each channel's weighted mean over the pixels."""
    kernel = np.einsum("oi,hw->oihw", np.eye(3), weight / weight.sum()) * sharpness
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["pixels", "kernel"], ["map"]),
            helper.make_node("Flatten", ["map"], ["logits"]),
        ],
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(kernel.astype(np.float32), "kernel")],
    )
    body = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return prepend(ImagePreprocessing(SIDE, SIDE, (127.0,) * 3, (128.0,) * 3), body)


def _images(n: int, seed: int, path: Path) -> Path:
    """Return noise images with a slightly stronger colour, and that colour as the label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    pixels = rng.normal(127, 60, (n, SIDE, SIDE, 3))
    pixels[np.arange(n), :, :, labels] += 25
    names = np.array(["red", "green", "blue"])
    np.savez(path, x=pixels.clip(0, 255).astype(np.uint8), y=labels, names=names)
    return path


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `local.onnx`, calibrated for 30 % offload; `remote.onnx`; and `test.npz`, 400 other images.

    Its plan is given, not chosen: tests of other things, and a kept copy of the file, do not depend on the defaults.
    """
    folder = tmp_path_factory.mktemp("pair")
    corner, everything = np.zeros((SIDE, SIDE)), np.ones((SIDE, SIDE))
    corner[:3, :3] = 1.0
    save_model(_looking_at(corner, 12.0), folder / "corner.onnx")
    save_model(_looking_at(everything, 40.0), folder / "remote.onnx")
    _images(600, 1, folder / "calibration.npz")
    _images(400, 2, folder / "test.npz")
    arguments = ["calibrate", "corner.onnx", "--remote", "remote.onnx", "--data", "calibration.npz"]
    arguments += ["--score", "confidence", "--merge", "confident", "--estimate", "monotone", "--bins", "30"]
    arguments += ["--calibrator", "temperature", "--offload-rate", "0.3", "-o", "local.onnx"]
    assert main([str(folder / a) if a.endswith((".onnx", ".npz")) else a for a in arguments]) == 0
    return folder
