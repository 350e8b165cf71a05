"""docs/tutorial.md works as it is written, in order, in an empty folder.

Blocks with a title are files, or commands of the second machine, which run until the page says that they are stopped.
`bash` blocks have commands of edgecascade and Python programs. A text block just below is what was printed: it must
have the same rows, whose figures differ between machines.
"""

import contextlib
import re
import runpy
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgecascade import cli

PAGE = Path(__file__).parent.parent / "docs" / "tutorial.md"
BLOCK = re.compile(
    r'^```(python|bash)(?: title="(.+?)")?\n(.*?)^```\n(?:\n```text\n(.*?)^```)?|^(<!-- the server is stopped -->)',
    re.DOTALL | re.MULTILINE,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Enter an empty folder whose modules can be imported, and are forgotten afterwards; torch has one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more of them wait for each other where other tests run beside this one
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
    torch.set_num_threads(threads)


@contextlib.contextmanager
def second_machine(command: str) -> Iterator[str]:
    """Run a command until the end of the block; give the line by which it says that clients can connect."""
    arguments = [sys.executable, "-m", "edgecascade.cli", *shlex.split(command)[1:]]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            assert line.startswith("serving at http://"), line + server.stdout.read()
            yield line
        finally:
            server.kill()


def run(commands: str) -> None:
    """Run each command of a block in this process."""
    for line in commands.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line)
        if program == "python":
            runpy.run_path(arguments[0], run_name="__main__")
        else:
            assert cli.main(arguments) == 0, line


def rows(printed: str) -> list[str]:
    """Return the first word of each row that is not indented, without figures."""
    return [re.sub(r"[\d.%]", "", line.split()[0]) for line in printed.splitlines() if line[:1].strip()]


@pytest.mark.slow
def test_the_tutorial_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file, command and program works, and prints rows like those on the page."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page, names = re.sub(r"(:|--port )8000\b", rf"\g<1>{port}", PAGE.read_text()), dict[str, Any]()
    with contextlib.ExitStack() as server:
        for language, title, content, printed, stopped in BLOCK.findall(page):
            capsys.readouterr()
            if stopped:
                server.close()
            elif title == "on the second machine":
                print(server.enter_context(second_machine(content)))
            elif title:
                (folder / title).write_text(content)
            elif language == "bash":
                run(content)
            else:
                exec(compile(content, PAGE.name, "exec"), names)
            assert rows(printed) in ([], rows(capsys.readouterr().out))
