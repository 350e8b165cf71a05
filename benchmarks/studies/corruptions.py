"""The flagship's policy on images as a worse camera would take them, when nothing on the device changes.

The corruptions are those of ImageNet-C (Hendrycks and Dietterich, ICLR 2019). Their parameters are meant for images of
about 224 pixels, so smaller images are enlarged first.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import cache_folder, once
from edgecascade.benchmarks.offload.curves import offload_curve
from edgecascade.benchmarks.pairs.flagship import LITE0_96, LITE2_260, OFFLOAD_RATE, Protocol, body, split
from edgecascade.benchmarks.pairs.prepared import cores, saved_scores
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.report import HIGHER, LOWER, STYLE, svg_of, write_study
from edgecascade.calibration import (
    SCORES,
    AdvantageTable,
    CalibrationError,
    Estimate,
    MostAccuracy,
    Outcomes,
    Pair,
    calibration_error,
    choose_routing,
    plan,
    proportion,
)
from edgecascade.export.scores import remote_scores
from edgecascade.types.errors import BenchmarkError
from studies.outputs import PairOutputs

__all__ = [
    "CORRUPTIONS",
    "Corruptions",
    "Deployed",
    "Shifted",
    "corrupted",
    "deploy",
    "main",
    "measure_corruptions",
    "measure_shift",
    "run_corruptions",
    "shift_svg",
    "summarize",
]

CORRUPTIONS = ("gaussian_noise", "defocus_blur", "contrast", "jpeg_compression", "brightness")
_SIDE = 224
_LABELLED = 500
_FEWEST, _MOST = 1000, 4000  # test images of each kind


@dataclass(frozen=True)
class Deployed:
    """A policy as it is on the device: nothing in it changes with the inputs.

    Attributes:
        rate: The offload rate planned for.
        score: The routing score.
        merge: The merge rule.
        table: The advantage table.
        threshold: Inputs with an advantage below it are forwarded.
        local_temperature: T of the local model.
        remote_temperature: T of the remote.
    """

    rate: float
    score: str
    merge: str
    table: AdvantageTable
    threshold: float
    local_temperature: float
    remote_temperature: float

    def outcomes(self, outputs: PairOutputs) -> Outcomes:
        """Return the outcomes of both models on other inputs, at the temperatures of this policy."""
        pair = Pair(outputs.local, self.local_temperature, outputs.remote, self.remote_temperature, outputs.labels)
        return pair.outcomes(self.score, self.merge)

    def forward(self, outcomes: Outcomes) -> NDArray[np.bool_]:
        """Return which inputs it forwards, bool [n]."""
        return self.table(outcomes.score) < np.float32(self.threshold)


@dataclass(frozen=True)
class Shifted:
    """The policy on inputs of one kind; every estimate is from inputs that adapted nothing.

    Attributes:
        corruption: What was done to the images.
        severity: 0 (nothing) to 5.
        local: The accuracy of the local model alone.
        remote: The accuracy of the remote alone.
        ece: The calibration error of the local model at the deployed temperature.
        offload: The share that the deployed threshold forwards.
        cascade: The accuracy with the deployed threshold.
        random: The expected accuracy of forwarding as many at random.
        at_planned_rate: The accuracy when the inputs with the lowest scores are forwarded, at the planned rate.
        labelled: Inputs of this kind with labels that refit the temperatures and plan again. Where that fails, as it
            does for a model no better than chance, the new plan is never to ask.
        temperature: T of the local model, refitted.
        refitted_ece: The calibration error at that temperature.
        replanned_offload: The share that the new plan forwards.
        replanned: The accuracy of the new plan for the same rate.
    """

    corruption: str
    severity: int
    local: Estimate = field(metadata=HIGHER)
    remote: Estimate = field(metadata=HIGHER)
    ece: Estimate = field(metadata=LOWER)
    offload: Estimate
    cascade: Estimate = field(metadata=HIGHER)
    random: float
    at_planned_rate: Estimate = field(metadata=HIGHER)
    labelled: int
    temperature: float
    refitted_ece: Estimate = field(metadata=LOWER)
    replanned_offload: Estimate
    replanned: Estimate = field(metadata=HIGHER)


@dataclass(frozen=True)
class Corruptions:
    """The whole measurement.

    Attributes:
        rate: The offload rate planned for, on images as they are.
        calibration: The number of those images that planned.
        labelled: Inputs of each kind that plan again.
        test: Inputs of each kind behind each figure.
        clean: The same images, enlarged and not corrupted.
        shifted: By corruption, by rising severity.
    """

    rate: float
    calibration: int
    labelled: int
    test: int
    clean: Shifted
    shifted: dict[str, list[Shifted]]


def corrupted(
    images: NDArray[np.uint8], corruption: str, severity: int, *, seed: int = 0
) -> Iterator[NDArray[np.uint8]]:
    """Yield each of the RGB images [n, h, w, 3], enlarged to 224 x 224 and corrupted.

    Args:
        images: uint8.
        corruption: One of `CORRUPTIONS`, or another name of ImageNet-C.
        severity: 1 to 5; 0 only enlarges.
        seed: The seed of numpy's legacy generator, which the library uses.
    """
    from PIL import Image

    try:
        from imagecorruptions import corrupt
    except ImportError as error:
        raise BenchmarkError("imagecorruptions is not installed: pip install imagecorruptions-imaug==1.1.5") from error
    np.random.seed(seed)
    for image in images:
        large = np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
        yield corrupt(large, corruption_name=corruption, severity=severity) if severity else large


def run_corruptions(cache: Path, images: int) -> Corruptions:
    """Corrupt the flagship's first test images, ask both models, and measure; finished kinds are in the cache."""
    protocol = Protocol()
    work = cache / protocol.folder
    head, calibration, test = split(protocol, cache)
    local, remote = (body(variant, head, cache, work) for variant in (LITE0_96, LITE2_260))
    planning = PairOutputs(
        "calibration",
        saved_scores(local, calibration, work / "lite0-96-calibration.npy"),
        saved_scores(remote, calibration, work / "remote-calibration.npy"),
        calibration.labels,
    )
    pixels = np.asarray(test.inputs)[:images]

    def outputs(corruption: str, severity: int) -> PairOutputs:
        what = f"{corruption} {severity}" if severity else "enlarged only"

        def ask(part: Path) -> None:
            large = np.stack(list(corrupted(pixels, corruption, severity)))
            with counting(what, 2 * images) as done, part.open("wb") as file:
                answers = [
                    remote_scores(str(model), large, threads=cores(), progress=done) for model in (local, remote)
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
    rate: float = OFFLOAD_RATE,
    labelled: int = _LABELLED,
) -> Corruptions:
    """Plan once, then measure what every corruption does to the plan.

    Args:
        planning: Inputs as before deployment.
        clean: The test inputs, not corrupted.
        kinds: The same inputs corrupted, by name, by severity from 1.
        rate: The offload rate planned for.
        labelled: Inputs of each kind that plan again.
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


def deploy(outputs: PairOutputs, rate: float, *, scores: tuple[str, ...] = SCORES) -> Deployed:
    """Plan on all of these inputs for an offload rate."""
    pair = outputs.fitted(np.arange(len(outputs)))
    objective = MostAccuracy(rate)
    routing = choose_routing(pair.outcomes, objective, scores=scores)[0]
    policy = plan(pair.outcomes(routing.score, routing.merge), objective, estimate=routing.estimate or "auto")
    return Deployed(
        rate,
        routing.score,
        routing.merge,
        policy.table,
        policy.threshold,
        pair.local_temperature,
        pair.remote_temperature,
    )


def measure_shift(
    deployed: Deployed, outputs: PairOutputs, corruption: str, severity: int, *, labelled: int, seed: int = 0
) -> Shifted:
    """Measure the deployed policy on these inputs, and one planned again on `labelled` of them; all others test."""
    order = np.random.default_rng(seed).permutation(len(outputs))
    adapt, test = outputs[order[:labelled]], outputs[order[labelled:]]
    seen, n = deployed.outcomes(test), len(test)
    forward = deployed.forward(seen)
    share = float(forward.mean())
    try:
        again = deploy(adapt, deployed.rate, scores=(deployed.score,))
    except CalibrationError:
        again = replace(deployed, threshold=-np.inf)
    seen_again = again.outcomes(test)
    forward_again = again.forward(seen_again)

    def accuracy(outcomes: Outcomes, sent: NDArray[np.bool_]) -> Estimate:
        return proportion(float(np.where(sent, outcomes.merged_correct, outcomes.local_correct).mean()), n)

    return Shifted(
        corruption=corruption,
        severity=severity,
        local=proportion(float(seen.local_correct.mean()), n),
        remote=proportion(float(seen.remote_correct.mean()), n),
        ece=calibration_error(seen.local_confidence, seen.local_correct),
        offload=proportion(share, n),
        cascade=accuracy(seen, forward),
        random=float((1 - share) * seen.local_correct.mean() + share * seen.merged_correct.mean()),
        at_planned_rate=proportion(
            offload_curve(seen.score, seen.local_correct, seen.merged_correct).at(deployed.rate), n
        ),
        labelled=labelled,
        temperature=again.local_temperature,
        refitted_ece=calibration_error(seen_again.local_confidence, seen_again.local_correct),
        replanned_offload=proportion(float(forward_again.mean()), n),
        replanned=accuracy(seen_again, forward_again),
    )


def summarize(found: Corruptions) -> str:
    """Return the table as plain text."""
    return "\n".join(line.rstrip() for line in _lines(found))


def _lines(found: Corruptions) -> Iterator[str]:
    shifted = [one for by_severity in found.shifted.values() for one in by_severity]
    yield (
        f"planned for {found.rate:.0%} offload on {found.calibration} clean images; each row is {found.test} images of "
        f"one kind; {found.labelled} others of that kind, with labels, plan again"
    )
    yield "accuracy, offload rate and calibration error (ECE) in %, each with its 95 % interval"
    yield ""
    yield f"{'':<19}{'alone':<43}{'threshold as planned':<62}{'same offload':<22}planned again for the same offload"
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
            row.at_planned_rate,
            row.replanned_offload,
            row.replanned,
            row.refitted_ece,
        )
        name = f"{row.corruption} {row.severity}".replace("_compression", "").replace("nothing 0", "clean")
        yield f"{name:<19}" + "".join(f"{_cell(cell):<{width}}" for cell, width in zip(cells, widths, strict=True))


def _cell(found: Estimate) -> str:
    return f"{100 * found.value:4.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


_PANELS = {
    "local": "accuracy of the local model, %",
    "cascade": "accuracy at the planned threshold, %",
    "offload": "offload rate at the planned threshold, %",
    "ece": "ECE at the planned temperature, points",
}


def shift_svg(clean: Shifted, shifted: Mapping[str, Sequence[Shifted]]) -> str:
    """Draw accuracy, offload rate and calibration error by severity, a line with intervals for each corruption."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 6.2))
        panels = figure.subplots(2, 2, sharex=True).flat
        for axes, (name, title) in zip(panels, _PANELS.items(), strict=True):
            marks = zip("os^vD", shifted.items(), strict=False)
            for offset, (mark, (corruption, by_severity)) in enumerate(marks):
                found = [getattr(one, name) for one in (clean, *by_severity)]
                values = np.array([[one.value, one.value - one.low, one.high - one.value] for one in found]) * 100
                axes.errorbar(
                    np.arange(len(found)) + 0.06 * (offset - len(shifted) / 2),
                    values[:, 0],
                    yerr=values[:, 1:].T,
                    fmt=f"{mark}-",
                    markersize=3.5,
                    linewidth=1,
                    elinewidth=0.8,
                    label=corruption.replace("_", " "),
                )
            axes.set_title(title, fontsize=10)
            axes.grid(alpha=0.25)
            axes.set_ylim(bottom=0)
        for axes in figure.axes[2:]:
            axes.set_xlabel("severity")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        return svg_of(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the result with its picture."""
    parser = ArgumentParser(prog="python -m studies.corruptions", description=__doc__)
    parser.add_argument(
        "--images",
        type=_images,
        default=2000,
        metavar="N",
        help=f"Test images of each kind, from {_FEWEST} to {_MOST} (default: 2000).",
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    found = run_corruptions(cache_folder(), asked.images)
    command, pictures = f"python -m studies.corruptions --images {asked.images}", shift_svg(found.clean, found.shifted)
    write_study(
        asked.out, "corruptions", found, command=command, summary=summarize(found), pictures={"shift": pictures}
    )
    print(summarize(found))
    return 0


def _images(text: str) -> int:
    if text.isdecimal() and _FEWEST <= int(text) <= _MOST:
        return int(text)
    raise ArgumentTypeError(f"expected a number from {_FEWEST} to {_MOST}, got {text!r}")


if __name__ == "__main__":
    raise SystemExit(main())
