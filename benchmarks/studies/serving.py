"""The throughput and latency of `edgecascade serve` beside Triton, with the same ONNX files, one thread and wrk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save

from edgecascade.benchmarks.report import HIGHER, LOWER, write_study
from edgecascade.benchmarks.server import free_port, serving, wait_until_ready
from edgecascade.calibration import quantile
from edgecascade.runtime import Deadline, OpenInference
from edgecascade.runtime.engine import open_session
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["GOAL", "MODELS", "Load", "ServingSpeed", "convolutions", "main", "measure_serving"]

GOAL = 0.7
"""The least throughput of `serve` as a share of Triton's."""

_BATCH = 32  # inputs at most
_PATIENCE = 60.0  # seconds for one answer
_OURS, _ALONE, _TRITON = "serve", "serve --max-batch 1", "Triton"
_LOAD = """
local body = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", body:read("*a")
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.headers["Inference-Header-Content-Length"] = "{head}"
function done(summary, latency)
    local e = summary.errors
    local failed = e.connect + e.read + e.write + e.status + e.timeout
    io.write(string.format("done %d %d %d %f %f\\n", summary.requests, failed, summary.duration,
        latency:percentile(50), latency:percentile(99)))
end
"""


class Load(NamedTuple):
    """What a server did in one measurement.

    Attributes:
        rate: answers per second; a request has one input.
        median: of the latency, in ms.
        late: 99th percentile of the latency, in ms.
        cpu: CPU time of the server's processes for an answer, in ms.
    """

    rate: float
    median: float
    late: float
    cpu: float


@dataclass(frozen=True)
class ServingSpeed:
    """What was measured: medians over rounds, by model and server.

    Attributes:
        rate: answers per second.
        median: of the latency, in ms.
        late: 99th percentile of the latency, in ms.
        cpu: CPU time of the server's processes for an answer, in ms, which other work on the machine hardly changes.
        against_triton: rate of `serve` as a share of Triton's, by model.
        batching: rate of `serve` as a multiple of its rate without batches, by model.
        bare: inputs per second of the model alone in batches of 1 and 32, by model.
    """

    rate: dict[str, dict[str, Estimate]]
    median: dict[str, dict[str, Estimate]]
    late: dict[str, dict[str, Estimate]]
    cpu: dict[str, dict[str, Estimate]] = field(metadata=LOWER)
    against_triton: dict[str, Estimate] = field(metadata=HIGHER)
    batching: dict[str, Estimate]
    bare: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        """Return a table, and the ratios."""
        lines = [f"{'model':<24}{'server':<22}{'answers/s':>10}{'median ms':>11}{'99 % ms':>9}{'CPU ms':>8}"]
        for model, servers in self.rate.items():
            for server, rate in servers.items():
                median, late = self.median[model][server].value, self.late[model][server].value
                spent = self.cpu[model][server].value
                lines.append(f"{model:<24}{server:<22}{rate.value:>10.0f}{median:>11.1f}{late:>9.1f}{spent:>8.2f}")
            one, many = self.bare[model]
            lines.append(f"{model:<24}{'the model alone':<22}{many:>10.0f} in batches of {_BATCH}, {one:.0f} singly")
        for model, ratio in self.against_triton.items():
            said = "met" if ratio.value >= GOAL else "MISSED"
            lines.append(f"{model}: {_shown(ratio)} of Triton's throughput; goal at least {GOAL:g}: {said}")
            lines.append(f"{model}: batches bring {_shown(self.batching[model])} times the throughput")
        return "\n".join(lines)


def _shown(one: Estimate) -> str:
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f}, n = {one.n})"


def measure_serving(
    triton: str, *, models: Sequence[str] = (), rounds: int = 5, seconds: float = 4.0, clients: int = 64
) -> ServingSpeed:
    """Measure the servers in turn, each in a process of its own with one run at a time in one thread.

    Args:
        triton: Python of the environment with nvidia-pytriton.
        models: names among `MODELS`; all of them by default.
        rounds: measurements of each server with each model.
        seconds: that each takes.
        clients: connections of wrk, each of which sends a request as soon as it has the reply to the one before.

    Raises:
        BenchmarkError: wrk or a server is missing or fails, or a server answers otherwise than the model.
    """
    if shutil.which("wrk") is None:
        raise BenchmarkError("the load generator wrk is missing: `apt-get install wrk`")
    found: dict[str, dict[str, list[Load]]] = {}
    bare = {}
    for model in models or MODELS:
        with tempfile.TemporaryDirectory() as name, ExitStack() as running:
            folder = Path(name)
            path, x = MODELS[model](folder)
            options = ["--instances", "1", "--max-batch"]
            servers = {
                server: running.enter_context(
                    serving(path, name="model", threads=1, log=folder / f"{batch}.log", further=[*options, str(batch)])
                )
                for server, batch in ((_OURS, _BATCH), (_ALONE, 1))
            }
            servers[_TRITON] = running.enter_context(_triton(triton, path, folder))
            bare[model] = _bare(path, x)
            script = _script(folder, x)
            for address in servers.values():
                _check(address, path, x)
                _load(address, script, 1.0, clients)  # warms up
            loads: dict[str, list[Load]] = {server: [] for server in servers}
            for _ in range(rounds):
                for server, address in servers.items():
                    loads[server].append(_load(address, script, seconds, clients))
            found[model] = loads
    return _summary(found, bare)


