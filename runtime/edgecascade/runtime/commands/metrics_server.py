"""Metrics for Prometheus to scrape on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from edgecascade.runtime.metrics.prometheus import CONTENT_TYPE
from edgecascade.types.errors import ArgumentError

__all__ = ["serving_metrics"]

_HOST = "127.0.0.1"
_PATIENCE = 5.0  # seconds that a client may take for its request


@contextmanager
def serving_metrics(port: int, text: Callable[[], str]) -> Iterator[str]:
    """Within this context, serve a text at `/metrics` to this machine; gives the address.

    Args:
        port: TCP port; 0 takes a free one.
        text: called for each request, in the thread of the request.

    Raises:
        ArgumentError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            body = text().encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write nothing: there is a scrape every few seconds."""

    try:
        server = _Server((_HOST, port), Handler)
    except OSError as error:
        raise ArgumentError(f"--metrics: cannot listen at {_HOST}:{port}: {error.strerror}") from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="edgecascade-metrics", daemon=True)
    thread.start()
    try:
        yield f"http://{_HOST}:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Write nothing: a client may go away."""
