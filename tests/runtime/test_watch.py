"""The watch: audits, estimates and alarms."""

import gc
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from documents import some_document
from edgecascade.runtime import ArgumentError, Cascade, Policy, Prediction
from edgecascade.runtime.watch.drift import Reference
from edgecascade.runtime.watch.watch import ALARMS, Alarm, Watch
from edgecascade.types.document import CascadeDocument
from edgecascade.types.policy import RemoteCalibration

VALUES = [float(value) for value in np.linspace(-0.5, 0.4, 10, dtype=np.float32)]
X = np.zeros((1, 2), np.float32)
NAN = float("nan")


def document() -> CascadeDocument:
    """Return a document with ten bins of sixty calibration inputs, of which the lowest three are forwarded."""
    return some_document(threshold=-0.25, edges=tuple(VALUES[1:]), values=tuple(VALUES), counts=(60,) * 10)


def watch(**options: Any) -> Watch:
    """Return a watch that has started, with the same draws each time."""
    made = Watch(**{"seed": 0, **options})
    made.begin(document())
    return made


def prediction(label: int, confidence: float) -> Prediction:
    """Return a prediction of one of three classes."""
    probabilities = np.full(3, (1 - confidence) / 2, np.float32)
    probabilities[label] = confidence
    return Prediction(label, confidence, probabilities)


def see(made: Watch, n: int, *, seed: int = 0, places: Iterable[int] = range(10)) -> None:
    """Count inputs spread evenly over bins."""
    for value in np.random.default_rng(seed).choice(np.array(VALUES)[list(places)], n).tolist():
        made.saw(value, value < -0.25)


def audit(made: Watch, n: int, *, agreeing: float, confidence: float = 0.9, remote: float = 0.9, seed: int = 0) -> None:
    """Count replies to audited inputs, of which this share agrees."""
    for agrees in (np.random.default_rng(seed).random(n) < agreeing).tolist():
        made.compared(X, prediction(0, confidence), prediction(0 if agrees else 1, remote), audited=True)


def forwarded(made: Watch, n: int, *, agreeing: float = 0.5) -> None:
    """Count replies to forwarded inputs."""
    for agrees in (np.random.default_rng(1).random(n) < agreeing).tolist():
        made.compared(X, prediction(0, 0.5), prediction(0 if agrees else 1, 0.9), audited=False)


def raised(made: Watch) -> dict[str, int]:
    """Return the number of times that each alarm was raised."""
    return {name: n for name, n in made.health().raised.items() if n}


def test_a_share_of_the_local_inputs_is_audited() -> None:
    """Forwarded inputs are not audited, since the remote answers them anyway."""
    made = watch(share=0.05)
    drawn = sum(made.saw(VALUES[9], False) for _ in range(20_000))
    assert 880 < drawn < 1120
    assert not any(made.saw(VALUES[0], True) for _ in range(20_000))
    health = made.health()
    assert (health.audited, health.inputs, health.forwarded) == (drawn, 40_000, 20_000)


@pytest.mark.parametrize(("share", "drawn"), [(0.0, 0), (1.0, 500)])
def test_audit_shares_of_0_and_1_are_exact(share: float, drawn: int) -> None:
    """No input, or every local one, is audited."""
    made = watch(share=share)
    assert sum(made.saw(VALUES[9], False) for _ in range(500)) == drawn


def test_counts_are_exact_from_many_threads() -> None:
    """Other threads read the health at the same time."""
    made = watch(share=0.1)
    drawn = SimpleQueue[int]()

    def work() -> None:
        drawn.put(sum(made.saw(VALUES[i % 10] if i % 50 else NAN, i % 5 == 0) for i in range(20_000)))
        forwarded(made, 200)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert made.health().inputs <= 120_000
    health = made.health()
    assert (health.inputs, health.forwarded, health.not_a_number) == (120_000, 24_000, 2400)
    assert health.audited == sum(drawn.get() for _ in threads)
    assert health.compared == 1200


def test_memory_does_not_grow() -> None:
    """A hundred thousand inputs and thousands of comparisons add only a few objects."""
    made = watch()
    see(made, 5000)
    gc.collect()
    before = len(gc.get_objects())
    see(made, 100_000)
    audit(made, 3000, agreeing=0.9)
    made.health()
    gc.collect()
    assert len(gc.get_objects()) - before < 200


def test_without_inputs_estimates_are_unknown() -> None:
    """Every estimate has n = 0 and the widest possible interval."""
    health = Watch().health()
    for name in ("agreement", "agreement_local", "agreement_forwarded", "offload_rate", "drift", "calibration_gap"):
        estimate = getattr(health, name)
        assert np.isnan(estimate.value)
        assert (estimate.low, estimate.high, estimate.n) == (-1 if name == "calibration_gap" else 0, 1, 0)
    assert (health.active, health.alarms, health.pairs) == (frozenset(), (), 0)
    assert health.raised == dict.fromkeys(ALARMS, 0)


