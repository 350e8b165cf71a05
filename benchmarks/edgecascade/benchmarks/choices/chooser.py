"""What says how probable each choice of a question is: a chat endpoint, or a cascade file."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.choices.questions import Question
from edgecascade.runtime import Cascade
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.chat import Chat
from edgecascade.types.errors import ArgumentError, BenchmarkError, InputError, InvalidReply, RemoteError

__all__ = ["Chooser", "EndpointChooser", "FileChooser", "Form", "Remembering", "messages_for", "prompt_for"]

Form = Literal["letter", "words"]
Messages = list[dict[str, str]]

_PATIENCE = 600.0  # seconds for one reply
_TOKENS = {"letter": 4, "words": 48}
_ASKED = {"letter": "Answer with the letter alone.", "words": "Answer with one of the options."}


class Chooser(Protocol):
    """Says how probable each choice of a question is."""

    def probabilities(self, question: Question, shots: Sequence[Question]) -> NDArray[np.float64] | None:
        """Return the probabilities [choices], which sum to 1; None if the reply is none of the choices.

        Args:
            question: What is asked.
            shots: Examples with their answers, which precede it.
        """

    def close(self) -> None:
        """Free connections."""


def prompt_for(question: Question, form: Form) -> str:
    """Return the text that asks a question.

    >>> print(prompt_for(Question("Which is a fruit?", ("stone", "plum"), 1), "letter"))
    Which is a fruit?
    A. stone
    B. plum
    Answer with the letter alone.
    """
    signs = [f"{letter}." for letter in question.letters] if form == "letter" else ["-"] * len(question.choices)
    listed = "\n".join(f"{sign} {choice}" for sign, choice in zip(signs, question.choices, strict=True))
    return f"{question.question}\n{listed}\n{_ASKED[form]}"


def messages_for(question: Question, shots: Sequence[Question], form: Form) -> Messages:
    """Return a conversation in which the examples are answered, and the question is asked last."""
    found: Messages = []
    for one in shots:
        answer = one.letters[one.answer] if form == "letter" else one.choices[one.answer]
        found += [_turn("user", prompt_for(one, form)), _turn("assistant", answer)]
    return [*found, _turn("user", prompt_for(question, form))]


class EndpointChooser:
    """Reads the probabilities of the choices from the tokens that an OpenAI-compatible chat endpoint lists.

    Args:
        url: `http[s]://HOST[:PORT]/v1`.
        form: `letter` asks for the letter of a choice, `words` for its text.
        model: One of the server's models; None leaves the choice to the server.
        headers: Sent with every request.
        context: TLS settings for https.
        proxy: An HTTP proxy to connect through.

    Raises:
        BenchmarkError: The form is another.
        ArgumentError: The address has another form.
    """

    def __init__(
        self,
        url: str,
        form: Form = "letter",
        *,
        model: str | None = None,
        headers: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        if form not in get_args(Form):
            raise BenchmarkError(f"form: expected letter or words, got {form!r}")
        self._form, self._url = form, url
        self._asked: Messages = []
        self._options: dict[str, Any] = {"model": model, "headers": headers, "context": context, "proxy": proxy}
        self._open: dict[tuple[str, ...], Chat] = {}
        self._chat(("A", "B")).close()  # an address of another form is an error before the first question
        self._open.clear()

    def probabilities(self, question: Question, shots: Sequence[Question]) -> NDArray[np.float64] | None:
        """Return the probabilities [choices] that the reply names each choice; None if it names none.

        Raises:
            RemoteError: There is no reply within ten minutes, or it lacks log-probabilities.
        """
        try:
            chat = self._chat(tuple(question.letters) if self._form == "letter" else question.choices)
        except ArgumentError:  # two choices differ in case only: no reply tells them apart
            return None
        self._asked = messages_for(question, shots, self._form)
        try:
            found = chat.infer(np.array([question.question]), Deadline.after(_PATIENCE))
        except InvalidReply as error:
            if "top_logprobs" in str(error):
                raise
            return None
        except TimeoutError as error:
            raise RemoteError(f"endpoint: no reply within {_PATIENCE:g} s") from error
        finally:
            if self._form == "words":  # the next question has other choices
                chat.close()
        row: NDArray[np.float64] = np.asarray(found, np.float64)[0]
        return row

    def close(self) -> None:
        """Close the connections."""
        for chat in self._open.values():
            chat.close()
        self._open.clear()

    def _chat(self, labels: tuple[str, ...]) -> Chat:
        if labels in self._open:
            return self._open[labels]
        chat = Chat(
            self._url,
            labels=labels,
            answer="label",
            prompt=lambda _: self._asked,
            max_tokens=_TOKENS[self._form],
            **self._options,
        )
        if self._form == "letter":
            self._open[labels] = chat
        return chat


class FileChooser:
    """Reads the probabilities from the local model of a cascade file whose classes are letters or the choices.

    The file's own prompt is around the text, so there are no examples before a question.

    Args:
        path: A cascade file of a classifier that takes text.

    Raises:
        ModelFileError: The file cannot be loaded.
    """

    def __init__(self, path: str) -> None:
        self._cascade = Cascade.load(path)
        self._labels = tuple(self._cascade.labels)

    def probabilities(self, question: Question, shots: Sequence[Question]) -> NDArray[np.float64] | None:
        """Return the probabilities [choices] of the question's letters, or of its choices.

        Raises:
            BenchmarkError: There are examples, the classes fit neither letters nor choices, or the file takes no text.
        """
        if shots:
            raise BenchmarkError("shots: expected 0 for a file, whose prompt is its own")
        by_letter = all(letter in self._labels for letter in question.letters)
        names = tuple(question.letters) if by_letter else question.choices
        if not set(names) <= set(self._labels):
            raise BenchmarkError(
                f"file: expected the classes {', '.join(question.letters)} or the question's choices, "
                f"got {', '.join(self._labels)[:80]}"
            )
        text = prompt_for(question, "letter").rpartition("\n")[0] if by_letter else question.question
        try:
            every = self._cascade.predict(text).local.probabilities
        except InputError as error:
            raise BenchmarkError(f"file: expected one that takes text: {error}") from error
        assert every is not None
        found = np.array([every[self._labels.index(name)] for name in names], np.float64)
        return np.asarray(found / found.sum())

    def close(self) -> None:
        """Close the file."""
        self._cascade.close()


class Remembering:
    """Keeps what a chooser says in a file, a line for each question, and does not ask it again.

    Args:
        chooser: What is asked.
        path: The file; it is made with the first answer. A last line without its end is left out.
        about: What the answers depend on beside the question and its examples, such as the address and the model.
    """

    def __init__(self, chooser: Chooser, path: Path, about: str) -> None:
        self._chooser, self._path, self._about = chooser, path, about
        whole, _, cut_off = (path.read_bytes() if path.is_file() else b"").rpartition(b"\n")
        if cut_off:
            path.write_bytes(whole + b"\n" if whole else b"")
        rows = map(json.loads, whole.splitlines())
        self._known: dict[str, list[float] | None] = {row["key"]: row["probabilities"] for row in rows}

    def probabilities(self, question: Question, shots: Sequence[Question]) -> NDArray[np.float64] | None:
        """Return what the chooser says, now or before."""
        told = [self._about, *((one.digest, one.answer) for one in shots), question.digest]
        key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]
        if key not in self._known:
            found = self._chooser.probabilities(question, shots)
            self._known[key] = None if found is None else found.tolist()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "probabilities": self._known[key]}) + "\n")
        known = self._known[key]
        return None if known is None else np.array(known, np.float64)

    def close(self) -> None:
        """Close the chooser."""
        self._chooser.close()


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
