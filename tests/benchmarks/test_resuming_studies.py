"""Three interrupted studies resume without measuring anything twice or losing a figure."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.benchmarks.pairs.prepared import Prepared
from edgecascade.benchmarks.ratio import Ratio
from edgecascade.export import read_labelled
from edgecascade.types.estimate import Estimate
from studies import coverage, guard, runtime_costs
from studies.coverage import Figure, Row
from studies.outputs import PairOutputs
from studies.overshoot import Overshoot
from studies.populations import ARTIFICIAL, REAL, Population
from studies.speed import FitSpeed, HeadCost

T = TypeVar("T")
POPULATIONS = len(ARTIFICIAL) + len(REAL)
STEPS = {"runtime_costs": 8, "coverage": 1 + POPULATIONS, "guard": 8 + 1 + 1 + POPULATIONS}
STUDIES: dict[str, Any] = {"runtime_costs": runtime_costs, "coverage": coverage, "guard": guard}


class _Bench:
    """A fake of all slow measurements, which records each call and returns distinguishable figures."""

    def __init__(self) -> None:
        self.measured: list[str] = []
        self.stop_after: int | None = None
        self.ready: Prepared
        self.outputs: list[PairOutputs]

    def _measure(self, what: str, found: T) -> T:
        if len(self.measured) == self.stop_after:
            raise KeyboardInterrupt
        self.measured.append(what)
        return found

    def _ratio(self, name: str, goal: float | None = 1.1) -> Ratio:
        return Ratio(name, 1 / (3 + len(name)), 0.1, 0.9, 15, goal, 1 / 7, 2.0, "us")

    def one_ratio(self, name: str) -> Ratio:
        return self._measure(name, self._ratio(name))

    def two_ratios(self, name: str, *_: Any, **__: Any) -> list[Ratio]:
        return self._measure(name, [self._ratio(name), self._ratio(f"{name} by hand", None)])

    def two_estimates(self, name: str) -> tuple[Estimate, Estimate]:
        return self._measure(name, (Estimate(1 / len(name), 0.0, 1.0, 7), Estimate(1 / 9, 0.0, 1.0, 7)))

    def overshoots(self, *_: Any) -> list[Overshoot]:
        late = Estimate(1 / 3, 0.0, 1.0, 7)
        return self._measure("overshoots", [Overshoot("hostile", 0.1, late, 0.5, 0.1, replace(late, value=0.2), 0.3)])

    def head(self, *_: Any, **__: Any) -> HeadCost:
        return self._measure("head", HeadCost(self._ratio("bound"), self._ratio("run", None)))

    def row(self, _: Any, name: str, __: Path, seed: int, draws: int, ___: Any) -> Row:
        figures = [Figure("accuracy: local", 0.95 + len(name) / 3e3, 0.93, 0.98, draws, 0.935, 0.99)]
        return self._measure(f"{name} {seed} {draws}", Row(name, 1000, 1 / 3, 0.75, 0.5, figures))

    def population(self, name: str, _: Path) -> Population:
        return Population(name, 1000, self.outputs[list(REAL).index(name)])

    def fits(self) -> FitSpeed:
        return self._measure("fits", FitSpeed(50, 10, (1 / 3, 0.5), (3.0, 4.0), 0.01, 1e-6))


def _logits(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.normal(size=(1000, 3)).astype(np.float32)


@pytest.fixture
def bench(pair: Path, monkeypatch: pytest.MonkeyPatch) -> _Bench:
    """Replace the commands' inputs and measurements by the fake."""
    bench, test = _Bench(), read_labelled(pair / "test.npz")
    ready = Prepared(pair / "local.onnx", pair / "remote.onnx", test, np.zeros((400, 3), np.float32))
    rng = np.random.default_rng(0)
    outputs = [PairOutputs(name, _logits(rng), _logits(rng), rng.integers(0, 2, 1000)) for name in REAL]
    bench.ready, bench.outputs = ready, outputs
    for module, name, instead in (
        *((one, "prepare_flagship", lambda *_: ready) for one in (runtime_costs, guard)),
        *((one, "population_of", bench.population) for one in (coverage, guard)),
        (runtime_costs, "measure_hot_path", bench.two_ratios),
        (runtime_costs, "measure_memory", lambda *_: bench.two_estimates("memory")),
        (runtime_costs, "measure_lateness", lambda *_: bench.two_estimates("lateness")),
        (runtime_costs, "measure_overshoots", bench.overshoots),
        (runtime_costs, "measure_head_cost", bench.head),
        (runtime_costs, "measure_stream", lambda *_: bench.one_ratio("stream")),
        (runtime_costs, "measure_import", lambda: bench.one_ratio("import")),
        (guard, "_agreement", lambda _: bench.one_ratio("agreement")),
        (coverage, "_measure", bench.row),
        (coverage, "compare_fits", bench.fits),
    ):
        monkeypatch.setattr(module, name, instead)
    return bench


