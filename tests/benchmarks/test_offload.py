"""`bench offload` measures a small pair of models with a known result."""

import json
import shlex
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from documents import some_document
from edgecascade.benchmarks.commands import offload as commands
from edgecascade.benchmarks.commands.offload import configure, execute
from edgecascade.benchmarks.offload import Offload, Prices, measure_offload, offload_summary
from edgecascade.benchmarks.offload.examples import _content
from edgecascade.benchmarks.offload.plan_check import check_plan
from edgecascade.benchmarks.offload.report import offload_document, offload_findings, offload_sections
from edgecascade.benchmarks.offload.strategies import savings
from edgecascade.benchmarks.report import difference, plain
from edgecascade.calibration import mean, paired_difference_interval, proportion
from edgecascade.cli import main
from edgecascade.export import read_labelled
from edgecascade.export.data import LabelledData
from edgecascade.runtime import Deadline, RemoteError
from edgecascade.runtime.remotes.remote import Traffic, connect
from edgecascade.types.document import Certificate
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate


class Counting:
    """The pair's remote with a traffic counter: 100 bytes sent and 10 received for each input."""

    def __init__(self, path: Path) -> None:
        inside = connect(path)
        assert inside is not None
        self._inside, self.traffic, self.closed = inside, Traffic(), False

    def infer(self, inputs: Any, deadline: Deadline) -> Any:
        """Call the wrapped remote."""
        n = len(inputs)
        self.traffic = Traffic(self.traffic.requests + 1, self.traffic.sent + 100 * n, self.traffic.received + 10 * n)
        return self._inside.infer(inputs, deadline)

    def close(self) -> None:
        """Note that the remote was closed."""
        self.closed = True


@pytest.fixture(scope="module")
def data(pair: Path) -> LabelledData:
    """Return the test inputs."""
    return read_labelled(pair / "test.npz")


@pytest.fixture(scope="module")
def scores(pair: Path, data: LabelledData) -> NDArray[Any]:
    """Return the remote's scores of the test inputs."""
    remote = connect(pair / "remote.onnx")
    assert remote is not None
    return np.asarray(remote.infer(np.asarray(data.inputs), Deadline.after(60)))


@pytest.fixture(scope="module")
def counted(pair: Path, data: LabelledData, scores: NDArray[Any]) -> Offload:
    """Return a run with a remote that counts its traffic, at a price."""
    remote = Counting(pair / "remote.onnx")
    result = measure_offload(
        pair / "local.onnx", data, scores, remote=remote, deadline=30, prices=Prices(0.5, 2e9 / 110)
    )
    assert not remote.closed
    return result


def test_a_function_is_accepted_as_remote_without_byte_counts(
    pair: Path, data: LabelledData, scores: NDArray[Any]
) -> None:
    """It gives the same answers; traffic is reported as not measured in text and document."""
    remote = connect(pair / "remote.onnx")
    assert remote is not None

    def function(inputs: Any) -> Any:
        return remote.infer(inputs, Deadline.after(60))

    result = measure_offload(pair / "local.onnx", data, scores, remote=function, deadline=30, prices=Prices(None, 1.0))
    assert result.cascade.accuracy.value == pytest.approx(result.predictions.decided_correct.mean())
    assert (result.served.requests, result.savings.bytes_out, result.savings.spent) == (None, None, None)
    assert "not measured" in offload_summary(result)
    assert plain(offload_document(result))["savings"]["always_out"] is None


def test_bytes_and_money_add_up(counted: Offload) -> None:
    """Traffic is that of the forwarded inputs only, and the price that of requests and bytes together."""
    forwarded = counted.n - counted.served.reasons["confident"]
    assert (counted.served.requests, counted.served.sent) == (forwarded, 100 * forwarded)
    assert counted.savings.always_out is not None
    assert counted.savings.always_out.value == pytest.approx(100 * counted.n)
    assert counted.savings.price == pytest.approx(0.5 + 2)
    assert counted.savings.spent is not None
    assert counted.savings.spent.value == pytest.approx(2.5e6 * forwarded / counted.n)
    assert counted.savings.spent.low == pytest.approx(2.5e6 * counted.savings.offload.low)


