"""What wrong calibration labels do to the temperature, and how much of it allowing for them undoes.

Labels of the built-in pairs are changed on purpose, at random or to the class that the model confuses most with the
true one. A temperature fitted to them is judged on the labels as they are, of all other inputs.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import cache_folder
from edgecascade.benchmarks.report import write_study
from edgecascade.calibration import LabelNoise, expected_calibration_error, fit_temperature_and_noise, softmax
from studies.outputs import fashion_pair, flagship_pairs, language_pair

__all__ = ["Damage", "main", "measure", "summarize"]

_KINDS = ("none", "random", "pairs")
_FIT = 1000  # inputs
_DRAWS = 20


@dataclass(frozen=True)
class Damage:
    """One model under one kind of wrong labels; means over the draws.

    Attributes:
        model: the name in tables.
        kind: `none`; `random`: another class at random; or `pairs`: the class most often answered for the true one.
        share: of labels that were changed.
        usual: ECE on unchanged labels, at the T that takes every label for right.
        allowing: the same at the T of `--label-noise`, which allows for wrong labels where they show.
        wrong: the share of labels that look wrong.
        shown: share of draws in which the interval of that share excludes 0.
        changed: mean of |ln T allowing - ln T usual|.
    """

    model: str
    kind: str
    share: float
    usual: float
    allowing: float
    wrong: float
    shown: float
    changed: float


def measure(
    model: str, logits: NDArray[np.floating], labels: NDArray[np.int64], *, share: float = 0.05, draws: int = _DRAWS
) -> Iterator[Damage]:
    """Yield what each kind of wrong labels does to one model.

    Args:
        model: the name in tables.
        logits: floating [n, classes], with many more than 1,000 rows.
        labels: int64 [n].
        share: of labels to change.
        draws: repetitions, each with other inputs for the fit.
    """
    classes = logits.shape[1]
    confused = np.zeros((classes, classes))
    np.add.at(confused, (labels, logits.argmax(axis=1)), 1)
    np.fill_diagonal(confused, 0)
    for kind in _KINDS:
        found = []
        for seed in range(draws):
            rng = np.random.default_rng(seed)
            fit, test = np.split(rng.permutation(len(labels)), [_FIT])
            given = labels[fit]
            rows = rng.permutation(_FIT)[: round(share * _FIT)]
            if kind == "random":
                given[rows] = (given[rows] + rng.integers(1, classes, len(rows))) % classes
            elif kind == "pairs":
                given[rows] = confused.argmax(axis=1)[given[rows]]
            noise = fit_temperature_and_noise(logits[fit], given)
            found.append(_judged(noise, logits[test], labels[test]))
        usual, allowing, wrong, shown, changed = np.mean(found, axis=0).tolist()
        yield Damage(model, kind, 0.0 if kind == "none" else share, usual, allowing, wrong, shown, changed)


def _judged(noise: LabelNoise, logits: NDArray[np.floating], labels: NDArray[np.int64]) -> tuple[float, ...]:
    chosen = noise.temperature if noise.shown else noise.without
    eces = []
    for temperature in (noise.without, chosen):
        p = softmax(logits, temperature)
        eces.append(expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == labels))
    return (*eces, noise.wrong.value, float(noise.shown), abs(float(np.log(chosen / noise.without))))


def summarize(found: Sequence[Damage]) -> str:
    """Return a table with a row per model and kind."""
    lines = [
        f"{_FIT} inputs fit T, all others judge it; means of {_DRAWS} draws",
        f"{'model':<24}{'wrong labels':<14}{'ECE, T as usual':>16}{'allowing':>10}{'look wrong':>12}{'shown in':>10}",
    ]
    for one in found:
        kind = one.kind if one.kind == "none" else f"{100 * one.share:.0f} % {one.kind}"
        wrong, shown = f"{100 * one.wrong:.1f} %", f"{100 * one.shown:.0f} %"
        lines.append(f"{one.model:<24}{kind:<14}{one.usual:>16.3f}{one.allowing:>10.3f}{wrong:>12}{shown:>10}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the models of all built-in pairs, print, and write the result."""
    parser = ArgumentParser(prog="python -m studies.wrong_labels", description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    cache = cache_folder()
    flagship, comparable = flagship_pairs(cache)
    fashion, languages = fashion_pair(cache), language_pair(cache)
    models = (
        ("flagship, local", flagship, flagship.local),
        ("comparable, local", comparable, comparable.local),
        ("flagship, remote", flagship, flagship.remote),
        ("Fashion-MNIST, local", fashion, fashion.local),
        ("Fashion-MNIST, remote", fashion, fashion.remote),
        ("languages, local", languages, languages.local),
        ("languages, remote", languages, languages.remote),
    )
    found = [one for name, pair, logits in models for one in measure(name, logits, pair.labels)]
    summary = summarize(found)
    write_study(asked.out, "wrong_labels", {"models": found}, command="python -m studies.wrong_labels", summary=summary)
    print(summary)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
