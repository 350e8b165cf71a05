"""Chat endpoints for these tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from asked_endpoints import FakeEndpoint, Respond, fake_endpoint


@pytest.fixture
def serve() -> Iterator[Callable[[Respond], FakeEndpoint]]:
    """Start chat endpoints, and stop them after the test."""
    with ExitStack() as started:
        yield lambda reply: started.enter_context(fake_endpoint(reply))