def test_every_merge_rule_and_order_has_its_curve(counted: Offload) -> None:
    """The file's own rule is the cascade without a network; all curves of one merge rule share their ends."""
    by_name = {one.name: one for one in counted.strategies}
    (own,) = (one for name, one in by_name.items() if name.endswith("(the file)"))
    assert counted.document.policy.merge in own.name
    assert own.accuracy == counted.cascade.accuracy
    assert own.gap is not None
    assert own.gap.low < 0 < own.gap.high  # the same answers, but the areas are uncertain
    assert sum(name.startswith("plan, merge") for name in by_name) == 3
    for name in ("lowest confidence", "lowest margin", "highest entropy", "lowest raw confidence", "oracle"):
        assert by_name[f"{name}, same rate"].offload.value == pytest.approx(counted.cascade.offload.value)
    for name in ("advantage", "calibrated confidence", "margin", "entropy", "confidence", "random", "oracle"):
        curve = counted.curves[name]
        assert (curve.accuracy[0], curve.accuracy[-1]) == (
            pytest.approx(counted.local.accuracy.value),
            pytest.approx(counted.predictions.merged_correct.mean()),
        )
        assert counted.curves["oracle"].at(0.3) >= curve.at(0.3) - 1e-12


def test_the_raw_confidence_is_that_of_the_graph_at_temperature_1(
    counted: Offload, pair: Path, data: LabelledData
) -> None:
    """It is derived from the calibrated probabilities, for files whose temperature cannot be overridden."""
    from edgecascade.runtime.engine import open_session

    feeds = {"image": np.asarray(data.inputs), "temperature": np.array(1.0, np.float32)}
    (expected,) = open_session(pair / "local.onnx").run(["confidence"], feeds)
    np.testing.assert_allclose(counted.predictions.raw_confidence, expected, atol=1e-5)
    assert np.abs(counted.predictions.confidence - expected).max() > 0.01


def test_the_page_has_every_section_and_rectangular_tables(counted: Offload) -> None:
    """Each row has a cell for each column, each figure its own name, and every sentence ends with a full stop."""
    sections = offload_sections(counted)
    assert len(sections) == 6
    for section in sections:
        for table in section.tables:
            assert table.rows
            assert {len(row) for row in table.rows} == {len(table.columns)}
            assert table.note.endswith(".")
        for group in section.examples:
            assert all(one.content[:4] == b"\x89PNG" for one in group.examples)
    names = [figure.name for section in sections for figure in section.figures]
    assert len(set(names)) == len(names) == 2
    assert all(sentence.endswith(".") for sentence in offload_findings(counted))


def test_the_text_fits_100_columns_and_the_document_has_no_nan(counted: Offload) -> None:
    """The document is strict JSON even where figures were not measured."""
    tables = offload_summary(counted).split("\n\n")[:-1]
    assert len(tables) == 5
    assert max(len(line) for table in tables for line in table.splitlines()) <= 100
    document = json.loads(json.dumps(plain(offload_document(counted)), allow_nan=False))
    assert document["n"] == 400
    assert [row["accuracy"]["better"] for row in document["strategies"]] == ["higher"] * len(counted.strategies)
    assert document["served"]["latency"]["all"]["p50"]["better"] == "lower"
    assert "better" not in document["strategies"][0]["offload"]


@pytest.mark.parametrize(("low", "more"), [(0.002, True), (-0.003, False)])
def test_only_a_paired_lead_above_noise_is_called_more(counted: Offload, low: float, more: bool) -> None:
    """The cascade is ahead of the remote by 0.004; the interval of that lead decides."""
    local, remote, cascade, *others = counted.strategies
    worse = replace(local, accuracy=replace(local.accuracy, value=0.5))
    remote = replace(remote, accuracy=replace(remote.accuracy, value=0.9), gap=Estimate(0.004, low, 0.006, counted.n))
    cascade = replace(cascade, accuracy=replace(cascade.accuracy, value=0.904))
    findings = offload_findings(replace(counted, strategies=(worse, remote, cascade, *others)))
    assert any("more than either" in finding for finding in findings) is more


def test_a_changed_remote_is_reported(pair: Path, data: LabelledData, scores: NDArray[Any]) -> None:
    """If the scores are of another model than the served one, the report counts the labels that differ."""
    other = np.roll(scores, 1, axis=1)
    result = measure_offload(pair / "local.onnx", data, other, remote=pair / "remote.onnx", deadline=30)
    forwarded = result.n - result.served.reasons["confident"]
    assert result.served.disagreed == forwarded > 0
    assert any("another label" in line for section in offload_sections(result) for line in section.text)


