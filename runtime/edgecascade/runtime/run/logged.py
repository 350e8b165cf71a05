"""What is logged while a command runs, and how."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from edgecascade.runtime.run.console import Console, ConsoleHandler

__all__ = ["logged"]

_LOG = logging.getLogger("edgecascade")


@contextmanager
def logged(console: Console, *, as_json: bool) -> Iterator[None]:
    """Within this context, warnings are shown as sentences; or everything that is logged as JSON lines."""
    handler = ConsoleHandler(console, events=as_json)
    if as_json:
        from edgecascade.runtime.metrics.event_log import JsonFormatter

        handler.setFormatter(JsonFormatter())
    _LOG.addHandler(handler)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
