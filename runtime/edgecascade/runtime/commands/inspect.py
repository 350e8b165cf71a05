"""`edgecascade inspect`: what is in this file."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from typing import Any

from edgecascade.runtime.errors import ModelFileError
from edgecascade.runtime.golden import compare, read_golden
from edgecascade.runtime.metadata import read_metadata
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.runtime.saturation import unsafe_weights
from edgecascade.runtime.session import open_session, sessions

__all__ = ["configure", "execute"]

_CURVE_LINES = 16


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = "examples:\n  edgecascade inspect local.onnx\n  edgecascade inspect local.onnx --verify"
    parser.add_argument("file", help="a cascade model, as `edgecascade calibrate` or `tflite` writes it")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="replay the file's golden inputs on every execution provider here, and compare the decisions",
    )
    parser.add_argument("--tolerance", type=float, default=1e-3, help="on confidences, for --verify (default 0.001)")
    parser.add_argument("--json", action="store_true", help="print the whole metadata document as JSON")


def execute(arguments: Namespace) -> int:
    """Print the metadata, for a person or as JSON."""
    session = open_session(arguments.file)
    document = read_metadata(session, arguments.file).document
    if arguments.verify:
        return _verify(arguments.file, arguments.tolerance)
    if arguments.json:
        print(json.dumps(document, indent=2))
        return 0
    try:
        lines = list(_lines(document, arguments.file, str(model_inputs(session, arguments.file))))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError) as error:
        raise ModelFileError(f"{arguments.file}: its `edgecascade` metadata is damaged: {error!r}") from error
    print("\n".join(lines))
    return 0


def _lines(document: Mapping[str, Any], path: str, inputs: str) -> Iterator[str]:
    yield f"{path}: cascade model, format {document['format']}, written by {document['written_by']}"
    yield f"  input      {inputs}"
    yield f"  classes    {len(document['labels'])}: {_shorten(document['labels'])}"
    yield f"  body       {document['source']['model']}, sha256 {document['source']['model_sha256'][:12]}..."
    if unsafe := unsafe_weights(path):
        yield (
            f"  int8       {len(unsafe)} weight tensors that x86 CPUs without VNNI add up wrongly: this runtime avoids "
            "that,"
        )
        yield "             others must set the session option session.x64quantprecision to 1; or export the body anew"
    yield f"  local      {_calibration(document['calibration'])}"
    yield f"  remote     {_calibration(document['remote'])}"
    yield from _policy(document["policy"])
    curve, chosen = document["operating_curve"], document["policy"]["threshold"]
    yield "  operating points (on the calibration data, which also chose them: expect a little less)"
    yield "    threshold   offload rate (95 % interval)   accuracy (95 % interval)"
    for position, point in enumerate(curve):
        if position % (len(curve) // _CURVE_LINES + 1) == 0 or point["threshold"] == chosen or point is curve[-1]:
            mark = "  <- chosen" if point["threshold"] == chosen else ""
            yield (
                f"    {point['threshold']:+9.4f}   {_percent(point, 'offload_rate', 'offload_interval'):<28}   "
                f"{_percent(point, 'accuracy', 'accuracy_interval')}{mark}"
            )
    for sentence in document["policy"]["verdict"]:
        yield f"  verdict    {sentence}"
    yield f"  promise    {_promise(document['certificate'])}"


def _verify(path: str, tolerance: float) -> int:
    failed = False
    for provider, session in sessions(path):
        if isinstance(session, ModelFileError):
            print(f"{provider}: not usable here: {session}")
            continue
        golden = read_golden(session, path)
        if golden is None:
            raise ModelFileError(f"{path}: it has no golden inputs to replay; `edgecascade calibrate` puts them in")
        largest, sentence = compare(session, golden.inputs, golden.expected, tolerance)
        failed |= sentence is not None
        print(
            f"{provider}: {sentence}"
            if sentence
            else f"{provider}: {len(golden)} golden inputs decided as expected; largest difference of a confidence "
            f"{largest:.1e} (tolerance {tolerance:g})"
        )
    return 1 if failed else 0


def _calibration(record: Mapping[str, Any]) -> str:
    accuracy, after = record["accuracy"], record["ece_after"]
    return (
        f"accuracy {accuracy['value']:.1%} ({accuracy['low']:.1%} to {accuracy['high']:.1%}), "
        f"T {record['temperature']:.4f} by {record['method']} scaling on n = {record['n']}; "
        f"ECE {record['ece_before']['value']:.3f} > {after['value']:.3f} ({after['low']:.3f} to {after['high']:.3f})"
    )


def _policy(policy: Mapping[str, Any]) -> list[str]:
    return [
        f"  policy     advantage from {policy['estimate']} in {policy['bins']} equal-count bins of "
        f"{policy['score']} ({min(policy['counts'])} to {max(policy['counts'])} inputs each)",
        f"             forward below {policy['threshold']:+.4f}; merge: {policy['merge']}",
        f"             {policy['objective']}",
    ]


def _promise(certificate: Mapping[str, Any] | None) -> str:
    if certificate is None:
        return "none: the accuracies above are estimates"
    return (
        f"loss against asking the remote always at most {certificate['loss']:.1%} with probability "
        f"{1 - certificate['risk']:.4g} (n = {certificate['n']}), forwarding {certificate['offload_rate']:.1%}"
    )


def _percent(point: Mapping[str, Any], value: str, interval: str) -> str:
    low, high = point[interval]
    return f"{point[value]:6.1%} ({low:.1%} to {high:.1%})"


def _shorten(labels: list[str]) -> str:
    shown = ", ".join(labels[:10])
    return shown if len(labels) <= 10 else f"{shown}, ..."
