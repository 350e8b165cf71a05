"""The README's table of the built-in pairs equals their committed results."""

import json
import re
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest

from edgecascade.benchmarks.commands import compare
from edgecascade.benchmarks.report import HIGHER, plain
from edgecascade.calibration import proportion
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate
from studies.readme_table import MARKERS, main, readme_table, with_table

_PAIRS = ("flagship", "comparable", "fashion-mnist", "languages")


def _result(local: float = 0.75, n: int = 1000, **served: Any) -> dict[str, Any]:
    accuracy = {"local only": local, "remote only": 0.9, "cascade": 0.85, "lowest raw confidence, same rate": 0.84}
    latency = {
        "all": {"n": n, "p50": Estimate(0.0012, 0.001, 0.0013, n), "p99": Estimate(0.0321, 0.03, 0.035, n)},
    }
    offload = {
        "n": n,
        "strategies": [
            {
                "name": name,
                "offload": proportion(0.2, n),
                "accuracy": {**vars(proportion(share, n)), **HIGHER},
                "gap": None,
            }
            for name, share in accuracy.items()
        ],
        "served": {"reasons": {"confident": 800, "offloaded": 200}, "sent": 3_000_000, "latency": latency} | served,
    }
    environment = {
        "date": "2026-01-02",
        "processor": "Some CPU",
        "cores": 4,
        "memory_gib": 7.6,
        "system": "Linux aarch64",
        "python": "3.11",
        "versions": {"onnxruntime": "1.30.0"},
    }
    about = {"schema": 3, "kind": "edgecascade benchmark", "title": "x", "command": "x", "method": []}
    document: dict[str, Any] = plain({**about, "environment": environment, "offload": offload})
    return document


def _keep(results: Path, **documents: dict[str, Any]) -> Path:
    for name, document in documents.items():
        folder = results / name.replace("_", "-")
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(document))
    return results


def _cells(made: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in made.splitlines() if line[:1] == "|"]


def test_each_pair_has_a_row_of_figures(tmp_path: Path) -> None:
    """In a fixed order, a row has n, four accuracies with the longer arm, rate, megabytes and milliseconds."""
    results = _keep(tmp_path, **{name.replace("-", "_"): _result(0.6 + i / 10) for i, name in enumerate(_PAIRS)})
    heading, _, *rows = _cells(readme_table(results))
    assert heading[:3] == ["pair", "n", "local"]
    assert [row[0] for row in rows] == ["small > large", "comparable", "Fashion-MNIST", "languages"]
    assert [row[2][:4] for row in rows] == ["60.0", "70.0", "80.0", "90.0"]
    assert rows[0] == ["small > large", "1,000", "60.0 ± 3.1", "90.0 ± 2.0", "85.0 ± 2.3", "20.0 %", "84.0 ± 2.4",
                       "3.00 of 15.00", "1.20 / 32.1"]  # fmt: skip


def test_a_certified_run_shows_its_certificate_and_outcome(tmp_path: Path) -> None:
    """Its row follows those of the pairs, with one sentence on the certificate; without a certificate it is refused."""
    loss = {"value": 0.004, "low": -0.0017, "high": 0.0097, "n": 1000}
    document = _result()
    document["offload"]["plan_check"] = {"loss": 0.01, "risk": 0.05, "measured": loss, "outcome": "held"}
    made = readme_table(_keep(tmp_path, flagship=_result(), comparable_certified=document, flagship_certified=document))
    assert [row[0] for row in _cells(made)[2:]] == [
        "small > large",
        "small > large, certified",
        "comparable, certified",
    ]
    said = made.replace("\n", " ")
    assert said.count("at most 1.0 points of accuracy, with a risk of 5 %") == 1
    happened = "+0.4 (-0.2 to +1.0), held"
    assert f"in points: small > large {happened}; comparable {happened}." in said
    _keep(tmp_path, fashion_mnist_certified=_result())
    with pytest.raises(BenchmarkError, match=r"fashion-mnist-certified.*: expected a model with a certificate"):
        readme_table(tmp_path)


def test_the_arm_is_the_longer_one(tmp_path: Path) -> None:
    """The interval shown is at least as long as the real one."""
    document = _result()
    document["offload"]["strategies"][2]["accuracy"] = {"value": 0.85, "low": 0.80, "high": 0.86, "n": 1000}
    assert "85.0 ± 5.0" in readme_table(_keep(tmp_path, flagship=document))


def test_figures_that_were_not_measured_are_marked(tmp_path: Path) -> None:
    """Cases are no byte counts, nothing forwarded, no latency, and no served run."""
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    _keep(
        tmp_path,
        flagship=_result(sent=None, latency={"all": {"p50": nothing, "p99": nothing}}),
        comparable=_result(reasons={"confident": 1000}, latency={}),
        fashion_mnist=_result(),
    )
    unserved = _result()
    unserved["offload"]["served"] = None
    rows = _cells(readme_table(_keep(tmp_path, languages=unserved)))[2:]
    for row in (rows[0], rows[1], rows[3]):
        assert row[-2:] == ["not measured", "not measured"]
    assert "not measured" not in rows[2]


