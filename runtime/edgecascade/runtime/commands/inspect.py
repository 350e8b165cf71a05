"""`edgecascade inspect`: what is in this file."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence

from edgecascade.runtime.engine import open_session, read_document, sessions
from edgecascade.runtime.golden import compare, read_golden
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.runtime.saturation import unsafe_weights
from edgecascade.types.document import FORMAT, CascadeDocument
from edgecascade.types.errors import ModelFileError
from edgecascade.types.estimate import curve_table

__all__ = ["configure", "execute"]


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
    document = read_document(session, arguments.file)
    if arguments.verify:
        return _verify(arguments.file, arguments.tolerance)
    if arguments.json:
        print(document.to_json(indent=2))
        return 0
    print("\n".join(_lines(document, arguments.file, str(model_inputs(session, arguments.file)))))
    return 0


def _lines(document: CascadeDocument, path: str, inputs: str) -> Iterator[str]:
    policy, source = document.policy, document.source
    counts = f"{min(policy.counts)} to {max(policy.counts)} inputs each" if policy.counts else "no inputs"
    yield f"{path}: cascade model, format {FORMAT}, written by {document.written_by}"
    yield f"  input       {inputs}"
    yield f"  classes     {len(document.labels)}: {_shorten(document.labels)}"
    yield f"  body        {source.model}, sha256 {source.model_sha256[:12]}..."
    if unsafe := unsafe_weights(path):
        yield f"  int8        {len(unsafe)} weight tensors that fast kernels add up wrongly on x86 CPUs without VNNI;"
        yield "              this runtime avoids that there, others must set session.x64quantprecision to 1"
    yield f"  local       {document.calibration}"
    yield f"  remote      {document.remote}"
    bins = f"{policy.bins} equal-count bins of {policy.score} ({counts})"
    yield f"  policy      advantage from {policy.estimate} in {bins}"
    yield f"              forward below {policy.threshold:+.4f}; merge: {policy.merge}"
    yield f"              {policy.objective}"
    yield "  operating points on the calibration data, which also chose them: expect a little less on new data"
    for line in curve_table(document.operating_curve, policy.threshold):
        yield f"    {line}"
    for sentence in policy.advice:
        yield f"  advice      {sentence}"
    yield f"  certificate {document.certificate or 'none: the accuracies above are estimates'}"


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


def _shorten(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:10])
    return shown if len(labels) <= 10 else f"{shown}, ..."
