"""Single inputs run through reused buffers and get the decisions of `session.run`, bit for bit."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edgecascade.runtime import InputError
from edgecascade.runtime.decisions import CLASSIFIER_OUTPUTS
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.local_model import Bound

FLOATS = st.floats(-50, 50, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])


@pytest.fixture
def both(file: Path) -> tuple[Bound, Any]:
    """Return a bound model and its session."""
    session = open_session(file)
    return Bound(session, session.get_inputs()[0], 3, {}), session


@given(rows=hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(3)), elements=FLOATS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_gives_the_decisions_of_session_run(both: tuple[Bound, Any], rows: NDArray[np.float32]) -> None:
    """Inputs include NaN and infinity, one after the other."""
    bound, session = both
    for row in rows:
        outputs = session.run(CLASSIFIER_OUTPUTS, {"z": row[None]})
        wanted = {name: output[0] for name, output in zip(CLASSIFIER_OUTPUTS, outputs, strict=True)}
        if np.isnan(wanted["confidence"]):
            wanted["advantage"] = np.nan  # whatever type the file declares
        prediction, advantage, forward = bound(row)
        got = {**prediction._asdict(), "advantage": advantage, "forward": forward}
        for name, want in wanted.items():
            np.testing.assert_array_equal(got[name], want)


def test_arrays_of_any_layout_are_accepted(both: tuple[Bound, Any]) -> None:
    """Cases are a column, a reversed array, and a read-only one."""
    bound, _ = both
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    locked = np.array([1, 2, 3], np.float32)
    locked.flags.writeable = False
    for row in (wide[:, 1], wide[::-1, 2], locked):
        np.testing.assert_array_equal(bound(row)[0].probabilities, bound(row.copy())[0].probabilities)


def test_an_answer_is_not_changed_by_the_next_one(both: tuple[Bound, Any]) -> None:
    """Buffers are reused, but returned arrays are not."""
    bound, _ = both
    first = bound(np.array([5, 0, 0], np.float32))[0].probabilities
    kept = first.copy()
    bound(np.array([0, 5, 0], np.float32))
    np.testing.assert_array_equal(first, kept)


def test_an_input_is_not_retained(both: tuple[Bound, Any]) -> None:
    """A change by the caller after the call has no effect."""
    bound, _ = both
    x = np.array([5, 0, 0], np.float32)
    before = bound(x)[0].label
    x[:] = 0, 5, 0
    assert (before, bound(x)[0].label) == (0, 1)


def test_overrides_are_bound_too(file: Path) -> None:
    """The caller's threshold is used."""
    session = open_session(file)
    for threshold, forwarded in ((-1.0, False), (1.0, True)):
        bound = Bound(session, session.get_inputs()[0], 3, {"threshold": np.array(threshold, np.float32)})
        assert bound(np.array([0, 0.5, 0], np.float32))[2] is forwarded


def test_images_of_any_size_are_accepted(pair: Path) -> None:
    """Small ones are copied and large ones bound directly, in any order."""
    session = open_session(pair / "local.onnx")
    bound = Bound(session, session.get_inputs()[0], 3, {})
    random = np.random.default_rng(0)
    for side in (8, 200, 8, 8, 300, 9):
        image = random.integers(0, 256, (side, side + 1, 3), np.uint8)
        wanted = session.run(CLASSIFIER_OUTPUTS, {"image": image[None]})
        np.testing.assert_array_equal(bound(image)[0].probabilities, wanted[4][0])


@pytest.mark.parametrize("x", [np.zeros(3, int), np.zeros(4, np.float32), np.zeros((1, 3), np.float32)])
def test_invalid_inputs_are_refused(both: tuple[Bound, Any], x: NDArray[Any]) -> None:
    """The next input is answered."""
    bound, _ = both
    bound(np.zeros(3, np.float32))
    with pytest.raises(InputError, match=r"^x: expected float32 \[3\] per input"):
        bound(x)
    assert bound(np.array([0, 0, 5], np.float32))[0].label == 2


def test_threads_do_not_see_each_others_inputs(file: Path) -> None:
    """Twenty run at once, more than the number of stored buffers."""
    session = open_session(file)
    bound = Bound(session, session.get_inputs()[0], 3, {})
    wrong: list[int] = []

    def ask(label: int) -> None:
        row = np.zeros(3, np.float32)
        row[label] = 5
        wrong.extend(label for _ in range(500) if bound(row)[0].label != label)

    threads = [threading.Thread(target=ask, args=(i % 3,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_predict_uses_the_bound_model(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does so for one array; without this test, a failure would be hidden by the fallback to the ordinary run."""
    from edgecascade.runtime import Cascade

    taken: list[Any] = []
    call: Callable[..., Any] = Bound.__call__

    def watched(self: Bound, x: NDArray[Any]) -> Any:
        decided = call(self, x)
        taken.append(decided)
        return decided

    monkeypatch.setattr(Bound, "__call__", watched)
    with Cascade.load(file, threshold=-1.0) as cascade:
        cascade.predict(np.array([5, 0, 0], np.float32))
    assert len(taken) == 1
