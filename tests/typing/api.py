"""A user's program, which is checked and never run: what mypy knows of the public API from the installed wheel.

An error that must be reported has a `type: ignore` with its code; mypy in strict mode reports one that is not needed.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

from edgecascade import Cascade as ByShortName
from edgecascade.calibration import (
    CascadePlan,
    Certificate,
    CertifiedLoss,
    MostAccuracy,
    Outcomes,
    Plan,
    advantage_table,
    fit_temperature,
    plan_cascade,
    plan_certified,
)
from edgecascade.chat import ChatAnswer, ChatCascade
from edgecascade.export import Calibrated, LabelledData, calibrate, export_torch
from edgecascade.runtime import (
    Answer,
    Budget,
    Cascade,
    CircuitBreaker,
    Columns,
    Deadline,
    EdgecascadeError,
    LateAnswer,
    OpenInference,
    Outbox,
    Policy,
    Prediction,
    Rate,
    Reason,
    Retrying,
    Source,
    Watch,
    prometheus_text,
)

image: NDArray[np.uint8] = np.zeros((8, 8, 3), np.uint8)


class Mine:
    """A remote of the user's own."""

    def infer(self, inputs: Any, deadline: Deadline) -> NDArray[np.float32]:
        """Return scores."""
        return np.zeros((len(inputs), 3 if deadline.remaining() else 0), np.float32)

    def close(self) -> None:
        """Do nothing."""


def on_late(late: LateAnswer) -> None:
    """Take a late answer."""
    assert_type(late.key, str)
    assert_type(late.answer, Answer)


def use(remote: str | OpenInference | Mine) -> None:
    """Answer in every way."""
    budget = Budget(forwards=Rate.per_minute(100), bytes=Rate.per_day(50e6))
    with Cascade.load(
        "local.onnx",
        remote=remote,
        deadline=0.15,
        budget=budget,
        egress=lambda x: bool(x.mean() > 10),
        outbox=Outbox("unsent.db"),
        on_late=on_late,
        watch=Watch(share=0.01),
        providers=("cuda", "cpu"),
    ) as cascade:
        answer = cascade.predict(image, key="frame 1")
        assert_type(answer, Answer)
        assert_type(answer.name, str)
        assert_type(answer.confidence, float)
        assert_type(answer.reason, Reason)
        assert_type(answer.source, Source)
        assert_type(answer.local, Prediction)
        assert_type(answer.remote, Prediction | None)
        assert_type(cascade.predict_batch([image, image], deadline=None), list[Answer])
        assert_type([*cascade.stream(iter([image]))], list[Answer])
        assert_type(cascade.predict_columns(image[None]), Columns)
        assert_type(cascade.policy, Policy)
        assert_type(cascade.swap(cascade.policy), Policy)
        assert_type(cascade.labels, tuple[str, ...])
        assert_type(prometheus_text(cascade.metrics()), str)
        cascade.reload()
        cascade.predict()  # type: ignore[call-arg]
        cascade.predict(image, "frame 1")  # type: ignore[call-arg]
        answer.label = 3  # type: ignore[misc]
    Cascade.load("local.onnx", deadline="soon")  # type: ignore[arg-type]
    Cascade.load("local.onnx", remote=3)  # type: ignore[arg-type]
    assert_type(ByShortName.load("local.onnx"), Cascade)


async def serve(cascade: Cascade) -> Answer:
    """Answer in an event loop."""
    return await cascade.predict_async(image)


def wrapped() -> CircuitBreaker:
    """Return a remote as an address is wrapped."""
    return CircuitBreaker(Retrying(OpenInference("https://models.example/v2/models/large", compress=True)))


def planned(local: NDArray[np.float32], remote: NDArray[np.float32], labels: NDArray[np.int64]) -> CascadePlan:
    """Plan from the scores of both models."""
    plan = plan_cascade(local, remote, labels, MostAccuracy(offload_rate=0.3))
    print(plan.rule.threshold, fit_temperature(local, labels))
    plan_cascade(local, remote, labels)  # type: ignore[call-arg]
    return plan


def certified(planning: Outcomes, testing: Outcomes) -> tuple[Plan, Certificate] | None:
    """Plan with a guarantee."""
    try:
        return plan_certified(planning, testing, CertifiedLoss(loss=0.01, risk=0.05))
    except EdgecascadeError as error:
        print(error)
        return None


def written(data: LabelledData, scores: NDArray[np.float32]) -> Calibrated:
    """Make a file."""
    return calibrate("body.onnx", "local.onnx", data, scores, scores, objective=MostAccuracy(0.3))


async def chatted(cascade: ChatCascade, messages: Sequence[Mapping[str, Any]]) -> ChatAnswer:
    """Ask two endpoints as one."""
    return await cascade.complete_async(messages, temperature=0)


if __name__ == "__main__":
    print(advantage_table, export_torch, asyncio.run(serve(Cascade.load("local.onnx"))))
