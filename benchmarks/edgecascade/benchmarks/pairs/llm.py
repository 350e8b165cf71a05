"""The pairs of language models, from replies that were recorded once: small models on questions of BIG-bench.

The recorded file holds our own output: for each question, every model's reply with the log-probabilities of its tokens,
pinned by the hashes of weights and prompt. So a report needs neither weights nor an hour of computing, and
`python -m studies.llm_replies` records it again. Questions are BIG-bench's (Apache-2.0).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.chat import ChatComparison, ChatRows, chat_rows, measure_chat
from edgecascade.benchmarks.chat.rivals import rivals
from edgecascade.benchmarks.chat.rows import verification
from edgecascade.benchmarks.choices.chooser import messages_for
from edgecascade.benchmarks.choices.questions import Question
from edgecascade.benchmarks.pairs.llm_weights import MODELS
from edgecascade.calibration import MostAccuracy, Objective
from edgecascade.calibration.verifiers import verifier_named
from edgecascade.export.chat.calibrate import plan_chat
from edgecascade.export.chat.prompts import ChatPrompt, prompts_digest
from edgecascade.export.chat.replies import ChatReply, RepliesToPrompt, prompt_digest
from edgecascade.types.document import KEY, ChatDocument, ChatSide
from edgecascade.types.errors import BenchmarkError

__all__ = ["RECORDED", "TASKS", "LlmTask", "PreparedChat", "Recorded", "prepare_llm", "read_recorded", "turns"]

RECORDED = Path(__file__).with_name("llm_replies.json.gz")
_JUDGE = "exact"
_OFFLOAD_RATE = 0.3
_FIELDS = {"temperature": 0}
SHOTS = 5


@dataclass(frozen=True)
class LlmTask:
    """A task of BIG-bench, and how it is asked.

    Attributes:
        name: The task.
        form: `open` asks for the answer alone; `words` and `letter` list the choices, as `bench choices` does.
        max_tokens: The most tokens of a reply.
        selection: Number of questions that everything is chosen and fitted on; the others are reported.
        most: The most questions.
        knowledge: Whether the answers must be known rather than computed.
    """

    name: str
    form: str
    max_tokens: int
    selection: int
    most: int
    knowledge: bool


TASKS = (
    LlmTask("arithmetic/3_digit_subtraction", "open", 12, selection=100, most=240, knowledge=False),
    LlmTask("arithmetic/4_digit_addition", "open", 12, selection=40, most=120, knowledge=False),
    LlmTask("general_knowledge", "words", 24, selection=20, most=64, knowledge=True),
    LlmTask("hindu_knowledge", "words", 24, selection=50, most=169, knowledge=True),
)


def turns(task: LlmTask, question: Question, shots: tuple[Question, ...]) -> list[dict[str, str]]:
    """Return the messages that ask a question after its examples."""
    if task.form != "open":
        return messages_for(question, shots, "letter" if task.form == "letter" else "words")
    found = []
    for shot in shots:
        found += [
            {"role": "user", "content": shot.question},
            {"role": "assistant", "content": shot.choices[shot.answer]},
        ]
    return [*found, {"role": "user", "content": question.question}]


@dataclass(frozen=True)
class Recorded:
    """The recorded file.

    Attributes:
        document: Its JSON, as `studies.llm_replies` writes it.
    """

    document: Mapping[str, Any]

    def prompts(self, part: str) -> list[ChatPrompt]:
        """Return the prompts of a part, `selection` or `report`, with subject and reference."""
        return [prompt for task in TASKS for prompt in self._prompts(task, part)]

    def replies(self, local: str, remote: str) -> dict[str, RepliesToPrompt]:
        """Return the replies of two models by the digest of the prompt, as a replies file has them.

        Raises:
            BenchmarkError: A model's replies were not recorded, or a prompt is not the recorded one.
        """
        found: dict[str, RepliesToPrompt] = {}
        for task in TASKS:
            stored = self.document["tasks"][task.name]
            for at, prompt in enumerate(self._prompts(task, "selection") + self._prompts(task, "report")):
                if not prompt.digest.startswith(stored["digests"][at]):
                    raise BenchmarkError(f"{RECORDED.name}: question {at} of {task.name} is not the recorded one")
                ours, theirs = (self._reply(stored, "replies", name, at) for name in (local, remote))
                if ours is None or theirs is None:
                    continue
                found[prompt.digest] = RepliesToPrompt(prompt.digest, prompt.reference, ours, theirs)
                check = self._reply(stored, "checks", local, at)
                if check is not None:
                    digest = prompt_digest(verification(prompt, ours))
                    found[digest] = RepliesToPrompt(digest, None, check, None)
        return found

    def cascadeflow(self, local: str, rows: ChatRows) -> dict[str, NDArray[np.float64]]:
        """Return the recorded confidences of cascadeflow's estimator, by name."""
        every: dict[str, list[float]] = {}
        for task in TASKS:
            stored = self.document["tasks"][task.name]
            every |= zip(stored["digests"], stored["cascadeflow"].get(local, ()), strict=False)
        names = self.document["cascadeflow"]
        found = [every.get(prompt.digest[: self.document["digits"]]) for prompt in rows.prompts]
        if any(row is None for row in found):
            return {}
        return {name: np.array([row[at] for row in found if row is not None]) for at, name in enumerate(names)}

    def _prompts(self, task: LlmTask, part: str) -> list[ChatPrompt]:
        stored = self.document["tasks"][task.name]
        shots = tuple(_question(one, task) for one in stored["shots"])
        every = [_question(one, task) for one in stored["questions"]]
        some = every[: task.selection] if part == "selection" else every[task.selection :]
        return [_prompt(task, one, shots) for one in some]

    def _reply(self, stored: Mapping[str, Any], kind: str, name: str, at: int) -> ChatReply | None:
        if name not in self.document["models"]:
            raise BenchmarkError(f"{RECORDED.name}: expected replies of {name}, got those of {self.document['models']}")
        rows = stored[kind].get(name, ())
        if at >= len(rows) or rows[at] is None:
            return None
        text, logprobs, cut_off = rows[at]
        return ChatReply(text, name, logprobs=tuple(logprobs), cut_off=bool(cut_off))


