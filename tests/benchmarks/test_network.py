"""A shaped network follows its profile and delivers every byte."""

import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.benchmarks.network import PROFILES, Profile
from edgecascade.benchmarks.network.path import Line, Outages, Path
from edgecascade.benchmarks.network.probe import ORDER, probe, probe_server, receive
from edgecascade.benchmarks.network.proxy import loopback, shaped
from edgecascade.runtime import Deadline, OpenInference
from edgecascade.types.errors import ArgumentError, BenchmarkError

PLAIN = Profile("plain", "for tests", latency=0.0, jitter=0.0, up=1e9, down=1e9)
STEADY = Outages(0.0, 0.0)


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """Return the address of the probe's server."""
    with probe_server() as address:
        yield address


@pytest.fixture(scope="module")
def through(echo: str) -> Iterator[str]:
    """Return the address of the same server behind a network with latency, jitter and stalls, but without resets."""
    profile = dataclasses.replace(PLAIN, latency=2e-3, jitter=1e-3, up=400e6, down=300e6, stall_rate=2.0, stall=0.01)
    with shaped(echo, profile) as address:
        yield address


def connected(address: str) -> socket.socket:
    """Return a connection with a time-out of 30 s."""
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=30)


def ping(connection: socket.socket) -> float:
    """Return the seconds of a round trip."""
    started = time.monotonic()
    connection.sendall(ORDER.pack(b"e", 0))
    receive(connection, ORDER.size)
    return time.monotonic() - started


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latency", -1.0),
        ("latency", float("nan")),
        ("jitter", 1.0),
        ("up", 0.0),
        ("down", float("inf")),
        ("stall_rate", -0.1),
        ("reset_share", 1.1),
        ("outage_share", 1.0),
    ],
)
def test_a_profile_out_of_range_is_refused(name: str, value: float) -> None:
    """The error names the field and the value."""
    with pytest.raises(ArgumentError, match=f"^{name}: .*{value}"):
        dataclasses.replace(PLAIN, **{name: value})  # type: ignore[arg-type]


def test_outages_require_a_period() -> None:
    """A share alone does not define when outages occur."""
    with pytest.raises(ArgumentError, match=r"^outage_period: "):
        dataclasses.replace(PLAIN, outage_share=0.5)


def test_built_in_profiles_are_found_by_name() -> None:
    """Each has the source of its numbers."""
    assert list(PROFILES) == ["lan", "wifi", "lte-good", "lte-poor", "satellite", "lossy", "offline-half"]
    assert all(profile.name == name and len(profile.why) > 20 for name, profile in PROFILES.items())


def test_outages_come_at_the_end_of_each_period() -> None:
    """The network is up first and then down for the share; waiting data continue when the next period begins."""
    outages = Outages(10.0, 0.3)
    assert [outages.next_up(at) for at in (0.0, 6.9, 7.0, 9.9, 10.0, 18.0)] == [0.0, 6.9, 10.0, 10.0, 10.0, 20.0]
    assert [outages.next_down(at) for at in (0.0, 6.9, 8.0, 10.0)] == [7.0, 7.0, 8.0, 17.0]
    assert (STEADY.next_up(3.0), STEADY.next_down(3.0)) == (3.0, float("inf"))


@given(st.lists(st.tuples(st.integers(0, 100_000), st.floats(0, 0.5)), min_size=1, max_size=50))
def test_a_line_sends_in_order_at_its_rate_without_bursts(given: list[tuple[int, float]]) -> None:
    """A byte leaves after all earlier ones, and takes its time also after a pause."""
    line, now, free = Line(1e6, STEADY), 0.0, 0.0
    for size, pause in given:
        now += pause
        free = max(free, now) + size * 8 / 1e6
        assert line.send(size, now) == pytest.approx(free)
    assert line.ready == pytest.approx(free - 0.05)


