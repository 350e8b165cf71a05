"""A second remote tells whether the first is right about the inputs that the local model is unsure of."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.runtime import (
    ArgumentError,
    Deadline,
    Estimate,
    InProcess,
    RemoteLabels,
    RemoteUnreachable,
    SecondOpinion,
)
from edgecascade.types.errors import RemoteError

X = np.random.default_rng(0).random((20, 3), np.float32)


def honest(x: Any) -> NDArray[Any]:
    """Score the classes by the features."""
    return np.asarray(x)


def lying(x: Any) -> NDArray[Any]:
    """Answer wrong where the likeliest class is below 0.8."""
    return np.asarray(np.where(x.max(axis=1, keepdims=True) < 0.8, -x, x))


def asked(first: Callable[[Any], Any], second: Any, times: int = 1, **options: Any) -> SecondOpinion:
    """Ask about all inputs, and wait for the comparisons."""
    opinion = SecondOpinion(InProcess(first), second, **{"share": 1.0, **options})
    for _ in range(times):
        np.testing.assert_array_equal(opinion.infer(X, Deadline.after(5.0)), first(X))
        time.sleep(0.001)
    opinion.close()
    return opinion


def test_a_remote_that_lies_where_it_is_unsure_is_found() -> None:
    """The agreement is the share of inputs about which it does not lie, and the doubt is raised once."""
    doubts: list[Estimate] = []
    found = asked(lying, honest, times=10, least_agreement=0.9, on_doubt=doubts.append).agreement
    assert found.value == (X.max(axis=1) >= 0.8).mean()
    assert found.low < found.value < found.high < 0.9
    assert len(doubts) == 1
    assert doubts[0].high < 0.9


def test_equal_remotes_raise_no_doubt() -> None:
    """Both may give labels, or scores."""
    doubts: list[Estimate] = []
    second = InProcess(lambda x: RemoteLabels(x.argmax(axis=1), np.ones(len(x))))
    opinion = asked(honest, second, times=10, least_agreement=0.9, on_doubt=doubts.append)
    assert (opinion.agreement.value, opinion.agreement.n + opinion.failed, doubts) == (1.0, 200, [])


def test_the_classes_of_both_are_matched_by_name(caplog: pytest.LogCaptureFixture) -> None:
    """In another order they are the same; other names are no answer, and one score for two classes is none either."""
    first = InProcess(honest, ["red", "green", "blue"])
    for names, columns, agreed in (
        (["green", "blue", "red"], [1, 2, 0], 1.0),
        (["green", "blue", "red"], [0, 1, 2], 0.0),
        ([], [0, 1, 2], 1.0),
    ):
        opinion = SecondOpinion(first, InProcess(lambda x, columns=columns: x[:, columns], names), share=1.0)  # type: ignore[misc]
        opinion.infer(X, Deadline.after(5.0))
        opinion.close()
        assert (opinion.agreement.value, opinion.agreement.n) == (agreed, len(X))
    for second in (InProcess(honest, ["red", "green", "yellow"]), InProcess(lambda x: x[:, :1])):
        opinion = SecondOpinion(first, second, share=1.0)
        opinion.infer(X, Deadline.after(5.0))
        opinion.close()
        assert (opinion.agreement.n, opinion.failed) == (0, len(X))
    assert "the second remote gave no answer: InvalidReply" in caplog.text


def test_a_share_of_the_inputs_is_drawn() -> None:
    """The draws are independent: about a tenth of 2,000 inputs, each with its own answer."""
    seen: list[int] = []

    def second(x: Any) -> Any:
        seen.append(len(x))
        return honest(x)

    opinion = asked(honest, second, times=100, share=0.1, seed=0)
    assert 150 < sum(seen) < 250
    assert opinion.agreement.n == sum(seen)
    assert asked(honest, second, share=0.0).agreement.n == 0


def test_a_second_remote_that_hangs_or_fails_delays_no_answer() -> None:
    """Answers come from the first; what cannot wait any more is counted."""
    hang = threading.Event()
    opinion = SecondOpinion(InProcess(honest), lambda x: (hang.wait(5.0), x)[1], share=1.0)
    started = time.monotonic()
    for _ in range(50):
        opinion.infer(X, Deadline.after(5.0))
    assert time.monotonic() - started < 2.0
    assert opinion.failed >= 20 * (50 - 17)
    hang.set()
    opinion.close()

    def fail(_: Any) -> Any:
        raise RemoteError("no")

    assert asked(honest, fail).failed == len(X)


def test_failures_of_the_first_remote_pass_through() -> None:
    """A failed request is not compared."""

    def fail(_: Any) -> Any:
        raise RemoteUnreachable("gone")

    opinion = SecondOpinion(InProcess(fail), honest, share=1.0)
    with pytest.raises(RemoteUnreachable, match="gone"):
        opinion.infer(X, Deadline.after(1.0))
    opinion.close()
    assert opinion.agreement.n == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.5}, r"^share: .*got 1.5"),
        ({"least_agreement": -1}, r"^least_agreement: .*got -1"),
        ({"timeout": 0.0}, r"^timeout: .*got 0"),
        ({"second": None}, r"^second: .*got None"),
        ({"second": 3}, r"^second: .*got int"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """The error names the argument."""
    with pytest.raises(ArgumentError, match=message):
        SecondOpinion(InProcess(honest), options.pop("second", honest), **options)


def test_both_remotes_are_told_the_classes() -> None:
    """They bound what they read by them."""
    told: list[Any] = []

    class Telling(InProcess):
        def expect(self, labels: Any) -> None:
            told.append(labels)

    opinion = SecondOpinion(Telling(honest), Telling(honest))
    opinion.expect(("a", "b", "c"))
    opinion.close()
    assert told == [("a", "b", "c")] * 2
