"""The command line has help, and ends with one sentence and exit code 2 on each error."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecascade.cli import main
from edgecascade.runtime import OpenInferenceGrpc, TextPreprocessing, export_to_opentelemetry
from edgecascade.runtime.inputs import read_image
from edgecascade.runtime.text import TextInput

COMMANDS = (
    "export",
    "compare",
    "calibrate",
    "recalibrate",
    "tflite",
    "plan",
    "clean",
    "evaluate",
    "inspect",
    "run",
    "serve",
    "deploy",
    "calibrate-chat",
    "gateway",
    "bench",
)


def run(*arguments: object) -> int:
    """Run a command and return its exit code, including those of argparse."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Return a file of three inputs of logits: confident, uncertain, and NaN."""
    np.save(tmp_path / "x.npy", np.array([[5, 0, 0], [0, 0.5, 0], [np.nan, 0, 0]], np.float32))
    return tmp_path / "x.npy"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command is listed once."""
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert sorted(re.findall(r"^  ([a-z][a-z-]+) +[A-Z]", shown, re.MULTILINE)) == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "prog"),
    [
        (["run", "a.onnx", "b.png", "--nope"], "edgecascade run"),
        (["recalibrate", "a.onnx", "b.onnx", "-o", "c.onnx", "--offload-rate", "0.1"], "edgecascade recalibrate"),
        (["bench", "compare", "a.json", "b.json", "--nope"], "edgecascade bench compare"),
        (["bench", "--nope", "compare", "a.json", "b.json"], "edgecascade bench"),
        (["--nope", "run", "a.onnx", "b.png"], "edgecascade"),
    ],
)
def test_an_unknown_argument_is_an_error_of_its_command(
    arguments: list[str], prog: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The usage above the error is that of the command, with what it requires."""
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"usage: {prog} ")
    assert f"\n{prog}: error: unrecognized arguments: " in said


