"""Commands under a service manager: readiness, watchdog, and new files on SIGHUP or change, without a lost request."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cascade_files import write_file
from edgecascade.runtime.commands.service import Reloads, Watchdog, notify
from edgecascade.types.errors import ModelFileError

PATIENCE = 60.0  # seconds, for a busy machine
OLD, NEW, NEWER = 1.0, 2.0, 3.0  # temperatures
SURE = b'{"inputs": [{"name": "z", "shape": [1, 3], "datatype": "FP32", "data": [5, 0, 0]}]}'


class Manager:
    """The socket of a service manager."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)

    def next(self, beginning: str, patience: float = PATIENCE) -> dict[str, str]:
        """Wait for the next message with a line that begins so; return its lines by name."""
        until = time.monotonic() + patience
        while True:
            self._socket.settimeout(max(until - time.monotonic(), 1e-3))
            lines = self._socket.recv(4096).decode().splitlines()
            if any(line.startswith(beginning) for line in lines):
                return dict(line.split("=", 1) for line in lines)

    def close(self) -> None:
        """Close it."""
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """Return the manager of this process and its children."""
    one = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", one.path)
    yield one
    one.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the file that is in use."""
    return write_file(tmp_path / "local.onnx", OLD)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[Any, Path]]]:
    """Start a command, and return its process and log; end it after the test."""
    started: list[Any] = []

    def start(*arguments: object, **options: Any) -> tuple[Any, Path]:
        log = tmp_path / "log"
        command = [sys.executable, "-m", "edgecascade.cli", *map(str, arguments)]
        with log.open("w") as output:
            started.append(subprocess.Popen(command, stderr=output, **{"stdout": output, **options}))
        return started[-1], log

    yield start
    for one in started:
        one.kill()
        one.wait()
        for stream in (one.stdin, one.stdout):
            if stream is not None:
                stream.close()


def ask(port: int) -> float:
    """Return the confidence in the answer to the sure input, which must be one."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v2/models/model/infer", SURE)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        outputs = {one["name"]: one["data"] for one in json.load(response)["outputs"]}
    return round(float(outputs["confidence"][0]), 4)