def test_agreement_is_estimated_for_all_inputs() -> None:
    """Local and forwarded inputs are weighted by their shares, not by the number compared."""
    made = watch(share=0.01)
    see(made, 50_000)
    audit(made, 350, agreeing=0.95)
    forwarded(made, 15_000, agreeing=0.4)
    health = made.health()
    assert health.offload_rate.value == pytest.approx(0.3, abs=0.01)
    assert health.agreement.value == pytest.approx(0.7 * 0.95 + 0.3 * 0.4, abs=0.02)
    assert health.agreement.low < 0.785 < health.agreement.high
    assert health.agreement_local.n == 350
    assert health.agreement_forwarded.high < 0.5 < health.agreement_local.low


def test_the_gaps_are_those_of_local_inputs() -> None:
    """One uses the remote's label, the other its probability of the local label."""
    made = watch()
    audit(made, 4000, agreeing=0.9, confidence=0.95, remote=0.8)
    forwarded(made, 5000, agreeing=0.0)
    health = made.health()
    assert health.calibration_gap.value == pytest.approx(0.05, abs=0.015)
    assert health.judged_gap.value == pytest.approx(0.95 - (0.9 * 0.8 + 0.1 * 0.1), abs=0.015)
    assert health.calibration_gap.low < 0.05 < health.calibration_gap.high
    assert health.calibration_gap.n == 4000


def test_a_local_nan_never_agrees() -> None:
    """Its label has no meaning."""
    made = watch()
    broken = Prediction(0, NAN, np.full(3, NAN, np.float32))
    made.compared(X, broken, prediction(0, 0.9), audited=False)
    assert made.health().agreement_forwarded.value == 0


def test_inputs_like_the_calibration_data_raise_no_alarm() -> None:
    """Half a million inputs and two thousand audits are counted."""
    made = watch(least_agreement=0.85)
    for seed in range(10):
        see(made, 50_000, seed=seed)
        audit(made, 200, agreeing=0.92, seed=seed)
    assert made.health().alarms == ()
    assert made.health().drift.value < 0.1


def test_drift_is_raised_once_until_it_clears() -> None:
    """The alarm has the time, the distance and the number of inputs."""
    made = watch()
    see(made, 3000)
    see(made, 6000, places=range(5, 10))
    assert made.health().raised["drift"] == 1
    assert "drift" in made.health().active
    alarm = next(one for one in made.health().alarms if one.name == "drift")
    assert alarm.low < alarm.value < alarm.high
    assert alarm.n == 100
    assert "the last 100 inputs" in alarm.sentence
    assert abs(alarm.at - time.time()) < 60
    see(made, 3000)
    assert "drift" not in made.health().active
    see(made, 1000, places=range(5, 10))
    assert made.health().raised["drift"] == 2


def test_nan_advantages_are_counted_separately_and_are_drift() -> None:
    """A broken sensor would cause them."""
    made = watch()
    for i in range(1000):
        made.saw(NAN if i % 4 == 0 else VALUES[i % 10], i % 10 < 3)
    assert made.health().not_a_number == 250
    assert "drift" in made.health().active


def test_advantages_of_another_table_are_ignored() -> None:
    """They do not describe the inputs."""
    made = watch()
    for _ in range(3000):
        made.saw(0.123, False)
    assert made.health().unplaced == 3000
    assert made.health().drift.n == 0
    assert "drift" not in raised(made)


@pytest.mark.parametrize("places", [range(3, 10), range(5)])
def test_an_unplanned_offload_rate_is_raised(places: range) -> None:
    """Either no input is forwarded, or twice the planned 30 %."""
    made = watch()
    see(made, 1000, places=places)
    (alarm,) = (one for one in made.health().alarms if one.name == "offload rate")
    assert alarm.value == pytest.approx(0 if places[0] else 0.6, abs=0.05)
    assert "30.0% was planned" in alarm.sentence
    see(made, 2000)
    assert "offload rate" not in made.health().active


def test_the_planned_rate_is_that_of_the_current_policy() -> None:
    """The user's own threshold is not drift."""
    made = watch()
    policy = Policy(
        "replace",
        RemoteCalibration(1.0, False),
        threshold=0.2,
        temperature=1.0,
        edges=tuple(VALUES[1:]),
        values=tuple(VALUES),
    )
    made.begin(document(), policy)
    for value in np.random.default_rng(0).choice(VALUES, 5000).tolist():
        made.saw(value, value < 0.2)
    assert raised(made) == {}
    assert made.health().offload_rate.value > 0.5


