"""A generative model as the remote of a classifier: settle how it can answer, ask it, and fit its confidence."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration import fit_platt
from edgecascade.export.chat.lines import LineFile, read_lines
from edgecascade.export.data import Inputs, batches, data_digest, first
from edgecascade.export.scores import Progress
from edgecascade.runtime.background import DaemonPool
from edgecascade.runtime.batch import Batch, rows, size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.chat import Chat, lacks_logprobs
from edgecascade.runtime.remotes.chat_reply import text_confidence
from edgecascade.runtime.remotes.remote import Remote, RemoteLabels, Replied, Scores
from edgecascade.runtime.remotes.retry import backoff
from edgecascade.types.document import AnswerForm, AskedChat
from edgecascade.types.errors import (
    CalibrationError,
    ExportError,
    InvalidReply,
    RemoteError,
    RemoteRefusal,
    RemoteUnreachable,
    UnsendableInput,
    printable,
)

__all__ = ["ChatScores", "KeptReplies", "Reply", "ask_all", "ask_chat", "table_of"]

_FEW = 8  # inputs by whose replies the form of the answer is settled
_AT_ONCE = 8  # requests
_PATIENCE = 300.0  # seconds for one input with its retries: no caller waits, and quotas are by the minute
_TO_CONNECT = 3  # attempts to connect for the first inputs: a wrong address shows at once
_FIRST, _LONGEST = 0.5, 30.0  # seconds to wait before another attempt, at most
_MOST_UNREAD = 0.1  # share of replies without a label above which the prompt is at fault
_UNSCORED = (0.0, 0.0)  # a scale for which no log-probabilities are asked
_LEAST = 1e-300  # probability whose logarithm is finite

Reply: TypeAlias = Scores | RemoteError
"""The reply to one input: probabilities [1, classes], a label with its confidence, or why there is none."""


class ChatScores(NamedTuple):
    """What a generative model says about labelled inputs.

    Attributes:
        scores: probabilities float64 [n, classes]; all equal where the reply names no label.
        asked: how it was asked, and what its replies are read by.
        notes: phrases on how it was asked, and on what was done without.
    """

    scores: NDArray[np.float64]
    asked: AskedChat
    notes: tuple[str, ...]


class KeptReplies:
    """Replies of a generative model to single inputs, in a file to which each is added as it comes.

    A line holds `input`, the SHA-256 of the input; `request`, the first 16 digits of the SHA-256 of how it was asked;
    and `scores`, or `label` and `confidence`. A reply that names no label is not kept.

    Args:
        path: the file; it is made with the first reply.
        address: of the remote, without secrets.

    Attributes:
        used: number of its replies that were used since `begin`.

    Raises:
        ExportError: the file cannot be written, or a line of it is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], address: str) -> None:
        self._file, self._address, self._request = LineFile(path), address, ""
        self._found = dict(_kept_in(self._file.path)) if self._file.path.is_file() else {}
        self._lock, self._classes, self.used = Lock(), 0, 0

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def begin(self, asked: AskedChat, names: Sequence[str]) -> None:
        """Take only replies that were asked for so, about classes of these names."""
        about, self._classes = repr([self._address, *names, asked]), len(names)
        self._request, self.used = hashlib.sha256(about.encode("utf-8", "surrogatepass")).hexdigest()[:16], 0

    def get(self, one: Batch) -> Scores | None:
        """Return the reply to a batch of one input, or None if there is none."""
        found = self._found.get((_digest(one), self._request))
        if isinstance(found, np.ndarray) and found.shape != (1, self._classes):  # somebody wrote it
            return None
        with self._lock:
            self.used += found is not None
        return found

    def add(self, one: Batch, reply: Scores) -> None:
        """Keep the reply to a batch of one input."""
        line: dict[str, Any] = {"input": _digest(one), "request": self._request}
        if isinstance(reply, RemoteLabels):
            line |= {"label": int(reply.labels[0]), "confidence": float(reply.confidences[0])}
        else:
            line |= {"scores": np.asarray(reply, np.float64)[0].tolist()}
        self._file.add(line)


