"""Video that arrives: over RTSP, from a server of our own, and on standard input, from another program."""

import contextlib
import io
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.runtime import InputError
from edgecascade.runtime.commands.sources import stream_frames

PATIENCE = 60.0  # seconds, for a busy machine
FRAMES = 12
SDP = "\r\n".join(
    ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=-", "t=0 0", "m=video 0 RTP/AVP 96", "a=rtpmap:96 MP4V-ES/90000", ""]
)


def encode(target: Any, container_format: str, codec: str, pixels: str) -> None:
    """Write a video that goes from black to white."""
    av = pytest.importorskip("av")
    with av.open(target, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, pixels
        for n in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), 20 * n, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


class Camera:
    """An RTSP server that plays a video once over TCP to each client, and then closes or keeps silent.

    Attributes:
        asked: the first lines and headers of all requests.
    """

    def __init__(self, packets: list[bytes], *, silent: bool = False) -> None:
        self.asked, self._packets, self._silent = list[str](), packets, silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop to listen, and end what is silent."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._play, args=(connection,), daemon=True).start()

    def _play(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as lines:
            while head := lines.readline().decode().strip():
                headers = {"": head}
                while line := lines.readline().decode().strip():
                    name, _, value = line.partition(": ")
                    headers[name] = value
                self.asked.append(json.dumps(headers))
                reply, body = f"RTSP/1.0 200 OK\r\nCSeq: {headers['CSeq']}\r\nSession: 1\r\n", ""
                if head.startswith("OPTIONS"):
                    reply += "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
                elif head.startswith("DESCRIBE"):
                    body = SDP
                    reply += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
                elif head.startswith("SETUP"):
                    reply += f"Transport: {headers['Transport']}\r\n"
                connection.sendall((reply + "\r\n" + body).encode())
                if head.startswith("PLAY"):
                    for packet in self._packets:
                        connection.sendall(b"$\x00" + len(packet).to_bytes(2, "big") + packet)
                    if self._silent:
                        self._ended.wait(PATIENCE)
                    return


@pytest.fixture(scope="module")
def packets() -> list[bytes]:
    """Return the RTP packets of the video as FFmpeg makes them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(2)
        encode(f"rtp://127.0.0.1:{receiver.getsockname()[1]}", "rtp", "mpeg4", "yuv420p")
        received = []
        with contextlib.suppress(TimeoutError):
            while True:
                received.append(receiver.recv(4096))
                receiver.settimeout(0.2)
    return received


@pytest.fixture
def camera(packets: list[bytes]) -> Iterator[Callable[..., Camera]]:
    """Start cameras, and end them after the test."""
    started: list[Camera] = []

    def camera(**options: Any) -> Camera:
        started.append(Camera(packets, **options))
        return started[-1]

    yield camera
    for one in started:
        one.close()


def test_the_frames_of_a_stream_arrive_until_it_breaks_off(camera: Callable[..., Camera]) -> None:
    """They are pixels in order; the end is an error, which does not show the password."""
    one = camera()
    address = f"rtsp://user:secret@127.0.0.1:{one.port}/live"
    frames = list[np.ndarray[Any, Any]]()
    with pytest.raises(InputError, match=rf"^rtsp://127.0.0.1:{one.port}/live: ") as raised:
        frames.extend(frame for _, frame in stream_frames(address))
    assert "secret" not in str(raised.value)
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((16, 32, 3), "uint8")}
    shades = [frame.mean() for frame in frames]
    assert len(frames) >= FRAMES - 2
    assert np.all(np.diff(shades) > 0)


def test_a_stream_that_falls_silent_has_broken_off(
    camera: Callable[..., Camera], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So has one that is not there. The command ends then, and a service manager starts it again."""
    monkeypatch.setattr("edgecascade.runtime.commands.sources._SILENCE", 0.5)
    silent, gone = camera(silent=True), camera()
    gone.close()
    for one in (silent, gone):
        with pytest.raises(InputError, match=r"^rtsp://"):
            list(stream_frames(f"rtsp://127.0.0.1:{one.port}/live"))


def test_the_command_answers_a_stream(pair: Path, camera: Callable[..., Camera]) -> None:
    """Each line names the stream without its password; its end is a line with an error, and exit code 2."""
    one = camera()
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "edgecascade.cli",
            "run",
            pair / "local.onnx",
            f"rtsp://u:secret@127.0.0.1:{one.port}/a",
        ],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    *lines, last = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 2
    assert b"secret" not in ran.stdout + ran.stderr
    assert [line["input"] for line in lines] == [f"rtsp://127.0.0.1:{one.port}/a#{n}" for n in range(len(lines))]
    assert len(lines) >= FRAMES - 2
    assert "error" in last


@pytest.mark.parametrize(("container", "codec"), [("yuv4mpegpipe", "rawvideo"), ("mpegts", "mpeg4")])
def test_another_program_can_pipe_its_video(pair: Path, container: str, codec: str) -> None:
    """Cases are raw frames, as of GStreamer's y4menc, and a compressed stream; its end ends the command."""
    video = io.BytesIO()
    encode(video, container, codec, "yuv420p")
    ran = subprocess.run(
        [sys.executable, "-m", "edgecascade.cli", "run", pair / "local.onnx", "video:-", "--every", "4"],
        input=video.getvalue(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, ran.stderr
    assert [line["input"] for line in lines] == ["video:-#0", "video:-#4", "video:-#8"]


def test_a_piped_playlist_leads_nowhere(pair: Path) -> None:
    """It is no video, and what it names is not opened."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{listener.getsockname()[1]}/x.ts\n"
        ran = subprocess.run(
            [sys.executable, "-m", "edgecascade.cli", "run", pair / "local.onnx", "video:-"],
            input=playlist.encode(),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert ran.returncode == 2
        with pytest.raises(TimeoutError):
            listener.accept()