def read_recorded(path: Path = RECORDED) -> Recorded:
    """Read a recorded file.

    Raises:
        BenchmarkError: It was recorded with other weights than the pinned ones.
    """
    with gzip.open(path, "rt", encoding="utf-8") as file:
        document = json.load(file)
    for name, digest in document["models"].items():
        if MODELS[name].sha256 != digest:
            raise BenchmarkError(f"{path.name}: expected replies of {MODELS[name].sha256}, got those of {digest}")
    return Recorded(document)


@dataclass(frozen=True)
class PreparedChat:
    """A pair of language models that is ready to be compared.

    Attributes:
        document: What `calibrate-chat` would write.
        recorded: The replies.
        selection: The rows that everything was fitted and chosen on.
        report: The rows that every figure is measured on.
        local: The name of the local model.
    """

    document: ChatDocument
    recorded: Recorded
    selection: ChatRows
    report: ChatRows
    local: str

    def measure(self, draws: int = 0, loss: float = 0.05) -> ChatComparison:
        """Return the comparison; `draws` and `loss` as of `measure_chat`."""
        known = self.recorded.cascadeflow(self.local, self.report)
        return measure_chat(
            self.document,
            self.report,
            rivals(self.selection, self.report, known),
            everything=self._everything,
            draws=draws,
            loss=loss,
            knowledge=tuple(task.name for task in TASKS if task.knowledge),
        )

    @cached_property
    def _everything(self) -> ChatRows:
        every = self.recorded.prompts("selection") + self.recorded.prompts("report")
        replies = self.recorded.replies(self.local, self.document.remote.reported)
        return chat_rows(every, replies, verifier_named(_JUDGE))


def prepare_llm(local: str, remote: str, objective: Objective | None = None, path: Path = RECORDED) -> PreparedChat:
    """Plan a pair on the selection questions.

    Args:
        local: The name of the local model.
        remote: That of the remote.
        objective: What to plan for; by default the most value at an offload rate of 30 %.
        path: The recorded file.
    """
    recorded, judge = read_recorded(path), verifier_named(_JUDGE)
    replies = recorded.replies(local, remote)
    selection, report = (chat_rows(recorded.prompts(part), replies, judge) for part in ("selection", "report"))
    planned = plan_chat(
        selection.prompts, selection.local, selection.remote, judge, objective or MostAccuracy(_OFFLOAD_RATE)
    )
    document = ChatDocument(
        written_by=f"{KEY} {version(KEY)}",
        local=ChatSide("recorded", local, local),
        remote=ChatSide("recorded", remote, remote),
        judge=_JUDGE,
        score=planned.score,
        fields=_FIELDS,
        turns=tuple(sorted({one.roles for one in selection.prompts})),
        calibration=planned.plan.calibration,
        remote_value=planned.plan.remote,
        policy=planned.plan.record,
        operating_curve=planned.plan.policy.curve,
        certificate=planned.plan.certificate,
        data_sha256=prompts_digest(selection.prompts),
    )
    return PreparedChat(document, recorded, selection, report, local)


def _question(stored: Any, task: LlmTask) -> Question:
    text, choices, answer = stored
    return Question(text, tuple(choices), answer, task.name)


def _prompt(task: LlmTask, question: Question, shots: tuple[Question, ...]) -> ChatPrompt:
    reference = question.letters[question.answer] if task.form == "letter" else question.choices[question.answer]
    return ChatPrompt(tuple(turns(task, question, shots)), reference, other={"subject": task.name})