def test_calibration_inputs_are_refused_as_test_inputs(pair: Path, scores: NDArray[Any]) -> None:
    """The file holds the hash of its calibration inputs."""
    seen = read_labelled(pair / "calibration.npz")
    with pytest.raises(BenchmarkError, match=r"data: expected inputs that nothing was .*local\.onnx was calibrated on"):
        measure_offload(pair / "local.onnx", seen, np.resize(scores, (600, 3)), remote="none", deadline=1)


def test_labels_are_matched_by_name(pair: Path, data: LabelledData, scores: NDArray[Any], counted: Offload) -> None:
    """The same inputs with classes in alphabetical order, as from folders, give the same result."""
    order = np.argsort(np.array(data.names))
    shuffled = replace(
        data, labels=np.argsort(order)[data.labels], names=tuple(data.names[i] for i in order), digest="other"
    )
    assert shuffled.names == ("blue", "green", "red")
    result = measure_offload(pair / "local.onnx", shuffled, scores, remote=pair / "remote.onnx", deadline=30)
    assert result.local == counted.local
    assert result.cascade == counted.cascade


@pytest.mark.parametrize(
    ("n", "lost", "outcome"),
    [(4000, 0, "held"), (4000, 40, "inconclusive"), (4000, 200, "violated"), (50, 0, "inconclusive")],
)
def test_a_certificate_is_confirmed_violated_or_undecided(n: int, lost: int, outcome: str) -> None:
    """The position of the interval relative to the certified 1 % decides, and few inputs never suffice."""
    remote, cascade = np.ones(n, bool), np.arange(n) >= lost
    document = some_document()
    certified = replace(document, certificate=Certificate(0.01, 0.05, 0.0, 0.3, 2000, 0.01))
    found = check_plan(certified, np.zeros(n, bool), remote, cascade, cascade)
    assert found.outcome == outcome
    assert found.measured.value == pytest.approx(lost / n)
    assert (found.measured.low, found.measured.high) == pytest.approx(paired_difference_interval(remote, cascade))
    assert check_plan(document, np.zeros(n, bool), remote, cascade, cascade).outcome == "none"


def test_examples_belong_to_their_group(counted: Offload) -> None:
    """The groups are corrected by the remote, made wrong by it, and wrong on the device, six at most each."""
    v = counted.predictions
    wrong = int((~v.forward & ~v.local_correct).sum())
    (group,) = (one for one in counted.examples if one.title.startswith("Answered on the device and wrong"))
    assert f"{len(group.examples)} of {wrong}," in group.title
    assert len(group.examples) == min(6, wrong)
    for one in group.examples:
        local, true = one.caption.split(" ")[1], one.caption.rpartition(" ")[2]
        assert local != true
    (section,) = (one for one in offload_sections(counted) if one.examples)
    assert section.examples == counted.examples
    assert not any(one.examples for one in offload_sections(replace(counted, examples=())))


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        ("a text", str),
        (np.zeros((4, 5, 3), np.uint8), bytes),
        (np.zeros((4, 5), np.uint8), bytes),
        (np.full((1, 4, 5), 0.5, np.float32), bytes),
        (np.full((3, 4, 5), 2.0, np.float32), type(None)),
        (np.zeros(7, np.float32), type(None)),
    ],
)
def test_only_images_and_texts_are_shown(x: Any, kind: type) -> None:
    """Images are bytes, or floats in [0, 1] with the channels first."""
    assert isinstance(_content(x), kind)


