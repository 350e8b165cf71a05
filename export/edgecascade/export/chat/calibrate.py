"""From prompts with references and two chat endpoints to `chat.json`, the file that says when to ask the second.

Both endpoints reply to every prompt once, a judge gives each reply a value in [0, 1], and the log-probabilities of the
local reply's tokens become its score. The rest is the plan of a general task, which chooses among three scores.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import Objective, TaskPlan, Verifier, plan_task
from edgecascade.calibration.outcomes import Groups
from edgecascade.calibration.verifiers import VERIFIERS, ChoiceMatch, verifier_name, verifier_named, verify
from edgecascade.calibration.weights import normalised
from edgecascade.export.chat.ask import Asked, Progress, ask_both
from edgecascade.export.chat.endpoint import AskedEndpoint
from edgecascade.export.chat.prompts import ChatPrompt, prompts_digest, read_prompts
from edgecascade.export.chat.replies import ChatReply, Replies
from edgecascade.export.writing import check_out, refuse_same, write_whole
from edgecascade.types.document import CHAT_SCORES, KEY, ChatDocument, ChatScore, ChatSide
from edgecascade.types.errors import ArgumentError, CalibrationError, ExportError

__all__ = [
    "CalibratedChat",
    "PlannedChat",
    "calibrate_chat",
    "check_prompts",
    "judge_replies",
    "plan_chat",
    "replies_beside",
]

_FEWEST = 13  # prompts with both replies, as a plan needs
_MOST_LISTED = 0.5  # of the tokens; llama.cpp lists a character of several tokens once


@dataclass(frozen=True)
class PlannedChat:
    """When to ask the remote endpoint, and what the plan rests on.

    Attributes:
        plan: the map from score to confidence, the policy and the evidence.
        score: how a local reply is scored.
        rows: intp [n], the prompts that the plan is on: those with both replies and a score.
        local_value: float64 [n], how good the local replies to them are, in [0, 1].
        remote_value: float64 [n], how good the remote's are.
    """

    plan: TaskPlan
    score: ChatScore
    rows: NDArray[np.intp]
    local_value: NDArray[np.float64]
    remote_value: NDArray[np.float64]


@dataclass(frozen=True)
class CalibratedChat:
    """What was asked, planned and written.

    Attributes:
        planned: the plan and what it rests on.
        document: what the file holds.
        asked: the replies, and what they cost.
    """

    planned: PlannedChat
    document: ChatDocument
    asked: Asked

    def _repr_html_(self) -> str:
        return self.planned.plan._repr_html_()


def calibrate_chat(
    prompts: str | os.PathLike[str] | Sequence[ChatPrompt],
    out: str | os.PathLike[str],
    *,
    local: str | AskedEndpoint,
    remote: str | AskedEndpoint,
    judge: str | Verifier[Any],
    objective: Objective,
    replies: str | os.PathLike[str] | Replies | None = None,
    score: str = "auto",
    max_cost: float | None = None,
    concurrency: int = 4,
    progress: Progress | None = None,
    **options: Any,
) -> CalibratedChat:
    """Ask both endpoints about every prompt, judge the replies, plan, and write the file.

    If it ends early, what was replied is kept, and the next call goes on from there. With the same file of replies,
    another objective or judge needs no request. Both endpoints are closed at the end.

    Args:
        prompts: a file, as `read_prompts` reads it, or prompts.
        out: the file to write.
        local: the endpoint that is asked first, whose replies are scored; or its address.
        remote: the endpoint that is asked where the local reply is at a disadvantage; or its address.
        judge: from n replies and n references to values [n] in [0, 1]; or text, as `verifier_named` takes it.
        objective: the aim of the plan, where accuracy is the mean value.
        replies: the file of replies; by default beside `out`.
        score: `mean`, `minimum` or `first`, or `auto` to choose by cross-fitting.
        max_cost: the most that new replies may cost, in the currency of the endpoints' prices. The plan is then on the
            prompts that were asked, which are a random sample.
        concurrency: the most requests under way at once at each endpoint.
        progress: called when a reply has come, with its side and the cost so far.
        options: of `plan_task`: `estimate`, `bins`, `even_without_gain`, `weight`, `groups`, `max_group_loss`,
            `calibrator` and `seed`; weights and groups are those of all prompts.

    Raises:
        ExportError: the prompts cannot be read, the file cannot be written, an endpoint cannot be asked, or too few
            prompts have both replies.
        CalibrationError: the judge cannot use a reference, or the replies cannot support the objective.
        ArgumentError: an argument is out of range.
    """
    check_out(out)  # before anything is asked, which costs time and money
    if unknown := options.keys() - signature(plan_task).parameters.keys():
        raise ArgumentError(f"options: expected those of plan_task, got {', '.join(sorted(unknown))}")
    if isinstance(prompts, str | os.PathLike):
        refuse_same(out, {"the prompts": prompts})
        given = read_prompts(prompts)
    else:
        given = list(prompts)
    name = judge if isinstance(judge, str) else verifier_name(judge)
    function = verifier_named(judge, "judge") if isinstance(judge, str) else judge
    _scores_of(score)
    check_prompts(given, function, weight=options.get("weight"), groups=options.get("groups"))
    ours, theirs = (
        AskedEndpoint(side, one) if isinstance(one, str) else one
        for side, one in (("local", local), ("remote", remote))
    )
    kept = replies if isinstance(replies, Replies) else Replies(replies_beside(out) if replies is None else replies)
    if kept.path is not None:
        refuse_same(out, {"replies": kept.path})
    try:
        asked = ask_both(given, ours, theirs, kept, max_cost=max_cost, concurrency=concurrency, progress=progress)
    finally:
        ours.close()
        theirs.close()
    if asked.exhausted and asked.pairs < _FEWEST:
        raise ExportError(
            f"max_cost: expected enough for at least {_FEWEST} prompts with both replies, got {max_cost:g}, which paid "
            f"for {asked.pairs}; the replies are kept"
        )
    planned = plan_chat(given, asked.local, asked.remote, function, objective, score=score, **options)
    planned = replace(planned, plan=_with_notes(planned.plan, [*_notes(asked, max_cost), *planned.plan.warnings]))
    document = _document(given, asked, planned, name, ours, theirs)
    write_whole(f"{document.to_json()}\n".encode(), out)
    return CalibratedChat(planned, document, asked)


def check_prompts(
    prompts: Sequence[ChatPrompt],
    judge: Verifier[Any],
    *,
    weight: NDArray[Any] | None = None,
    groups: Groups | NDArray[Any] | None = None,
    fewest: int = _FEWEST,
) -> None:
    """Check that replies to prompts can be judged, weighted and grouped, before anything is asked.

    Args:
        prompts: n of them.
        judge: a function of one's own is not called, since it may take long or cost money.
        weight: [n], or None.
        groups: [n], or None.
        fewest: the number of different prompts that are needed, by default as for a plan.

    Raises:
        CalibrationError: the judge cannot use a reference, or weights or groups are not n of their kind.
        ExportError: there are too few prompts.
    """
    if type(judge) in VERIFIERS.values():
        judge_replies(judge, prompts, [""] * len(prompts), model="model")
    normalised(weight, len(prompts))
    if groups is not None and len(index := groups.index if isinstance(groups, Groups) else groups) != len(prompts):
        raise CalibrationError(f"groups: expected {len(prompts)}, one for each prompt, got {len(index)}")
    if (different := len({one.digest for one in prompts})) < fewest:
        raise ExportError(f"prompts: expected at least {fewest} that are different, got {different}")


def plan_chat(
    prompts: Sequence[ChatPrompt],
    local: Sequence[ChatReply | None],
    remote: Sequence[ChatReply | None],
    judge: Verifier[Any],
    objective: Objective,
    *,
    score: str = "auto",
    weight: NDArray[Any] | None = None,
    groups: Groups | NDArray[Any] | None = None,
    **options: Any,
) -> PlannedChat:
    """Judge replies and plan when to ask the remote endpoint.

    Prompts without both replies, or whose local reply has no log-probabilities, are left out, and the plan's warnings
    say so. So are prompts that repeat an earlier one, whatever their reference: an endpoint replies to them once, and
    copies of one reply, in the half that chooses and in the one that tests, are no evidence. For a certificate
    without `score`, the score is the mean.

    Args:
        prompts: n of them.
        local: the local replies to them; None where there is none.
        remote: the remote's replies.
        judge: from replies and references to values in [0, 1].
        objective: the aim of the plan.
        score: `mean`, `minimum`, `first` or `auto`, which chooses as `plan_task` does.
        weight: [n], how much each prompt counts; None if all count alike.
        groups: [n], the group of each prompt; None if there are none.
        options: the others of `plan_task`.

    Raises:
        CalibrationError: the judge cannot use a reply or a reference, or the replies cannot support the objective.
        ExportError: too few prompts have both replies and a score.
        ArgumentError: there is no such score.
    """
    kinds = _scores_of(score)
    firsts = {*{one.digest: at for at, one in reversed([*enumerate(prompts)])}.values()}
    replied = {at: both for at, both in enumerate(zip(local, remote, strict=True)) if at in firsts}
    pairs = [(at, ours, theirs) for at, (ours, theirs) in replied.items() if ours and theirs]
    scored = [(at, ours, theirs) for at, ours, theirs in pairs if ours.logprobs is not None]
    unscored = [ours.unscored for _, ours, _ in pairs if ours.logprobs is None]
    if len(scored) < _FEWEST:
        why = f"; {len(unscored)} local replies have no score: {unscored[0]}" if unscored else ""
        raise ExportError(
            f"prompts: expected at least {_FEWEST} with both replies and a score, got {len(scored)} of "
            f"{len(prompts)}{why}"
        )
    rows = np.array([at for at, _, _ in scored], np.intp)
    judged = [prompts[at] for at in rows]
    local_value = judge_replies(judge, judged, [ours.text for _, ours, _ in scored], model="local endpoint")
    remote_value = judge_replies(judge, judged, [theirs.text for _, _, theirs in scored], model="remote endpoint")
    plan = plan_task(
        {kind.kind: np.array([kind(ours.logprobs or ()) for _, ours, _ in scored]) for kind in kinds},
        local_value,
        remote_value,
        objective,
        weight=None if weight is None else np.asarray(weight)[rows],
        groups=groups if groups is None else groups[rows] if isinstance(groups, Groups) else np.asarray(groups)[rows],
        **options,
    )
    if repeats := len(prompts) - len(firsts):
        note = f"{repeats} of {len(prompts)} prompts repeat an earlier one, and are left out"
        plan = _with_notes(plan, [note, *plan.warnings])
    if unscored:
        note = (
            f"{len(unscored)} of {len(pairs)} local replies have no usable log-probabilities and are left out (the "
            f"gateway's `unscored` says where such replies go), such as: {unscored[0]}"
        )
        plan = _with_notes(plan, [note, *plan.warnings])
    return PlannedChat(plan, ChatScore(plan.score_name), rows, local_value, remote_value)


def judge_replies(
    judge: Verifier[Any], prompts: Sequence[ChatPrompt], replies: Sequence[str], *, model: str
) -> NDArray[np.float64]:
    """Return how good replies are, in [0, 1].

    Args:
        judge: from replies and references to values [n]. It also gets the options that each prompt lists, n tuples of
            texts, if it has a parameter `options`.
        prompts: n of them.
        replies: n texts.
        model: whose replies they are, for error messages.

    Raises:
        CalibrationError: the judge cannot use a reply or a reference, or gives something else than values.
    """
    references = [one.choice if isinstance(judge, ChoiceMatch) else one.reference for one in prompts]
    called: Any = judge
    with suppress(TypeError, ValueError):  # of a function that does not tell its parameters
        if "options" in signature(judge).parameters:
            called = partial(called, options=[one.options for one in prompts])
    return verify(called, replies, references, model=model)


def replies_beside(out: str | os.PathLike[str]) -> Path:
    """Return where the replies are kept by default: `chat.replies.jsonl` for `chat.json`."""
    return Path(out).with_suffix(".replies.jsonl")


def _scores_of(score: str) -> tuple[ChatScore, ...]:
    if score not in ("auto", *CHAT_SCORES):
        raise ArgumentError(f"score: expected auto, {', '.join(CHAT_SCORES)}, got {score!r}")
    return tuple(map(ChatScore, CHAT_SCORES if score == "auto" else (score,)))


def _with_notes(plan: TaskPlan, warnings: Sequence[str]) -> TaskPlan:
    return replace(plan, warnings=tuple(warnings))


def _notes(asked: Asked, max_cost: float | None) -> Iterator[str]:
    """Yield sentences about what was not asked, not answered, or cut off."""
    n = len(asked.local)
    if asked.exhausted:
        yield f"max_cost {max_cost:g} ended the questions: {asked.pairs} of {n} prompts have both replies"
    for side, replies in (("local", asked.local), ("remote", asked.remote)):
        if said := asked.failures[side]:
            yield f"the {side} endpoint gave no reply to {len(said)} prompts, which are left out, such as: {said[0]}"
        there = [one for one in replies if one is not None]
        if cut := sum(one.cut_off for one in there):
            yield f"{cut} of {len(there)} {side} replies end at the most tokens allowed, and are judged as they are"
        counted = [one for one in there if one.usage is not None and one.logprobs is not None]
        listed = sum(len(one.logprobs or ()) for one in counted)
        if listed < _MOST_LISTED * (tokens := sum(one.usage.completion for one in counted if one.usage)):
            yield f"the local endpoint lists log-probabilities of {listed} of {tokens} tokens; scores are about these"
        if len(names := {one.model for one in there}) > 1:
            yield f"the {side} endpoint called its model by several names: {', '.join(sorted(names)[:4])}"


def _document(
    prompts: Sequence[ChatPrompt],
    asked: Asked,
    planned: PlannedChat,
    judge: str,
    local: AskedEndpoint,
    remote: AskedEndpoint,
) -> ChatDocument:
    used = [prompts[at] for at in planned.rows]
    return ChatDocument(
        written_by=f"{KEY} {version(KEY)}",
        local=_side(local, [asked.local[at] for at in planned.rows]),
        remote=_side(remote, [asked.remote[at] for at in planned.rows]),
        judge=judge,
        score=planned.score,
        fields=local.fields,
        turns=tuple(sorted({one.roles for one in used})),
        calibration=planned.plan.calibration,
        remote_value=planned.plan.remote,
        policy=planned.plan.record,
        operating_curve=planned.plan.policy.curve,
        certificate=planned.plan.certificate,
        data_sha256=prompts_digest(used),
    )


def _side(endpoint: AskedEndpoint, replies: Sequence[ChatReply | None]) -> ChatSide:
    ((reported, _),) = Counter(one.model for one in replies if one is not None).most_common(1)
    return ChatSide(url=endpoint.url, model=endpoint.model, reported=reported, price=endpoint.price)