def ask_chat(
    connect: Callable[..., Chat],
    inputs: Inputs,
    names: Sequence[str],
    labels: NDArray[np.integer],
    *,
    answer: AnswerForm | None = None,
    weight: ArrayLike | None = None,
    kept: KeptReplies | None = None,
    progress: Progress | None = None,
) -> ChatScores:
    """Ask a generative model about labelled inputs, and fit the confidence of text.

    The replies to the first inputs show which log-probabilities the server gives. Where no form of the answer is asked
    for, it is done without those that it refuses or leaves out. Instead of the likely tokens, it is the text that is
    read, with the mean log-probability of its tokens for its confidence; without any, all answers have one confidence.

    Args:
        connect: makes a `Chat` from options `answer` and `scale`, such as `functools.partial(Chat, url)`.
        inputs: [n, ...], texts or images.
        names: of the classes, which are the possible answers.
        labels: integers [n], the right ones.
        answer: the form of the answer to ask for, whatever it lacks; None leaves it to the replies.
        weight: [n], how much each input counts.
        kept: replies that are there, and where new ones are kept, unless a function writes the prompts. After an
            interruption, or for another objective, only the first inputs are asked about again.
        progress: called with the number of inputs just done.

    Raises:
        ExportError: the remote fails, or more than a tenth of the replies name no label.
        ArgumentError: an option is invalid.
    """
    chat, notes = _settled(connect, answer, first(inputs, _FEW), names)
    with closing(chat):
        kept = None if chat.asked.prompt_sha256 is None else kept
        if kept is not None:
            kept.begin(chat.asked, names)
        replies = ask_all(chat, inputs, kept=kept, progress=progress)
        asked, named = chat.asked, chat.reported
    notes = [str(asked), *notes]
    if kept is not None and kept.used:
        notes.append(f"{kept.used} of {len(replies)} replies are from an earlier run, in {kept.path}")
    if len(named) > 1:
        notes.append(f"its replies name several models: {printable(', '.join(sorted(named)))!s:.300}")
    missing = [reply for reply in replies if isinstance(reply, RemoteError)]
    if len(missing) > _MOST_UNREAD * len(replies):
        raise _unread(missing, len(replies))
    if missing:
        notes.append(
            f"{len(missing)} of {len(replies)} inputs got no label: here all labels are equally probable for them, on "
            "the device they keep the local answer"
        )
    if asked.answer == "text" and asked.scale in (None, _UNSCORED):
        asked = replace(asked, scale=_fitted(replies, labels, weight, scored=asked.scale is None))
    return ChatScores(table_of(replies, len(names), asked.scale), asked, tuple(notes))


def ask_all(
    remote: Remote,
    inputs: Inputs,
    *,
    name: str = "remote",
    before: int = 0,
    kept: KeptReplies | None = None,
    progress: Progress | None = None,
) -> list[Reply]:
    """Return the reply of a generative model to each input in order; several requests are under way at once.

    Args:
        remote: a `Chat`, or one in another remote.
        inputs: [n, ...].
        name: what to call the remote in error messages.
        before: the number of inputs done before these, for error messages.
        kept: replies that are there, and where new ones are kept.
        progress: called with the number of inputs just done.

    Raises:
        ExportError: the remote fails for another reason than the input or the log-probabilities, or takes too long.
    """
    replies: list[Reply] = []
    try:
        for reply in _ask_each(remote, inputs, kept=kept):
            replies.append(reply)
            if progress:
                progress(1)
    except (RemoteError, TimeoutError) as error:
        there = "" if kept is None else f"; the replies so far are in {kept.path}"
        raise ExportError(f"{name}: it failed after {before + len(replies)} inputs: {error}{there}") from error
    return replies


def _ask_each(
    remote: Remote, inputs: Inputs, *, to_connect: int | None = None, kept: KeptReplies | None = None
) -> Iterator[Reply]:
    """Yield the reply of a generative model to each input in order; several requests are under way at once.

    A failure that may pass is retried for up to five minutes for each input.

    Args:
        remote: a `Chat`, or one in another remote.
        inputs: [n, ...].
        to_connect: the most attempts where no connection can be made; None for no limit.
        kept: replies that are there, and where new ones are kept.

    Raises:
        RemoteError: the remote fails for another reason than the input or the log-probabilities.
        TimeoutError: it takes longer than five minutes.
    """
    pool, stopped = DaemonPool(_AT_ONCE, "edgecascade-ask"), Event()

    def ask(one: Batch) -> Reply:
        if kept is not None and (found := kept.get(one)) is not None:
            return found
        try:
            reply: Scores = _patiently(remote, one, to_connect, stopped)  # type: ignore[assignment]  # no general task
        except RemoteError as error:
            if _is_about_input(error) or lacks_logprobs(error):
                return error
            raise
        if kept is not None:
            kept.add(one, reply)
        return reply

    try:
        for batch in batches(inputs, 4 * _AT_ONCE):
            for reply in [pool.submit(ask, rows(batch, [at])) for at in range(size(batch))]:
                yield reply.result()
    finally:
        stopped.set()
        pool.close()


def _patiently(remote: Remote, one: Batch, to_connect: int | None, stopped: Event) -> Replied:
    """Return the reply to one input, for which a failure that may pass is waited out."""
    deadline = Deadline.after(_PATIENCE)
    for attempt in count():
        try:
            return remote.infer(one, deadline)
        except RemoteError as error:
            seconds = backoff(attempt, first=_FIRST, longest=_LONGEST) + max(0.0, error.retry_after or 0.0)
            hopeless = isinstance(error, RemoteUnreachable) and attempt + 1 == to_connect
            if not error.retry or hopeless or seconds >= deadline.remaining() or stopped.wait(seconds):
                raise
    raise AssertionError("unreachable: the loop ends with a reply or an error")


def _is_about_input(error: RemoteError) -> bool:
    """Return whether an error concerns this input alone; that of a broken connection does not."""
    return error.about_input and not error.retry and isinstance(error, UnsendableInput | RemoteRefusal | InvalidReply)