def test_the_interval_of_a_difference_of_shares_has_its_coverage() -> None:
    """At least 93 % of 400 pairs of draws on independent inputs are covered."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        first, second = (proportion(float(rng.binomial(n, p) / n), n) for n, p in ((400, 0.84), (150, 0.76)))
        found = difference(second, first)
        held += found.low <= 0.08 <= found.high
    assert held >= 0.93 * 400


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_is_a_number_of_at_least_0(price: float) -> None:
    """The error names the price."""
    with pytest.raises(BenchmarkError, match="cost: expected a price of 0 or more, got"):
        Prices(price)
    with pytest.raises(BenchmarkError, match="cost per GB: expected a price of 0 or more, got"):
        Prices(0.0, price)


def test_a_cost_without_byte_counts_is_not_computed(counted: Offload) -> None:
    """A price per byte gives no sum without byte counts; a price per request alone does."""
    uncounted = replace(counted.served, sent=None, received=None, requests=None, sent_each=None, received_each=None)
    assert savings(uncounted, counted.n, Prices(1.0, 1.0)).spent is None
    assert savings(uncounted, counted.n, Prices(1.0)).spent_always == 1e6
    assert mean(np.array([100, 100])).value == 100


def _run(*arguments: str) -> int:
    parser = ArgumentParser()
    configure(parser)
    return execute(parser.parse_args(arguments))


def _found(folder: Path) -> Mapping[str, Any]:
    document: dict[str, Any] = json.loads((folder / "result.json").read_text())
    found = document.get("offload", document.get("found", document))
    return dict(found.get("offload", found))


def test_the_command_resumes(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run calls the remote for no stored input and says so; `--fresh` calls it again."""
    arguments = [str(pair / "local.onnx"), "--remote", str(pair / "remote.onnx"), "--data", str(pair / "test.npz")]
    arguments += ["--deadline", "30", "--cost", "0.5", "--out", str(tmp_path)]
    assert _run(*arguments) == 0
    assert "from an earlier run" not in capsys.readouterr().err
    first = _found(tmp_path)
    assert _run(*arguments) == 0
    assert "for 400 of 400 inputs are from an earlier run" in capsys.readouterr().err
    assert _found(tmp_path)["strategies"] == first["strategies"]
    assert _run(*arguments, "--fresh") == 0
    assert "from an earlier run" not in capsys.readouterr().err


