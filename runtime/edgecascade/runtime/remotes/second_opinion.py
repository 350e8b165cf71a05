"""Compare a share of the remote's answers with those of a second remote, in the background.

A `Watch` compares the remote with the local model, which can tell little about a remote that errs on purpose, or only
where the local model is unsure: there the two are expected to differ. A second remote can.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.background import Background
from edgecascade.runtime.batch import Batch, rows, size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.remote import Remote, RemoteLabels, Replied, Wrapped, connect, expect
from edgecascade.runtime.watch.intervals import rate
from edgecascade.types.class_names import columns_for
from edgecascade.types.errors import ArgumentError, InvalidReply
from edgecascade.types.estimate import Estimate

__all__ = ["SecondOpinion"]

_MISS = 0.05  # the probability that the interval of `agreement` ever misses
_WAITING = 16  # requests to the second remote
_log = logging.getLogger(__name__)


class SecondOpinion(Wrapped):
    """A remote whose answers are compared, for a random share of the inputs, with those of a second remote.

    The second remote is asked after the answer has been returned, in another thread, and changes no answer. It gets
    the same inputs. Where both remotes name their classes, these are matched by name; otherwise both must number them
    alike. Requests to the second are not in the budget or in `traffic`. While sixteen of them wait, there are no
    further ones; those that fail are left out and logged.

    Args:
        remote: the remote inside: a `Remote`, an address, a path or a function, as `Cascade.load` takes it.
        second: the second remote, likewise.
        share: of the inputs, in [0, 1], drawn at random, so that the first remote cannot know them.
        least_agreement: the share of equal labels below which `on_doubt` is called: once, as soon as the whole interval
            of `agreement` is below.
        on_doubt: called with the agreement, in the background thread; by default a warning is logged.
        timeout: seconds that a request to the second remote may take.
        seed: of the draws; None takes one from the system.

    Raises:
        ArgumentError: an argument is out of range, or the second remote is none.

    >>> first = lambda x: np.stack([x[:, 0], 1 - x[:, 0]], axis=1)
    >>> with_opinion = SecondOpinion(first, lambda x: 1 - first(x), share=1.0)
    >>> with_opinion.infer(np.ones((3, 1)), Deadline.after(1.0)).argmax(axis=1)
    array([0, 0, 0])
    >>> with_opinion.close()
    >>> with_opinion.agreement.value, with_opinion.agreement.n
    (0.0, 3)
    """

    def __init__(
        self,
        remote: Any,
        second: Any,
        *,
        share: float = 0.01,
        least_agreement: float = 0.5,
        on_doubt: Callable[[Estimate], None] | None = None,
        timeout: float = 10.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(_connected("remote", remote))
        for name, value in (("share", share), ("least_agreement", least_agreement)):
            if not 0 <= value <= 1:
                raise ArgumentError(f"{name}: expected a number from 0 to 1, got {value}")
        if not 0 < timeout < float("inf"):
            raise ArgumentError(f"timeout: expected seconds above 0, got {timeout}")
        self._second, self._share, self._timeout = _connected("second", second), share, timeout
        self._least, self._on_doubt = least_agreement, on_doubt
        self._random = Random(seed).random
        self._background = Background("edgecascade-second-opinion")
        self._lock = Lock()
        self._n = self._agreed = self._failed = 0
        self._doubted = False

    @property
    def agreement(self) -> Estimate:
        """The share of equal labels, with an interval that may be read at any time."""
        with self._lock:
            return rate(self._agreed, self._n, _MISS)

    @property
    def failed(self) -> int:
        """The number of inputs that the second remote gave no answer to, or was not asked about in time."""
        return self._failed

    def infer(self, inputs: Batch, deadline: Deadline) -> Replied:
        """Return the first remote's scores of inputs [n, ...]; its exceptions pass through."""
        scores = self._remote.infer(inputs, deadline)
        drawn = [position for position in range(size(inputs)) if self._random() < self._share]
        if drawn:
            compare = partial(self._compare, rows(inputs, drawn), scores, drawn)
            if not self._background.run(compare, most=_WAITING):
                self._fail(len(drawn))
        return scores

    def expect(self, labels: Sequence[str]) -> None:
        """Tell both remotes the names of the classes, by which they bound replies."""
        super().expect(labels)
        expect(self._second, labels)

    def expect_outputs(self, names: Sequence[str]) -> None:  # noqa: ARG002
        """Refuse a general task.

        Raises:
            ArgumentError: always; labels are compared, and such a task has none.
        """
        raise ArgumentError("remote: expected a remote for a general task, got SecondOpinion, which compares labels")

    def close(self) -> None:
        """Close both remotes; comparisons that wait have about a second."""
        super().close()
        self._background.close()
        self._second.close()

    def _compare(self, inputs: Batch, scores: Replied, drawn: list[int]) -> None:
        try:
            said = _labels(scores)[drawn]
            theirs = _labels(self._second.infer(inputs, Deadline.after(self._timeout)))
            second = tuple(getattr(self._second, "class_names", ()))  # some know them only after the first reply
            columns = columns_for(self.class_names, second, None)
            equal = (said if columns is None else np.array(columns)[said]) == theirs
        except Exception as error:  # the second remote is the application's code; its words may hold payload
            self._fail(len(drawn))
            _log.warning("the second remote gave no answer: %s", type(error).__name__)
            return
        with self._lock:
            self._n += len(drawn)
            self._agreed += int(equal.sum())
            found = rate(self._agreed, self._n, _MISS)
            doubt = found.high < self._least and not self._doubted
            self._doubted = self._doubted or doubt
        if doubt and self._on_doubt is not None:
            self._on_doubt(found)
        elif doubt:
            _log.warning("remote and second remote agree on %s of %d inputs", found.percent(), found.n)

    def _fail(self, n: int) -> None:
        with self._lock:
            self._failed += n


def _connected(name: str, remote: Any) -> Remote:
    try:
        found = connect(remote)
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {str(error).removeprefix('remote: ')}") from error
    if found is None:
        raise ArgumentError(f"{name}: expected a remote, got None")
    return found


def _labels(scores: Replied) -> NDArray[np.integer]:
    """Return the most probable classes [n].

    Raises:
        InvalidReply: they are no scores of every class.
    """
    if isinstance(scores, RemoteLabels):
        return np.asarray(scores.labels)
    table = np.asarray(scores)
    if table.ndim != 2 or table.shape[1] < 2:
        raise InvalidReply(f"remote: expected scores of every class [n, classes], got {list(table.shape)}")
    return np.asarray(table.argmax(axis=1))