def table_of(replies: Sequence[Reply], classes: int, scale: tuple[float, float] | None) -> NDArray[np.float64]:
    """Return probabilities [n, classes] of replies to one input each; all equal for those without a label.

    Args:
        replies: in the order of the inputs.
        classes: their number.
        scale: slope and intercept for labels whose confidence is the exponential of a mean log-probability.
    """
    table = np.full((len(replies), classes), 1 / classes)
    for at, reply in enumerate(replies):
        if isinstance(reply, RemoteLabels):
            sure = reply.confidences if scale is None else np.array([text_confidence(_mean_logprob(reply), scale)])
            table[at] = RemoteLabels(reply.labels, sure).probabilities(classes)
        elif not isinstance(reply, RemoteError):
            table[at] = reply
    return table


def _settled(
    connect: Callable[..., Chat], answer: AnswerForm | None, few: Inputs, names: Sequence[str]
) -> tuple[Chat, list[str]]:
    """Return a remote whose replies to a few inputs can be read, and phrases on what it does without."""
    lists: list[tuple[dict[str, Any], str]] = [] if answer == "text" else [({"answer": answer}, "")]
    reads: list[tuple[dict[str, Any], str]] = [
        (
            {"answer": "text"},
            "it lists no likely tokens: its text is searched for a label, and the mean log-probability of its tokens "
            "gives the confidence",
        ),
        (
            {"answer": "text", "scale": _UNSCORED},
            "it gives no log-probabilities: its text is searched for a label, and all answers have one confidence",
        ),
    ]
    ways = [*lists, *(reads if answer in (None, "text") else [])]
    for options, note in ways:
        chat = connect(**options)
        chat.expect(names)
        asked_for = chat.asked.top_logprobs
        try:
            replies = list(_ask_each(chat, few, to_connect=_TO_CONNECT))
        except (RemoteError, TimeoutError) as error:
            chat.close()
            raise ExportError(f"remote: it fails for the first inputs: {error}") from error
        missing = [reply for reply in replies if isinstance(reply, RemoteError)]
        unscored = [reply for reply in missing if lacks_logprobs(reply)]
        if unscored and options is not ways[-1][0]:
            chat.close()
            continue
        if unscored or len(missing) == len(replies):
            chat.close()
            raise _unread(unscored or missing, len(replies))
        notes = [note] if note and options is not ways[0][0] else []
        if chat.asked.top_logprobs != asked_for:
            notes.append("it lists no more likely tokens: labels that are not among them share what these leave")
        return chat, notes
    raise AssertionError("unreachable: the last way returns or raises")


def _unread(missing: Sequence[RemoteError], n: int) -> ExportError:
    if isinstance(missing[0], UnsendableInput):
        return ExportError(f"inputs: {len(missing)} of {n} cannot be sent: {str(missing[0]).removeprefix('remote: ')}")
    return ExportError(
        f"remote: expected a label in its replies, got none for {len(missing)} of {n} inputs, such as: {missing[0]}; "
        "try another --answer or --remote-prompt"
    )


def _fitted(
    replies: Sequence[Reply], labels: NDArray[np.integer], weight: ArrayLike | None, *, scored: bool
) -> tuple[float, float]:
    """Return slope and intercept from the mean log-probability of a reply to the log-odds that its label is right.

    Without log-probabilities, or where all are the same, the slope is 0.
    """
    read = [(at, reply) for at, reply in enumerate(replies) if isinstance(reply, RemoteLabels)]
    where = np.array([at for at, _ in read])
    right = np.array([int(reply.labels[0]) for _, reply in read]) == labels[where]
    weights = None if weight is None else np.asarray(weight, np.float64)[where]
    if scored:
        try:
            found = fit_platt(np.array([_mean_logprob(reply) for _, reply in read]), right, weights)
            return found.slope, found.intercept
        except CalibrationError:  # they are all the same
            pass
    share = (np.average(right, weights=weights) * len(right) + 1) / (len(right) + 2)
    return 0.0, float(np.log(share / (1 - share)))


def _digest(one: Batch) -> str:
    """Return the SHA-256 of an input, in hexadecimal; of text, whatever the longest one beside it."""
    return data_digest(one.tolist() if isinstance(one, np.ndarray) and one.dtype.kind == "U" else one, ())


def _kept_in(path: Path) -> Iterator[tuple[tuple[str, str], Scores]]:
    """Yield the replies of a file by input and request."""
    for place, line in read_lines(path):
        try:
            reply: Scores = np.array([line["scores"]], np.float64) if "scores" in line else _label_in(line)
            yield (str(line["input"]), str(line["request"])), reply
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(f"{place}: expected the reply to an `input`, got {error!r}") from error


def _label_in(line: Mapping[str, Any]) -> RemoteLabels:
    return RemoteLabels(np.array([int(line["label"])]), np.array([float(line["confidence"])]))


def _mean_logprob(reply: RemoteLabels) -> float:
    return float(np.log(max(float(reply.confidences[0]), _LEAST)))