def test_a_certificate_is_tested_in_the_findings(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a certified file, the findings show the bound, the measured loss and the conclusion."""
    certified = tmp_path / "certified.onnx"
    arguments = ["calibrate", str(pair / "corner.onnx"), "--remote", str(pair / "remote.onnx")]
    arguments += ["--data", str(pair / "calibration.npz"), "--certify", "0.05", "-o", str(certified)]
    assert main(arguments) == 0
    report = tmp_path / "report"
    assert _run(
        str(certified), "--remote", str(pair / "remote.onnx"), "--data", str(pair / "test.npz"), "--out", str(report)
    ) == 0  # fmt: skip
    check = _found(report)["plan_check"]
    assert (check["loss"], check["risk"]) == (0.05, 0.05)
    assert check["outcome"] in ("held", "inconclusive")
    assert "Certified: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--deadline", "0", "seconds above 0, at most a day, got '0'"),
        ("--deadline", "nan", "got 'nan'"),
        ("--cost", "-1", "a price of 0 or more, such as 0.002, got '-1'"),
        ("--cost-per-gb", "much", "got 'much'"),
    ],
)
def test_an_option_without_effect_is_refused(
    flag: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the option, the value found and the value expected."""
    with pytest.raises(SystemExit):
        _run("f.onnx", "--remote", "r", "--data", "d", f"{flag}={value}")
    assert f"argument {flag}: expected" in (said := capsys.readouterr().err)
    assert message in said


def test_saved_scores_cannot_serve_as_remote(pair: Path) -> None:
    """The served run needs a remote that answers."""
    with pytest.raises(BenchmarkError, match="--remote: expected an address or an ONNX file"):
        _run(str(pair / "local.onnx"), "--remote", "saved.npy", "--data", str(pair / "test.npz"))


def test_data_is_checked_before_the_remote_is_called(pair: Path, tmp_path: Path, data: LabelledData) -> None:
    """Unknown classes and too few inputs are refused although no server listens at the address."""
    arguments = [str(pair / "local.onnx"), "--remote", "http://127.0.0.1:9/v2/models/none", "--data"]
    images = np.asarray(data.inputs)
    np.savez(tmp_path / "strange.npz", x=images, y=data.labels, names=np.array(["cat", "dog", "ant"]))
    np.savez(tmp_path / "few.npz", x=images[:9], y=data.labels[:9])
    with pytest.raises(BenchmarkError, match=r"classes of the model \(red, green, blue\), got cat, dog, ant"):
        _run(*arguments, str(tmp_path / "strange.npz"))
    with pytest.raises(BenchmarkError, match="data: expected at least 10 labelled inputs, got 9"):
        _run(*arguments, str(tmp_path / "few.npz"))


def test_models_that_always_agree_have_no_area(pair: Path, data: LabelledData) -> None:
    """With the local model as the remote, the report says so and contains no NaN."""
    same = pair / "corner.onnx"
    remote = connect(same)
    assert remote is not None
    scores = np.asarray(remote.infer(np.asarray(data.inputs), Deadline.after(60)))
    result = measure_offload(pair / "local.onnx", data, scores, remote=same, deadline=30)
    assert result.predictions.merged["replace"].tolist() == result.predictions.local_correct.tolist()
    assert result.areas["advantage, replace"] is None
    told = offload_summary(result)
    assert "none: forwarding changes nothing" in told
    assert "nan" not in told
    json.dumps(plain(offload_document(result)), allow_nan=False)


class Elsewhere:
    """A remote at an address whose model can be exchanged; without a model, it fails."""

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self.asked = 0
        self.lasts = 10**9

    def infer(self, inputs: Any, deadline: Deadline) -> Any:
        """Ask the model of the moment."""
        self.asked += len(inputs)
        if self.asked > self.lasts:
            raise RemoteError("HTTP 401: no token")
        remote = connect(self.path)
        assert remote is not None
        return remote.infer(inputs, deadline)

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def elsewhere(pair: Path, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """Return what answers at the address of `_elsewhere`."""
    remote = Elsewhere(pair / "remote.onnx")
    monkeypatch.setattr(commands, "remote_of", lambda _: remote)
    return remote


def _elsewhere(pair: Path, out: Path, *further: str) -> int:
    arguments = [str(pair / "local.onnx"), "--remote", "http://user:word@large/v2/models/large?key=1"]
    return _run(*arguments, "--data", str(pair / "test.npz"), "--deadline", "30", "--out", str(out), *further)


def test_another_model_behind_the_address_is_asked_about_all_inputs(
    pair: Path, elsewhere: Elsewhere, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stored scores are used, and mentioned in the report, only if the remote still gives the same ones."""
    assert _elsewhere(pair, tmp_path) == 0
    accuracy = _found(tmp_path)["strategies"][1]["accuracy"]["value"]
    assert _found(tmp_path)["reused_scores"] == 0
    assert _elsewhere(pair, tmp_path) == 0
    assert _found(tmp_path)["reused_scores"] == 400
    assert "400 of 400 inputs are from an earlier run" in capsys.readouterr().out
    elsewhere.path = pair / "corner.onnx"
    assert _elsewhere(pair, tmp_path) == 0
    assert "all are asked again" in capsys.readouterr().err
    assert _found(tmp_path)["reused_scores"] == 0
    assert _found(tmp_path)["strategies"][1]["accuracy"]["value"] < accuracy


def test_a_remote_that_answers_no_forward_is_exit_code_3(
    pair: Path, elsewhere: Elsewhere, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summary and the result have its reason; a remote that fails from the start ends the command."""
    elsewhere.lasts = 400
    assert _elsewhere(pair, tmp_path) == 3
    said = capsys.readouterr()
    assert "the remote answered none of" in said.err
    assert "HTTP 401: no token" in said.err
    assert "HTTP 401: no token" in said.out
    assert "HTTP 401: no token" in _found(tmp_path)["served"]["failure"]
    with pytest.raises(BenchmarkError, match="HTTP 401: no token"):
        _elsewhere(pair, tmp_path)


def test_the_report_repeats_every_option_without_secrets(pair: Path, elsewhere: Elsewhere, tmp_path: Path) -> None:
    """Files with headers are named; what headers, addresses and proxies hold is not."""
    assert elsewhere.path
    further = ["--header-file", "headers.txt", "--header", "Key: secret", "--no-examples", "--cost", "0.5"]
    assert _elsewhere(pair, tmp_path, *further) == 0
    words = shlex.split(json.loads((tmp_path / "result.json").read_text())["command"])
    assert words[:3] == ["edgecascade", "bench", "offload"]
    pairs = dict(zip(words, [*words[1:], ""], strict=True))
    assert pairs["--remote"] == "http://large/v2/models/large"
    assert (pairs["--header-file"], pairs["--header"], pairs["--cost"]) == ("headers.txt", "Key: ...", "0.5")
    assert (pairs["--deadline"], pairs["--out"]) == ("30", str(tmp_path))
    assert "--no-examples" in words
    assert "--remote-output" not in words
