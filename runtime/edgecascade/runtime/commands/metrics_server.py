"""Metrics for Prometheus to scrape."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from edgecascade.runtime.commands.listening import listen_tcp
from edgecascade.runtime.metrics.prometheus import CONTENT_TYPE

__all__ = ["serving_metrics"]

_PATIENCE = 5.0  # seconds that a client may take for its request


@contextmanager
def serving_metrics(host: str, port: int, text: Callable[[], str]) -> Iterator[str]:
    """Within this context, serve a text at `/metrics`; gives the address.

    Args:
        host: address to listen at.
        port: TCP port; 0 takes a free one.
        text: called for each request, in the thread of the request.

    Raises:
        ArgumentError: the port is taken, or the address does not belong to this machine.
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

    server = _Server(listen_tcp("--metrics, --metrics-host", host, port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="edgecascade-metrics", daemon=True)
    thread.start()
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(listener.getsockname(), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def handle_error(self, *_: object) -> None:
        """Write nothing: a client may go away."""
