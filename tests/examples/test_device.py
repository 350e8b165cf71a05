"""The device kit: the systemd unit, a new file for a running service, and metrics for a collector."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cascade_files import write_file
from edgecascade import Cascade, cli

ROOT = Path(__file__).parent.parent.parent
KIT = ROOT / "examples" / "device"
PATIENCE = 60.0  # seconds, for a busy machine
OLD, NEW = 1.0, 2.0  # temperatures


def unit() -> dict[str, list[str]]:
    """Return the settings of the unit."""
    settings: dict[str, list[str]] = {}
    for line in (KIT / "edgecascade.service").read_text().splitlines():
        if re.match("[A-Z]", line):
            name, _, value = line.partition("=")
            settings.setdefault(name, []).append(value)
    return settings


def test_the_unit_is_understood_by_systemd(tmp_path: Path) -> None:
    """It has no unknown setting, and its exposure is low, where systemd can be asked."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    own = tmp_path / "edgecascade.service"
    command = Path(sys.executable).with_name("edgecascade")
    own.write_text((KIT / "edgecascade.service").read_text().replace("/opt/edgecascade/bin/edgecascade", str(command)))
    verified = subprocess.run(["systemd-analyze", "verify", own], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    asked: list[Any] = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", own]
    assert subprocess.run(asked, capture_output=True, check=False).returncode == 0  # 2.0 of 10


def test_the_unit_starts_what_the_command_takes() -> None:
    """Its command is parsed; it tells when it is ready, and writes only into a directory that others cannot read."""
    settings = unit()
    (started,) = settings["ExecStart"]
    program, *arguments = started.split()
    assert program.endswith("/edgecascade")
    cli._parser(arguments[0]).parse_args(arguments)
    assert settings["Type"] == ["notify"]
    assert settings["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert (settings["StateDirectory"], settings["StateDirectoryMode"]) == (["edgecascade"], ["0700"])
    assert settings["ProtectSystem"] == ["strict"]
    assert float(settings["WatchdogSec"][0]) > 0


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.jetpack6"])
def test_the_images_install_no_second_engine_and_run_as_a_user(name: str) -> None:
    """The extras exist; that of an engine is only where the image brings none."""
    text = (KIT / name).read_text()
    (extras,) = re.findall(r"^ARG EXTRAS=([a-z,]+)$", text, re.MULTILINE)
    known = re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(extras.split(",")) <= set(known)
    assert ("cpu" in extras.split(",")) == (name == "Dockerfile")
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    (example,) = re.findall(r"edgecascade (serve .*)", re.sub(r"\\\n#\s*", "", text))
    cli._parser("serve").parse_args(example.split())


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[Path, int, Any]]:
    """Serve a cascade; return its file, port and process."""
    path = write_file(tmp_path / "local.onnx", OLD)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "edgecascade.cli", "serve", str(path), "--cascade", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready"):
            break
        time.sleep(0.1)
    yield path, port, process
    process.kill()
    process.wait()


def update(new: Path, path: Path, port: int, process: Any) -> Any:
    """Run the script, and return what it printed and its exit code."""
    metrics, reload = f"http://127.0.0.1:{port}/metrics", f"kill -{int(signal.SIGHUP)} {process.pid}"
    command: list[Any] = [sys.executable, KIT / "update.py", new, path, "--metrics", metrics, "--reload", reload]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_an_update_is_taken_or_taken_back(service: tuple[Path, int, Any], tmp_path: Path) -> None:
    """A right file stays in place; for one that is not as calibrated, the one before is put back and in use."""
    path, port, process = service
    good, bad = write_file(tmp_path / "good.onnx", NEW), write_file(tmp_path / "bad.onnx", 3.0, expects=OLD)
    ran = update(good, path, port, process)
    assert (ran.returncode, ran.stdout.split()[-1]) == (0, "taken"), ran.stderr
    ran = update(bad, path, port, process)
    assert (ran.returncode, [line.split()[-1] for line in ran.stdout.splitlines()]) == (1, ["refused", "taken"])
    assert path.read_bytes() == good.read_bytes()
    with Cascade.load(path) as cascade:
        assert cascade.document.calibration.temperature == NEW


def test_counts_arrive_at_a_collector(pair: Path, tmp_path: Path) -> None:
    """The script sends them in OTLP over HTTP; the collector finds an answer for each image."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    received = list[bytes]()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/metrics"
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    images = [tmp_path / f"{i}.png" for i in range(3)]
    for i, image in enumerate(images):
        Image.fromarray(np.full((8, 8, 3), 100 * i, np.uint8)).save(image)
    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_address[1]}"
        ran = subprocess.run(
            [sys.executable, KIT / "metrics_to_otlp.py", pair / "local.onnx", *images],
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        collector.shutdown()
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 3
    request = ExportMetricsServiceRequest.FromString(received[-1])
    metrics = {
        one.name: one
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for one in scope.metrics
    }
    assert sum(point.as_int for point in metrics["edgecascade.answers"].sum.data_points) == 3
