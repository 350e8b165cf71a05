"""`bench chat`: the plan and its rivals choose among the same replies, by brute force and from command to page."""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asked_endpoints import FakeEndpoint, completion, fake_endpoint, large, small
from edgecascade.benchmarks.chat import ChatRows, chat_rows, measure_chat
from edgecascade.benchmarks.chat.measure import PLAN, RATES, ChatComparison
from edgecascade.benchmarks.chat.rivals import CASCADEFLOWS, RAW, ROUTER, SCORER, VERIFICATION, rivals
from edgecascade.benchmarks.chat.rows import verification
from edgecascade.calibration import MostAccuracy
from edgecascade.calibration.metrics import auroc
from edgecascade.calibration.verifiers import ExactMatch
from edgecascade.cli import main
from edgecascade.export import ChatPrompt, ChatReply, plan_chat
from edgecascade.export.chat.replies import RepliesToPrompt
from edgecascade.types.document import ChatDocument, ChatSide
from edgecascade.types.errors import BenchmarkError

N = 300


def replies(n: int = N, seed: int = 0, *, gap: bool = True) -> ChatRows:
    """Return rows of a local model that knows how sure it is and is worse at hard things, and a remote that is good."""
    rng = np.random.default_rng(seed)
    sure = rng.uniform(0.1, 0.95, n)
    hard = rng.random(n) < 0.5
    right = rng.random(n) < sure * np.where(hard, 0.5, 1.0)
    remote = rng.random(n) < 0.9 if gap else right
    kinds = np.where(hard, "hard", "easy")
    prompts = tuple(
        ChatPrompt(({"role": "user", "content": f"{kind} question {at}"},), "yes", other={"subject": str(kind)})
        for at, kind in enumerate(kinds)
    )
    logprobs = np.log(sure)[:, None] + np.array([0.02, -0.02])
    checks = np.where(right, 0.8, 0.4)
    return ChatRows(
        prompts=prompts,
        local=tuple(
            ChatReply("yes" if ok else "no", "small", logprobs=tuple(row))
            for ok, row in zip(right, logprobs.tolist(), strict=True)
        ),
        remote=tuple(ChatReply("yes" if ok else "no", "large") for ok in remote),
        checks=tuple(ChatReply("Yes.", "small", logprobs=(math.log(share), -1.0)) for share in checks),
        local_value=right.astype(np.float64),
        remote_value=remote.astype(np.float64),
    )


def planned(rows: ChatRows, rate: float = 0.3, **options: Any) -> ChatDocument:
    """Return the document of a plan on rows."""
    found = plan_chat(rows.prompts, rows.local, rows.remote, ExactMatch(), MostAccuracy(rate), **options)
    return ChatDocument(
        written_by="edgecascade",
        local=ChatSide("http://127.0.0.1:1/v1", None, "small"),
        remote=ChatSide("http://127.0.0.1:2/v1", None, "large"),
        judge="exact",
        score=found.score,
        fields={"temperature": 0},
        turns=(("user",),),
        calibration=found.plan.calibration,
        remote_value=found.plan.remote,
        policy=found.plan.record,
        operating_curve=found.plan.policy.curve,
        certificate=None,
        data_sha256="0",
    )


@pytest.fixture(scope="module")
def fit() -> ChatRows:
    """The rows of the plan."""
    return replies(seed=1)


@pytest.fixture(scope="module")
def test_rows() -> ChatRows:
    """Other rows."""
    return replies(seed=2)


@pytest.fixture(scope="module")
def found(fit: ChatRows, test_rows: ChatRows) -> ChatComparison:
    """The comparison of all rivals that need no other package."""
    return measure_chat(
        planned(fit, estimate="monotone", score="mean"),
        test_rows,
        rivals(fit, test_rows),
        draws=30,
        loss=0.1,
        knowledge=("easy",),
    )


def by_hand(rows: ChatRows, key: np.ndarray[Any, Any], rate: float) -> float:
    """Return the mean value when the lowest keys, which are all different, are forwarded."""
    sent = np.argsort(key)[: round(rate * len(rows))]
    value = rows.local_value.copy()
    value[sent] = rows.remote_value[sent]
    return float(value.mean())