def test_the_rate_on_the_calibration_data_equals_that_of_the_file(pair: Path) -> None:
    """The bins below the threshold have the offload rate of the chosen point."""
    with Cascade.load(pair / "local.onnx") as cascade:
        reference = Reference.of(cascade.document, cascade.policy)
        chosen = cascade.document.policy.chosen
        assert reference.n == chosen.n
        assert reference.forwarded / reference.n == pytest.approx(chosen.offload_rate)


def test_a_real_file_is_watched(pair: Path) -> None:
    """Its test images raise no alarm; the same images darkened are drift."""
    test = np.load(pair / "test.npz")["x"]
    with Cascade.load(pair / "local.onnx") as cascade:
        for images, expected in ((test, False), (test // 4, True)):
            made = Watch(window=400)
            made.begin(cascade.document, cascade.policy)
            for answer in cascade.predict_batch(images):
                made.saw(answer.advantage, answer.forwarded)
            health = made.health()
            assert (health.inputs, health.unplaced, health.not_a_number) == (400, 0, 0)
            assert ("drift" in health.active) is expected


def test_agreement_below_the_floor_is_raised_and_clears() -> None:
    """This applies to local inputs if the caller gave a floor; it clears once enough inputs agree."""
    made = watch(least_agreement=0.9)
    see(made, 1000)
    audit(made, 300, agreeing=0.75, confidence=0.75)
    assert raised(made) == {"agreement": 1}
    (alarm,) = made.health().alarms
    assert alarm.high < 0.9
    assert "on the device" in alarm.sentence
    audit(made, 1500, agreeing=1.0)
    assert "agreement" not in made.health().active


def test_without_a_floor_agreement_is_bounded_by_the_accuracies() -> None:
    """Two models at least 85 % right agree on at least 70 % of all inputs."""
    made = watch()
    see(made, 1000)
    forwarded(made, 2000, agreeing=0.6)
    audit(made, 500, agreeing=0.9)
    assert raised(made) == {}
    audit(made, 3000, agreeing=0.3, confidence=0.3)
    assert raised(made) == {"agreement": 1}
    assert "at least 70.0%" in made.health().alarms[0].sentence


def test_a_change_is_detected_after_many_good_inputs() -> None:
    """Estimates forget, so a million good inputs do not hide later bad ones."""
    made = watch(memory=20_000, least_agreement=0.9)
    for _ in range(5):
        see(made, 20_000)
        audit(made, 2000, agreeing=0.99)
    assert raised(made) == {}
    see(made, 20_000)
    audit(made, 1000, agreeing=0.7, confidence=0.7)
    assert raised(made) == {"agreement": 1}


def test_overconfidence_is_raised() -> None:
    """The local confidence is 95 %, and the equally confident remote agrees with 80 %."""
    made = watch()
    audit(made, 1500, agreeing=0.8, confidence=0.95, remote=0.95)
    assert raised(made) == {"calibration": 1}
    (alarm,) = made.health().alarms
    assert alarm.low > 0.05


def test_an_uncertain_remote_is_not_reported_as_overconfidence() -> None:
    """Its labels often differ, but it gives the local label a high probability."""
    made = watch()
    local, remote = prediction(0, 0.54), Prediction(1, 0.505, np.array([0.495, 0.505, 0.0], np.float32))
    for _ in range(2000):
        made.compared(X, local, remote, audited=True)
    assert made.health().calibration_gap.low > 0.5
    assert "calibration" not in raised(made)


def test_labels_of_least_expected_cost_are_not_reported_as_underconfidence() -> None:
    """Both models answer a class of probability .2 whose errors cost most, and it is right as often."""
    made = watch()
    row = np.array([0.8, 0.2, 0.0], np.float32)
    for likely in (True, False, False, False, False):
        remote = row[[1, 0, 2]] if likely else row
        for _ in range(400):
            made.compared(X, Prediction(1, 0.2, row), Prediction(1, float(remote[1]), remote), audited=True)
    health = made.health()
    assert health.agreement_local.value == 1.0
    assert health.calibration_gap.low < 0.0 < health.calibration_gap.high
    assert "calibration" not in raised(made)


def test_alarms_are_reported_in_order_and_outside_every_lock() -> None:
    """A callback may read the health, and one that hangs delays no caller."""
    told, hang, release = SimpleQueue[tuple[str, int]](), threading.Event(), threading.Event()

    def on_alarm(alarm: Alarm) -> None:
        told.put((alarm.name, made.health().raised[alarm.name]))
        hang.set()
        release.wait(30)

    made = watch(on_alarm=on_alarm, least_agreement=0.9)
    audit(made, 300, agreeing=0.5, confidence=0.5)
    assert hang.wait(30)
    see(made, 2000, places=range(5, 10))
    assert made.health().inputs == 2000
    assert {"drift", "offload rate"} <= made.health().active
    release.set()
    assert [told.get(timeout=30)[0] for _ in range(3)] == [alarm.name for alarm in made.health().alarms]


def test_a_callback_that_raises_is_logged_and_called_again(caplog: pytest.LogCaptureFixture) -> None:
    """Its exceptions do not end the reporting."""
    told = SimpleQueue[str]()

    def on_alarm(alarm: Alarm) -> None:
        told.put(alarm.name)
        raise RuntimeError("no such pager")

    made = watch(on_alarm=on_alarm)
    see(made, 2000, places=range(5, 10))
    assert {told.get(timeout=30), told.get(timeout=30)} == {"drift", "offload rate"}
    until = time.monotonic() + 30
    while caplog.text.count("no such pager") < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert "on_alarm failed" in caplog.text


def test_only_the_last_alarms_are_stored() -> None:
    """The last hundred are stored, and all are counted."""
    made = watch(window=300, memory=600)
    for _ in range(120):
        see(made, 300, places=[9])
        see(made, 300)
        see(made, 300)
    health = made.health()
    assert health.raised["drift"] > 100
    assert len(health.alarms) == 100


def test_a_restart_resets_the_estimates() -> None:
    """Another policy forwards other inputs; counts continue."""
    made = watch(least_agreement=0.9)
    see(made, 1050, places=range(5, 10))
    audit(made, 300, agreeing=0.5)
    assert made.health().active
    made.begin(document())
    health = made.health()
    assert (health.inputs, health.compared, health.active) == (1050, 300, frozenset())
    assert (health.agreement_local.n, health.drift.n, health.offload_rate.n) == (0, 0, 0)
    assert health.raised["agreement"] == 1


def test_a_file_without_a_table_is_watched_as_far_as_possible() -> None:
    """There are counts and comparisons but no drift."""
    made = Watch(share=0.5)
    made.begin(some_document(edges=None, values=None))
    see(made, 3000)
    audit(made, 100, agreeing=0.9)
    assert made.health().inputs == 3000
    assert "drift" not in raised(made)


def test_pairs_are_a_uniform_sample_of_all_inputs(tmp_path: Path) -> None:
    """All audited inputs and the same share of the forwarded ones are recorded, so 30 % of the pairs were forwarded."""
    made = watch(share=0.2, record=tmp_path)
    for value in np.random.default_rng(0).choice(VALUES, 5000).tolist():
        forward = value < -0.25
        if made.saw(value, forward) or forward:
            made.compared(X, prediction(0, 0.9), prediction(1, 0.9), audited=not forward)
    made.close()
    audited = np.load(tmp_path / "pairs.npz")["audited"]
    assert len(audited) == made.health().pairs == pytest.approx(1000, abs=120)
    assert audited.mean() == pytest.approx(0.7, abs=0.05)


def test_without_a_folder_nothing_is_recorded() -> None:
    """Nothing is saved."""
    made = watch(share=1.0)
    audit(made, 10, agreeing=1.0)
    assert made.save() is None
    made.close()
    assert made.health().pairs == 0


def test_closing_twice_and_continuing_is_allowed(tmp_path: Path) -> None:
    """A reply may still arrive afterwards."""
    made = watch(share=1.0, record=tmp_path)
    audit(made, 1, agreeing=1.0)
    made.close()
    audit(made, 1, agreeing=1.0)
    made.close()
    assert len(np.load(tmp_path / "pairs.npz")["y"]) == 2


def test_a_full_disk_at_the_end_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing does not raise."""
    made = watch(share=1.0, record=tmp_path)
    audit(made, 1, agreeing=1.0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    made.close()
    assert "No space left" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": -0.1}, "share: expected a number from 0 to 1, got -0.1"),
        ({"share": NAN}, "share: expected a number from 0 to 1, got nan"),
        ({"least_agreement": 90}, "least_agreement: expected a number from 0 to 1, got 90"),
        ({"tolerance": 2}, "tolerance: expected a number from 0 to 1, got 2"),
        ({"risk": 0}, "risk: expected .* between 0 and 1, got 0"),
        ({"window": 95}, "window: expected a multiple of 10, 100 or more, got 95"),
        ({"window": 1005}, "window: expected a multiple of 10, 100 or more, got 1005"),
        ({"memory": 1500}, r"memory: expected two windows \(2000\) or more, got 1500"),
    ],
)
def test_an_invalid_argument_is_refused(options: dict[str, Any], message: str) -> None:
    """The error names it."""
    with pytest.raises(ArgumentError, match=message):
        Watch(**options)
