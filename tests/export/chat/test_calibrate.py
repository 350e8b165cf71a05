"""From prompts to `chat.json`: what is planned, written, told and kept secret."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from asked_endpoints import FakeEndpoint, completion, large, prompts_about, refusal, small
from edgecascade.calibration import CertifiedLoss, MostAccuracy, plan_task
from edgecascade.calibration.verifiers import Contains
from edgecascade.chat import ChatCascade
from edgecascade.chat.decision import ChatRule
from edgecascade.cli import main
from edgecascade.export import (
    AskedEndpoint,
    CalibratedChat,
    ChatReply,
    ExportError,
    calibrate_chat,
    plan_chat,
    read_replies,
)
from edgecascade.export.chat.calibrate import judge_replies
from edgecascade.runtime import Source
from edgecascade.types.document import ChatDocument, ChatScore
from edgecascade.types.errors import ArgumentError, CalibrationError

Serve = Callable[[Any], FakeEndpoint]
N = 150
TYPES = Path(__file__).parents[3] / "runtime" / "edgecascade" / "types"


def write_prompts(folder: Path, n: int = N) -> Path:
    """Write prompts as JSON lines."""
    path = folder / "prompts.jsonl"
    lines = (
        {"prompt": one.messages[0]["content"], "reference": one.reference, **one.other} for one in prompts_about(n)
    )
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def arguments(folder: Path, servers: tuple[FakeEndpoint, FakeEndpoint], *more: str) -> list[str]:
    """Return the arguments of the command."""
    local, remote = (server.url for server in servers)
    given = ["calibrate-chat", str(write_prompts(folder)), "--local", local, "--remote", remote]
    return [*given, "--judge", "contains", "-o", str(folder / "chat.json"), *(more or ("--offload-rate", "0.3"))]


def read(folder: Path) -> ChatDocument:
    """Return the document that was written."""
    return ChatDocument.from_json((folder / "chat.json").read_text(), "chat.json")


def test_the_command_writes_what_was_planned(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The document holds the plan of the replies that the file of replies has."""
    servers = serve(small), serve(large)
    assert main(arguments(tmp_path, servers, "--offload-rate", "0.3", "--score", "mean")) == 0
    document, replies = read(tmp_path), read_replies(tmp_path / "chat.replies.jsonl")
    prompts = prompts_about(N)
    pairs = [(replies[one.digest].local, replies[one.digest].remote) for one in prompts]
    score = np.array([ChatScore("mean")(one.logprobs) for one, _ in pairs if one and one.logprobs])
    values = [
        Contains()([one.text for one in side if one], [one.reference for one in prompts])
        for side in zip(*pairs, strict=True)
    ]
    plan = plan_task({"mean": score}, values[0], values[1], MostAccuracy(0.3))
    assert document.policy == plan.record
    assert document.operating_curve == plan.policy.curve
    assert document.calibration == plan.calibration
    assert document.remote_value == plan.remote
    assert document.certificate is None
    assert (document.judge, document.score, document.turns) == ("contains", ChatScore("mean"), (("user",),))
    assert document.fields == {"temperature": 0, "max_tokens": 256}
    local, remote = document.local, document.remote
    assert (local.url, local.model, local.reported) == (servers[0].url, None, "small-1")
    assert (remote.url, remote.model, remote.reported) == (servers[1].url, None, "large-1")
    assert 0.2 < document.policy.chosen.offload_rate <= 0.3
    told = capsys.readouterr().out
    assert document.policy.chosen.in_words("mean value") in told
    assert main(["inspect", str(tmp_path / "chat.json")]) == 0
    assert {"small-1", "large-1", "contains"} <= {*re.findall(r"[\w-]+", capsys.readouterr().out)}
    for wrong in ("--verify", "--vectors"):
        assert main(["inspect", str(tmp_path / "chat.json"), wrong]) == 2
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "chat.json"), "--json"]) == 0
    assert ChatDocument.from_json(capsys.readouterr().out, "out") == document


