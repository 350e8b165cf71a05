"""`check_kserve.py FILE`: check objects against the types that KServe and Kubernetes publish with their SDKs.

The types are generated from the same sources as the schemas of KServe's CRDs. Unlike the SDKs, this refuses fields that
a type lacks. It prints the kinds.
"""

import re
import sys
from pathlib import Path
from typing import Any

import kserve.models
import kubernetes.client.models
import yaml

PLAIN = {"str": str, "int": int, "bool": bool, "float": float}


def checked(value: Any, kind: str, where: str) -> Any:
    """Return a value as its type, which raises if a required field is missing."""
    if many := re.fullmatch(r"list\[(.*)\]", kind, re.IGNORECASE):
        return [checked(one, many[1], f"{where}[{i}]") for i, one in enumerate(value)]
    if named := re.fullmatch(r"dict\(str, (.*)\)|dict\[str, (.*)\]", kind, re.IGNORECASE):
        return {name: checked(one, named[1] or named[2], f"{where}.{name}") for name, one in value.items()}
    if kind in PLAIN:
        assert type(value) is PLAIN[kind], f"{where}: expected {kind}, got {value!r}"
    if kind in PLAIN or kind == "object":
        return value
    of = getattr(kserve.models, kind, None) or getattr(kubernetes.client.models, kind)
    fields = {there: here for here, there in of.attribute_map.items()}
    assert isinstance(value, dict), f"{where}: expected {kind}, got {value!r}"
    assert not value.keys() - fields.keys(), f"{where}: {kind} has no {value.keys() - fields.keys()}"
    return of(**{fields[k]: checked(one, of.openapi_types[fields[k]], f"{where}.{k}") for k, one in value.items()})


for one in yaml.safe_load_all(Path(sys.argv[1]).read_text()):
    group, version = one["apiVersion"].split("/")
    assert group == "serving.kserve.io"
    checked(one, f"{version.capitalize()}{one['kind']}", one["kind"])
    print(one["kind"])
