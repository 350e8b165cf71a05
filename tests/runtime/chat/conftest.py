"""Chat endpoints that follow scripts, and gateways in front of them."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_endpoints import Fake, Gateway, Script
from chat_files import chat_document
from edgecascade.chat.cascade import ChatCascade


@pytest.fixture
def fake(serve: Any) -> Callable[[Script], Fake]:
    """Start endpoints that follow scripts."""

    def start(script: Script) -> Fake:
        found = Fake(script)
        found.url = f"http://127.0.0.1:{serve(found).port}/v1"
        return found

    return start


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Start gateways between two endpoints."""
    started: list[Gateway] = []

    def start(
        local: Fake | str, remote: Fake | str, *, served: dict[str, Any] | None = None, **options: Any
    ) -> Gateway:
        path = tmp_path / f"chat{len(started)}.json"
        path.write_text(chat_document(**options.pop("document", {})).to_json())
        near, far = (one if isinstance(one, str) else one.url for one in (local, remote))
        started.append(Gateway(ChatCascade.load(path, local=near, remote=far, **options), **(served or {})))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def nowhere() -> Iterator[str]:
    """Return the address of a port that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