def test_the_table_is_readable_in_a_terminal(tmp_path: Path) -> None:
    """Rows have equal lengths and aligned bars, and no line is too long."""
    made = readme_table(_keep(tmp_path, flagship=_result(), languages=_result(n=100_000)))
    rows = [line for line in made.splitlines() if line.startswith("|")]
    assert len({tuple(i for i, letter in enumerate(row) if letter == "|") for row in rows}) == 1
    assert all(len(line) <= 120 for line in made.splitlines())


def test_the_machine_is_named_once(tmp_path: Path) -> None:
    """Results of one machine and day give one line; another day adds a line."""
    results = _keep(tmp_path, flagship=_result(), comparable=_result())
    told = "Some CPU, 4 cores, 8 GiB, Linux aarch64, onnxruntime 1.30.0, 2026-01-02"
    assert readme_table(results).endswith(f"\nMeasured on {told}.")
    later = _result()
    later["environment"]["date"] = "2026-01-03"
    _keep(tmp_path, languages=later)
    assert readme_table(results).endswith(f"{told};\n{told[:-1]}3.")


@pytest.mark.parametrize("lacking", ["offload", "strategies", "cascade", "processor"])
def test_a_result_without_a_figure_is_refused(tmp_path: Path, lacking: str) -> None:
    """The error names the missing figure."""
    document = _result()
    if lacking == "cascade":
        del document["offload"]["strategies"][2]
    else:
        for part in (document, document["environment"], document["offload"]):
            part.pop(lacking, None)
    with pytest.raises(BenchmarkError, match=f"expected the result of an offload benchmark, but: '{lacking}'"):
        readme_table(_keep(tmp_path, flagship=document))


def test_no_results_are_refused(tmp_path: Path) -> None:
    """An empty table would be misleading."""
    with pytest.raises(BenchmarkError, match=re.escape(f"{tmp_path}: expected a result.json in at least one of")):
        readme_table(tmp_path)


def test_only_the_text_between_the_markers_changes() -> None:
    """A second run changes nothing."""
    opening, closing = MARKERS
    text = f"before\n{opening}\nold\n{closing}\nafter\n"
    made = with_table(text, "new")
    assert made == f"before\n{opening}\nnew\n{closing}\nafter\n"
    assert with_table(made, "new") == made


@pytest.mark.parametrize("text", ["", MARKERS[0], "".join(MARKERS[::-1]), "".join(MARKERS * 2), MARKERS[1] * 2])
def test_a_page_without_its_two_markers_is_refused(text: str) -> None:
    """No marker, one marker, repeated markers and swapped markers are refused."""
    with pytest.raises(BenchmarkError, match="expected <!-- results --> and then <!-- /results -->, once each"):
        with_table(text, "new")


def _table(*arguments: str) -> int:
    return main(list(arguments))


def _run(command: Any, *arguments: str) -> int:
    parser = ArgumentParser()
    command.configure(parser)
    code: int = command.execute(parser.parse_args(arguments))
    return code


def test_the_command_prints_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check gives 1 until the table is written, 0 after it, and 1 again when a result changes."""
    results = _keep(tmp_path / "results", flagship=_result())
    readme = tmp_path / "README.md"
    readme.write_text(f"é\n{MARKERS[0]}\n{MARKERS[1]}\n", encoding="utf-8")
    assert _table("--results", str(results)) == 0
    assert capsys.readouterr().out == f"{readme_table(results)}\n"
    assert _table("--results", str(results), "--check", str(readme)) == 1
    assert f"{readme}: expected the table of {results}" in capsys.readouterr().err
    assert _table("--results", str(results), "--write", str(readme)) == 0
    assert _table("--results", str(results), "--check", str(readme)) == 0
    assert readme.read_text(encoding="utf-8").startswith("é\n")
    (results / "flagship" / "result.json").write_text(json.dumps(_result(0.5)))
    assert _table("--results", str(results), "--check", str(readme)) == 1


def test_a_missing_page_is_refused(tmp_path: Path) -> None:
    """The error is one sentence."""
    results = _keep(tmp_path / "results", flagship=_result())
    with pytest.raises(OSError, match=r"none\.md"):
        _table("--results", str(results), "--check", str(tmp_path / "none.md"))


def test_compare_reports_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The code is 1 if a figure got worse, else 0; an invalid file is refused."""
    results = _keep(tmp_path, flagship=_result(0.7), comparable=_result(0.8))
    worse, better = (str(results / name / "result.json") for name in ("flagship", "comparable"))
    assert _run(compare, better, better) == 0
    assert _run(compare, worse, better) == 0
    assert "better  offload / strategies / local only / accuracy" in capsys.readouterr().out
    assert _run(compare, better, worse) == 1
    assert "\nsame " not in capsys.readouterr().out
    assert _run(compare, better, worse, "--all") == 1
    assert "\nsame " in capsys.readouterr().out
    with pytest.raises(BenchmarkError, match=r"expected a result\.json"):
        _run(compare, better, str(tmp_path))
