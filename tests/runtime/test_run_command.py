"""`edgecascade run` in real processes, with pipes, sockets and terminals."""

import base64
import contextlib
import fcntl
import io
import json
import os
import pty
import queue
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from edgecascade.cli import main
from edgecascade.runtime.commands.cascade_arguments import open_cascade
from edgecascade.runtime.commands.sockets import MOST_CONNECTIONS

PATIENCE = 60.0  # seconds, for a busy machine
SURE, UNSURE = "[5, 0, 0]", "[0, 0.5, 0]"
BLUE = np.array([[0, 0, 4]], np.float32)


class Running:
    """A command in its own process, with threads that read its output lines."""

    def __init__(self, arguments: Sequence[object]) -> None:
        command = [sys.executable, "-m", "edgecascade.cli", "run", *map(str, arguments)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._said: queue.Queue[bytes] = queue.Queue()
        for stream, lines in ((self.process.stdout, self._lines), (self.process.stderr, self._said)):
            threading.Thread(target=_read_lines, args=(stream, lines), daemon=True).start()

    def send(self, text: str | bytes) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text if isinstance(text, bytes) else text.encode())

    def line(self) -> dict[str, Any]:
        """Wait for the next line on its standard output."""
        return dict(json.loads(self._lines.get(timeout=PATIENCE), parse_constant=pytest.fail))

    def said(self) -> str:
        """Wait for the next line on its standard error."""
        return self._said.get(timeout=PATIENCE).decode().rstrip()

    def address(self) -> str:
        """Return the address at which it reports to listen."""
        return self.said().rpartition(" at ")[2]

    def end(self) -> int:
        """Close its standard input, and return its exit code."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.process.wait(PATIENCE)


def _read_lines(stream: Any, lines: "queue.Queue[bytes]") -> None:
    for line in stream:
        lines.put(line)


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Start commands, and end them after the test."""
    started: list[Running] = []

    def start(*arguments: object) -> Running:
        started.append(Running(arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        for stream in (one.process.stdin, one.process.stdout, one.process.stderr):
            assert stream is not None
            stream.close()


def piped(text: str | bytes, *arguments: object) -> tuple[int, list[dict[str, Any]], str]:
    """Return exit code, lines and standard error of a command that gets all of its standard input at once."""
    ran = subprocess.run(
        [sys.executable, "-m", "edgecascade.cli", "run", *map(str, arguments)],
        input=text if isinstance(text, bytes) else text.encode(),
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )
    return ran.returncode, [json.loads(line) for line in ran.stdout.splitlines()], ran.stderr.decode()


class Client:
    """A connection to a command that listens."""

    def __init__(self, address: str) -> None:
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(address.removeprefix("unix:"))
        else:
            self.socket = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        self.socket.settimeout(PATIENCE)
        self._file = self.socket.makefile("rb")

    def send(self, text: str | bytes) -> None:
        """Send part of a line, or several lines."""
        self.socket.sendall(text if isinstance(text, bytes) else text.encode())

    def line(self) -> dict[str, Any] | None:
        """Return the next answer, or None if the other side has closed the connection."""
        line = self._file.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self.socket.close()


def test_lines_are_answered_in_order_with_their_keys(file: Path) -> None:
    """JSON arrays, objects by name and objects with a key are read; an invalid input gets a line with an error."""
    lines = [SURE, '{"x": [0, 0.5, 0], "key": "mine"}', "[1, 2]", '{"z": [5, 0, 0]}', "", '{"x": [1', "[NaN, 0, 0]"]
    code, answers, said = piped("\n".join(lines), file, "-")
    assert code == 2
    assert [one["input"] for one in answers] == ["-:1", "-:2", "-:3", "-:4", "-:6", "-:7"]
    assert [one.get("key") for one in answers] == [None, "mine", None, None, None, None]
    assert [one.get("name") for one in answers] == ["red", "green", None, "red", None, "red"]
    assert [part in answers[2]["error"] for part in ("x: ", "float32 [3]", "float32 [2]")] == [True] * 3
    assert "JSON" in answers[4]["error"]
    assert said == "4 answered: 2 locally, 2 to be forwarded (2 confident, 2 offline); 2 refused\n"


# a line, and a part of its error: the argument, or the names and values expected
WRONG_LINES = {
    "words": ('["a", 0, 0]', "x: "),
    "truths": ("[true, false, true]", "x: "),
    "ragged": ("[1, [2, 3], 4]", "x: "),
    "too large": ("[1e300, 0, 0]", "float32"),
    "too large for anything": (f"[1{'0' * 400}, 0, 0]", "x: "),
    "nothing": ("null", "other values"),
    "other names": ('{"y": [1, 2, 3]}', 'z or "x"'),
    "a key that is none": ('{"x": [5, 0, 0], "key": 7}', "key: "),
    "a key too long": (json.dumps({"x": [5, 0, 0], "key": "k" * 257}), "key: "),
    "a well too deep": ("[" * 100_000, "JSON"),
    "half a line": ('{"x": [5, 0', "JSON"),
    "no text": ("\xff\xfe{}", "JSON"),
}


def test_every_invalid_line_has_an_error_without_its_content(file: Path) -> None:
    """No invalid line ends the run or appears in its error."""
    lines = [line.encode("latin-1") for line, _ in WRONG_LINES.values()]
    code, answers, said = piped(b"\n".join([*lines, SURE.encode()]), file, "-")
    assert code == 2
    for (_, named), answer in zip(WRONG_LINES.values(), answers, strict=False):
        assert named in answer["error"]
        assert len(answer["error"]) < 200
    assert answers[-1]["name"] == "red"
    assert "Traceback" not in said


def test_a_typed_line_is_answered_at_once(start: Callable[..., Running], file: Path) -> None:
    """Each answer comes before the next line is sent, whether local, forwarded or refused."""
    running = start(file, "-")
    for line, found in ((SURE, "red"), (UNSURE, "green"), ("[1]", None), (SURE, "red")):
        running.send(line + "\n")
        assert running.line().get("name") == found
    assert running.end() == 2


def test_a_slow_remote_keeps_the_order_and_forwards_overlap(
    file: Path, serve: Any, answering: Any, respond: Any
) -> None:
    """Forwards of a quarter of a second each run in parallel and are answered in order."""

    def slow(connection: socket.socket) -> None:
        time.sleep(0.25)
        connection.sendall(respond(BLUE))

    server = serve(answering(slow))
    text = "\n".join([UNSURE, SURE, "[1]"] * 8)
    began = time.monotonic()
    code, answers, _ = piped(text, file, "-", "--remote", server.address, "--deadline", "20", "--no-retry")
    assert code == 2
    assert [one["input"] for one in answers] == [f"-:{n}" for n in range(1, 25)]
    assert [one.get("name") for one in answers[1::3]] == ["red"] * 8
    assert [("error" in one) for one in answers] == [False, False, True] * 8
    assert {one["reason"] for one in answers[::3]} <= {"offloaded", "remote error"}  # one row for several inputs
    assert time.monotonic() - began < 20


def test_a_line_too_long_is_refused_and_the_next_is_answered(file: Path) -> None:
    """The limit is 16 MiB."""
    code, answers, _ = piped(b"[" + b" " * (17 << 20) + b"]\n" + SURE.encode(), file, "-")
    assert code == 2
    assert answers[0]["input"] == "-:1"
    assert "16 MiB" in answers[0]["error"]
    assert answers[1]["name"] == "red"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_its_totals(
    start: Callable[..., Running], file: Path, signum: signal.Signals, code: int
) -> None:
    """A signal while it waits for a line causes the totals and the exit code, without a traceback."""
    running = start(file, "-")
    running.send(SURE + "\n")
    assert running.line()["name"] == "red"
    running.process.send_signal(signum)
    assert running.process.wait(PATIENCE) == code
    assert running.said() == "1 answered: 1 locally, 0 to be forwarded (1 confident)"


def test_a_signal_during_files_loses_no_answer(start: Callable[..., Running], file: Path, tmp_path: Path) -> None:
    """The lines are complete, in order, and as many as the totals state."""
    np.save(tmp_path / "many.npy", np.tile(np.array([5, 0, 0], np.float32), (300_000, 1)))
    running = start(file, tmp_path / "many.npy")
    lines = [running.line()]
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(PATIENCE) == 130
    total = int(running.said().split()[0])
    assert total < 300_000
    lines += [running.line() for _ in range(total - 1)]
    assert [one["input"] for one in lines] == [f"{tmp_path}/many.npy[{i}]" for i in range(total)]


def test_forwards_in_progress_are_answered_after_a_signal(
    start: Callable[..., Running], file: Path, serve: Any
) -> None:
    """The answer comes by its deadline, although the remote never replies."""
    server = serve(lambda _: time.sleep(PATIENCE))
    running = start(file, "-", "--remote", server.address, "--deadline", "1.5")
    running.send(UNSURE + "\n")
    while not server.connections:
        time.sleep(0.01)
    running.process.send_signal(signal.SIGTERM)
    assert running.line()["reason"] == "deadline"
    assert running.process.wait(PATIENCE) == 143


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_each_connection_gets_its_own_answers(
    start: Callable[..., Running], file: Path, tmp_path: Path, kind: str
) -> None:
    """Answers come at once, in order, numbered per connection; an incomplete line at its end is refused."""
    running = start(file, "tcp://127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path / 's'}")
    address = running.address()
    one, other = Client(address), Client(address)
    one.send(SURE + "\n" + '{"x": [0, 0.5, 0], "key": "k"}\n')
    other.send("[0, 0, 9]")
    other.send("\n[1]\n")
    first, second = one.line(), one.line()
    assert first is not None
    assert second is not None
    assert (first["input"], first["name"], second["key"]) == ("line 1", "red", "k")
    assert (other.line() or {})["name"] == "blue"
    assert (other.line() or {})["error"].startswith("x: ")
    other.send('{"x": [0')
    other.socket.shutdown(socket.SHUT_WR)
    assert (other.line() or {})["error"].startswith("the line is not valid JSON")
    assert other.line() is None
    one.send(b"x" * 100)  # and disconnect in the middle of a line
    one.close()
    other.close()
    third = Client(address)
    third.send(SURE + "\n")
    assert (third.line() or {})["name"] == "red"
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(PATIENCE) == 143
    assert third.line() is None
    third.close()
    assert running.said().startswith("4 answered: 3 locally, 1 to be forwarded")
    assert not (tmp_path / "s").exists()


def test_connections_are_bounded(start: Callable[..., Running], file: Path) -> None:
    """One connection too many gets an error; after another one closes, a new one is accepted."""
    running = start(file, "tcp://127.0.0.1:0")
    address = running.address()
    clients = [Client(address) for _ in range(MOST_CONNECTIONS)]
    for client in clients:  # each is known to be open
        client.send(SURE + "\n")
        assert (client.line() or {})["name"] == "red"
    extra = Client(address)
    assert str(MOST_CONNECTIONS) in (extra.line() or {})["error"]
    assert extra.line() is None
    clients.pop().close()
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        extra.close()
        extra = Client(address)
        with contextlib.suppress(ConnectionError):
            extra.send(SURE + "\n")
            if "name" in (extra.line() or {}):
                break
    else:
        pytest.fail("there was no room again")
    for client in (*clients, extra):
        client.close()


def test_a_unix_socket_is_private_and_replaces_a_stale_one(
    start: Callable[..., Running], file: Path, tmp_path: Path
) -> None:
    """Its mode is 600; it cannot be taken from a listening process, and one left by a killed process is replaced."""
    path = tmp_path / "s"
    running = start(file, f"unix:{path}")
    running.address()
    assert path.stat().st_mode & 0o777 == 0o600
    code, _, said = piped("", file, f"unix:{path}")
    assert code == 2
    assert said.splitlines()[-1].startswith("edgecascade: inputs: ")
    assert str(path) in said
    running.process.kill()
    running.process.wait()
    again = start(file, f"unix:{path}")
    client = Client(again.address())
    client.send(SURE + "\n")
    assert (client.line() or {})["name"] == "red"
    client.close()


def test_a_port_in_use_is_an_error(file: Path) -> None:
    """This holds for the port for lines and the one for metrics."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments in ([f"tcp://127.0.0.1:{port}"], ["-", "--metrics", port]):
            code, lines, said = piped("", file, *arguments)
            assert (code, lines) == (2, [])
            assert said.splitlines()[-1].startswith("edgecascade: ")
            assert "Address already in use" in said
            assert "Traceback" not in said


def test_the_live_line_is_for_terminals_only(file: Path) -> None:
    """The line is drawn a few times a second and cleared before the totals; standard output stays JSON."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 200, 0, 0))
    command = [sys.executable, "-m", "edgecascade.cli", "run", str(file), "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{SURE}\n{UNSURE}\n[1]\n".encode())
    process.stdin.flush()
    shown, end = "", time.monotonic() + PATIENCE
    while "refused" not in shown and time.monotonic() < end:
        shown += _shown(ours)
    process.stdin.close()
    lines = process.stdout.read().splitlines()
    process.stdout.close()
    assert process.wait(PATIENCE) == 2
    while more := _shown(ours):
        shown += more
    os.close(ours)
    assert [("error" in json.loads(line)) for line in lines] == [False, False, True]
    drawings = shown.split("\r\x1b[K")
    live = next(one for one in drawings if "refused" in one)
    assert live.startswith("2 answered, ")
    for part in ("/s | forwarded 50.0% (offline 50.0%) | p50 ", " ms, p99 ", " | 1 refused"):
        assert part in live
    assert "\n" not in live
    assert drawings[-1].strip() == "2 answered: 1 locally, 1 to be forwarded (1 confident, 1 offline); 1 refused"


def _shown(terminal: int) -> str:
    if not select.select([terminal], [], [], 1.0)[0]:
        return ""
    try:
        return os.read(terminal, 65536).decode()
    except OSError:  # as Linux reports when the other side is closed
        return ""


@pytest.mark.parametrize("host", [(), ("--metrics-host", "localhost")])
def test_metrics_can_be_scraped_while_it_runs(start: Callable[..., Running], file: Path, host: tuple[str, ...]) -> None:
    """The text is in the Prometheus format, at the address that was given; other paths are not found."""
    running = start(file, "-", "--metrics", "0", *host)
    address = running.address()
    running.send(f"{SURE}\n{UNSURE}\n")
    assert running.line()["reason"] == "confident"
    assert running.line()["reason"] == "offline"
    assert (host or ("", "127.0.0.1"))[1] in address
    with urllib.request.urlopen(address, timeout=PATIENCE) as response:
        text = response.read().decode()
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'edgecascade_answers_total{source="local",reason="confident"} 1' in text
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address.replace("metrics", "secrets"), timeout=PATIENCE)
    assert running.end() == 0


def test_late_answers_come_with_their_keys(
    start: Callable[..., Running], file: Path, tmp_path: Path, serve: Any, answering: Any, respond: Any
) -> None:
    """A reply after the deadline, or in a later run, is printed under the key of the input."""
    server = serve(answering(respond(BLUE)))
    port, outbox = server.port, tmp_path / "later.db"
    code, (line,), said = piped('{"x": [0, 0.5, 0], "key": "mine"}', file, "-", "--outbox", outbox)
    assert (code, line["queued"]) == (0, "mine")
    assert said.endswith("; 1 in the outbox\n")
    running = start(file, "-", "--outbox", outbox, "--remote", f"http://127.0.0.1:{port}/v2/models/m")
    late = running.line()
    assert (late["late"], late["key"], late["name"], late["source"]) == (True, "mine", "blue", "remote")
    assert running.end() == 0


def test_inputs_in_a_file_of_lines_are_stored_under_their_keys(file: Path, tmp_path: Path) -> None:
    """They are what the late answers name; an input without one gets a key of its own."""
    lines = tmp_path / "lines.jsonl"
    lines.write_text(
        f'{{"x": {UNSURE}, "key": "a"}}\nno JSON\n{{"x": [0], "key": "b"}}\n{{"x": {UNSURE}, "key": "c"}}\n'
    )
    code, answers, _ = piped("", file, lines, "--outbox", tmp_path / "later.db")
    assert code == 2
    assert [(one.get("key"), one.get("queued")) for one in answers] == [
        ("a", "a"),
        (None, None),
        ("b", None),
        ("c", "c"),
    ]


def test_a_remote_that_never_answers_is_announced_once_and_at_the_end(file: Path) -> None:
    """The exit code is 3, so that a script sees it; where nothing is to be forwarded, it is 0."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    remote = ("--remote", f"http://127.0.0.1:{port}/v2/models/m", "--no-retry")
    code, lines, said = piped("\n".join([UNSURE, SURE, UNSURE, UNSURE]), file, "-", *remote)
    assert code == 3
    assert [line["source"] for line in lines] == ["local"] * 4
    assert said.count("did not answer") == 1
    assert "none of 3 forwarded inputs" in said
    assert f"127.0.0.1:{port}" in said
    code, _, said = piped(SURE, file, "-", *remote)
    assert (code, "did not answer" in said) == (0, False)


def test_headers_are_sent_to_the_remote_and_not_logged(
    file: Path, tmp_path: Path, serve: Any, recording: Any, respond: Any
) -> None:
    """They come from the command line and a file, and are not logged even with `--log-json`."""
    behave, received = recording
    server = serve(behave(respond({"error": "no"}, status="403 Forbidden")))
    (tmp_path / "secret").write_text("Authorization: Bearer s3cret\n\nX-Two: 2\n")
    arguments = ["--remote", server.address, "--header", "X-One: 1", "--header-file", tmp_path / "secret", "--log-json"]
    code, lines, said = piped(UNSURE + "\n" + SURE, file, "-", *arguments)
    assert code == 3
    assert [one["reason"] for one in lines] == ["remote error", "confident"]
    headers = received[-1][1]
    assert (headers["authorization"], headers["x-one"], headers["x-two"]) == ("Bearer s3cret", "1", "2")
    assert "s3cret" not in said
    event = next(json.loads(line) for line in said.splitlines() if line.startswith("{"))
    assert (event["event"], event["reason"]) == ("forward failed", "remote error")


def test_a_budget_limits_forwards(pair: Path, tmp_path: Path) -> None:
    """At most as many inputs are forwarded as the budget allows."""
    np.save(tmp_path / "x.npy", np.load(pair / "test.npz")["x"][:50])
    arguments = ["--remote", pair / "remote.onnx", "--threshold", "1", "--deadline", "30", "--budget", "10/day"]
    code, lines, _ = piped("", pair / "local.onnx", tmp_path / "x.npy", *arguments, "--budget", "1MB/hour")
    reasons = [one["reason"] for one in lines]
    assert code == 0
    assert 1 <= reasons.count("offloaded") <= 10
    assert reasons.count("offloaded") + reasons.count("budget") == 50


def test_audited_pairs_are_recorded(pair: Path, tmp_path: Path) -> None:
    """The folder of --record holds data that calibration reads."""
    remote = ["--remote", pair / "remote.onnx", "--deadline", "30"]
    arguments = [*remote, "--audit", "1", "--record", tmp_path / "recorded"]
    code, _, _ = piped("", pair / "local.onnx", pair / "test.npz", *arguments)
    assert code == 0
    with np.load(tmp_path / "recorded" / "pairs.npz") as recorded:
        assert len(recorded["x"]) > 0


def test_probabilities_are_added_on_request(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They sum to 1, and the largest is that of the label, from either model."""
    arguments = [pair / "local.onnx", pair / "test.npz", "--remote", pair / "remote.onnx", "--deadline", "30"]
    assert main(["run", *map(str, arguments), "--probabilities"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["source"] for one in lines} == {"local", "remote"}
    for one in lines:
        assert sum(one["probabilities"]) == pytest.approx(1, abs=1e-4)
        assert max(one["probabilities"]) == one["probabilities"][one["label"]] == one["confidence"]


def test_images_are_given_as_paths_pixels_or_base64(pair: Path, tmp_path: Path) -> None:
    """Every form of an image gets the same answer; a missing path is refused."""
    pixels = np.load(pair / "test.npz")["x"][0]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    (tmp_path / "a b.png").write_bytes(buffer.getvalue())
    encoded = base64.b64encode(buffer.getvalue()).decode()
    lines = [
        f"{tmp_path}/a b.png",
        json.dumps({"x": f"{tmp_path}/a b.png", "key": "1"}),
        json.dumps(pixels.tolist()),
        json.dumps({"b64": encoded}),
        json.dumps({"x": {"b64": encoded}, "key": "2"}),
        "nowhere.png",
        json.dumps({"b64": "?"}),
        json.dumps((pixels * 1.5).tolist()),
        "a\0b",
    ]
    code, answers, _ = piped("\n".join(lines), pair / "local.onnx", "-")
    assert code == 2
    assert len({(one["label"], one["confidence"]) for one in answers[:5]}) == 1
    assert [one["error"].partition(":")[0] for one in answers[5:]] == ["x"] * 4


def test_a_damaged_image_does_not_end_the_run(pair: Path, tmp_path: Path) -> None:
    """Each unreadable file has its own line in its place."""
    for n in range(3):
        Image.fromarray(np.full((8, 8, 3), 80 * n, np.uint8)).save(tmp_path / f"{n}.png")
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "bad.npy").write_bytes(b"no array")
    code, lines, _ = piped("", pair / "local.onnx", tmp_path / "bad.npy", tmp_path)
    assert code == 2
    assert [Path(one["input"]).name for one in lines] == ["bad.npy", "0.png", "1.png", "2.png"]
    assert [("error" in one) for one in lines] == [True, False, True, False]


def test_other_machines_cannot_name_files(start: Callable[..., Running], pair: Path) -> None:
    """If other machines can connect, paths are refused and pixels are accepted."""
    running = start(pair / "local.onnx", "tcp://0.0.0.0:0", "--listen-anywhere")
    client = Client(running.address())
    client.send("/etc/hostname\n" + json.dumps(np.zeros((8, 8, 3), int).tolist()) + "\n")
    assert (client.line() or {})["error"].startswith("x: ")
    assert "name" in (client.line() or {})
    client.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of thirty frames from black to white."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for n in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), 8 * n, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_video_is_answered_frame_by_frame(pair: Path, video: Path) -> None:
    """With --every 10, every tenth frame is answered under its number."""
    code, lines, _ = piped("", pair / "local.onnx", f"video:{video}", "--every", "10")
    assert code == 0
    assert [one["input"] for one in lines] == [f"{video}#{n}" for n in (0, 10, 20)]
    assert all("name" in one for one in lines)


def test_frames_are_pixels(video: Path) -> None:
    """They are uint8 RGB [height, width, 3], in order of time."""
    from edgecascade.runtime.commands.sources import video_frames

    frames = dict(video_frames(video))
    assert list(frames) == list(range(30))
    assert {(frame.shape, frame.dtype.name) for frame in frames.values()} == {((16, 32, 3), "uint8")}
    assert np.abs(frames[20].astype(int) - 160).max() < 12


def test_an_invalid_video_is_refused(pair: Path, video: Path, tmp_path: Path) -> None:
    """Cases are another kind of file, half a video, a playlist with an outside path, and a missing camera."""
    whole = video.read_bytes()
    (tmp_path / "none.mp4").write_bytes(b"no video" * 100)
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n")
    sources = [f"video:{tmp_path}/{name}" for name in ("none.mp4", "half.mp4", "list.m3u8")]
    code, lines, said = piped("", pair / "local.onnx", *sources, "camera:97")
    assert code == 2
    names = ["none.mp4", "half.mp4", "list.m3u8", "camera:97"]
    for name, one in zip(names, lines, strict=True):
        assert f"{name}: " in one["error"]
    assert "Traceback" not in said


def test_an_array_of_one_input_is_one_input(file: Path, tmp_path: Path) -> None:
    """It has the axes of an input, and no axis of inputs before them."""
    np.save(tmp_path / "x.npy", np.array([5, 0, 0], np.float32))
    code, (line,), _ = piped("", file, tmp_path / "x.npy")
    assert (code, line["input"]) == (0, str(tmp_path / "x.npy"))


def test_standard_input_can_come_between_files(file: Path, tmp_path: Path) -> None:
    """Sources are answered in the order of the command line."""
    np.save(tmp_path / "x.npy", np.array([[5, 0, 0]], np.float32))
    code, lines, _ = piped("[0, 0, 9]", file, tmp_path / "x.npy", "-", tmp_path / "x.npy")
    assert code == 0
    assert [one["name"] for one in lines] == ["red", "blue", "red"]


@pytest.mark.parametrize("ending", [".txt", ".JSONL"])
def test_a_file_of_lines_means_what_standard_input_does(file: Path, tmp_path: Path, ending: str) -> None:
    """The answers, the keys and the refused lines are the same; only the names of the inputs differ."""
    given = tmp_path / f"given{ending}"
    given.write_text('[5, 0, 0]\n\n{"x": [0, 0.5, 0], "key": "two"}\r\nno JSON\n["a"]\n[0, 0, 5]')
    found = []
    for arguments, text in ((("-",), given.read_bytes()), ((given,), b"")):
        code, lines, _ = piped(text, file, *arguments)
        assert code == 2
        found.append([{**one, "input": one["input"].rpartition(":")[2], "elapsed_ms": 0} for one in lines])
    assert found[0] == found[1]
    assert [("key" in one, "error" in one) for one in found[0]] == [
        (False, False),
        (True, False),
        (False, True),
        (False, True),
        (False, False),
    ]


def test_both_sides_present_their_certificates(
    file: Path, tmp_path: Path, serve: Any, answering: Any, respond: Any
) -> None:
    """TLS needs --ca, --cert and --key here; without one of them, the line has the reason."""
    made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    try:
        for name in ("here", "there"):
            command = ["openssl", *made.split(), "-keyout", f"{name}.key", "-out", f"{name}.crt"]
            subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificates, and is not installed")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "here.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "there.crt", tmp_path / "there.key")
    behave = answering(respond(BLUE))

    def secure(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as one:
            behave(one)

    remote = ["--remote", f"https://localhost:{serve(secure).port}/v2/models/m", "--deadline", "20", "--no-retry"]
    ours = ["--cert", tmp_path / "here.crt", "--key", tmp_path / "here.key"]
    _, (known,), _ = piped(UNSURE, file, "-", *remote, *ours, "--ca", tmp_path / "there.crt")
    _, (unknown,), _ = piped(UNSURE, file, "-", *remote, *ours)
    _, (anonymous,), _ = piped(UNSURE, file, "-", *remote, "--ca", tmp_path / "there.crt")
    assert (known["name"], known["reason"]) == ("blue", "offloaded")
    assert "localhost" in unknown["detail"]
    assert anonymous["reason"] in ("remote error", "offline")


def test_a_client_that_does_not_read_delays_only_itself(start: Callable[..., Running], file: Path) -> None:
    """Its lines wait until its answers are read; other clients are answered, and the command still ends."""
    running = start(file, "tcp://127.0.0.1:0")
    address = running.address()
    greedy, other = Client(address), Client(address)
    greedy.socket.setblocking(False)
    sent, idle = 0, 0
    while idle < 20:
        try:
            sent += greedy.socket.send((SURE + "\n").encode() * 1000)
            idle = 0
        except BlockingIOError:
            idle += 1
            time.sleep(0.05)
        assert sent < 256 << 20
    other.send(SURE + "\n")
    assert (other.line() or {})["name"] == "red"
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(PATIENCE) == 143
    greedy.close()
    other.close()


def test_a_second_signal_ends_it_at_once(start: Callable[..., Running], file: Path, serve: Any) -> None:
    """The deadline of a forward in progress does not matter."""
    server = serve(lambda _: time.sleep(PATIENCE))
    running = start(file, "-", "--remote", server.address, "--deadline", "600")
    running.send(UNSURE + "\n")
    while not server.connections:
        time.sleep(0.01)
    running.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert running.process.poll() is None
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(PATIENCE) == 130
    assert running.said() == "edgecascade: interrupted"


def test_a_closed_pipe_ends_it_without_an_error(file: Path) -> None:
    """It ends although more lines follow."""
    command = f"yes '{SURE}' | {sys.executable} -m edgecascade.cli run {file} - | head -1"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, timeout=PATIENCE, check=False)
    assert json.loads(ran.stdout)["name"] == "red"
    assert b"Traceback" not in ran.stderr