def test_every_order_has_the_value_of_brute_force(found: ChatComparison, test_rows: ChatRows) -> None:
    """At each rate, for the raw score and the rivals; random is on the line, and nothing exceeds the oracle."""
    rules = {one.name: one for one in found.rules}
    mean = np.array([np.mean(one.logprobs or ()) for one in test_rows.local])
    local, remote = test_rows.local_value.mean(), test_rows.remote_value.mean()
    for at, rate in enumerate(RATES):
        assert rules[RAW].points[at].accuracy.value == pytest.approx(by_hand(test_rows, mean, rate))
        assert rules["random"].points[at].accuracy.value == pytest.approx(local + rate * (remote - local))
        values = [one.points[at].accuracy.value for one in found.rules]
        assert rules["oracle"].points[at].accuracy.value >= max(values)
        for one in found.rules:
            estimate = one.points[at].accuracy
            assert estimate.low <= estimate.value <= estimate.high
            assert estimate.n == N


def test_a_monotone_plan_has_the_order_of_its_score(found: ChatComparison) -> None:
    """So its area is that of the raw mean log-probability: a map that rises changes no order."""
    rules = {one.name: one for one in found.rules}
    ours, raw = rules[PLAN].area, rules[RAW].area
    assert ours is not None
    assert raw is not None
    assert ours.area.value == pytest.approx(raw.area.value)
    assert next(goal for goal in found.goals if "raw" in goal.name).met


def test_the_confidence_of_the_file_is_calibrated(found: ChatComparison) -> None:
    """Its error is small where that of the raw probability is large, which hard questions make too sure."""
    ece = {one.name: one.ece for one in found.rules if one.ece is not None}
    assert ece[PLAN].value < 0.05 < ece[RAW].value


def test_no_gap_is_said(fit: ChatRows) -> None:
    """Where the remote is as good as the local model, the comparison says so."""
    same = replies(seed=3, gap=False)
    assert not measure_chat(planned(fit), same, rivals(None, same)).honest_gap


def test_a_router_sees_prompts_and_a_scorer_replies(fit: ChatRows, test_rows: ChatRows) -> None:
    """The router tells hard from easy questions, the scorer right replies from wrong ones; both need rows to fit."""
    scores = rivals(fit, test_rows)
    assert auroc(scores[ROUTER], test_rows.subjects == "easy") > 0.9
    right = test_rows.local_value == 1
    assert scores[SCORER][right].min() > scores[SCORER][~right].max()
    assert set(rivals(None, test_rows)) == {RAW, VERIFICATION}


def test_self_verification_is_the_probability_of_yes(test_rows: ChatRows) -> None:
    """From the first token; a reply that is neither yes nor no says nothing."""
    said = [("Yes.", 0.8, 0.8), ("no", 0.9, 0.1), ("Maybe", 0.9, 0.5)]
    some = test_rows[np.arange(len(said))]
    checks = tuple(ChatReply(text, "small", logprobs=(math.log(share),)) for text, share, _ in said)
    given = ChatRows(some.prompts, some.local, some.remote, checks, some.local_value, some.remote_value)
    assert rivals(None, given)[VERIFICATION] == pytest.approx([wanted for *_, wanted in said])


def test_certificates_hold_over_draws(found: ChatComparison) -> None:
    """At most the risk of them is false, within the noise of the number of draws."""
    assert found.draws is not None
    assert found.draws.certified.value > 0.5
    assert found.draws.violated.low <= found.draws.risk


def test_results_by_subject_add_up(found: ChatComparison, test_rows: ChatRows) -> None:
    """Every row belongs to one subject."""
    assert {one.name for one in found.subjects} == {"hard", "easy"}
    assert sum(one.local.n * one.local.value for one in found.subjects) == pytest.approx(test_rows.local_value.sum())


def test_a_rival_with_other_rows_is_refused(fit: ChatRows, test_rows: ChatRows) -> None:
    """The error names it."""
    with pytest.raises(BenchmarkError, match="mine"):
        measure_chat(planned(fit), test_rows, {"mine": np.zeros(3)})