def _summary(found: Mapping[str, Mapping[str, Sequence[Load]]], bare: dict[str, tuple[float, float]]) -> ServingSpeed:
    def medians(at: int) -> dict[str, dict[str, Estimate]]:
        return {
            model: {server: _median([one[at] for one in some]) for server, some in loads.items()}
            for model, loads in found.items()
        }

    def ratios(than: str) -> dict[str, Estimate]:
        return {
            model: _median([ours.rate / theirs.rate for ours, theirs in zip(loads[_OURS], loads[than], strict=True)])
            for model, loads in found.items()
        }

    return ServingSpeed(medians(0), medians(1), medians(2), medians(3), ratios(_TRITON), ratios(_ALONE), bare)


def _median(values: Sequence[float]) -> Estimate:
    return quantile(np.array(values), 0.5)


def _layers(folder: Path, sides: Sequence[int]) -> tuple[Path, NDArray[np.float32]]:
    """Write dense layers with random weights, and return the file and an input [1, sides[0]]."""
    rng = np.random.default_rng(0)
    nodes, weights, at = [], [], "x"
    for i, (before, after) in enumerate(pairwise(sides)):
        weight = rng.normal(size=(before, after)) / np.sqrt(before)
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w{i}"))
        last = i == len(sides) - 2
        nodes.append(helper.make_node("MatMul", [at, f"w{i}"], ["logits" if last else f"h{i}"]))
        at = f"r{i}"
        if not last:
            nodes.append(helper.make_node("Relu", [f"h{i}"], [at]))
    x = rng.normal(size=(1, sides[0])).astype(np.float32)
    return _saved(folder, nodes, weights, [sides[0]], sides[-1]), x


def convolutions(folder: Path, side: int = 64, seed: int = 0, width: int = 32) -> tuple[Path, NDArray[np.float32]]:
    """Write a small convolutional network with random weights, and return the file and an input [1, 3, side, side]."""
    rng = np.random.default_rng(seed)
    nodes, weights, at = [], [], "x"
    channels = (3, width, 2 * width, 4 * width, 4 * width)
    for i, (before, after) in enumerate(pairwise(channels)):
        weight = rng.normal(size=(after, before, 3, 3)) / np.sqrt(9 * before)
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w{i}"))
        strides = [1, 1] if i == 0 else [2, 2]
        nodes.append(helper.make_node("Conv", [at, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1], strides=strides))
        at = f"r{i}"
        nodes.append(helper.make_node("Relu", [f"c{i}"], [at]))
    nodes.append(helper.make_node("GlobalAveragePool", [at], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    weights.append(numpy_helper.from_array(rng.normal(size=(channels[-1], 10)).astype(np.float32), "w"))
    nodes.append(helper.make_node("MatMul", ["flat", "w"], ["logits"]))
    shape = [3, side, side]
    return _saved(folder, nodes, weights, shape, 10), rng.normal(size=(1, *shape)).astype(np.float32)


def _saved(folder: Path, nodes: list[Any], weights: list[Any], shape: list[int], classes: int) -> Path:
    graph = helper.make_graph(
        nodes,
        "served",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        weights,
    )
    path = folder / "model.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


MODELS: Mapping[str, Callable[[Path], tuple[Path, NDArray[np.float32]]]] = {
    "784-128-10 network": lambda folder: _layers(folder, (784, 128, 10)),
    "4 layers of 2048": lambda folder: _layers(folder, (2048, 2048, 2048, 2048, 2048, 10)),
    "convolutions, 64 px": convolutions,
}
"""What writes each model to a folder: of microseconds; bound by memory, for which batches matter; and by arithmetic."""


@contextmanager
def _triton(python: str, model: Path, folder: Path) -> Iterator[str]:
    """Run Triton with a model; gives the model's address."""
    port, log = free_port(), folder / "triton.log"
    script = Path(__file__).with_name("triton_server.py")
    command = [python, str(script), str(model), str(port), str(free_port()), str(_BATCH)]
    libraries = f"{sysconfig.get_config_var('LIBDIR')}:{os.environ.get('LD_LIBRARY_PATH', '')}"  # it embeds Python
    address = f"http://127.0.0.1:{port}/v2/models/model"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its processes end together
        )
    try:
        wait_until_ready(f"{address}/ready", process, log)
        yield address
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _script(folder: Path, x: NDArray[np.float32]) -> Path:
    """Write what wrk sends: a request with one input as a binary tensor, which asks for a binary reply."""
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    asked = {"name": "logits", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [asked]}).encode()
    body, script = folder / "body", folder / "load.lua"
    body.write_bytes(head + x.tobytes())
    script.write_text(_LOAD.format(body=body, head=len(head)))
    return script


