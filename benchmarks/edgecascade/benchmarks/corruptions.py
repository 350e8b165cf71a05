"""`edgecascade bench corruptions`: the flagship's policy on images as a worse camera would give them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecascade.benchmarks.cache import once
from edgecascade.benchmarks.corrupt import CORRUPTIONS, corrupted
from edgecascade.benchmarks.efficientnet_lite import LITE0_96, LITE2_260
from edgecascade.benchmarks.flagship import BUDGET, Protocol, body, scores, split
from edgecascade.benchmarks.pairs import PairOutputs
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.shift import Shifted, deploy, measure_shift
from edgecascade.calibration import Estimate
from edgecascade.export.scores import remote_scores

__all__ = ["Corruptions", "measure_corruptions", "run_corruptions", "summarize"]

_LABELLED = 500


@dataclass(frozen=True)
class Corruptions:
    """The whole measurement.

    Attributes:
        rate: offload rate planned for, on images as they are.
        calibration: of those, how many planned.
        labelled: inputs of each kind that plan anew.
        test: inputs of each kind behind each figure.
        clean: the same images, enlarged and not corrupted.
        shifted: by corruption, by rising severity.
    """

    rate: float
    calibration: int
    labelled: int
    test: int
    clean: Shifted
    shifted: dict[str, list[Shifted]]


def run_corruptions(cache: Path, images: int) -> Corruptions:
    """Corrupt the flagship's first test images, ask both models, and measure; what was done once is kept."""
    protocol = Protocol()
    work = cache / protocol.folder
    head, calibration, test = split(protocol, cache)
    local, remote = (body(variant, head, cache, work) for variant in (LITE0_96, LITE2_260))
    planning = PairOutputs(
        "calibration",
        np.load(scores(local, calibration, work / "lite0-96-calibration.npy")),
        np.load(scores(remote, calibration, work / "remote-calibration.npy")),
        calibration.labels,
    )
    pixels = np.asarray(test.inputs)[:images]

    def outputs(corruption: str, severity: int) -> PairOutputs:
        what = f"{corruption} {severity}" if severity else "enlarged only"

        def ask(part: Path) -> None:
            large = np.stack(list(corrupted(pixels, corruption, severity)))
            with counting(what, 2 * images) as done, part.open("wb") as file:
                answers = [
                    remote_scores(str(model), large, threads=os.cpu_count() or 1, progress=done)
                    for model in (local, remote)
                ]
                np.savez(file, allow_pickle=False, local=answers[0], remote=answers[1])

        with np.load(once(work / f"corrupted-{images}" / f"{what.replace(' ', '-')}.npz", ask)) as saved:
            return PairOutputs(what, saved["local"], saved["remote"], test.labels[:images])

    clean = outputs("nothing", 0)
    kinds = {name: [outputs(name, severity) for severity in range(1, 6)] for name in CORRUPTIONS}
    return measure_corruptions(planning, clean, kinds)


def measure_corruptions(
    planning: PairOutputs,
    clean: PairOutputs,
    kinds: Mapping[str, Sequence[PairOutputs]],
    *,
    rate: float = BUDGET,
    labelled: int = _LABELLED,
) -> Corruptions:
    """Plan once, then look at what every corruption does to the plan.

    Args:
        planning: inputs as they were before deployment.
        clean: the test inputs, uncorrupted.
        kinds: the same inputs corrupted, by name, by severity from 1.
        rate: offload rate planned for.
        labelled: of each kind, inputs that plan anew.
    """
    deployed = deploy(planning, rate)

    def measured(outputs: PairOutputs, corruption: str, severity: int) -> Shifted:
        return measure_shift(deployed, outputs, corruption, severity, labelled=labelled)

    return Corruptions(
        rate=rate,
        calibration=len(planning),
        labelled=labelled,
        test=len(clean) - labelled,
        clean=measured(clean, "nothing", 0),
        shifted={
            name: [measured(one, name, severity) for severity, one in enumerate(by_severity, 1)]
            for name, by_severity in kinds.items()
        },
    )


def summarize(found: Corruptions) -> str:
    """The table, and what follows from it, as plain text."""
    return "\n".join(line.rstrip() for line in _lines(found))


def _lines(found: Corruptions) -> Iterator[str]:
    shifted = [one for by_severity in found.shifted.values() for one in by_severity]
    yield (
        f"planned for {found.rate:.0%} offload on {found.calibration} clean images; each row is {found.test} images of "
        f"one kind; {found.labelled} others of that kind, with labels, plan anew"
    )
    yield "accuracy, offload rate and calibration error (ECE) in %, each with its 95 % interval"
    yield ""
    yield f"{'':<19}{'alone':<43}{'threshold as planned':<62}{'same offload':<22}planned anew for the same offload"
    columns = ("local", "remote", "offload", "accuracy", "ECE", "as planned", "offload", "accuracy", "ECE")
    widths = (21, 22, 21, 21, 20, 22, 21, 21, 20)
    yield "images             " + "".join(f"{name:<{width}}" for name, width in zip(columns, widths, strict=True))
    for row in (found.clean, *shifted):
        cells = (
            row.local,
            row.remote,
            row.offload,
            row.cascade,
            row.ece,
            row.budgeted,
            row.replanned_offload,
            row.replanned,
            row.refitted_ece,
        )
        name = f"{row.corruption} {row.severity}".replace("_compression", "").replace("nothing 0", "clean")
        yield f"{name:<19}" + "".join(f"{_cell(cell):<{width}}" for cell, width in zip(cells, widths, strict=True))
    yield ""
    yield from _sentences(found, shifted)


def _cell(found: Estimate) -> str:
    return f"{100 * found.value:4.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _sentences(found: Corruptions, shifted: Sequence[Shifted]) -> Iterator[str]:
    many = len(shifted)
    more = [one for one in shifted if one.offload.low > found.clean.offload.high]
    rates = sorted(one.offload.value for one in shifted)
    yield (
        f"The threshold as planned sends more than on clean images on {len(more)} of {many} kinds, {rates[0]:.0%} to "
        f"{rates[-1]:.0%}: the offload rate is an alarm, and no budget."
    )
    costs = sorted(one.cascade.value - one.budgeted.value for one in shifted)
    yield (
        f"Sending only the planned {found.rate:.0%}, those placed worst among the new ones, changes accuracy by "
        f"{-100 * costs[-1]:+.1f} to {-100 * costs[0]:+.1f} points against that."
    )
    blind = [one for one in shifted if one.remote.high < one.local.low]
    yield f"The remote is worse than the local model on {len(blind)} of {many} kinds" + (
        f" ({', '.join(f'{one.corruption} {one.severity}' for one in blind)}): there the threshold as planned is "
        f"{_span([one.cascade.value - one.local.value for one in blind])} points from never asking, and the plan made "
        f"anew {_span([one.replanned.value - one.local.value for one in blind])}."
        if blind
        else "."
    )
    before, after = ([getattr(one, name).value for one in shifted] for name in ("ece", "refitted_ece"))
    yield (
        f"The calibration error is {_span(before, sign='')} points, and after a new temperature from {found.labelled} "
        f"labelled inputs {_span(after, sign='')}; clean, {100 * found.clean.ece.value:.1f}."
    )
    others = [one for one in shifted if one not in blind]
    if others:
        yield (
            "Where the remote is not worse, planning anew is "
            f"{_span([one.replanned.value - one.budgeted.value for one in others])} points from the old order at the "
            "planned rate."
        )


def _span(values: Sequence[float], sign: str = "+") -> str:
    return f"{100 * min(values):{sign}.1f} to {100 * max(values):{sign}.1f}"
