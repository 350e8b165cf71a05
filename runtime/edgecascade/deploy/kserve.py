"""Write a cascade as the two objects that KServe needs: a ServingRuntime, which runs it, and an InferenceService."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecascade import Cascade
from edgecascade.deploy.pair import check_remote
from edgecascade.runtime.remotes.remote import connect
from edgecascade.types.errors import ArgumentError

__all__ = ["write_kserve"]

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_STORED = "/mnt/models"  # where KServe puts what `storageUri` names
_PORT = 8080


def write_kserve(
    local: str | os.PathLike[str],
    remote: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    image: str,
    storage: str,
    name: str = "cascade",
    remote_output: str | None = None,
    threshold: float | None = None,
    deadline: float = 1.0,
) -> Path:
    """Write a YAML file with both objects, and return its path.

    Args:
        local: a cascade file.
        remote: the large model as an ONNX file, or the address of a remote.
        output: a file that does not exist.
        image: a container image with `edgecascade[cpu,serve]`.
        storage: where KServe finds a folder with the files, under the names that they have here; such as `s3://...`.
        name: of the service, and of the model in its address.
        remote_output: the remote's output with the scores, if it is not evident.
        threshold: forward inputs whose advantage is below this, instead of the file's threshold.
        deadline: seconds until an answer is due.

    Raises:
        ArgumentError: an argument has an invalid value, or the models do not fit together.
        ModelFileError: a file is missing, damaged or of another kind.
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(f"name: expected up to 40 lower-case letters, digits and '-', got {name!r}")
    if not re.fullmatch(r"[a-z0-9]+://\S.*", storage):
        raise ArgumentError(f"storage: expected an address such as s3://bucket/folder, got {storage!r}")
    if not re.fullmatch(r"\S+", image):
        raise ArgumentError(f"image: expected the name of a container image, got {image!r}")
    if os.path.lexists(output):
        raise ArgumentError(f"output: expected a file that does not exist, got {os.fspath(output)}")
    served = os.fspath(remote)
    large = connect(remote, output=remote_output) if "://" not in served else connect(remote)
    with Cascade.load(local, remote=large, threshold=threshold, deadline=deadline) as cascade:
        if "://" not in served:
            check_remote(cascade, remote, remote_output)
            served = f"{_STORED}/{Path(remote).name}"
            if Path(remote).name == Path(local).name:
                raise ArgumentError(
                    f"remote: expected another name than the cascade file's, since both lie in one folder, got "
                    f"{Path(remote).name} twice"
                )
    arguments = ["serve", f"{_STORED}/{Path(local).name}", "--name", name, "--host", "0.0.0.0", "--port", str(_PORT)]
    arguments += ["--remote", served, "--deadline", repr(float(deadline))]
    arguments += [] if remote_output is None else ["--remote-output", remote_output]
    arguments += [] if threshold is None else [f"--threshold={float(threshold)!r}"]
    objects = (_runtime(name, image, arguments), _service(name, storage))
    place = Path(output)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("x", encoding="utf-8") as file:
        file.write("---\n".join(_yaml(one) for one in objects))
    return place


def _runtime(name: str, image: str, arguments: list[str]) -> dict[str, Any]:
    container = {
        "name": "kserve-container",
        "image": image,
        "command": ["edgecascade"],
        "args": arguments,
        "ports": [{"containerPort": _PORT, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": f"/v2/models/{name}/ready", "port": _PORT}},
        "resources": {amount: {"cpu": "1", "memory": "2Gi"} for amount in ("requests", "limits")},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
        },
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": f"{name}-edgecascade"},
        "spec": {
            "annotations": {"prometheus.kserve.io/port": str(_PORT), "prometheus.kserve.io/path": "/metrics"},
            "supportedModelFormats": [{"name": "edgecascade", "version": "1"}],
            "protocolVersions": ["v2"],
            "containers": [container],
        },
    }


def _service(name: str, storage: str) -> dict[str, Any]:
    model = {
        "modelFormat": {"name": "edgecascade"},
        "protocolVersion": "v2",
        "runtime": f"{name}-edgecascade",
        "storageUri": storage,
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"minReplicas": 1, "maxReplicas": 4, "model": model}},
    }


def _yaml(value: Mapping[str, Any], indent: str = "") -> str:
    """Return an object as YAML: maps and lists of maps as blocks, anything else as JSON, which YAML includes."""
    lines = []
    for key, inner in value.items():
        if isinstance(inner, dict):
            lines.append(f"{indent}{key}:\n{_yaml(inner, indent + '  ')}")
        elif isinstance(inner, list) and isinstance(inner[0], dict):
            items = (_yaml(one, indent + "    ") for one in inner)
            lines.append(f"{indent}{key}:\n" + "".join(f"{indent}  - {item.lstrip()}" for item in items))
        else:
            lines.append(f"{indent}{key}: {json.dumps(inner)}\n")
    return "".join(lines)
