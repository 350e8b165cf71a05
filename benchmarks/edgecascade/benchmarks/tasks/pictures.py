"""The two pictures of the report: mean value against offload rate, and the reliability of the confidence."""

from __future__ import annotations

from edgecascade.benchmarks.offload.pictures import LINES, POINTS, TEXT, draw_interval, draw_reliability
from edgecascade.benchmarks.report.contents import Figure, svg_of
from edgecascade.benchmarks.tasks.measure import TaskOffload

__all__ = ["reliability_figure", "value_figure"]

_LINES = {
    "oracle": LINES["oracle"],
    "advantage": LINES["advantage"],
    "score": ("the score", LINES["calibrated confidence"][1]),
    "random": LINES["random"],
}


def value_figure(result: TaskOffload) -> Figure:
    """Draw the mean value against the offload rate, with intervals, and the cascade as a point with its interval."""
    caption = (
        f"Mean value against the share of inputs forwarded, on {result.n} test inputs. Band: 95 % intervals of the "
        "plan's advantage at each rate alone. Point: the cascade, with its 95 % interval."
    )
    return Figure("value-curve", _value_svg(result, 5.2, 4.6), caption, _value_svg(result, 9.6, 4.8))


def _value_svg(result: TaskOffload, width: float, height: float) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(TEXT):
        figure = Canvas(figsize=(width, height))
        axes = figure.add_subplot()
        rates = [one.offload.value * 100 for one in result.points]
        low, high = ([getattr(one.accuracy, end) * 100 for one in result.points] for end in ("low", "high"))
        axes.fill_between(rates, low, high, color="#0a62b5", alpha=0.12, linewidth=0)
        for name, (label, style) in _LINES.items():
            curve = result.curves[name].thinned(POINTS)
            every = 0.12 if "marker" in style else None
            axes.plot(curve.rate * 100, curve.accuracy * 100, label=label, markevery=every, **style)
        draw_interval(axes, result.cascade.offload, result.cascade.accuracy, "cascade")
        axes.set_xlabel("offload rate, % of inputs forwarded")
        axes.set_ylabel("mean value, %")
        axes.set_xlim(-1, 101)
        axes.set_xticks(range(0, 101, 25))
        axes.grid(alpha=0.25)
        figure.legend(loc="outside lower center", ncols=2 if width < 7 else 5, frameon=False)
        return svg_of(figure)


def reliability_figure(result: TaskOffload) -> Figure:
    """Draw the mean value against the confidence on the test inputs."""
    caption = (
        "Reliability on the test inputs, 15 equal-width bins (bars: share of inputs; dots: mean value; dotted: perfect "
        f"calibration). Calibrated by {result.document.calibration.method} on {result.document.calibration.n} other "
        f"inputs; n = {result.n}. ECE is above 0 on finite data even for perfect confidences; the corrected value "
        "subtracts that bias and has a 95 % interval."
    )
    return Figure("reliability", _reliability_svg(result), caption)


def _reliability_svg(result: TaskOffload) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(TEXT):
        figure = Canvas(figsize=(4.2, 3.4))
        axes = figure.add_subplot()
        draw_reliability(axes, result.values.confidence, result.values.local)
        ece = result.corrected_ece
        axes.set_title(
            f"ECE {result.ece:.3f}, corrected {ece.value:.3f} ({ece.low:.3f} to {ece.high:.3f})", fontsize=9.5
        )
        return svg_of(figure)