def test_nothing_leaves_during_an_outage() -> None:
    """Data sent during an outage leave after it, at the rate of the line."""
    line = Line(8000.0, Outages(10.0, 0.5))
    assert line.send(100, 4.0) == pytest.approx(4.1)
    assert line.send(100, 6.0) == pytest.approx(10.1)
    assert line.send(100, 6.5) == pytest.approx(10.2)


def test_a_path_adds_its_latency_and_jitter() -> None:
    """Widely spaced messages have the profile's mean and standard deviation."""
    profile = dataclasses.replace(PLAIN, latency=0.05, jitter=0.01)
    path = Path(profile, Line(1e9, STEADY), random.Random(0), 0.0)
    delays = [path.send(0, float(at)) - at for at in range(5000)]
    assert np.mean(delays) == pytest.approx(0.05, rel=0.02)
    assert np.std(delays) == pytest.approx(0.01, rel=0.05)


@given(st.integers(0, 1000), st.lists(st.floats(0, 0.02), min_size=2, max_size=100))
def test_a_path_preserves_order(seed: int, pauses: list[float]) -> None:
    """Despite jitter and stalls, no message arrives before it was sent or before an earlier one."""
    profile = dataclasses.replace(PLAIN, latency=0.02, jitter=0.01, stall_rate=5.0, stall=0.2)
    path = Path(profile, Line(1e6, STEADY), random.Random(seed), 0.0)
    sent = np.cumsum(pauses)
    arrived = np.array([path.send(100, at) for at in sent])
    assert (np.diff(arrived) >= 0).all()
    assert (arrived > sent).all()


def test_stalls_slow_a_long_transfer_by_their_share_of_time() -> None:
    """The sender keeps the queue full."""
    profile = dataclasses.replace(PLAIN, latency=0.02, jitter=0.005, up=10e6, stall_rate=0.5, stall=0.3)
    line = Line(profile.up, STEADY)
    path, now, arrived, chunks = Path(profile, line, random.Random(1), 0.0), 0.0, 0.0, 200_000
    for _ in range(chunks):
        now = max(now, path.ready, line.ready)
        arrived = path.send(line.chunk, now)
    assert chunks * line.chunk * 8 / arrived == pytest.approx(profile.goodput(up=True), rel=0.02)
    assert profile.goodput(up=True) == pytest.approx(10e6 / 1.15)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=4), st.integers(0, 1000))
def test_bytes_are_delivered_unchanged(through: str, sizes: list[int], seed: int) -> None:
    """They arrive in both directions, in order, at any size."""
    draws = random.Random(seed)
    with connected(through) as connection:
        for size in sizes:
            sent = ORDER.pack(b"e", size) + draws.randbytes(size)
            thread = threading.Thread(target=connection.sendall, args=(sent,))
            thread.start()
            assert receive(connection, len(sent)) == sent
            thread.join()


def test_concurrent_connections_do_not_mix_their_bytes(through: str) -> None:
    """Connections above the limit of the proxy wait."""
    failed = []

    def talk(number: int) -> None:
        sent = ORDER.pack(b"e", 5000) + bytes([number]) * 5000
        with connected(through) as connection:
            connection.sendall(sent)
            if receive(connection, len(sent)) != sent:
                failed.append(number)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert failed == []


def test_a_direction_can_end_before_the_other() -> None:
    """The server sees the end of the request, and its answer is still delivered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as server:
                asked = b""
                while data := server.recv(65536):
                    asked += data
                server.sendall(asked[::-1])

        thread = threading.Thread(target=answer)
        thread.start()
        with (
            shaped(f"127.0.0.1:{listener.getsockname()[1]}", dataclasses.replace(PLAIN, latency=5e-3)) as address,
            connected(address) as client,
        ):
            client.sendall(b"abc" * 10_000)
            client.shutdown(socket.SHUT_WR)
            assert receive(client, 30_000) == b"cba" * 10_000
            assert client.recv(1) == b""
        thread.join(10)


def test_a_reset_makes_the_client_fail(echo: str) -> None:
    """The client's read raises an error."""
    doomed = dataclasses.replace(PLAIN, reset_share=1.0)
    with (
        shaped(echo, doomed) as address,
        connected(address) as connection,
        pytest.raises(ConnectionResetError),
    ):
        ping(connection)