HTTP, HTTPS = "http://127.0.0.1:9/v2/models/m", "https://127.0.0.1:9/v2/models/m"
# arguments, and words in the error: the argument first, then the value or another option
WRONG = {
    "a deadline of for ever": (("--deadline", "inf"), ("--deadline", "inf")),
    "a threshold that is no number": (("--threshold", "nan"), ("--threshold", "NaN")),
    "no threads": (("--threads", "0"), ("--threads", "0")),
    "an unknown provider": (("--providers", "warp"), ("--providers", "auto", "warp")),
    "a provider that is not here": (("--providers", "qnn"), ("providers", "QNNExecutionProvider")),
    "an engine cache nowhere": (("--engine-cache", "/proc/x"), ("", "/proc/x")),
    "a header without a remote": (("--header", "A: b"), ("--header", "--remote")),
    "a header without a colon": (("--remote", HTTP, "--header", "secret"), ("--header",)),
    "a header of two lines": (("--remote", HTTP, "--header", "A: b\nC: d"), ("--header",)),
    "a header file nowhere": (("--remote", HTTP, "--header-file", "nowhere"), ("--header-file", "nowhere")),
    "an authority nowhere": (("--remote", HTTPS, "--ca", "nowhere"), ("--ca", "nowhere")),
    "an authority that is none": (("--remote", HTTPS, "--ca", "INPUTS"), ("--ca", "x.npy")),
    "an authority in plain HTTP": (("--remote", HTTP, "--ca", "x"), ("--ca", "https://", HTTP)),
    "a certificate nowhere": (("--remote", HTTPS, "--cert", "nowhere"), ("--cert", "nowhere")),
    "a certificate that is none": (("--remote", HTTPS, "--cert", "INPUTS"), ("--cert", "x.npy")),
    "a key alone": (("--remote", HTTPS, "--key", "x"), ("--key", "--cert")),
    "a hedge around a file": (("--remote", "INPUTS", "--hedge"), ("--hedge", "--remote", "x.npy")),
    "no retries of nothing": (("--no-retry",), ("--no-retry", "--remote")),
    "a remote of another kind": (("--remote", "ftp://h/v2/models/m"), ("--remote", "http[s]://", "ftp://h")),
    "a remote without a closing bracket": (("--remote", "http://[::1/v1"), ("--remote", "http[s]://", "http://[::1")),
    "an outbox nowhere": (("--outbox", "/nowhere/x"), ("--outbox", "/nowhere/x")),
    "an outbox that is a folder": (("--outbox", "/tmp"), ("--outbox", "/tmp")),
    "a budget of nothing": (("--remote", HTTP, "--budget", "0/min"), ("--budget", "'0/min'")),
    "a budget of no time": (("--remote", HTTP, "--budget", "5"), ("--budget", "'5'")),
    "a budget in stones": (("--remote", HTTP, "--budget", "5 stones/day"), ("--budget", "'5 stones/day'")),
    "a budget twice": (("--remote", HTTP, "--budget", "5/s", "--budget", "6/s"), ("--budget",)),
    "a budget without a remote": (("--budget", "5/s"), ("--budget", "--remote")),
    "money without a price": (("--remote", HTTP, "--budget", "5 money/day"), ("--price", "None")),
    "a price without money": (("--remote", HTTP, "--budget", "5/s", "--price", "1"), ("--price", "money")),
    "a price without a budget": (("--remote", HTTP, "--price", "1"), ("--price", "--budget")),
    "a price below nothing": (("--remote", HTTP, "--price", "-1"), ("--price", "-1")),
    "money for no forward": (("--remote", HTTP, "--budget", "1 money/day", "--price", "2"), ("--budget", "2")),
    "levels nowhere": (
        ("--remote", HTTP, "--budget", "5/s", "--budget-file", "/nowhere/x"),
        ("--budget-file", "/nowhere"),
    ),
    "levels in a file of something else": (
        ("--remote", HTTP, "--budget", "5/s", "--budget-file", "INPUTS"),
        ("--budget-file", "x.npy"),
    ),
    "an audit of more than all": (("--remote", HTTP, "--audit", "2"), ("--audit", "2")),
    "an audit without a remote": (("--audit", "0.1"), ("--audit", "--remote")),
    "records nowhere": (("--remote", HTTP, "--record", "/proc/x"), ("--record", "/proc/x")),
    "metrics at no port": (("--metrics", "70000"), ("--metrics", "65535", "70000")),
    "metrics at an address of another machine": (
        ("--metrics", "0", "--metrics-host", "192.0.2.1"),
        ("--metrics, --metrics-host", "192.0.2.1"),
    ),
    "metrics at an address without a port": (("--metrics-host", "127.0.0.1"), ("--metrics-host", "--metrics")),
    "looks without a pause": (("-", "--reload-every", "0"), ("--reload-every", "0")),
    "a deadline of nothing": (("-", "--deadline", "0"), ("--deadline", "0")),
    "every no frame": (("--every", "0"), ("--every", "0")),
    "standard input twice": (("-", "-"), ("inputs", "2 times")),
    "an open door": (("tcp://0.0.0.0:9000",), ("inputs", "tcp://0.0.0.0:9000", "--listen-anywhere")),
    "a name that may be anywhere": (("tcp://host.test:9000",), ("inputs", "--listen-anywhere")),
    "no port": (("tcp://127.0.0.1",), ("inputs", "tcp://HOST:PORT", "tcp://127.0.0.1")),
    "a port out of range": (("tcp://127.0.0.1:99999",), ("inputs", "tcp://HOST:PORT", "99999")),
    "a path behind the port": (("tcp://127.0.0.1:9000/x",), ("inputs", "tcp://HOST:PORT", "9000/x")),
    "no path": (("unix:",), ("inputs", "unix:PATH")),
    "a socket nowhere": (("unix:/nowhere/s",), ("inputs", "unix:/nowhere/s", "No such file")),
    "a video nowhere": (("video:nowhere.mp4",), ("nowhere.mp4",)),
    "a camera of no number": (("camera:front",), ("inputs", "camera:NUMBER", "camera:front")),
    "an input of another kind": (("pyproject.toml",), ("pyproject.toml", ".npz")),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_invalid_argument_is_named(
    wrong: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2; the message names argument and value; there is no output and no traceback."""
    given, (argument, *named) = WRONG[wrong]
    np.save(tmp_path / "x.npy", np.zeros((1, 3), np.float32))
    (tmp_path / "pyproject.toml").write_text("no input")
    monkeypatch.chdir(tmp_path)
    arguments = [{"INPUTS": str(tmp_path / "x.npy")}.get(one, one) for one in given]
    if arguments[0].startswith("--"):
        arguments.insert(0, str(tmp_path / "x.npy"))
    assert main(["run", str(file), *arguments]) == 2
    shown = capsys.readouterr()
    last = shown.err.splitlines()[-1]
    assert last.startswith(f"edgecascade: {argument}: " if argument else "edgecascade: ")
    assert [one for one in named if one not in last] == []
    assert "secret" not in shown.err
    assert shown.out == ""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_budget_that_cannot_be_stored_is_announced(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No input is forwarded then, and the user is told why."""
    np.save(tmp_path / "x.npy", np.array([[0, 0.5, 0]], np.float32))
    options = ["--remote", HTTP, "--budget", "5/s", "--budget-file", "/proc/x"]
    assert main(["run", str(file), str(tmp_path / "x.npy"), *options]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["reason"] == "budget"
    assert "/proc/x" in shown.err


def test_arguments_become_the_described_remote(file: Path) -> None:
    """Hedging is inside retries, which are inside the circuit breaker."""
    from argparse import ArgumentParser

    from edgecascade.runtime.commands.run import configure
    from edgecascade.runtime.remotes.circuit import CircuitBreaker
    from edgecascade.runtime.remotes.hedge import Hedged
    from edgecascade.runtime.remotes.retry import Retrying

    parser = ArgumentParser()
    configure(parser)
    cases: list[tuple[list[str], list[type]]] = [
        ([], [CircuitBreaker, Retrying]),
        (["--hedge"], [CircuitBreaker, Retrying, Hedged]),
        (["--hedge", "--no-retry"], [CircuitBreaker, Hedged]),
    ]
    for options, kinds in cases:
        arguments = parser.parse_args([str(file), "-", "--remote", HTTPS, *options])
        with open_cascade(arguments) as cascade:
            found, one = [], cast(Any, cascade._dispatcher.remote)
            while hasattr(one, "_remote"):
                found.append(type(one))
                one = one._remote
        assert found == kinds


def test_the_inputs_and_outputs_of_a_remote_can_be_named(
    file: Path, pair: Path, tmp_path: Path, serve: Any, recording: Any, respond: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server gets the names in every request; a file runs up to that output, which must be there."""
    del pair
    record, requests = recording
    server = serve(
        record(respond({"outputs": [{"name": "b", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 9]}]}))
    )
    np.save(tmp_path / "x.npy", np.array([[0, 0.5, 0]], np.float32))
    named = ["--remote-input", "a", "--remote-output", "b", "--deadline", "10"]
    assert main(["run", str(file), str(tmp_path / "x.npy"), "--remote", server.address, *named]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "blue"
    request = json.loads(requests[-1][2][: int(requests[-1][1]["inference-header-content-length"])])
    assert [request["inputs"][0]["name"], request["outputs"][0]["name"]] == ["a", "b"]
    for options, said in (
        (["--remote", str(file), "--remote-output", "nothing"], "expected an output 'nothing', got "),
        (["--remote", str(file), "--remote-input", "a"], "--remote-input: expected with --remote and an address"),
        (["--remote", "host:8000/v2/models/m"], "--remote: expected a file or an address such as http://host:8000"),
        (["--remote-output", "b"], "--remote-output: expected with --remote, got no remote"),
        (["--remote", "https://h/v2/models/m", "--proxy", "socks5://me:secret@h"], "proxy: expected http://[user:"),
    ):
        assert main(["run", str(file), str(tmp_path / "x.npy"), *options]) == 2
        shown = capsys.readouterr().err
        assert said in shown
        assert "secret" not in shown
