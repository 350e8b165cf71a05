"""The pictures of docs/, from the committed results. They follow the reader's choice of light or dark colours."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edgecascade.benchmarks.report import STYLE, read_result, svg_of
from edgecascade.export.writing import write_whole

__all__ = ["PICTURES", "draw", "main"]

_COLOURS = {  # name: in light, in dark
    "paper": ("#fefefe", "#1e2029"),
    "ink": ("#1c1d21", "#e8e9ee"),
    "quiet": ("#5d6470", "#a9b0bd"),
    "local": ("#0a62b5", "#6cb3ff"),
    "remote": ("#b85400", "#ffab57"),
}
_PAPER, _INK, _QUIET, _LOCAL, _REMOTE = (light for light, _ in _COLOURS.values())
_STYLE: dict[Any, Any] = {
    **STYLE,
    "font.size": 11,
    "legend.fontsize": 10,
    "legend.labelcolor": _INK,
    "text.color": _INK,
    "figure.facecolor": _PAPER,
    "axes.facecolor": _PAPER,
    "axes.edgecolor": _QUIET,
    "axes.labelcolor": _INK,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
}
_WIDTH = 5.2  # inches: text stays legible where a phone shows the picture at its own width
_PAIRS = {"flagship": "small > large", "comparable": "comparable", "fashion-mnist": "Fashion-MNIST"}
_PAIRS["languages"] = "languages"
_CERTIFIED = "-certified"  # after a pair's name: the folder of a run with `--certify`
_NOISE = "gaussian_noise"

_Results = Mapping[str, Mapping[str, Any]]


def draw(name: str, results: Path) -> str:
    """Return one of the pictures as SVG.

    Args:
        name: One of `PICTURES`.
        results: The folder with a folder for each result.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    needed, height, onto = PICTURES[name]
    found = {one: read_result(results / one / "result.json") for one in needed}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height))
        onto(figure, found)
        return _coloured(svg_of(figure))


def _coloured(svg: str) -> str:
    """Return a picture whose colours are variables with a value for light and one for dark."""
    for name, (light, _) in _COLOURS.items():
        svg = svg.replace(light, f"var(--{name})")
    light, dark = (
        "svg {" + " ".join(f"--{name}: {both[place]};" for name, both in _COLOURS.items()) + "}" for place in (0, 1)
    )
    style = f"<style>{light} @media (prefers-color-scheme: dark) {{ {dark} }}</style>"
    return svg.replace(">", f">\n {style}", 1).replace("'DejaVu Sans'", "system-ui") + "\n"


def _cascade(figure: Any, results: _Results) -> None:
    """Draw where the inputs go, how soon they are answered, and how many answers are right."""
    offload = results["flagship"]["offload"]
    above, below = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    flow, accuracy = above.subplots(), below.subplots()
    latency, n = offload["served"]["latency"], offload["n"]
    device, remote = latency["local"]["n"], latency["forwarded"]["n"]
    split, gap = remote / n, 0.08
    for low, colour, lift in ((split, _LOCAL, gap), (0.0, _REMOTE, 0.0)):
        high = 1.0 if low else split
        x = np.linspace(0.16, 0.3, 50)
        rise = lift * (1 - np.cos(np.pi * (x - x[0]) / (x[-1] - x[0]))) / 2
        x, rise = np.append(x, 1.0), np.append(rise, lift)
        flow.fill_between(x, low + rise, high + rise, color=colour, alpha=0.22, linewidth=0)
    flow.text(0.0, (1 + gap) / 2, f"{n:,}\nimages", va="center", weight="bold")
    for y, colour, lines in (
        (split + gap + (1 - split) / 2, _LOCAL, (f"{device:,} answered on the device", _soon(latency["local"]))),
        (split / 2, _REMOTE, (f"{remote:,} forwarded to a large model", _soon(latency["forwarded"]))),
    ):
        flow.text(0.32, y, f"{lines[0]}\n", va="center", color=colour, weight="bold")
        flow.text(0.32, y, f"\n{lines[1]}", va="center")
    flow.set(xlim=(0, 1), ylim=(-0.02, 1.02 + gap))
    flow.set_axis_off()
    rows = {one["name"]: one["accuracy"] for one in offload["strategies"]}
    always, sent = (offload["savings"]["always_out"]["value"] / 1e6, offload["served"]["sent"] / 1e6)
    _points(
        accuracy,
        {
            "small model alone\nnothing sent": (rows["local only"], _QUIET),
            f"cascade\n{sent:.1f} MB sent": (rows["cascade"], _LOCAL),
            f"large model always\n{always:.1f} MB sent": (rows["remote only"], _QUIET),
        },
    )
    accuracy.set(xlabel="right answers, %", xlim=(74, 91), xticks=range(75, 91, 5))


