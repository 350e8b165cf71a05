"""A server of chat completions that answers by rules, and sentences with a small body that reads them."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from edgecascade.benchmarks.pairs.bag_of_tokens import language_body
from edgecascade.export import LabelledData

MOODS = ("negative", "positive")
_VERBS = (("hate", "despise", "detest"), ("love", "adore", "enjoy"))
_WORDS = (("terrible", "awful", "ugly", "boring"), ("wonderful", "great", "beautiful", "lovely"))
_THINGS = ("film", "book", "song", "hotel", "meal", "phone", "game", "car")


@dataclass
class ChatServer:
    """What a running server is asked, and how it answers.

    Attributes:
        url: the address that ends in /v1.
        model: the name in its replies.
        lists: how likely tokens are listed: `all`; `few`, which refuses more than five; `none`, which lists only the
            generated token; `null`, without log-probabilities; `absent`, without the field; or `refused`.
        sure: returns the probability of the label that it says, from the text of the last message.
        says: returns that label; by default, the wrong one for an ugly car.
        requests: every request so far.
    """

    url: str = ""
    model: str = "oracle-1"
    lists: str = "all"
    sure: Callable[[str], float] = lambda text: 0.6123 if "car" in text else 0.9531 - 0.0137 * (len(text) % 5)
    says: Callable[[str], str] = lambda text: MOODS[any(verb in text for verb in _VERBS[1]) != ("ugly car" in text)]
    requests: list[dict[str, Any]] = field(default_factory=list)

    def reply(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return status and body of the response to a request."""
        self.requests.append(request)
        if "logprobs" in request and self.lists == "refused":
            return 400, {"error": {"message": "logprobs is not supported with this model"}}
        if request.get("top_logprobs", 0) > 5 and self.lists == "few":
            return 400, {"error": {"message": "top_logprobs must be at most 5"}}
        content = request["messages"][-1]["content"]
        text = (content if isinstance(content, str) else content[0]["text"]).partition("Input: ")[2]
        said, probability = self.says(text), self.sure(text)
        others = [mood for mood in MOODS if mood != said]
        likely = {said: probability} | {mood: (1 - probability) / len(others) for mood in others}
        token = {"token": said, "logprob": math.log(probability)}
        listed = [{"token": one, "logprob": math.log(p)} for one, p in likely.items()]
        if "top_logprobs" in request and self.lists in ("all", "few"):
            token["top_logprobs"] = listed
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        if "logprobs" in request and self.lists != "absent":
            choice["logprobs"] = None if self.lists == "null" else {"content": [token]}
        return 200, {"object": "chat.completion", "model": self.model, "choices": [choice]}


@contextmanager
def chat_server(**options: Any) -> Iterator[ChatServer]:
    """Run a server in this process."""
    found = ChatServer(**options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, body = found.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield found
        server.shutdown()


def mood_sentences(seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return 192 sentences in English, each with its mood: 0 is negative and 1 positive."""
    rows = [
        (f"I {verb} this {word} {thing}.", mood)
        for mood in (0, 1)
        for verb in _VERBS[mood]
        for word in _WORDS[mood]
        for thing in _THINGS
    ]
    order = np.random.default_rng(seed).permutation(len(rows))
    return np.array([rows[i][0] for i in order]), np.array([rows[i][1] for i in order])


def mood_files(folder: Path, *, train: int = 80, n: int = 100) -> Path:
    """Write body.onnx, a detector of moods that is often wrong, and cal.npz, sentences that it has not seen."""
    x, y = mood_sentences()
    wrong = np.random.default_rng(1).random(train) < 0.15
    seen = np.where(wrong, 1 - y[:train], y[:train])
    language_body(LabelledData(x[:train], seen, MOODS, ""), folder)
    np.savez(folder / "cal.npz", x=x[train : train + n], y=y[train : train + n], names=MOODS)
    return folder
