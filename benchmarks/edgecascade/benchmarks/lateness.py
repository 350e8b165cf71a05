"""How late an answer is that waited for a remote in vain: what the deadline promises, measured."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import quantile
from edgecascade.runtime import Cascade, OpenInference
from edgecascade.types.estimate import Estimate

__all__ = ["black_hole", "measure_lateness"]


def measure_lateness(
    path: str | os.PathLike[str], inputs: Sequence[NDArray[Any]], *, deadline: float = 0.02, n: int = 3000
) -> tuple[Estimate, Estimate]:
    """The 99.9th percentile of seconds after the deadline, of answers whose remote takes the request and says nothing.

    And of seconds by which this machine lets a bare wait of the same length oversleep, in turn.

    Args:
        path: a cascade model with one input.
        inputs: without the batch axis, taken in turn.
        deadline: seconds.
        n: answers.
    """
    late, overslept = [], []
    never = threading.Event()
    with (
        black_hole() as address,
        Cascade.load(path, remote=OpenInference(address), deadline=deadline, threshold=2.0) as cascade,
    ):
        for i in range(n):
            late.append(cascade.predict(inputs[i % len(inputs)]).elapsed - deadline)
            started = time.monotonic()
            never.wait(deadline)
            overslept.append(time.monotonic() - started - deadline)
    return quantile(np.array(late), 0.999), quantile(np.array(overslept), 0.999)


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """The address of a server that takes everything and never says a word."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    taken: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                taken.append(listener.accept()[0])
                for old in taken[:-64]:  # whoever waited there has left
                    old.close()
                del taken[:-64]

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v2/models/m"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for one in taken:
            one.close()