def _load(address: str, script: Path, seconds: float, clients: int) -> Load:
    """Send requests for some seconds.

    Raises:
        BenchmarkError: a request failed.
    """
    command = ["wrk", "-t1", f"-c{clients}", f"-d{max(round(seconds), 1)}s", "--timeout", "30s", "-s", str(script)]
    before = _cpu_of_servers()
    ran = subprocess.run([*command, f"{address}/infer"], capture_output=True, text=True, check=False)
    spent = _cpu_of_servers() - before
    line = next((line for line in ran.stdout.splitlines() if line.startswith("done ")), None)
    if ran.returncode or line is None:
        raise BenchmarkError(f"wrk failed: {(ran.stderr or ran.stdout).strip()[-200:]}")
    requests, failed, microseconds, median, late = map(float, line.split()[1:])
    if failed or not requests:
        raise BenchmarkError(f"{address}: expected answers, got {failed:.0f} failures in {requests:.0f} requests")
    return Load(1e6 * requests / microseconds, median / 1e3, late / 1e3, 1e3 * spent / requests)


def _cpu_of_servers() -> float:
    """Return the seconds of CPU time of the servers so far, of which those that are not asked use next to none."""
    times = [one.cpu_times() for one in psutil.Process().children(recursive=True)]
    return float(sum(one.user + one.system for one in times))


def _check(address: str, model: Path, x: NDArray[np.float32]) -> None:
    """Compare an answer of a server with the model's."""
    (expected,) = open_session(model).run(["logits"], {"x": x})
    remote = OpenInference(address)
    found = remote.infer(x, Deadline.after(_PATIENCE))
    remote.close()
    if not np.allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-5):
        raise BenchmarkError(f"{address}: expected the answers of the model, got others")


def _bare(model: Path, x: NDArray[np.float32]) -> tuple[float, float]:
    """Return the inputs per second of a session in this process, in batches of 1 and of 32."""
    session, rates = open_session(model), []
    for n in (1, _BATCH):
        batch, times = np.repeat(x, n, axis=0), list[float]()
        end = time.monotonic() + 1.0
        while time.monotonic() < end or len(times) < 5:
            started = time.perf_counter()
            session.run(["logits"], {"x": batch})
            times.append(time.perf_counter() - started)
        rates.append(n / float(np.median(times)))
    return rates[0], rates[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the result; return 1 if a goal is missed."""
    parser = ArgumentParser(prog="python -m studies.serving", description=__doc__)
    parser.add_argument(
        "--triton",
        metavar="PYTHON",
        required=True,
        help="Python of an environment with nvidia-pytriton==0.7.0, onnxruntime and numpy<2.",
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS], help="Models (default: all).")
    parser.add_argument("--rounds", type=int, default=5, help="Measurements of each server (default: 5).")
    parser.add_argument("--seconds", type=float, default=4.0, help="Seconds of each (default: 4).")
    parser.add_argument("--clients", type=int, default=64, help="Requests at a time (default: 64).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    found = measure_serving(
        asked.triton, models=asked.models, rounds=asked.rounds, seconds=asked.seconds, clients=asked.clients
    )
    command = f"python -m studies.serving --triton PYTHON --rounds {asked.rounds} --seconds {asked.seconds:g}"
    command += f" --clients {asked.clients}"
    title = f"edgecascade serve and Triton, {asked.clients} requests at a time, one thread each"
    write_study(asked.out, "serving", found, command=command, summary=f"{title}\n{found}")
    print(found)
    return int(any(one.value < GOAL for one in found.against_triton.values()))


if __name__ == "__main__":
    raise SystemExit(main())