@pytest.mark.parametrize("others", [[], ["x.npy"]])
def test_a_file_that_is_taken_for_an_option_can_be_named(
    others: list[str], file: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error says both ways, and both work."""
    monkeypatch.chdir(inputs.parent)
    inputs.with_name("-x.npy").write_bytes(inputs.read_bytes())
    assert run("run", file, *others, "-x.npy") == 2
    said = capsys.readouterr().err
    assert "./-x.npy" in said
    assert " -- " in said
    assert run("run", file, *others, "./-x.npy") == run("run", file, *others, "--", "-x.npy") == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help has a usage line and an example."""
    assert run(command, "--help") == 0
    shown = capsys.readouterr().out
    assert "usage: edgecascade" in shown
    if command != "bench":
        assert f"  edgecascade {command} " in shown


@pytest.mark.parametrize(("command", "option"), [("run", "--hedge"), ("serve", "--cert"), ("plan", "--bins")])
def test_rare_options_appear_with_help_all(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` fits a screen of about 40 lines, and `--help-all` shows every option."""
    assert run(command, "--help") == 0
    short = capsys.readouterr().out
    assert run(command, "--help-all") == 0
    whole = capsys.readouterr().out
    assert len(short.splitlines()) <= 44
    assert option not in short
    assert option in whole
    assert set(re.findall(r"^  (--[a-z-]+)", short, re.MULTILINE)) - {"--help-all"} < set(
        re.findall(r"^  (--[a-z-]+)", whole, re.MULTILINE)
    )


def test_run_answers_every_input_with_a_line(file: Path, inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines are valid JSON without NaN; the totals are on standard error."""
    assert run("run", file, inputs) == 0
    shown = capsys.readouterr()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in shown.out.splitlines()]
    assert [line["name"] for line in lines][:2] == ["red", "green"]
    assert [line["reason"] for line in lines] == ["confident", "offline", "offline"]
    assert lines[2]["confidence"] is None
    assert shown.err == "3 answered: 1 locally, 2 to be forwarded (1 confident, 2 offline)\n"


def test_run_uses_a_remote_in_this_process(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An ONNX file can be the remote; with threshold 1 every input is forwarded."""
    arguments = ["--remote", pair / "remote.onnx", "--threshold", "1", "--deadline", "30"]
    assert run("run", pair / "local.onnx", pair / "test.npz", *arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 400
    assert {line["reason"] for line in lines} == {"offloaded"}


def test_run_reports_invalid_inputs(
    file: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are answered, and the exit code is 2."""
    np.save(tmp_path / "wide.npy", np.zeros((1, 4), np.float32))
    assert run("run", file, tmp_path / "wide.npy", inputs) == 2
    shown = capsys.readouterr()
    first, *others = (json.loads(line) for line in shown.out.splitlines())
    assert first["input"].endswith("wide.npy[0]")
    assert first["error"].startswith("x: ")
    assert [other["name"] for other in others[:2]] == ["red", "green"]
    assert shown.err.endswith("; 1 refused\n")


def test_inspect_shows_the_content_of_a_file(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It shows the figures of the document under headings, and the operating points with the chosen one marked."""
    assert run("inspect", pair / "local.onnx", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["labels"] == ["red", "green", "blue"]
    assert run("inspect", pair / "local.onnx") == 0
    shown = capsys.readouterr().out
    heads = re.findall(r"^  ([a-z0-9]+) ", shown, re.MULTILINE)
    assert list(dict.fromkeys(heads)) == [
        *("input", "classes", "body", "local", "remote", "policy", "curve", "by", "advice", "certificate")
    ]
    assert f"{document['calibration']['temperature']:.4f}" in shown
    assert f"{document['policy']['threshold']:+.4f}" in shown
    assert document["policy"]["objective"] in shown
    assert shown.count("<- chosen") == 1
    assert "on the calibration data; each input is judged by tables that others fitted" in shown


def test_names_in_a_file_cannot_steer_the_terminal(
    make_file: Callable[..., Path], inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters in class names are shown as escapes; JSON keeps the names."""
    labels = ["\x1b[2Jred", "gre\u202een", "blue\rblack\n  certificate 1 %"]
    file = make_file(labels=labels)
    assert run("inspect", file) == 0
    shown = capsys.readouterr().out
    assert not set("\x1b\u202e\r") & set(shown)
    assert all(one in shown for one in (r"\x1b[2Jred", r"gre\u202een", r"blue\rblack\n  certificate 1 %"))
    assert "certificate 1" not in [line[2:15] for line in shown.splitlines()]
    assert run("run", file, inputs) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["name"] == labels[0]
    assert run("inspect", "\x1b[2J.onnx") == 2
    assert r"\x1b[2J.onnx" in capsys.readouterr().err


WRONG = {
    "no command": (),
    "an unknown command": ("fly",),
    "no file": ("run",),
    "a missing file": ("inspect", "nowhere.onnx"),
    "missing inputs": ("run", "FILE", "nowhere.npy"),
    "a model that is none": ("inspect", "INPUTS"),
    "a deadline of nothing": ("run", "FILE", "INPUTS", "--deadline", "0"),
    "a deadline of no number": ("run", "FILE", "INPUTS", "--deadline", "nan"),
    "a deadline of text": ("run", "FILE", "INPUTS", "--deadline", "soon"),
    "a remote of no known form": ("run", "FILE", "INPUTS", "--remote", "http://host/large"),
    "a missing remote": ("run", "FILE", "INPUTS", "--remote", "large.onnx"),
    "a port of no server": ("serve", "FILE", "--port", "99999"),
    "a missing model to serve": ("serve", "nowhere.onnx"),
    "a budget of two": ("calibrate", "FILE", "--remote", "r", "--data", "d", "-o", "o", "--offload-rate", "2"),
    "two objectives": (
        *("calibrate", "FILE", "--remote", "r", "--data", "d", "-o", "o"),
        *("--offload-rate", "0.2", "--accuracy", "0.9"),
    ),
    "no objective": ("calibrate", "FILE", "--remote", "r", "--data", "d", "-o", "o"),
    "missing data": ("calibrate", "FILE", "--remote", "r", "--data", "d", "-o", "o", "--while-it-helps"),
    "a tolerance of no number": ("inspect", "FILE", "--verify", "--tolerance", "nan"),
    "a tolerance below nothing": ("inspect", "FILE", "--verify", "--tolerance=-1"),
    "images for nothing": ("bench", "demo", "--images", "0,1,2"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_end_in_one_sentence(
    wrong: str, file: Path, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, and the sentence is last on standard error."""
    arguments = [{"FILE": str(file), "INPUTS": str(inputs)}.get(a, a) for a in WRONG[wrong]]
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1].startswith("edgecascade")
    assert "Traceback" not in shown.err
    usage = [line for line in shown.err.splitlines() if line.startswith("edgecascade")]
    assert len(usage) == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run FILE {inputs} >&-", "3 answered: "),
        ("run FILE {inputs} 2>&-", '"name": "gr'),
        ("run FILE {inputs} 2>/dev/full", '"name": "gr'),
        ("PYTHONIOENCODING=ascii inspect FILE", r"gr\\xfcn"),
        ("yes '[5, 0, 0]' | run FILE - 2>&1 | head -1", '"name": "gr'),
    ],
)
def test_standard_streams_may_be_closed_full_or_of_few_characters(
    command: str, said: str, inputs: Path, make_file: Callable[..., Path], tmp_path: Path
) -> None:
    """What can be written is, without a traceback or a warning."""
    program = f"{sys.executable} -m edgecascade.cli"
    for name in ("run", "inspect"):
        command = command.replace(f"{name} FILE", f"{program} {name} {make_file(labels=['grün', 'b', 'c'])}")
    shell = f"set -o pipefail; {command.format(inputs=inputs)}"
    ran = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    shown = ran.stdout + ran.stderr
    assert said.replace("\\\\", "\\") in shown
    assert "Traceback" not in shown
    assert "Warning" not in shown


def test_a_newer_file_is_refused(make_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """The error states the file's version and the supported one."""
    assert run("inspect", make_file(format=9)) == 2
    said = capsys.readouterr().err
    assert [part in said for part in ("format", "9", "1")] == [True] * 3


def test_a_missing_extra_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message has the command that installs it."""
    for name in [name for name in sys.modules if name.startswith("edgecascade.runtime.serving.")]:
        monkeypatch.delitem(sys.modules, name)  # imported by other tests, with the package
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run("serve", file) == 2
    assert "pip install 'edgecascade[serve]'" in capsys.readouterr().err


def test_a_closed_pipe_is_not_an_error(pair: Path) -> None:
    """`edgecascade run ... | head -1` ends without a message."""
    command = f"{sys.executable} -m edgecascade.cli run {pair}/local.onnx {pair}/test.npz | head -1"
    ran = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    assert len(ran.stdout.splitlines()) == 1
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("missing", "extra"),
    [
        *[("tokenizers", "text"), ("optimum", "hf"), ("huggingface_hub", "hf"), ("starlette", "serve")],
        *[("PIL", "images"), ("onnxruntime", "cpu"), ("scipy", "images")],  # the last is of no input of `run`
    ],
)
def test_a_missing_package_is_reported_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str, extra: str
) -> None:
    """A package that only some inputs need has its own extra."""

    def execute(_: object) -> int:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("edgecascade.runtime.commands.run.execute", execute)
    assert run("run", "local.onnx", "inputs") == 2
    assert f"pip install 'edgecascade[{extra}]'" in capsys.readouterr().err


def test_packages_that_do_not_fit_one_another_are_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As transformers refuses a version of another package when it is imported."""

    def execute(_: object) -> int:
        raise ImportError("huggingface-hub>=0.34,<1.0 is required, got 2.4", name="transformers")

    monkeypatch.setattr("edgecascade.runtime.commands.run.execute", execute)
    assert run("run", "local.onnx", "inputs") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "transformers" in said
    assert "2.4" in said


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("PIL", "images", lambda: read_image(b"")),
        ("grpc", "grpc", lambda: OpenInferenceGrpc("grpc://host:1/v2/models/m")),
        ("tokenizers", "text", lambda: TextInput("model.onnx", TextPreprocessing("tokenizer.json", "", 1, ()))),
        ("opentelemetry.metrics", "otel", lambda: export_to_opentelemetry(dict)),
    ],
)
def test_a_missing_package_is_reported_with_its_extra_in_python_too(
    monkeypatch: pytest.MonkeyPatch, package: str, extra: str, use: Callable[[], object]
) -> None:
    """The error is the usual one, with the name of the package and the command that installs it."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'edgecascade\[{extra}\]'") as raised:
        use()
    assert raised.value.name == package


@pytest.mark.parametrize(
    ("take", "package", "extra"),
    [
        ("from edgecascade import Cascade", "onnxruntime", "cpu"),
        ("from edgecascade.export import calibrate", "onnx", "export"),
        (
            "from edgecascade.calibration import fit_temperature as fit; fit([[1.0, 0.0]] * 9, [0] * 9)",
            "scipy",
            "calibration",
        ),
    ],
)
def test_a_part_says_what_it_needs_when_it_is_imported(take: str, package: str, extra: str) -> None:
    """The error names the extra of the part."""
    code = f"import sys\nsys.modules[{package!r}] = None\n{take}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert f"pip install 'edgecascade[{extra}]'" in ran.stderr.splitlines()[-1]