def test_a_message_reaches_the_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket has a path, or a name of the abstract kind; without one, or if nothing listens, nothing happens."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nowhere"))
    notify("READY=1")
    for address in (str(tmp_path / "notify"), f"\0edgecascade-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(address)
            monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
            notify("RELOADING=1", "MONOTONIC_USEC=5")
            assert listener.recv(100) == b"RELOADING=1\nMONOTONIC_USEC=5"


class Fake:
    """A cascade whose reload and run a test controls."""

    def __init__(self) -> None:
        self.loading, self.go_on, self.reloads = queue.SimpleQueue[int](), threading.Semaphore(0), 0
        self.run: Callable[[], object] = lambda: None

    def reload(self) -> None:
        """Report that it loads, and wait."""
        self.reloads += 1
        self.loading.put(self.reloads)
        assert self.go_on.acquire(timeout=PATIENCE)
        if self.reloads == 1:
            raise ModelFileError("local.onnx: damaged")

    def warm_up(self) -> None:
        """Run."""
        self.run()


def test_signals_while_a_file_is_loaded_lead_to_one_more_look(path: Path, manager: Manager) -> None:
    """So does one before the first file is there; a failure keeps the thread alive, and each look is reported."""
    fake, said = Fake(), list[str]()
    before = signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with Reloads(str(path), None, said.append) as reloads:
            os.kill(os.getpid(), signal.SIGHUP)
            reloads.start(fake)  # type: ignore[arg-type]
            assert fake.loading.get(timeout=PATIENCE) == 1
            for _ in range(5):
                os.kill(os.getpid(), signal.SIGHUP)
            fake.go_on.release()
            assert manager.next("RELOADING")["MONOTONIC_USEC"].isdecimal()
            assert "damaged" in manager.next("READY")["STATUS"]
            assert fake.loading.get(timeout=PATIENCE) == 2
            fake.go_on.release()
            manager.next("READY")
            time.sleep(0.2)
        assert (fake.reloads, len(said)) == (2, 1)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_ignored_signal_stays_ignored(path: Path) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Reloads(str(path), None, print):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class Looks:
    """A queue of signals in which none comes, and whose timeout passes when the test says so."""

    def __init__(self) -> None:
        self._turns, self._idle = queue.SimpleQueue[bool | None](), threading.Semaphore(0)

    def get(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        """Wait for the next turn."""
        self._idle.release()
        turn = self._turns.get()
        if turn is None:
            raise queue.Empty
        return turn

    def put(self, one: bool) -> None:
        """End."""
        self._turns.put(one)

    def look(self) -> None:
        """Let the timeout pass, and wait until the look is over."""
        assert self._idle.acquire(timeout=PATIENCE)
        self._turns.put(None)
        assert self._idle.acquire(timeout=PATIENCE)
        self._idle.release()


def test_a_change_is_taken_once_and_only_when_it_is_complete(path: Path) -> None:
    """A file that is being written is left alone, and so is one that was taken or refused, and a missing one."""
    fake, looks = Fake(), Looks()
    fake.go_on = threading.Semaphore(100)
    reloads = Reloads(str(path), 0.2, lambda _: None)
    reloads._asked = looks  # type: ignore[assignment]
    with reloads:
        reloads.start(fake)  # type: ignore[arg-type]
        looks.look()
        for _ in range(5):
            with path.open("ab") as file:
                file.write(b"more")
            looks.look()
        assert fake.reloads == 0
        looks.look()
        assert fake.reloads == 1
        looks.look()
        path.unlink()
        for _ in range(3):
            looks.look()
        assert fake.reloads == 1
        write_file(path, NEW)
        looks.look()
        assert fake.reloads == 1
        for _ in range(3):
            looks.look()
        assert fake.reloads == 2


@pytest.mark.parametrize("fault", ["the model hangs", "the model fails", "the event loop stands still"])
def test_the_watchdog_starves_when_nothing_works(fault: str, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is fed twice in its interval, until the model no longer runs or the event loop no longer goes round."""
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    fake, stuck = Fake(), threading.Event()
    watchdog = Watchdog(fake)  # type: ignore[arg-type]
    with watchdog.running():
        for _ in range(3):
            watchdog.tick()
            manager.next("WATCHDOG=1")
        if fault == "the model hangs":
            fake.run = lambda: stuck.wait(PATIENCE)
        elif fault == "the model fails":
            fake.run = lambda: 1 / 0
        fed = 0
        with contextlib.suppress(TimeoutError):
            for fed in range(20):  # noqa: B007
                if fault != "the event loop stands still":
                    watchdog.tick()
                manager.next("WATCHDOG=1", patience=1.5)
        stuck.set()
    assert fed < 5


@pytest.mark.parametrize(("name", "value"), [("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", ""), ("WATCHDOG_USEC", "0")])
def test_a_watchdog_of_another_process_is_not_fed(
    name: str, value: str, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is one that the manager does not have."""
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setenv(name, value)
    with Watchdog(None).running(), pytest.raises(TimeoutError):
        manager.next("WATCHDOG=1", patience=0.3)


def test_requests_are_answered_while_files_are_exchanged(
    path: Path, manager: Manager, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server takes right files on SIGHUP and refuses wrong ones; clients get answers of one or the other only."""
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process, log = start("serve", path, "--cascade", "--port", port)
    manager.next("READY")
    manager.next("WATCHDOG")
    seen, ended = list[float](), threading.Event()

    def clients() -> None:
        while not ended.is_set():
            seen.append(ask(port))

    between = [ask(port)]
    asking = [threading.Thread(target=clients) for _ in range(3)]
    for one in asking:
        one.start()
    try:
        for change, status in (
            (lambda: write_file(path, NEW), "took"),
            (lambda: path.write_bytes(b"no model"), "kept"),
            (lambda: write_file(path, NEWER, expects=OLD), "kept"),
            (lambda: write_file(path, NEWER, labels=("a", "b", "c")), "kept"),
            (lambda: write_file(path, OLD), "took"),
        ):
            change()
            process.send_signal(signal.SIGHUP)
            manager.next("RELOADING")
            assert manager.next("READY")["STATUS"].startswith(status)
            between.append(ask(port))
            time.sleep(0.1)
    finally:
        ended.set()
        for one in asking:
            one.join()
    old, new = between[:2]
    assert between == [old, new, new, new, new, old]
    assert set(seen) == {old, new}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as response:
        lines = response.read().decode().splitlines()
    assert 'edgecascade_reloads_total{outcome="taken"} 2' in lines
    assert 'edgecascade_reloads_total{outcome="refused"} 3' in lines
    assert f'edgecascade_answers_total{{source="local",reason="confident"}} {len(seen) + len(between)}' in lines
    process.terminate()
    assert process.wait(PATIENCE) == 0
    assert len([line for line in log.read_text().splitlines() if "kept the file in use" in line]) == 3


def test_live_inputs_are_answered_by_a_changed_file(path: Path, manager: Manager, start: Callable[..., Any]) -> None:
    """`run` takes it when it looks the next time; the lines before and after are answered."""
    process, _ = start("run", path, "-", "--reload-every", "0.1", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    manager.next("READY")

    def answer() -> float:
        process.stdin.write(b"[5, 0, 0]\n")
        process.stdin.flush()
        return float(json.loads(process.stdout.readline())["confidence"])

    before = answer()
    write_file(path, NEW)
    assert manager.next("READY")["STATUS"].startswith("took")
    assert answer() < before
    process.stdin.close()
    assert process.wait(PATIENCE) == 0


def test_stored_inputs_end_with_a_hang_up(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Work that ends by itself takes no new files, and says so where it is asked to."""
    from edgecascade.cli import main

    (tmp_path / "lines.jsonl").write_text("[5, 0, 0]\n")
    before = signal.getsignal(signal.SIGHUP)
    assert main(["run", str(path), str(tmp_path / "lines.jsonl")]) == 0
    assert signal.getsignal(signal.SIGHUP) is before
    assert main(["run", str(path), str(tmp_path / "lines.jsonl"), "--reload-every", "1"]) == 2
    assert "--reload-every" in capsys.readouterr().err