def test_the_same_seed_resets_the_same_connections(echo: str) -> None:
    """The order of connections decides, and another seed resets others."""

    def fates(seed: int) -> list[bool]:
        found = []
        with shaped(echo, dataclasses.replace(PLAIN, reset_share=0.5), seed) as address:
            for _ in range(20):
                with connected(address) as connection:
                    try:
                        ping(connection)
                    except ConnectionResetError:
                        found.append(True)
                    else:
                        found.append(False)
        return found

    assert fates(7) == fates(7) != fates(8)


def test_a_stopped_server_looks_like_a_reset() -> None:
    """The proxy has already accepted the connection, so it resets it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = f"127.0.0.1:{listener.getsockname()[1]}"
    with shaped(gone, PLAIN) as address, pytest.raises(ConnectionError), connected(address) as connection:
        ping(connection)


def test_latency_is_added_to_each_round_trip_and_to_the_handshake(echo: str) -> None:
    """Each takes at least the profile's latency, and the first answer takes two round trips."""
    with shaped(echo, dataclasses.replace(PLAIN, latency=0.05)) as address, connected(address) as connection:
        first, others = ping(connection), [ping(connection) for _ in range(11)]
    assert 0.19 < first < 2.0
    assert min(others) > 0.099
    assert np.median(others) < 0.2


def test_a_slow_line_applies_back_pressure(echo: str) -> None:
    """It accepts a bounded number of bytes in advance."""
    size = 20_000_000
    with shaped(echo, dataclasses.replace(PLAIN, up=1e6)) as address, connected(address) as connection:
        connection.setblocking(False)
        taken, silent = connection.send(ORDER.pack(b"r", size)), time.monotonic()
        while time.monotonic() - silent < 1.0 and taken < size:
            try:
                taken += connection.send(bytes(65536))
            except BlockingIOError:
                time.sleep(0.01)
    assert taken < size / 2


def test_an_outage_delays_all_data_and_ends(echo: str) -> None:
    """Connections made before and during it survive."""
    profile = dataclasses.replace(PLAIN, outage_period=2.0, outage_share=0.5)
    with shaped(echo, profile) as address, connected(address) as connection:
        waits, began = [ping(connection)], time.monotonic()
        while max(waits) < 0.5 and time.monotonic() - began < 20:
            waits.append(ping(connection))
        assert 0.5 < max(waits) < 5.0
        assert np.median(waits) < 0.2
        time.sleep(1.2)  # into the next outage
        with connected(address) as other:
            ping(other)
        ping(connection)


def test_a_device_without_a_link_refuses_connections(echo: str) -> None:
    """The same port works again after the outage."""
    profile = dataclasses.replace(PLAIN, outage_period=1.0, outage_share=0.5, outage_refuses=True)
    told: list[bool] = []
    with shaped(echo, profile) as address:
        end = time.monotonic() + 20
        while time.monotonic() < end and len(told) < 4:
            try:
                with connected(address) as connection:
                    ping(connection)
                refused = False
            except ConnectionError:
                refused = True
            if not told or told[-1] != refused:
                told.append(refused)
            time.sleep(0.02)
    assert len(told) == 4


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://example.com:80/v2", "on this machine"),
        ("192.168.1.1:80", "on this machine"),
        ("http://127.0.0.1.example.com:80", "on this machine"),
        ("http://localhost@10.0.0.1:80/", "on this machine"),
        ("0.0.0.0:80", "on this machine"),
        ("", "on this machine"),
        ("127.0.0.1", "expected a port"),
        ("127.0.0.1:no", "expected host:port or a URL"),
    ],
)
def test_only_local_addresses_are_shaped(address: str, said: str) -> None:
    """Another address is refused before a proxy is started."""
    with pytest.raises(BenchmarkError, match=said), shaped(address, PLAIN):
        pytest.fail("it was taken")