def test_commands_for_models_say_what_the_file_is(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They name the command that takes it."""
    assert main(arguments(tmp_path, (serve(small), serve(large)))) == 0
    file = str(tmp_path / "chat.json")
    capsys.readouterr()
    assert main(["recalibrate", file, "--offload-rate", "0.2", "-o", str(tmp_path / "other.json")]) == 2
    assert "calibrate-chat" in capsys.readouterr().err
    assert main(["run", file, str(tmp_path / "prompts.jsonl")]) == 2
    assert "edgecascade gateway" in capsys.readouterr().err


def test_a_written_file_follows_the_schema(serve: Serve, tmp_path: Path) -> None:
    """Every key is in the schema, with either map and with a certificate; what readers need is required."""
    names = ("chat-endpoints", "task-model", "cascade-model")
    read = [json.loads((TYPES / f"{name}.schema.json").read_text()) for name in names]
    registry: Any = Registry().with_resources([(one["$id"], Resource.from_contents(one)) for one in read])
    Draft202012Validator.check_schema(read[0])
    schema = Draft202012Validator(read[0], registry=registry)
    servers = serve(small), serve(large)
    for calibrator in ("platt", "map"):
        more = ("--certify", "0.2", "--calibrator", calibrator, "--remote-price", "1,2", "--remote-model", "m")
        assert main(arguments(tmp_path, servers, *more)) == 0
        document = json.loads((tmp_path / "chat.json").read_text())
        schema.validate(document)
        assert document.keys() == read[0]["properties"].keys() == {*read[0]["required"]}
        assert document["remote"].keys() == read[0]["$defs"]["side"]["properties"].keys()
        for part, key in (("policy", "edges"), ("score", "kind"), ("calibration", "method")):
            without = {name: value for name, value in document[part].items() if name != key}
            assert not schema.is_valid({**document, part: without})


def test_another_objective_needs_no_request(serve: Serve, tmp_path: Path) -> None:
    """Nor does another judge or score; the plans differ."""
    servers = serve(small), serve(large)
    assert main(arguments(tmp_path, servers)) == 0
    first, asked = read(tmp_path), [len(server.requests) for server in servers]
    assert asked == [N, N]
    for more in (
        ("--offload-rate", "0.1"),
        ("--certify", "0.2", "--risk", "0.1"),
        ("--max-loss", "0.05"),
        ("--offload-rate", "0.3", "--judge", "token-f1"),
        ("--offload-rate", "0.3", "--score", "minimum"),
        ("--while-it-helps", "--groups", "half", "--max-group-loss", "0.5"),
        ("--offload-rate", "0.3", "--weights", "weight"),
    ):
        assert main(arguments(tmp_path, servers, *more)) == 0
        assert read(tmp_path) != first
    assert [len(server.requests) for server in servers] == asked


def test_a_certificate_is_about_the_mean_on_all_replies(serve: Serve, tmp_path: Path) -> None:
    """A choice of the score by the same replies would cost some of them."""
    assert main(arguments(tmp_path, (serve(small), serve(large)), "--certify", "0.2")) == 0
    document = read(tmp_path)
    assert document.certificate is not None
    assert (document.certificate.n, document.score.kind) == (N, "mean")


def test_replies_are_scored_whole_or_by_their_beginning(serve: Serve, tmp_path: Path) -> None:
    """As the gateway decides: up to 64 tokens, else by the first 32; so what comes later changes nothing."""

    def long(end: float) -> Callable[[dict[str, Any]], Any]:
        def reply(asked: dict[str, Any]) -> Any:
            found = small(asked)
            start = [one["logprob"] for one in found["choices"][0]["logprobs"]["content"]]
            return completion(found["choices"][0]["message"]["content"], [*(start * 11)[:32], *[end] * 40])

        return reply

    documents = []
    for end in (-0.001, -30.0):
        folder = tmp_path / str(end)
        folder.mkdir()
        assert main(arguments(folder, (serve(long(end)), serve(large)))) == 0
        documents.append(read(folder))
    assert documents[0].policy == documents[1].policy


def test_the_gateway_forwards_as_planned(serve: Serve, tmp_path: Path) -> None:
    """The rule that it applies to the recorded tokens forwards the share of the operating point."""
    assert main(arguments(tmp_path, (serve(small), serve(large)), "--offload-rate", "0.4")) == 0
    document, rule = read(tmp_path), ChatRule(read(tmp_path))
    logprobs = [one.local.logprobs for one in read_replies(tmp_path / "chat.replies.jsonl").values() if one.local]
    decisions = [rule(one or ()) for one in logprobs]
    assert np.mean([one.forward for one in decisions]) == document.policy.chosen.offload_rate > 0.3
    expected = document.calibration.confidence(np.array([document.score(one or ()) for one in logprobs]))
    np.testing.assert_allclose([one.confidence for one in decisions], expected, atol=1e-6)


def test_the_endpoints_work_as_one_from_the_file(serve: Serve, tmp_path: Path) -> None:
    """`ChatCascade` needs nothing but the file, and the side that answers is the one that the replies decide for."""
    assert main(arguments(tmp_path, (serve(small), serve(large)), "--offload-rate", "0.4")) == 0
    rule, replies = ChatRule(read(tmp_path)), read_replies(tmp_path / "chat.replies.jsonl")
    with ChatCascade.load(tmp_path / "chat.json") as cascade:
        for prompt in prompts_about(20):
            kept = replies[prompt.digest]
            assert kept.local is not None
            assert kept.remote is not None
            answer = cascade.complete(list(prompt.messages), temperature=0, max_tokens=256)
            forwarded = rule(kept.local.logprobs or ()).forward
            assert answer.text == (kept.remote if forwarded else kept.local).text
            assert (answer.source is Source.REMOTE) == forwarded


def test_the_prompts_are_not_overwritten(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asked then."""
    servers = serve(small), serve(large)
    prompts = write_prompts(tmp_path)
    before = prompts.read_bytes()
    assert main([*arguments(tmp_path, servers), "-o", str(prompts)]) == 2
    assert "--out: expected another file than the prompts" in capsys.readouterr().err
    assert prompts.read_bytes() == before


def test_a_gguf_file_is_served_in_the_process(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only when there is something to ask; the document names the file, which the gateway can serve as well."""
    started: list[str] = []
    servers: list[FakeEndpoint] = []

    class Llama:
        headers = {"Authorization": "Bearer random"}  # noqa: RUF012

        def __init__(self, path: str) -> None:
            started.append(path)
            servers.append(serve(small))
            self.url = servers[-1].url

    file = tmp_path / "small.gguf"
    given = [*arguments(tmp_path, (serve(small), serve(large))), "--local", str(file)]
    assert main(given) == 2
    assert "--local: " in capsys.readouterr().err
    file.write_bytes(b"GGUF")
    monkeypatch.setattr("edgecascade.chat.llama.LlamaServer", Llama)
    assert main(given) == 0
    assert main(given) == 0
    assert started == [str(file)]
    assert read(tmp_path).local.url == str(file)
    assert {one["authorization"] for one in servers[0].headers} == {"Bearer random"}
    file.write_bytes(b"GGUF of another model")
    assert main(given) == 0
    assert len(started) == 2


def test_headers_are_written_nowhere(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each side gets its own headers, and neither files nor output have them, nor the query of an address."""
    servers = serve(small), serve(large)
    secrets = {"local": "local-secret-0123", "remote": "remote-secret-4567"}
    given = arguments(tmp_path, servers, "--offload-rate", "0.3", "--remote", f"{servers[1].url}?key=query-secret-89")
    for side, secret in secrets.items():
        (tmp_path / side).write_text(f"Authorization: Bearer {secret}\n")
        given += [f"--{side}-header-file", str(tmp_path / side)]
        (tmp_path / side).chmod(0o600)
    assert main(given) == 0
    for server, secret in zip(servers, secrets.values(), strict=True):
        assert {one["authorization"] for one in server.headers} == {f"Bearer {secret}"}
    written = [(tmp_path / name).read_text() for name in ("chat.json", "chat.replies.jsonl")]
    out = capsys.readouterr()
    options = " ".join(f"--{side}-header-file {tmp_path / side}" for side in secrets)
    gateway = f"edgecascade gateway {tmp_path / 'chat.json'} --port 8001"
    assert f"{gateway} {options} --remote '{servers[1].url}?...'\n" in out.out
    assert not re.search("secret", " ".join([*written, out.out, out.err]))
    assert read(tmp_path).remote.url == servers[1].url


def test_what_is_left_out_is_told(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Replies without scores, prompts without replies, and replies that were cut off."""

    def partly(asked: dict[str, Any]) -> Any:
        number = int(asked["messages"][-1]["content"].split()[-1])
        if number % 10 == 3:
            return completion("x", [None])
        if number % 50 == 4:
            return refusal(400, "the prompt is too long")
        found = small(asked)
        found["choices"][0]["finish_reason"] = "length" if number == 8 else "stop"
        return found

    assert main(arguments(tmp_path, (serve(partly), serve(large)))) == 0
    document, told = read(tmp_path), capsys.readouterr().out
    assert document.calibration.n == N - 15 - 3
    for expected in ("15 of 147 local replies", "no reply to 3 prompts", "1 of 147 local replies end"):
        assert expected in told
        assert any(expected in one for one in document.policy.advice)


def test_a_budget_ends_in_a_plan_or_a_refusal(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On what was asked if that is enough; a larger one then pays for the rest only."""
    servers = serve(small), serve(large)
    cost = (1 * 20 + 2 * 10) / 1e6
    more = ("--offload-rate", "0.3", "--remote-price", "1,2", "--max-tokens", "20")
    assert main(arguments(tmp_path, servers, *more, "--max-cost", str(5 * cost))) == 2
    assert "max_cost: expected enough for at least 13 prompts" in capsys.readouterr().err
    assert not (tmp_path / "chat.json").exists()
    assert main(arguments(tmp_path, servers, *more, "--max-cost", str(60 * cost))) == 0
    asked = len(servers[1].requests)
    assert 50 <= asked <= 65
    assert read(tmp_path).calibration.n == asked
    assert f"{asked} of {N} prompts" in capsys.readouterr().out
    assert main(arguments(tmp_path, servers, *more, "--max-cost", "1")) == 0
    assert (read(tmp_path).calibration.n, len(servers[1].requests)) == (N, N)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--judge", "nonsense"), "--judge: expected"),
        (("--local", "model.onnx"), "--local: expected http"),
        (("--remote", "http://127.0.0.1/v2/models/large"), "--remote: expected http"),
        (("--remote", "large.gguf"), "--remote: expected http"),
        (("--remote", "http://user:password@127.0.0.1/v1"), "--remote: expected an address without user:password@"),
        (("--max-cost", "1"), "--max-cost: expected --local-price or --remote-price"),
        (("--weights", "half"), "weight: expected numbers"),
        (("--local-header-file", "missing"), "--local-header-file: cannot read missing"),
        (("--groups", "subject"), "expected a field `subject` in every prompt"),
        (("--judge", "number", "--replies", "bad.jsonl"), "not a line of a replies file"),
        (("--replies", "prompts.jsonl"), "--replies: expected another file than the prompts"),
        (("--replies", "others.jsonl"), "and `local` or `remote`, got prompt, reference"),
        (("--replies", "chat.json"), "--out: expected another file than --replies"),
        (("--replies", "link.jsonl"), "--out: expected another file than --replies"),
        (("--replies", "."), "--replies: expected a file to write, got the folder"),
        (("--replies", "bad.jsonl/replies.jsonl"), "--replies: expected a folder that can be written to"),
        (("-o", "."), "--out: expected a file to write, got the folder"),
        (("--judge", "choice"), "references: input 0: expected a letter or the option's text"),
    ],
)
def test_wrong_arguments_are_errors_before_anything_is_asked(
    serve: Serve,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sentence names the argument."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text("nonsense\n")
    (tmp_path / "link.jsonl").symlink_to("chat.json")  # which does not exist yet
    (tmp_path / "others.jsonl").write_text('{"prompt": "Hi", "reference": 3}\n')
    servers = serve(small), serve(large)
    given = arguments(tmp_path, servers, "--offload-rate", "0.3", *more)
    if more[1] == "choice":
        (tmp_path / "prompts.jsonl").write_text('{"prompt": "Hi", "reference": 3}\n')
    assert main(given) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert "asking" not in said
    assert servers[0].requests == servers[1].requests == []


@pytest.mark.parametrize("repeated", [False, True])
def test_too_few_prompts_are_refused_before_anything_is_asked(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str], repeated: bool
) -> None:
    """Those that repeat an earlier one do not count."""
    servers = serve(small), serve(large)
    given = arguments(tmp_path, servers)
    prompts = write_prompts(tmp_path, 12)
    if repeated:
        prompts.write_text(prompts.read_text() * 2)
    assert main(given) == 2
    said = capsys.readouterr().err
    assert "prompts: expected at least 13 that are different, got 12" in said
    assert "asking" not in said
    assert servers[0].requests == servers[1].requests == []


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999"])
def test_fields_are_what_json_can_hold(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A number that no server can read is refused, by the command and in Python."""
    with pytest.raises(SystemExit) as ended:
        main(["calibrate-chat", "p.jsonl", "--fields", f'{{"top_p": {value}}}'])
    assert ended.value.code == 2
    assert "--fields: expected a JSON object" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="fields: expected values that JSON can hold"):
        AskedEndpoint("remote", "http://127.0.0.1:1/v1", fields={"top_p": float(value)})


def test_an_option_that_is_nearly_one_is_told_with_those_meant(capsys: pytest.CaptureFixture[str]) -> None:
    """Another is not; nothing is asked."""
    given = [
        "calibrate-chat",
        "p.jsonl",
        "--local",
        "a",
        "--remote",
        "b",
        "--judge",
        "exact",
        "-o",
        "c",
        "--max-loss",
        "1",
    ]
    for wrong, meant in (("--header-file", {"--local-header-file", "--remote-header-file"}), ("--zzz", set[str]())):
        with pytest.raises(SystemExit) as ended:
            main([*given, wrong, "x"])
        assert ended.value.code == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert {*re.findall(r"--[a-z-]+-file", said.partition(";")[2])} == meant


def test_an_interruption_says_how_to_go_on(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends the command with 130; the same command asks for the rest only."""
    count = 0

    def interrupting(asked: dict[str, Any]) -> Any:
        nonlocal count
        count += 1
        if count == 40:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return large(asked)

    servers = serve(small), serve(interrupting)
    assert main(arguments(tmp_path, servers)) == 130
    said = capsys.readouterr().err
    assert not (tmp_path / "chat.json").exists()
    kept = len((tmp_path / "chat.replies.jsonl").read_text().splitlines())
    assert f"{kept} of {2 * N} replies are kept, in {tmp_path / 'chat.replies.jsonl'}" in said
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert main(arguments(tmp_path, servers)) == 0
    (new,) = re.findall(r"(\d+) of them new", capsys.readouterr().out)
    assert 2 * N - kept - 8 <= int(new) <= 2 * N - kept  # up to eight were under way


def test_the_light_install_is_enough(serve: Serve, tmp_path: Path) -> None:
    """It needs neither an engine nor the gateway's server, nor what only tables and pictures need."""
    missing = "aiohttp,onnx,onnxruntime,PIL,pyarrow,torch,transformers,matplotlib,sklearn,xllamacpp"
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in sys.argv[1].split(','):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from edgecascade.cli import main\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    given = arguments(tmp_path, (serve(small), serve(large)))
    ran = subprocess.run([sys.executable, "-c", code, missing, *given], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert read(tmp_path).calibration.n == N
    look = [sys.executable, "-c", code, missing, "inspect", str(tmp_path / "chat.json")]
    ran = subprocess.run(look, capture_output=True, text=True)
    assert (ran.returncode, "remote" in ran.stdout) == (0, True), ran.stderr
    missing = f"{missing},scipy"
    command = [sys.executable, "-c", code, missing]
    ran = subprocess.run([*command, "calibrate-chat", "--help"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    servers = serve(small), serve(large)
    ran = subprocess.run([*command, *arguments(tmp_path, servers)], capture_output=True, text=True)
    assert ran.returncode == 2
    assert "calibrate-chat needs scipy: pip install 'edgecascade[calibration]'" in ran.stderr
    assert servers[0].requests == servers[1].requests == []


def test_what_needs_an_engine_says_how_to_install_it() -> None:
    """Each name of the package, where onnx is missing; those of chat endpoints can be imported."""
    code = (
        "import sys\n"
        "sys.modules['onnx'] = None\n"
        "from edgecascade.export import calibrate_chat, read_prompts\n"
        "try:\n"
        "    from edgecascade.export import calibrate\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error.name, error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "onnx onnx is not installed: pip install 'edgecascade[export]'\n"


def test_a_function_judges(serve: Serve, tmp_path: Path) -> None:
    """A file of one's own gives values, and what it gets are texts and references."""
    (tmp_path / "mine.py").write_text(
        "def half(replies, references):\n"
        "    return [0.5 + 0.5 * (r in t) for t, r in zip(replies, references, strict=True)]\n"
    )
    more = ("--offload-rate", "0.3", "--judge", f"{tmp_path / 'mine.py'}:half")
    assert main(arguments(tmp_path, (serve(small), serve(large)), *more)) == 0
    assert read(tmp_path).calibration.value.low > 0.5


def test_a_judge_of_ones_own_gets_the_options() -> None:
    """If it has a parameter of that name: those of the prompts whose replies it judges."""
    prompts = [replace(one, options=("no", one.reference)) for one in prompts_about(40)]
    local = [None if at % 4 == 0 else ChatReply(f"{at % 2 + 1}", "m", logprobs=(-at / 40,)) for at in range(40)]
    remote = [ChatReply("2", "m") for _ in range(40)]

    def chosen(replies: Any, references: Any, options: Any = ()) -> list[bool]:
        given = zip(replies, references, options, strict=True)
        return [some[int(reply) - 1] == reference for reply, reference, some in given]

    found = plan_chat(prompts, local, remote, chosen, MostAccuracy(0.5))
    assert found.remote_value.tolist() == [1.0] * 30
    assert found.local_value.tolist() == [at % 2 for at in range(40) if at % 4]
    np.testing.assert_array_equal(judge_replies(Contains(), prompts[:1], ["no"], model="m"), [0.0])


def test_the_function_takes_prompts_and_addresses(serve: Serve, tmp_path: Path) -> None:
    """It returns what the command prints, and writes the same file."""
    servers = serve(small), serve(large)
    assert main(arguments(tmp_path, servers)) == 0
    document = read(tmp_path)
    written = calibrate_chat(
        prompts_about(N),
        tmp_path / "other.json",
        local=servers[0].url,
        remote=servers[1].url,
        judge=Contains(),
        objective=MostAccuracy(0.3),
        replies=tmp_path / "chat.replies.jsonl",
    )
    assert isinstance(written, CalibratedChat)
    assert written.document == document
    assert (written.asked.new, len(written.planned.rows)) == (0, N)
    asked = len(servers[0].requests)
    endpoints: Any = {"local": servers[0].url, "remote": servers[1].url}
    prompts = tmp_path / "prompts.jsonl"
    new = tmp_path / "new.json"
    for out, kept in ((tmp_path, None), (prompts, None), (new, tmp_path), (new, new)):
        with pytest.raises(ExportError, match=r"^(out|replies): expected"):
            calibrate_chat(prompts, out, judge="contains", objective=MostAccuracy(0.3), replies=kept, **endpoints)
    assert (len(servers[0].requests), len(read_replies(tmp_path / "chat.replies.jsonl"))) == (asked, N)
    with pytest.raises(ArgumentError, match="score: expected auto, mean"):
        plan_chat([], [], [], Contains(), MostAccuracy(0.3), score="median")


def test_weights_and_groups_are_those_of_the_prompts_that_count() -> None:
    """What is left out takes its weight and its group with it."""
    prompts = prompts_about(60)
    rng = np.random.default_rng(0)
    local = [ChatReply(str(at if rng.random() < 0.5 else -1), "m", logprobs=(-rng.random(),)) for at in range(60)]
    remote = [ChatReply(str(at), "m") for at in range(60)]
    weight, groups = rng.random(60) + 0.5, np.array([one.other["half"] for one in prompts])
    options: dict[str, Any] = {"judge": Contains(), "objective": MostAccuracy(0.3)}
    gone = [None if at % 7 == 0 else one for at, one in enumerate(local)]
    found = plan_chat(prompts, gone, remote, weight=weight, groups=groups, **options)
    rows = [at for at in range(60) if at % 7]
    assert found.rows.tolist() == rows
    few: Any = [[some[at] for at in rows] for some in (prompts, local, remote)]
    alone = plan_chat(*few, weight=weight[rows], groups=groups[rows], **options)
    assert found.plan.to_dict() == alone.plan.to_dict()
    assert found.plan.policy.groups is not None
    assert found.plan.effective_n is not None


def test_copies_of_a_prompt_are_no_evidence() -> None:
    """The plan is that of the different prompts, whatever the references of the copies; a certificate, too."""
    prompts = prompts_about(80)
    rng = np.random.default_rng(1)
    local = [ChatReply(str(at if rng.random() < 0.6 else -1), "m", logprobs=(-rng.random(),)) for at in range(80)]
    remote = [ChatReply(str(at), "m") for at in range(80)]
    order = rng.permutation(np.r_[np.arange(80), np.arange(80), np.arange(40)])
    _, firsts = np.unique(order, return_index=True)
    several = [prompts[at] for at in order]
    last = int(np.flatnonzero(order == order[firsts[0]])[-1])
    several[last] = replace(several[last], reference="another")
    ours, theirs = ([some[at] for at in order] for some in (local, remote))
    options: dict[str, Any] = {"judge": Contains(), "objective": MostAccuracy(0.3), "score": "mean"}
    found = plan_chat(several, ours, theirs, weight=order + 1.0, **options)
    assert sorted(found.rows.tolist()) == sorted(firsts.tolist())
    kept: Any = [[some[at] for at in order[found.rows]] for some in (prompts, local, remote)]
    alone = plan_chat(*kept, weight=order[found.rows] + 1.0, **options)
    assert replace(found.plan.record, advice=()) == replace(alone.plan.record, advice=())
    assert found.plan.calibration == alone.plan.calibration
    assert len(found.plan.warnings) == len(alone.plan.warnings) + 1
    with pytest.raises(ExportError, match=r"at least 13 .* got 1 of 400"):
        plan_chat(prompts[:1] * 400, local[:1] * 400, remote[:1] * 400, Contains(), CertifiedLoss(0.1))


def test_too_few_replies_are_refused() -> None:
    """With what there is, and why the others do not count."""
    prompts = prompts_about(20)
    local = [ChatReply("x", "m", unscored="the reply has none")] * 20
    with pytest.raises(ExportError, match=r"at least 13 .* got 0 of 20; 20 local replies have no score: the reply has"):
        plan_chat(prompts, local, local, Contains(), MostAccuracy(0.3))
    same = [ChatReply("x", "m", logprobs=(-1.0,))] * 20
    with pytest.raises(CalibrationError, match="score: expected different numbers"):
        plan_chat(prompts, same, same, Contains(), CertifiedLoss(0.1))


def test_an_unknown_option_is_refused_before_anything_is_asked(serve: Serve, tmp_path: Path) -> None:
    """It would otherwise be found by the plan, when all replies are paid for."""
    from edgecascade.calibration import MostAccuracy
    from edgecascade.export import calibrate_chat
    from edgecascade.export.chat.prompts import ChatPrompt

    servers, prompts = (serve(small), serve(large)), [ChatPrompt(({"role": "user", "content": "Hi"},), "1")]
    with pytest.raises(ArgumentError, match=r"options: .*got fields"):
        calibrate_chat(
            prompts,
            tmp_path / "chat.json",
            local=servers[0].url,
            remote=servers[1].url,
            judge="contains",
            objective=MostAccuracy(0.3),
            fields={"max_tokens": 3},
        )
    assert servers[0].requests == servers[1].requests == []
