"""`--weights`, `--prior`, `--groups` and `--max-group-loss` give the plan that the arrays themselves give."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.calibration import MostAccuracy, class_weights, plan_cascade
from edgecascade.calibration.commands.population import read_prior
from edgecascade.cli import main
from edgecascade.types.errors import CalibrationError

RNG = np.random.default_rng(0)
N = 800
LABELS = RNG.integers(0, 3, N)
REMOTE = RNG.normal(0.0, 1.0, (N, 3)) + 3.0 * np.eye(3)[LABELS]
LOCAL = REMOTE + RNG.normal(0.0, 2.0, (N, 3))
WEIGHT = RNG.gamma(2.0, 1.0, N) + 0.1
SITE = np.where(np.arange(N) % 4 == 0, "night", "day")
NAMES = ("red", "green", "blue")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with outputs in one archive and in arrays of their own, and with priors."""
    monkeypatch.chdir(tmp_path)
    np.savez("outputs.npz", local=LOCAL, remote=REMOTE, labels=LABELS, importance=WEIGHT, site=SITE)
    for name, array in (("local", LOCAL), ("remote", REMOTE), ("labels", LABELS), ("weight", WEIGHT), ("site", SITE)):
        np.save(f"{name}.npy", array)
    Path("prior.json").write_text(json.dumps({"0": 0.7, "1": 0.2, "2": 0.1}), encoding="utf-8")
    return tmp_path


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Return the plan that the command writes as JSON."""
    assert main(["plan", *arguments, "--offload-rate", "0.2", "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    del found["remote"]["scores"]
    return found


def expected(**options: Any) -> dict[str, Any]:
    """Return the plan of the arrays, as it is in JSON."""
    plan = plan_cascade(LOCAL, REMOTE, LABELS, MostAccuracy(0.2), **options)
    found: dict[str, Any] = json.loads(json.dumps(plan.to_dict()))
    return found


@pytest.mark.usefixtures("folder")
def test_weights_come_from_the_archive_or_from_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """The array is named, or lies in an .npy file."""
    wanted = expected(weight=WEIGHT)
    assert planned(capsys, "outputs.npz", "--weights", "importance") == wanted
    assert planned(capsys, "local.npy", "remote.npy", "labels.npy", "--weights", "weight.npy") == wanted
    assert wanted["effective_n"] < N


@pytest.mark.usefixtures("folder")
def test_a_prior_becomes_weights(capsys: pytest.CaptureFixture[str]) -> None:
    """A list and a JSON file give the same, and multiply weights that were given."""
    wanted = expected(weight=class_weights(LABELS, [0.7, 0.2, 0.1]))
    assert planned(capsys, "outputs.npz", "--prior", "0.7,0.2,0.1") == wanted
    assert planned(capsys, "outputs.npz", "--prior", "prior.json") == wanted
    both = expected(weight=class_weights(LABELS, [7, 2, 1], WEIGHT))
    assert planned(capsys, "outputs.npz", "--prior", "7,2,1", "--weights", "importance") == both


def test_hundreds_of_groups_are_measured_in_seconds_and_not_all_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file has the accuracies of all 800 stores, and the table those of the worst; names stay in their lines."""
    rng = np.random.default_rng(0)
    n = 8000
    store, labels = 7 * (np.arange(n) % 800) - 3, rng.integers(0, 3, n)
    remote = rng.normal(0.0, 1.0, (n, 3)) + 3.0 * np.eye(3)[labels]
    local = remote + rng.normal(0.0, 2.0, remote.shape)
    path = tmp_path / "outputs.npz"
    two_lines = np.where(store < 0, "a\nb", "c")
    np.savez(path, local=local, remote=remote, labels=labels, store=store, two_lines=two_lines)
    started = time.process_time()
    by_store = planned(capsys, str(path), "--groups", "store")["groups"]["groups"]
    assert time.process_time() - started < 30
    assert {one["name"] for one in by_store} == set(map(str, store.tolist()))
    right = local.argmax(axis=1) == labels
    for one in by_store[::100]:
        assert one["local"]["value"] == pytest.approx(right[store == int(one["name"])].mean())
    arguments = ["plan", str(path), "--offload-rate", "0.2", "--groups"]
    assert main([*arguments, "store"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "and 780 more, which lose less to the remote"
    assert len(lines) < 80
    assert main([*arguments, "two_lines"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-2:]] in (["a\\nb", "c"], ["c", "a\\nb"])


@pytest.mark.usefixtures("folder")
def test_groups_are_classes_or_an_array(capsys: pytest.CaptureFixture[str]) -> None:
    """Groups that are asked for are printed as a table, those that lose most first."""
    by_class = planned(capsys, "outputs.npz")
    assert by_class == planned(capsys, "outputs.npz", "--groups", "class")
    assert by_class["groups"]["by"] == "class"
    by_site = planned(capsys, "outputs.npz", "--groups", "site")["groups"]
    assert (by_site["by"], [one["name"] for one in by_site["groups"]]) == ("site", ["day", "night"])
    assert main(["plan", "outputs.npz", "--while-it-helps", "--groups", "site.npy"]) == 0
    out = capsys.readouterr().out
    assert "site        n  local (95 % interval)" in out
    assert "night" in out


@pytest.mark.usefixtures("folder")
def test_the_largest_loss_of_a_group_reaches_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """The error is about the offload rate that excludes the bound."""
    assert main(["plan", "outputs.npz", "--offload-rate", "0.01", "--max-group-loss", "0.01"]) == 2
    assert "max_group_loss: " in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("outputs.npz", "--weights", "other"), "expected the arrays other, got no other"),
        (("outputs.npz", "--weights", "none.npy"), "none.npy: no such file"),
        (("outputs.npz", "--weights", "site"), "weight: expected numbers [800]"),
        (("local.npy", "remote.npy", "labels.npy", "--weights", "w"), "w: expected an .npy file beside outputs"),
        (("outputs.npz", "--prior", "0.5,0.5"), "--prior: expected 3 frequencies, one per class, got 2"),
        (("outputs.npz", "--prior", "many"), "--prior: expected frequencies such as 0.97,0.03"),
        (("outputs.npz", "--prior", "none.json"), "none.json: no such file"),
        (("outputs.npz", "--prior", "0.5,0.5,0"), "prior: expected a frequency above 0 for class 2"),
        (("outputs.npz", "--groups", "importance"), "groups: expected names or whole numbers"),
    ],
)
def test_what_does_not_fit_is_refused(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence names the argument or the file."""
    assert main(["plan", *arguments, "--while-it-helps"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_evaluate_takes_weights(capsys: pytest.CaptureFixture[str]) -> None:
    """The metrics are those of the weighted inputs, for classes and for scores; equal weights change nothing."""
    confidence, correct = np.random.default_rng(1).random(N), LOCAL.argmax(axis=1) == LABELS
    np.savez("scores.npz", score=confidence, correct=correct, importance=WEIGHT, ones=np.ones(N))
    np.save("ones.npy", np.ones(N))

    def evaluated(*arguments: str) -> dict[str, Any]:
        assert main(["evaluate", *arguments, "--json", "-"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    test = np.sort(np.random.default_rng(0).permutation(N)[N // 2 :])
    for file in (("outputs.npz", "--array", "local"), ("scores.npz",)):
        plain, weighted = evaluated(*file), evaluated(*file, "--weights", "importance")
        assert plain == evaluated(*file, "--weights", "ones.npy")
        assert weighted["before"].keys() == plain["before"].keys()
        accuracy = weighted["before"]["accuracy"]["value"]
        assert accuracy == pytest.approx(np.average(correct[test], weights=WEIGHT[test]))
        for found in weighted["after"].values():
            assert found["low"] <= found["value"] <= found["high"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"red": 1, "green": 1}', "expected a frequency for each of the 3 classes, got no blue"),
        ('{"red": 1, "green": 1, "blue": 1, "owl": 1}', "got the unknown owl"),
        ('{"red": "x"}', "is not a JSON object of frequencies by class name"),
        ("[1, 2, 3]", "is not a JSON object of frequencies by class name"),
        ("{", "is not a JSON object of frequencies by class name"),
    ],
)
def test_a_prior_by_name_must_have_every_class(text: str, message: str, tmp_path: Path) -> None:
    """The error names the classes that are missing or unknown."""
    path = tmp_path / "prior.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CalibrationError, match=message):
        read_prior(str(path), NAMES)
    path.write_text('{"blue": 1, "green": 2, "red": 3}', encoding="utf-8")
    assert read_prior(str(path), NAMES) == [3.0, 2.0, 1.0]