def _soon(latency: Mapping[str, Any]) -> str:
    return f"half of them within {1e3 * latency['p50']['value']:.1f} ms"


def _points(axes: Any, rows: Mapping[str, tuple[Mapping[str, Any], str]]) -> None:
    """Draw a row for each estimate, in percent, with its interval and its value."""
    for place, (found, colour) in enumerate(rows.values()):
        low, value, high = (100 * found[name] for name in ("low", "value", "high"))
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot(value, place, "o", color=colour, markersize=8)
        label = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "weight": "bold"}
        axes.annotate(f"{value:.1f}", (high, place), **label)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", alpha=0.25)


def _confidence(figure: Any, results: _Results) -> None:
    """Draw the calibration error of both models of each pair before and after calibration."""
    axes = figure.subplots()
    rows = [(title, side, pair) for pair, title in _PAIRS.items() for side in ("local", "remote")]
    for place, (_, side, pair) in enumerate(rows):
        errors = results[pair]["offload"]["corrected_ece"]
        before, after = (errors[f"{side} {when}"] for when in ("before", "after"))
        axes.plot([before["value"], after["value"]], [place, place], color=_QUIET, linewidth=1, zorder=1)
        for found, mark, colour, label in ((before, "X", _REMOTE, "before"), (after, "o", _LOCAL, "after")):
            axes.plot([found["low"], found["high"]], [place, place], color=colour, linewidth=2)
            axes.plot(found["value"], place, mark, color=colour, markersize=7, label=None if place else label)
    axes.set_yticks(range(len(rows)), [f"{title}, {side}" for title, side, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(xlabel="calibration error (95 %)", xlim=(-0.005, None))
    axes.grid(axis="x", alpha=0.25)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, title="calibration", title_fontsize=10)


def _advantage(figure: Any, results: _Results) -> None:
    """Draw the advantage table of a file, what the labels say, and the threshold."""
    axes = figure.subplots()
    policy = results["flagship"]["offload"]["cascade_model"]["policy"]
    edges = 100 * np.concatenate([[0], np.cumsum(policy["counts"])]) / sum(policy["counts"])
    values, threshold = 100 * np.array(policy["values"]), 100 * policy["threshold"]
    middle = (edges[1:] + edges[:-1]) / 2
    for (left, right), value in zip(pairwise(edges), values, strict=True):
        colour = _REMOTE if value < threshold else _LOCAL
        axes.bar(left, value, right - left - 0.6, align="edge", color=colour, alpha=0.45, linewidth=0)
    low, high = 100 * np.array(policy["intervals"]).T
    axes.vlines(middle, low, high, color=_QUIET, linewidth=1.5, label="from the labels, 95 %")
    axes.axhline(threshold, color=_INK, linestyle="--", linewidth=1.2)
    axes.axhline(0, color=_QUIET, linewidth=0.8)
    axes.text(100, threshold - 1, "threshold", ha="right", va="top")
    axes.text(0.5, 19, "forwarded", color=_REMOTE, weight="bold")
    axes.text(28, 19, "answered on the device", color=_LOCAL, weight="bold")
    axes.set(
        xlabel="images by rising confidence of the small model, %",
        ylabel="advantage of the small model, points",
        xlim=(0, 100),
        ylim=(None, 24),
    )
    axes.legend(loc="lower right", frameon=False)


def _certificate(figure: Any, results: _Results) -> None:
    """Draw the certified loss of each pair beside the loss on test data."""
    axes = figure.subplots()
    labels = []
    for place, (pair, title) in enumerate(_PAIRS.items()):
        offload = results[f"{pair}{_CERTIFIED}"]["offload"]
        check = offload["plan_check"]
        low, value, high = (100 * check["measured"][name] for name in ("low", "value", "high"))
        axes.plot([low, high], [place, place], color=_LOCAL, linewidth=2)
        axes.plot(value, place, "o", color=_LOCAL, markersize=8)
        axes.axvline(100 * check["loss"], color=_REMOTE, linestyle="--", linewidth=1.4)
        cascade = next(one for one in offload["strategies"] if one["name"] == "cascade")
        labels.append(f"{title}\n{100 * cascade['offload']['value']:.1f} % forwarded")
    axes.text(100 * check["loss"], -0.62, f"certified: at most {100 * check['loss']:.0f}", color=_REMOTE, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set(xlabel="accuracy lost, points (95 %)", xlim=(None, 1.6))
    axes.grid(axis="x", alpha=0.25)


def _shift(figure: Any, results: _Results) -> None:
    """Draw what noise does to a cascade whose file stays the same, and what the device can see of it."""
    found = results["corruptions"]["corruptions"]
    kinds = [found["clean"], *found["shifted"][_NOISE]]
    accuracy, seen = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    for name, label, mark, colour in (
        ("local", "small model alone", "s-", _QUIET),
        ("remote", "large model alone", "^-", _REMOTE),
        ("cascade", "cascade", "o-", _LOCAL),
    ):
        _line(accuracy, [one[name] for one in kinds], label, mark, colour)
    _line(seen, [one["offload"] for one in kinds], "forwarded", "o-", _LOCAL)
    planned = 100 * found["rate"]
    seen.axhline(planned, color=_QUIET, linestyle="--", linewidth=1.2)
    seen.text(5.1, planned, "planned", ha="right", va="bottom")
    accuracy.set(ylabel="right answers, %", ylim=(0, 100))
    seen.set(ylabel="forwarded, %", ylim=(0, 60), xlabel="severity of the noise (0: as calibrated)")
    for axes in (accuracy, seen):
        axes.grid(alpha=0.25)
    accuracy.legend(frameon=False)


def _line(axes: Any, found: Sequence[Mapping[str, Any]], label: str, mark: str, colour: str) -> None:
    value, low, high = (100 * np.array([one[name] for one in found]) for name in ("value", "low", "high"))
    errors = [value - low, high - value]
    axes.errorbar(range(len(found)), value, yerr=errors, fmt=mark, color=colour, label=label, markersize=6)


PICTURES: Mapping[str, tuple[Sequence[str], float, Callable[[Any, _Results], None]]] = {
    "cascade": (["flagship"], 4.7, _cascade),
    "confidence": ([*_PAIRS], 4.2, _confidence),
    "advantage": (["flagship"], 4.0, _advantage),
    "certificate": ([f"{pair}{_CERTIFIED}" for pair in _PAIRS], 3.4, _certificate),
    "shift": (["corruptions"], 4.9, _shift),
}
"""The results that each picture needs, its height in inches, and what draws it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write every picture."""
    parser = ArgumentParser(prog="python -m studies.pictures", description=__doc__)
    root = Path(__file__).parents[2]
    parser.add_argument("--results", type=Path, default=root / "benchmarks" / "results", help="The results.")
    parser.add_argument("-o", "--out", type=Path, default=root / "docs" / "pictures", help="The folder to write to.")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        write_whole(draw(name, asked.results).encode(), asked.out / f"{name}.svg")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
