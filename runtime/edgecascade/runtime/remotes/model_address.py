"""Where a model is, as the Open Inference Protocol v2 writes it: `scheme://host[:port]/v2/models/NAME`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from edgecascade.types.errors import ArgumentError

__all__ = ["ModelAddress", "read_address"]

_PATH = re.compile(r"(?P<prefix>.*)/v2/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?/?")
_NO_PATH = re.compile(r"[\x00-\x20\x7f-\U0010ffff]+")


@dataclass(frozen=True)
class ModelAddress:
    """The parts of an address.

    Attributes:
        secure: whether to speak TLS.
        host: name or address, an IPv6 one without brackets.
        port: TCP port.
        path: the model's path in HTTP, quoted.
        prefix: what comes in that path before `/v2`.
        name: the model's name.
        version: its version, or empty.
    """

    secure: bool
    host: str
    port: int
    path: str
    prefix: str
    name: str
    version: str


def read_address(url: str, scheme: str) -> ModelAddress:
    """The parts of `scheme://...`, or of `schemes://...`, which is the same with TLS.

    Without a port, it is that of the web: 80, or 443 with TLS.

    Raises:
        ArgumentError: the address is of another form.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    match = _PATH.fullmatch(parts.path) if host else None
    if not host or match is None or parts.scheme not in (scheme, f"{scheme}s"):
        raise ArgumentError(f"remote: expected {scheme}[s]://host[:port]/v2/models/NAME, got {url!r}")
    secure = parts.scheme != scheme
    path = _NO_PATH.sub(lambda found: quote(found[0]), parts.path.removesuffix("/"))
    version = unquote(match["version"] or "")
    return ModelAddress(
        secure, host, port or (443 if secure else 80), path, match["prefix"], unquote(match["name"]), version
    )