def _results(folder: Path) -> dict[str, Any]:
    """Return all written results, except the description of the machine."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        if path.name == "result.json":
            document = json.loads(path.read_text())
            assert document.pop("environment")
            found[str(path.relative_to(folder))] = document
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_text()
    return found


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("command", ["runtime_costs", "coverage", "guard"])
def test_an_interrupted_run_is_completed_by_the_next(
    command: str, share: float, bench: _Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each step is measured once in the two runs, in the usual order, and the result equals that of one run."""
    main, arguments = STUDIES[command].main, ["--out"]
    code = main([*arguments, str(tmp_path / "whole")])
    whole, bench.measured = bench.measured, []
    assert len(whole) == STEPS[command]
    assert not (tmp_path / "whole/steps").exists()
    assert f"{len(whole)}/{len(whole)}" in capsys.readouterr().err

    bench.stop_after = int(share * len(whole))
    with pytest.raises(KeyboardInterrupt):
        main([*arguments, str(tmp_path / "two")])
    assert bench.measured == whole[: bench.stop_after]
    assert "interrupted" not in capsys.readouterr().err

    bench.stop_after = None
    assert main([*arguments, str(tmp_path / "two")]) == code
    assert bench.measured == whole
    said = capsys.readouterr().err
    assert f"{len(whole)}/{len(whole)}" in said
    assert (f" of {len(whole)} steps of an interrupted run are in {tmp_path / 'two/steps'}" in said) == (share > 0)
    assert _results(tmp_path / "two") == _results(tmp_path / "whole")
    assert not (tmp_path / "two/steps").exists()


@pytest.mark.parametrize(
    ("command", "other"), [("runtime_costs", "--rounds"), ("coverage", "--draws"), ("coverage", "--seed")]
)
def test_other_arguments_measure_everything(command: str, other: str, bench: _Bench, tmp_path: Path) -> None:
    """The stored steps of a run with default arguments are not used."""
    bench.stop_after = 5
    main, arguments = STUDIES[command].main, ["--out", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    bench.stop_after, bench.measured = None, []
    main([*arguments, other, "7"])
    assert len(bench.measured) == STEPS[command]


def test_another_model_measures_everything(
    bench: _Bench, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step is stored for the content of the model file, not for its path."""
    bench.stop_after = 5
    main, arguments = runtime_costs.main, ["--out", str(tmp_path / "report")]
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    (tmp_path / "other.onnx").write_bytes((pair / "remote.onnx").read_bytes())
    other = replace(bench.ready, cascade=tmp_path / "other.onnx")
    monkeypatch.setattr(runtime_costs, "prepare_flagship", lambda *_: other)
    bench.stop_after, bench.measured = None, []
    assert main(arguments) == 0
    assert len(bench.measured) == STEPS["runtime_costs"]


@pytest.mark.parametrize("part", ["local", "remote", "labels"])
def test_other_outputs_measure_everything(part: str, bench: _Bench, tmp_path: Path) -> None:
    """A step is stored for every output of both models and every label."""
    bench.stop_after = 5
    main, arguments = coverage.main, ["--out", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    usual = bench.outputs[2]
    values = getattr(usual, part).copy()
    values[-1] += 1
    other = replace(usual, **{part: values})
    bench.outputs[2] = other
    bench.stop_after, bench.measured = None, []
    assert main(arguments) == 0
    assert len(bench.measured) == STEPS["coverage"]
