"""The objects for KServe: valid by its published types, and the container that they run answers."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from edgecascade import Cascade
from edgecascade.cli import main
from edgecascade.runtime import Deadline, OpenInference

HERE = Path(__file__).parent
IMAGE = "registry.example/edgecascade:1"


def only(required: str = "", **properties: Any) -> dict[str, Any]:
    """Return the schema of an object that has no other properties."""
    return {"type": "object", "properties": properties, "required": required.split(), "additionalProperties": False}


def many(items: Any) -> dict[str, Any]:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


TEXT, WHOLE, YES = {"type": "string"}, {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}, {"type": "boolean"}
AMOUNTS = {"additionalProperties": {"type": "string", "pattern": r"^\d+(\.\d+)?([KMGTPE]i|[numkMGTPE])?$"}}
NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
CONTAINER = only(
    "name",
    name=TEXT,
    image={"type": "string", "pattern": r"^\S+$"},
    command=many(TEXT),
    args=many(TEXT),
    ports=many(only("containerPort", containerPort=WHOLE, protocol={"enum": ["TCP", "UDP", "SCTP"]})),
    readinessProbe=only(httpGet=only("port", path=TEXT, port=WHOLE)),
    resources=only(requests=AMOUNTS, limits=AMOUNTS),
    securityContext=only(allowPrivilegeEscalation=YES, capabilities=only(drop=many(TEXT)), runAsNonRoot=YES),
)
MODEL = only("modelFormat", modelFormat=only("name", name=TEXT), protocolVersion=TEXT, runtime=NAME, storageUri=TEXT)
SPECS = {
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): only(
        "containers",
        annotations={"additionalProperties": TEXT},
        supportedModelFormats=many(only("name", name=TEXT, version=TEXT)),
        protocolVersions=many(TEXT),
        containers={**many(CONTAINER), "minItems": 1},
    ),
    ("serving.kserve.io/v1beta1", "InferenceService"): only(
        "predictor", predictor=only(minReplicas=WHOLE, maxReplicas=WHOLE, model=MODEL)
    ),
}
"""What KServe demands of the fields that are written, in our words: the CRD of ServingRuntime (at commit c33b380 of
kserve/kserve), the type ModelSpec, and the admission of names."""


def deploy(folder: Path, out: Path, *options: str, remote: str = "remote.onnx") -> int:
    """Run the command on the two image classifiers."""
    command = ["deploy", "kserve", str(folder / "local.onnx"), "--remote", str(folder / remote), "-o", str(out)]
    return main([*command, "--image", IMAGE, "--storage", "s3://models/pair", *options])


def objects(path: Path) -> list[Any]:
    """Return the objects in a file."""
    return list(yaml.safe_load_all(path.read_text()))


@pytest.mark.slow
def test_the_objects_are_those_of_kserve(pair: Path, environment: Callable[..., Path], tmp_path: Path) -> None:
    """Every field is one of the published types, and none that is required is missing; a misspelt one is noticed."""
    python, out = environment("kserve==0.21.0"), tmp_path / "cascade.yaml"
    assert deploy(pair, out, "--threshold", "-0.1", "--deadline", "0.5") == 0

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run([python, HERE / "check_kserve.py", out], capture_output=True, text=True, check=False)

    checked = check()
    assert checked.stdout.split() == ["ServingRuntime", "InferenceService"], checked.stderr
    out.write_text(out.read_text().replace("readinessProbe", "readyProbe"))
    assert "V1Container has no" in check().stderr


@pytest.mark.parametrize("options", [(), ("--name", "a" * 40, "--threshold=-inf", "--deadline", "0.25")])
def test_the_objects_fit_the_schemas(pair: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Names, whole numbers and amounts are in the form that a cluster admits, and there is no other field."""
    assert deploy(pair, tmp_path / "cascade.yaml", *options) == 0
    for one in objects(tmp_path / "cascade.yaml"):
        jsonschema.validate(one, only("spec", apiVersion=TEXT, kind=TEXT, metadata=only("name", name=NAME), spec={}))
        jsonschema.validate(one["spec"], SPECS[one["apiVersion"], one["kind"]])


def test_the_service_runs_its_runtime(pair: Path, tmp_path: Path) -> None:
    """Both have the model format and protocol in common, and the service names the runtime and the files."""
    assert deploy(pair, tmp_path / "cascade.yaml", "--name", "mine") == 0
    runtime, service = objects(tmp_path / "cascade.yaml")
    model = service["spec"]["predictor"]["model"]
    assert (model["runtime"], service["metadata"]["name"]) == (runtime["metadata"]["name"], "mine")
    assert model["modelFormat"]["name"] in {one["name"] for one in runtime["spec"]["supportedModelFormats"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert model["storageUri"] == "s3://models/pair"


def test_the_container_answers_as_the_cascade_does(pair: Path, tmp_path: Path, serving: Callable[..., str]) -> None:
    """Its command, with the files where KServe puts them, serves the answers of `Cascade`."""
    assert deploy(pair, tmp_path / "cascade.yaml", "--name", "model", "--threshold", "-0.1", "--deadline", "20") == 0
    (container,) = objects(tmp_path / "cascade.yaml")[0]["spec"]["containers"]
    assert (container["command"], container["args"][0]) == (["edgecascade"], "serve")
    there = {"0.0.0.0": "127.0.0.1"}
    arguments = [there.get(one, one.replace("/mnt/models", str(pair))) for one in container["args"][1:]]
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/models/model/ready"  # which `serving` waits for
    remote = OpenInference(serving(*arguments), output="probabilities")
    images = np.load(pair / "test.npz")["x"][:20]
    with Cascade.load(pair / "local.onnx", remote=pair / "remote.onnx", threshold=-0.1) as cascade:
        expected = cascade.predict_columns(images).probabilities
    np.testing.assert_array_equal(remote.infer(images, Deadline.after(30)), expected)
    remote.close()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("-o", "local.onnx"),
        ("FILE", "corner.onnx"),
        ("--remote", "nobody.onnx"),
        ("--remote", "two.onnx"),
        ("--remote", "features.onnx"),
        ("--remote", "other/local.onnx"),
        ("--remote", "http://"),
        ("--name", "Cascade"),
        ("--storage", "models/pair"),
        ("--storage", "s3://models\npair"),
        ("--image", ""),
        ("--image", "an image"),
        ("--deadline", "0"),
        ("--remote-output", "nothing"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(files: Path, capsys: Any, option: str, value: str) -> None:
    """The exit code is 2, and nothing is written; files of one name cannot lie in one folder."""
    (files / "other").mkdir()
    shutil.copy(files / "remote.onnx", files / "other" / "local.onnx")
    before = sorted(files.parent.rglob("*"))
    given = {"--remote": "remote.onnx", "-o": "out.yaml", "--image": IMAGE, "--storage": "s3://models/pair"}
    given[option] = value
    file = given.pop("FILE", "local.onnx")
    assert main(["deploy", "kserve", file, *(word for one in given.items() for word in one)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("edgecascade: ")
    assert sorted(files.parent.rglob("*")) == before