def test_cascadeflow_gets_the_prompt_the_reply_and_the_log_probabilities(
    test_rows: ChatRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of its two rows sees log-probabilities, the other does not; the real estimator runs in a slow test."""
    asked: list[tuple[str, str, str, Any]] = []

    class Estimator:
        def __init__(self, provider: str) -> None:
            self.provider = provider

        def estimate(self, response: str, *, query: str, logprobs: Any, **_: Any) -> Any:
            asked.append((self.provider, response, query, logprobs))
            return SimpleNamespace(final_confidence=0.25)

    module = SimpleNamespace(ProductionConfidenceEstimator=Estimator)
    package = SimpleNamespace(__spec__=SimpleNamespace(), __path__=[])
    monkeypatch.setitem(sys.modules, "cascadeflow", package)
    monkeypatch.setitem(sys.modules, "cascadeflow.quality", package)
    monkeypatch.setitem(sys.modules, "cascadeflow.quality.confidence", module)
    one = test_rows[np.arange(1)]
    scores = rivals(None, one)
    assert [scores[name].tolist() for name in CASCADEFLOWS] == [[0.25], [0.25]]
    reply = one.local[0]
    question = one.prompts[0].messages[0]["content"]
    assert asked == [
        ("vllm", reply.text, question, list(reply.logprobs or ())),
        ("ollama", reply.text, question, None),
    ]


def test_prompts_without_both_replies_are_left_out_and_counted(test_rows: ChatRows) -> None:
    """So are local replies without log-probabilities; without any reply there is an error."""
    prompts = test_rows.prompts[:4]
    whole, bare = ChatReply("yes", "m", logprobs=(-0.1,)), ChatReply("yes", "m")
    pairs = [(whole, bare), (bare, bare), (whole, None), (None, bare)]
    stored = {
        prompt.digest: RepliesToPrompt(prompt.digest, "yes", *pair) for prompt, pair in zip(prompts, pairs, strict=True)
    }
    found = chat_rows(prompts, stored, ExactMatch())
    assert (len(found), found.left_out, found.checks) == (1, 3, None)
    with pytest.raises(BenchmarkError, match="replies"):
        chat_rows(prompts, {}, ExactMatch())
    digest = ChatPrompt(verification(prompts[0], whole), None).digest
    checked = chat_rows(prompts[:1], {**stored, digest: RepliesToPrompt(digest, None, whole, None)}, ExactMatch())
    assert checked.checks == (whole,)


@pytest.fixture
def endpoints() -> Iterator[tuple[FakeEndpoint, FakeEndpoint]]:
    """A small model, which also verifies itself, and a large one."""

    def answers(asked: dict[str, Any]) -> dict[str, Any]:
        verify = len(asked["messages"]) > 1
        return completion("yes", [-0.1], model="small-1") if verify else small(asked)

    with ExitStack() as running:
        yield running.enter_context(fake_endpoint(answers)), running.enter_context(fake_endpoint(large))


def write(path: Path, numbers: range) -> str:
    """Write prompts whose references are their own numbers."""
    lines = ({"prompt": f"Say {at}", "reference": str(at), "subject": "ab"[at % 2]} for at in numbers)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(path)


@pytest.fixture
def calibrated(endpoints: tuple[FakeEndpoint, FakeEndpoint], tmp_path: Path) -> list[str]:
    """The arguments of a comparison with a calibrated file and other prompts."""
    local, remote = endpoints
    fit, out = write(tmp_path / "fit.jsonl", range(80)), str(tmp_path / "chat.json")
    arguments = ["calibrate-chat", fit, "--local", local.url, "--remote", remote.url, "--judge", "contains"]
    assert main([*arguments, "--offload-rate", "0.3", "-o", out]) == 0
    test = write(tmp_path / "test.jsonl", range(80, 140))
    return ["bench", "chat", out, "--data", test, "--fit", fit, "-o", str(tmp_path / "report")]


def test_the_command_asks_what_is_missing_and_writes_the_page(
    calibrated: list[str], endpoints: tuple[FakeEndpoint, FakeEndpoint], tmp_path: Path
) -> None:
    """Each endpoint is asked once about each prompt, a second run asks nothing, and page and JSON have every rule."""
    assert main([*calibrated, "--verify", "--draws", "5"]) == 0
    counts = [len(one.requests) for one in endpoints]
    assert counts == [80 + 60 + 60, 80 + 60]
    result = json.loads((tmp_path / "report" / "result.json").read_text())
    assert result["chat"]["n"] == result["offload"]["n"] == 60
    assert {PLAN, "random", "oracle", RAW, ROUTER, SCORER, VERIFICATION} <= set(result["chat"]["rules"])
    assert result["chat"]["draws"]["certified"]["n"] == 5
    page = (tmp_path / "report" / "report.html").read_text()
    assert all(name in page for name in (ROUTER, SCORER, VERIFICATION, RAW))
    assert main([*calibrated, "--verify"]) == 0
    assert [len(one.requests) for one in endpoints] == counts


def test_a_repeated_prompt_counts_once(calibrated: list[str], tmp_path: Path, capsys: Any) -> None:
    """As in the calibration: its reply is no further evidence. The first reference stands, and the rest are counted."""
    data = Path(calibrated[4])
    lines = data.read_text().splitlines(keepends=True)
    again = json.dumps({**json.loads(lines[0]), "reference": "no", "subject": "c"})
    data.write_text("".join([*lines, *lines[:20], f"{again}\n"]))
    assert main(calibrated) == 0
    assert "21 of 81 prompts repeat" in capsys.readouterr().err
    found = json.loads((tmp_path / "report" / "result.json").read_text())["chat"]
    assert found["n"] == 60
    assert set(found["subjects"]) == {"a", "b"}


def test_a_missing_package_of_the_router_is_named_before_anything_is_asked(
    calibrated: list[str], endpoints: tuple[FakeEndpoint, FakeEndpoint], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Without --fit, nothing needs it, and the page has no column for the router."""
    before = [len(one.requests) for one in endpoints]
    monkeypatch.setattr("edgecascade.benchmarks.commands.chat.find_spec", lambda _: None)
    assert main(calibrated) == 2
    assert "scikit-learn" in capsys.readouterr().err
    assert [len(one.requests) for one in endpoints] == before
    at = calibrated.index("--fit")
    assert main([*calibrated[:at], *calibrated[at + 2 :]]) == 0
    assert ROUTER not in capsys.readouterr().out


def test_endpoints_are_reached_as_they_are_now(
    calibrated: list[str], endpoints: tuple[FakeEndpoint, FakeEndpoint]
) -> None:
    """At another address than the file's; and the remote alone through a proxy, which is away here."""
    local, remote = endpoints
    before = len(local.requests), len(remote.requests)
    assert main([*calibrated, "--proxy", "http://127.0.0.1:1"]) != 0
    assert len(local.requests) > before[0]
    assert len(remote.requests) == before[1]
    with fake_endpoint(large) as moved:
        assert main([*calibrated, "--remote", f"{moved.url}?key=a"]) == 0
        assert len(moved.requests) == 60
    assert len(remote.requests) == before[1]


def test_nothing_is_asked_about_what_cannot_be_judged_or_kept(
    calibrated: list[str], endpoints: tuple[FakeEndpoint, FakeEndpoint], capsys: pytest.CaptureFixture[str]
) -> None:
    """A reference that the judge cannot use, and the prompts as the file of replies."""
    before, data = [len(one.requests) for one in endpoints], Path(calibrated[4])
    assert main([*calibrated, "--replies", str(data)]) == 2
    data.write_text(data.read_text() + '{"prompt": "Say it", "reference": {}}\n')
    assert main(calibrated) == 2
    said = capsys.readouterr().err
    assert "--replies: expected another file than --data" in said
    assert "references: input 60" in said
    assert [len(one.requests) for one in endpoints] == before


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({2: "absent.json"}, "absent.json"),
        ({4: "absent.jsonl"}, "absent.jsonl"),
        ({2: "{data}"}, "test.jsonl"),
        ({6: "{data}"}, "--data"),
        ({7: "--remote", 8: "ftp://host/v1"}, "--remote"),
        ({7: "--key", 8: "key.pem"}, "--key"),
    ],
)
def test_bad_input_ends_with_two(
    calibrated: list[str], changed: dict[int, str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence that names the argument or the file."""
    for at, value in changed.items():
        calibrated[at] = value.format(data=calibrated[4])
    capsys.readouterr()
    assert main(calibrated) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert named in said[0]