def test_an_address_changes_only_its_port(echo: str) -> None:
    """Scheme, host name, path, query and IPv6 brackets stay."""
    assert loopback("http://[::1]:9/v2").geturl() == "http://[::1]:9/v2"
    assert loopback("http://localhost/v2").geturl() == "http://localhost:80/v2"
    port = echo.rsplit(":", 1)[1]
    for before, after in (("http://localhost:", "/v2/models/m?x=1"), ("grpc://127.0.0.1:", "/m"), ("localhost:", "")):
        with shaped(f"{before}{port}{after}", PLAIN) as address:
            assert address.startswith(before)
            assert address.endswith(after)
            assert address != f"{before}{port}{after}"


class _Model(BaseHTTPRequestHandler):
    """A server of model `m` of the Open Inference Protocol, which returns its input."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Return the metadata."""
        tensor = {"datatype": "FP32", "shape": [-1, 3]}
        self._say({"name": "m", "inputs": [{"name": "z", **tensor}], "outputs": [{"name": "logits", **tensor}]})

    def do_POST(self) -> None:
        """Run an inference, in JSON only."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "Inference-Header-Content-Length" in self.headers:
            self._say({"error": "no binary tensors here"}, 400)
            return
        asked = json.loads(body)["inputs"][0]
        self._say({"model_name": "m", "outputs": [{**asked, "name": "logits"}]})

    def _say(self, content: object, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_a_remote_is_called_through_it() -> None:
    """The answers are the same, and later."""
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Model) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v2/models/m"
        with shaped(url, dataclasses.replace(PROFILES["wifi"], latency=0.03)) as address:
            remote = OpenInference(address)
            remote.infer(x, Deadline.after(30))
            started = time.monotonic()
            np.testing.assert_array_equal(remote.infer(x, Deadline.after(30)), x)
            assert time.monotonic() - started > 0.05
            remote.close()
        server.shutdown()
        thread.join(10)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted there")
def test_no_thread_socket_or_process_is_left(echo: str) -> None:
    """This also holds with open connections and an error in the block."""

    def held() -> NDArray[np.int_]:
        ours = [thread for thread in threading.enumerate() if "Pool" not in thread.name]  # without the server's threads
        return np.array([len(ours), len(os.listdir("/proc/self/fd"))])

    before = held()
    address = ""

    def fail() -> None:
        nonlocal address
        with shaped(echo, dataclasses.replace(PLAIN, latency=0.2)) as address, connected(address) as connection:
            connection.sendall(ORDER.pack(b"e", 0))
            raise KeyError

    began = time.monotonic()
    with pytest.raises(KeyError):
        fail()
    assert time.monotonic() - began < 9  # it was not killed after ten seconds
    with pytest.raises(ConnectionRefusedError):
        connected(address)
    end = time.monotonic() + 10
    while (held() > before).any() and time.monotonic() < end:
        time.sleep(0.05)  # the server still has to close its side of the connection
    assert (held() <= before).all()


def test_it_ends_with_its_parent_process(echo: str) -> None:
    """It also ends if the parent is killed."""
    program = (
        "import time\nfrom edgecascade.benchmarks.network import PROFILES\n"
        "from edgecascade.benchmarks.network.proxy import shaped\n"
        f"with shaped({echo!r}, PROFILES['lan']) as address:\n    print(address, flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with connected(address) as connection:
            ping(connection)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            connected(address).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    pytest.fail("it still listens")


def test_a_probe_measures_the_profile() -> None:
    """The bounds also hold on a busy machine."""
    profile = dataclasses.replace(PLAIN, name="probed", latency=0.02, jitter=1e-3, up=4e6, down=8e6, reset_share=0.3)
    found = probe(profile, pings=20, seconds=1.0, connections=60)
    assert 0.04 < found.median.value < 0.12
    assert found.median.value <= found.p95.value
    assert 2e6 < found.up < 4.4e6
    assert 4e6 < found.down < 8.8e6
    assert 0.1 < found.resets.value < 0.5
