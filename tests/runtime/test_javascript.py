"""The npm package in Node and in a real browser: it answers as Python does."""

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.runtime import Answer, Cascade
from task_files import boxes_file, remote_file, tripled, twice_file

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
Job = dict[str, Any]
Run = Callable[[Sequence[Job]], list[Any]]

LOGITS = np.random.default_rng(0).normal(0, 2, (60, 3)).astype(np.float32)
LOGITS[7] = np.nan  # always forwarded
SCORES = np.random.default_rng(1).normal(0, 3, (60, 3)).astype(np.float32)
CHANCES = np.random.default_rng(2).dirichlet([0.3] * 3, 60).round(4).astype(np.float32)
ROWS = np.arange(60, dtype=np.int32)[:, None]


def packed(array: NDArray[Any]) -> dict[str, Any]:
    """Return an array as the jobs have it."""
    return {"type": array.dtype.name, "dims": list(array.shape), "base64": base64.b64encode(array.tobytes()).decode()}


@pytest.fixture(scope="module")
def page(packages: Path, browser: Any) -> Iterator[Any]:
    """Return a page of which all addresses but those of models are files in that folder; it may print nothing."""
    types = {".html": "text/html", ".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}
    opened, said = browser.new_page(), []

    def give(route: Any) -> None:
        path = packages / route.request.url.split("/", 3)[3]
        if "/v2/" in route.request.url:
            route.continue_()
        elif path.is_file():
            route.fulfill(path=path, content_type=types.get(path.suffix, "application/octet-stream"))
        else:
            route.fulfill(status=404)

    def note(message: Any) -> None:
        if not message.text.startswith(("Failed to load resource", "Access to fetch")):  # the browser's own, of the net
            said.append(message.text)

    opened.on("console", note)
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.route("**/*", give)
    yield opened
    opened.close()
    assert said == []


@pytest.fixture
def chromium(page: Any, packages: Path) -> Callable[[str], Run]:
    """Return a function that runs jobs in the page, opened at an address, whose files are given as paths."""

    def at(origin: str) -> Run:
        page.goto(f"{origin}/page.html")
        page.wait_for_function("globalThis.ready")

        def run(jobs: Sequence[Job]) -> list[Any]:
            found = []
            for i, job in enumerate(jobs):
                shutil.copy(job["file"], packages / f"{i}.onnx")
                found.append(page.evaluate("job => answer(job)", {**job, "file": f"/{i}.onnx"}))
            return found

        return run

    return at


def check(found: Any, expected: Sequence[Answer]) -> None:
    """Check that answers in JavaScript are those in Python."""
    assert not isinstance(found, dict), found
    for name in ("label", "name", "source", "reason"):
        wanted = [getattr(one, name) for one in expected]
        assert [one[name] for one in found] == [getattr(one, "value", one) for one in wanted], name
    for name in ("confidence", "advantage"):
        numbers = [float(one[name]) for one in found]
        np.testing.assert_allclose(numbers, [getattr(one, name) for one in expected], rtol=0, atol=1e-6, err_msg=name)
    for ours, theirs in zip(found, expected, strict=True):
        for side in ("local", "remote"):
            prediction = getattr(theirs, side)
            assert (ours[side] is None) == (prediction is None)
            if prediction is not None:
                probabilities = [float(one) for one in ours[side]["probabilities"]]
                np.testing.assert_allclose(probabilities, prediction.probabilities, rtol=0, atol=1e-6)
                for name, array in prediction.outputs.items():
                    assert ours[side]["outputs"][name]["dims"] == list(array.shape)
                    np.testing.assert_allclose(ours[side]["outputs"][name]["data"], array.ravel(), rtol=1e-6)


CHANGES: list[dict[str, Any]] = [
    {"policy": {"merge": merge}, "remote": remote}
    for merge in ("replace", "confident", "average")
    for remote in (
        {"temperature": 1.7},
        {"temperature": 0.6, "columns": [2, 0, 1]},
        {"temperature": 1.3, "scores": "probabilities", "floor": 3e-5},
        {"method": "temperature + map", "knots": [0.35, 0.6, 0.9], "values": [0.4, 0.5, 0.95]},
    )
] + [
    {"policy": {"merge": merge, "costs": costs}}
    for merge in ("replace", "confident", "average")
    for costs in ([1, 20, 3], [[0, 1, 2], [9, 0, 3], [4, 5, 0]])
]


def scores_for(change: dict[str, Any]) -> NDArray[np.float32]:
    """Return scores of the kind that a document says the remote gives."""
    return CHANCES if change.get("remote", {}).get("scores") == "probabilities" else SCORES


def looked_up(table: NDArray[np.float32]) -> Callable[[NDArray[np.int32]], NDArray[np.float32]]:
    """Return a remote whose scores are the rows of a table that the inputs point to."""
    return lambda rows: table[rows[:, 0]]


def merged(make_file: Callable[..., Path]) -> tuple[list[Job], list[list[Answer]]]:
    """Return jobs with every way to read and merge a remote's scores, and Python's answers."""
    jobs, expected = [], []
    for i, change in enumerate(CHANGES):
        file, table = make_file(name=f"{i}.onnx", **change), scores_for(change)
        job = {"method": "predictBatch", "x": packed(LOGITS), "originals": packed(ROWS), "table": packed(table)}
        jobs.append({**job, "file": str(file)})
        with Cascade.load(file, remote=looked_up(table), deadline=30) as cascade:
            expected.append(cascade.predict_batch(LOGITS, originals=ROWS))
    return jobs, expected


def test_node_reads_and_merges_replies_as_python(node: Run, make_file: Callable[..., Path]) -> None:
    """The label, source, reason and probabilities are the same under every merge rule, calibration and cost."""
    jobs, expected = merged(make_file)
    for found, answers in zip(node(jobs), expected, strict=True):
        check(found, answers)


def test_a_browser_reads_and_merges_replies_as_python(
    chromium: Callable[[str], Run], make_file: Callable[..., Path]
) -> None:
    """The same arithmetic runs there."""
    jobs, expected = merged(make_file)
    for found, answers in zip(chromium("http://localhost")(jobs), expected, strict=True):
        check(found, answers)


@pytest.fixture(scope="module")
def remote(serving: Callable[..., str], pair: Path) -> str:
    """Return the address of the pair's remote, served by `edgecascade serve`."""
    return serving(pair / "remote.onnx")


def images(pair: Path, **options: Any) -> tuple[Job, list[Answer]]:
    """Return a job with the pair's images, and Python's answers."""
    x = np.load(pair / "test.npz")["x"]
    with Cascade.load(pair / "local.onnx", remote=pair / "remote.onnx", deadline=30, **options) as cascade:
        expected = cascade.predict_batch(x)
    return {"file": str(pair / "local.onnx"), "method": "predictBatch", "x": packed(x), **options}, expected


@pytest.mark.parametrize("threshold", [None, -0.3, 2.0])
@pytest.mark.parametrize("binary", [True, False])
def test_node_forwards_to_a_real_server(node: Run, pair: Path, remote: str, threshold: float, binary: bool) -> None:
    """400 images get the answers that they get in Python, under another threshold too, in binary and as JSON."""
    job, expected = images(pair, **({} if threshold is None else {"threshold": threshold}))
    (found,) = node([{**job, "deadline": 30, "address": [remote, {"binary": binary}]}])
    check(found, expected)
    assert len({one.reason for one in expected}) == (1 if threshold == 2.0 else 2)


def test_a_browser_forwards_to_a_real_server(
    chromium: Callable[[str], Run], pair: Path, remote: str, serving: Callable[..., str]
) -> None:
    """400 images get the answers that they get in Python: from a model beside the page, and from another origin."""
    job, expected = images(pair)
    origin, path = remote.split("/v2/")
    (found,) = chromium(origin)([{**job, "deadline": 30, "address": [f"/v2/{path}"]}])
    check(found, expected)
    elsewhere = serving(pair / "remote.onnx", "--cors", "http://localhost")
    (found,) = chromium("http://localhost")([{**job, "deadline": 30, "remote": elsewhere}])
    check(found, expected)


def test_single_inputs_are_answered_as_in_a_batch(node: Run, pair: Path) -> None:
    """`predict` takes one input without the batch axis."""
    job, expected = images(pair, threshold=-1.0)
    x = np.load(pair / "test.npz")["x"][:5]
    found = node([{**job, "method": "predict", "x": packed(one)} for one in x])
    check(found, expected[:5])


def test_decisions_are_those_of_python_under_every_threshold(node: Run, pair: Path) -> None:
    """They come as columns, and an advantage that equals the threshold stays on the device."""
    x = np.load(pair / "test.npz")["x"]
    with Cascade.load(pair / "local.onnx") as cascade:
        own = cascade.decide(x)
    job = {"file": str(pair / "local.onnx"), "method": "decide", "x": packed(x)}
    near = [np.nextafter(own.advantage, np.float32(end)) for end in (-np.inf, np.inf)]
    thresholds = np.unique([own.advantage, *near])
    shortest = [float(str(one)) for one in thresholds]  # as a person writes it: not always the float32 number
    for threshold, found in zip(thresholds, node([{**job, "threshold": one} for one in shortest]), strict=True):
        assert found["forward"] == (own.advantage < threshold).astype(int).tolist()
        assert found["label"] == own.label.tolist()
        np.testing.assert_allclose(found["confidence"], own.confidence, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(np.array(found["advantage"], np.float32), own.advantage)
        assert found["probabilities"]["dims"] == [400, 3]
        np.testing.assert_allclose(found["probabilities"]["data"], own.probabilities.ravel(), rtol=0, atol=1e-6)


def test_the_document_can_be_given_beside_the_file(node: Run, make_file: Callable[..., Path]) -> None:
    """With another threshold and rule in it, the file decides by these, as if they were in the file."""
    file = make_file()
    other = make_file(name="other.onnx", policy={"threshold": 0.3, "merge": "average"})
    with Cascade.load(file, remote=looked_up(SCORES), deadline=30) as cascade:
        cascade.swap(replace(cascade.policy, threshold=0.3, merge="average"))
        expected = cascade.predict_batch(LOGITS, originals=ROWS)
    with Cascade.load(other) as cascade:
        document = cascade.document.to_json()
    job = {"method": "predictBatch", "x": packed(LOGITS), "originals": packed(ROWS), "table": packed(SCORES)}
    (found,) = node([{**job, "file": str(file), "document": document}])
    check(found, expected)


def test_general_tasks_have_outputs(node: Run, tmp_path: Path, serving: Callable[..., str]) -> None:
    """Those of the local model, or those of the remote; also where they have no batch axis."""
    x = np.array([[2, 0, -1], [-2, 3, 4], [0.4, 1, 0]], np.float32)
    file = twice_file(tmp_path)
    with Cascade.load(file, remote=tripled, deadline=30) as cascade:
        expected = cascade.predict_batch(x)
    address = serving(remote_file(tmp_path))
    (tmp_path / "boxes").mkdir()
    boxes = boxes_file(tmp_path / "boxes")
    with Cascade.load(boxes) as cascade:
        local = cascade.predict_batch(x)
    job = {"method": "predictBatch", "x": packed(x), "deadline": 30}
    found = node([{**job, "file": str(file), "remote": address}, {**job, "file": str(boxes)}])
    check(found[0], expected)
    check(found[1], local)


def test_failures_of_the_remote_have_the_same_reason(
    node: Run, file: Path, serve: Callable[..., Any], answering: Callable[..., Any], respond: Callable[..., bytes]
) -> None:
    """Whatever the remote does, the local answer comes with the reason that Python gives."""
    hang = serve(answering(lambda connection: connection.recv(1 << 20)))
    replies = {
        "an error": respond(b"{}", "500 Internal Server Error"),
        "a page": respond(b"<html></html>"),
        "a redirect": respond(b"", "302 Found", Location="http://127.0.0.1:9/"),
        "of other classes": respond(np.zeros((1, 4), np.float32)),
        "without numbers": respond(np.full((1, 3), np.nan, np.float32)),
        "probabilities": respond(np.array([[0.2, 0.3, 0.5]], np.float32)),
        "an answer": respond(np.array([[2.0, 0, 9]], np.float32)),
    }
    addresses = [hang.address, "http://127.0.0.1:9/v2/models/m"]
    addresses += [serve(answering(reply)).address for reply in replies.values()]
    unsure, jobs, expected = np.array([0, 0.5, 0], np.float32), [], []
    for address in addresses:
        deadline = 0.3 if address == hang.address else 10.0
        with Cascade.load(file, remote=address, deadline=deadline) as cascade:
            expected.append(cascade.predict(unsure))
        jobs.append(
            {"file": str(file), "method": "predict", "x": packed(unsure), "remote": address, "deadline": deadline}
        )
    check(node(jobs), expected)
    assert [one.reason.value for one in expected] == ["deadline", "offline", *["remote error"] * 6, "offloaded"]


def test_a_browser_answers_locally_with_the_reason(
    chromium: Callable[[str], Run], file: Path, serve: Callable[..., Any], answering: Callable[..., Any], remote: str
) -> None:
    """So it does where the remote hangs, is not there, or does not allow the page from its origin."""
    hang = serve(answering(lambda connection: connection.recv(1 << 20)))
    job = {"file": str(file), "method": "predict", "x": packed(np.array([0, 0.5, 0], np.float32))}
    jobs = [
        {**job, "remote": hang.address, "deadline": 0.5},
        {**job, "remote": "http://127.0.0.1:9/v2/models/m", "deadline": 10},
        {**job, "remote": remote, "deadline": 10},
    ]
    found = chromium(hang.address.split("/v2/")[0])(jobs)
    assert [one["reason"] for one in found] == ["deadline", "offline", "offline"]
    assert {one["name"] for one in found} == {"green"}


def test_a_browser_reads_inputs_as_node(
    chromium: Callable[[str], Run], page: Any, pair: Path, tmp_path: Path, packages: Path
) -> None:
    """General tasks have their outputs, and the pixels of a canvas are an image."""
    x = np.array([[2, 0, -1], [-2, 3, 4], [0.4, 1, 0]], np.float32)
    file = boxes_file(tmp_path)
    with Cascade.load(file) as cascade:
        expected = cascade.predict_batch(x)
    (found,) = chromium("http://localhost")([{"file": str(file), "method": "predictBatch", "x": packed(x)}])
    check(found, expected)
    image = np.load(pair / "test.npz")["x"][0]
    with Cascade.load(pair / "local.onnx") as cascade:
        answer = cascade.predict(image)
    shutil.copy(pair / "local.onnx", packages)
    pixels = np.concatenate([image, np.full((8, 8, 1), 255, np.uint8)], axis=2)
    script = """async (data) => {
      const { Cascade } = await import("edgecascade");
      const cascade = await Cascade.load("/local.onnx");
      return (await cascade.predict(new ImageData(Uint8ClampedArray.from(data), 8, 8))).confidence;
    }"""
    assert page.evaluate(script, pixels.ravel().tolist()) == pytest.approx(answer.confidence, abs=1e-6)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros(4, np.float32), "InputError: x: expected float32 [3], got float32 [4]"),
        (np.zeros(3, np.int32), "InputError: x: expected float32 [3], got int32 [3]"),
        (np.zeros((1, 3), np.float32), "InputError: x: expected float32 [3], got float32 [1, 3]"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(node: Run, file: Path, x: NDArray[Any], said: str) -> None:
    """The error says what was expected."""
    assert node([{"file": str(file), "method": "predict", "x": packed(x)}]) == [{"error": said}]


def test_a_file_that_is_no_cascade_is_refused(node: Run, make_file: Callable[..., Path], pair: Path) -> None:
    """So is one of a newer format, one that is damaged or cut short, and one that is not there."""
    newer, damaged = make_file(name="newer.onnx", format=9), make_file(name="damaged.onnx", metadata="{")
    cut = newer.with_name("cut.onnx")
    cut.write_bytes(make_file().read_bytes()[:-40])
    x = packed(np.zeros(3, np.float32))
    broken = newer.with_name("broken.onnx")  # its document is whole, and its graph is not
    broken.write_bytes(make_file().read_bytes().replace(b"Softmax", b"Hardmix"))
    files = [pair / "remote.onnx", newer, damaged, cut, broken, Path(__file__), pair, pair / "missing.onnx"]
    found = node([{"file": str(one), "method": "predict", "x": x} for one in files])
    assert [one["error"].partition(":")[0] for one in found] == ["ModelFileError"] * 8


def test_an_engine_that_mistakes_the_names_of_outputs_is_refused(packages: Path, file: Path) -> None:
    """onnxruntime-node before 1.24 gave the outputs that it was asked for the names of the first ones of the file."""
    script = f"""
        import ort from "onnxruntime-node";
        import {{ Cascade }} from "edgecascade";
        const session = await ort.InferenceSession.create({str(file)!r}, {{ logSeverityLevel: 3 }});
        const {{ inputMetadata, outputMetadata, outputNames }} = session;
        async function run(feeds, names) {{
          const found = Object.values(await session.run(feeds, names));
          return Object.fromEntries(found.map((tensor, k) => [outputNames[k], tensor]));
        }}
        const {{ document }} = await Cascade.load({str(file)!r});
        for (const outputs of [[], ["logits"]]) {{
          const old = {{ inputMetadata, outputMetadata, outputNames, run }};
          const cascade = await Cascade.load(old, {{ document, outputs }});
          await cascade.predict([1, 2, 3]).catch((error) => console.log(error.name));
        }}
    """
    assert evaluate(packages, script) == "ArgumentError\n" * 2


def test_both_packages_have_one_version() -> None:
    """The package on npm and the distribution in Python belong together."""
    description = json.loads((ROOT / "runtime" / "js" / "package.json").read_text())
    assert f'version = "{description["version"]}"' in (ROOT / "pyproject.toml").read_text().splitlines()


def test_the_types_are_right(packages: Path) -> None:
    """TypeScript accepts every use of the package in `types.ts`, and refuses the one marked there."""
    compiler = packages / "node_modules" / "typescript" / "bin" / "tsc"
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"]
    ran = subprocess.run(
        ["node", compiler, *options, "types.ts"], capture_output=True, text=True, cwd=packages, timeout=120, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "")


SPECIAL = [0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519, 6e-8, 2.98e-8, 3e-8, 6.1035e-5, 1.00048828125]
RANDOM = np.random.default_rng(3)
NUMBERS = np.concatenate([SPECIAL, RANDOM.normal(size=500), np.exp(RANDOM.uniform(-18, 11, 500))]).astype(np.float32)
NUMPY = {"FP16": "float16", "FP32": "float32", "FP64": "float64"}


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "INT64", "BOOL", "UINT8"])
@pytest.mark.parametrize("binary", ["true", "false"])
def test_inputs_are_sent_in_the_type_that_the_server_declares(packages: Path, datatype: str, binary: str) -> None:
    """They are rounded as numpy rounds them; the server gets the bytes, or the numbers in JSON."""
    sent = NUMBERS if datatype.startswith("FP") else np.array([0, 1, 1, 0], np.float32)
    wanted = sent.astype(NUMPY.get(datatype, datatype.lower()))
    script = f"""
        import {{ OpenInference }} from "edgecascade";
        const tensors = [{{ name: "x", datatype: "{datatype}", shape: [-1] }}];
        const scores = {{ name: "logits", datatype: "FP32", shape: [1, 2], data: [0, 1] }};
        globalThis.fetch = async (url, {{ body }}) => {{
          if (body === undefined) return Response.json({{ inputs: tensors, outputs: [scores] }});
          const bytes = Buffer.from(await new Response(body).arrayBuffer());
          console.log({binary} ? bytes.subarray(-{wanted.nbytes}).toString("hex") : bytes.toString());
          return Response.json({{ outputs: [scores] }});
        }};
        const data = Float32Array.from(JSON.parse(process.env.SENT), Number);
        const remote = new OpenInference("http://models.test/v2/models/m", {{ binary: {binary} }});
        await remote.infer({{ image: {{ type: "float32", data, dims: [data.length] }} }});
    """
    texts = [str(one).replace("inf", "Infinity") for one in sent.tolist()]
    out = evaluate(packages, script, SENT=json.dumps(texts))
    if binary == "true":
        assert out == wanted.tobytes().hex() + "\n"
        return
    (tensor,) = json.loads(out)["inputs"]
    assert (tensor["name"], tensor["datatype"]) == ("x", datatype)
    assert {type(one) for one in tensor["data"]} <= ({bool} if datatype == "BOOL" else {int, float, type(None)})
    numbers = [float("nan" if one is None else one) for one in tensor["data"]]
    expected = np.where(np.isfinite(wanted.astype(float)), wanted.astype(float), np.nan)
    np.testing.assert_allclose(numbers, expected, rtol=1e-3, atol=1e-7)


def test_an_input_stays_on_the_device_if_the_application_says_so(packages: Path, file: Path) -> None:
    """`egress` sees each input as it would be sent, once; where it returns false or throws, the reason is egress."""
    script = f"""
        import {{ Cascade }} from "edgecascade";
        const seen = [];
        const cascade = await Cascade.load({str(file)!r}, {{
          remote: async ({{ z }}) => ({{ data: Array.from(z.data), dims: z.dims }}),
          egress: ({{ z }}) => {{ seen.push(z.dims.join()); if (z.data[0] > 1) throw Error(); return z.data[0] > 0; }},
        }});
        const data = Float32Array.of(0, 0, 0, 0.5, 0, 0, 2, 2, 2, 0, 9, 0);
        const answers = await cascade.predictBatch({{ type: "float32", data, dims: [4, 3] }});
        console.log(answers.map((one) => one.reason).join(), seen.length, seen[0]);
    """
    assert evaluate(packages, script) == "egress,offloaded,egress,confident 3 1,3\n"


def test_only_a_plain_true_lets_an_input_leave(packages: Path, file: Path) -> None:
    """A promise, a text and a number refuse it."""
    script = f"""
        import {{ Cascade }} from "edgecascade";
        const remote = async () => ({{ data: [1, 2, 3], dims: [1, 3] }});
        const failing = async () => {{ throw Error(); }};
        for (const egress of [() => true, () => false, () => 1, () => "yes", async () => true, failing, () => {{}}]) {{
          const cascade = await Cascade.load({str(file)!r}, {{ remote, threshold: 9, egress }});
          console.log((await cascade.predict([0, 0.5, 0])).reason);
        }}
    """
    assert evaluate(packages, script).split() == ["offloaded"] + ["egress"] * 6


@pytest.mark.parametrize("n", [1, 3, 4, 5])
def test_a_remote_with_a_fixed_batch_answers_any_number_of_inputs(packages: Path, file: Path, n: int) -> None:
    """The rows that fill up the last request are dropped."""
    script = f"""
        import {{ Cascade }} from "edgecascade";
        const scores = {{ name: "logits", datatype: "FP32", shape: [4, 3] }};
        globalThis.fetch = async (url, {{ body }}) => {{
          const tensor = {{ name: "z", datatype: "FP32", shape: [4, 3] }};
          if (body === undefined) return Response.json({{ inputs: [tensor], outputs: [scores] }});
          const floats = new Float32Array((await new Response(body).arrayBuffer()).slice(-48));
          return Response.json({{ outputs: [{{ ...scores, data: Array.from(floats) }}] }});
        }};
        const remote = "http://models.test/v2/models/m";
        const cascade = await Cascade.load({str(file)!r}, {{ remote, threshold: 9, deadline: 9 }});
        const data = Float32Array.from({{ length: {3 * n} }}, (_, k) => (k % 3 === Math.floor(k / 3) % 3 ? 2 : 0));
        const answers = await cascade.predictBatch({{ type: "float32", data, dims: [{n}, 3] }});
        console.log(answers.map((one) => one.reason + one.remote.label).join());
    """
    assert evaluate(packages, script) == ",".join(f"offloaded{i % 3}" for i in range(n)) + "\n"


def test_a_file_with_a_fixed_batch_answers_one_input(node: Run, make_file: Callable[..., Path]) -> None:
    """It is filled up, as in a batch."""
    file = make_file(batch=4)
    with Cascade.load(file) as cascade:
        expected = [cascade.predict(one) for one in LOGITS[:3]]
    found = node([{"file": str(file), "method": "predict", "x": packed(one)} for one in LOGITS[:3]])
    check(found, expected)


@pytest.mark.parametrize("values", ["[0, 'foo', 0]", "[0, null, 0]", "[0, , 0]", "[[0], [1], [2]]", "[1e300, 0, 0]"])
def test_a_list_of_other_values_is_refused(packages: Path, file: Path, values: str) -> None:
    """Each must be a number that the type of the input can hold."""
    script = f"""
        import {{ Cascade }} from "edgecascade";
        const cascade = await Cascade.load({str(file)!r});
        await cascade.predict({values}).catch((error) => console.log(error.name));
    """
    assert evaluate(packages, script) == "InputError\n"


@pytest.mark.parametrize("value", ["-1", "300", "1.5", "NaN", "2 ** 70", "'7'"])
def test_a_number_that_does_not_fit_a_pixel_is_refused(packages: Path, pair: Path, value: str) -> None:
    """It is not wrapped."""
    script = f"""
        import {{ Cascade }} from "edgecascade";
        const cascade = await Cascade.load({str(pair / "local.onnx")!r});
        const data = Array(192).fill(7);
        await cascade.predict({{ data, dims: [8, 8, 3] }});
        data[5] = {value};
        await cascade.predict({{ data, dims: [8, 8, 3] }}).catch((error) => console.log(error.name));
    """
    assert evaluate(packages, script) == "InputError\n"


@pytest.mark.parametrize("scores", ["[1]", "[1, 2, 3, 4]", "['1', '2', '3']", "[null, 1, 2]", "'abc'"])
def test_scores_that_are_not_as_many_numbers_are_no_answer(packages: Path, file: Path, scores: str) -> None:
    """So a function as a remote is checked like a server."""
    script = f"""
        import {{ Cascade }} from "edgecascade";
        const remote = async () => ({{ data: {scores}, dims: [1, 3] }});
        const cascade = await Cascade.load({str(file)!r}, {{ remote, threshold: 9 }});
        console.log((await cascade.predict([0, 0.5, 0])).reason);
    """
    assert evaluate(packages, script) == "remote error\n"


@pytest.mark.parametrize("size", ["'12'", "-12", "12.5", "null", "8", "16"])
def test_a_reply_whose_bytes_are_not_as_it_says_is_no_answer(packages: Path, file: Path, size: str) -> None:
    """Its size is a whole number within the body, and no bytes are left over."""
    script = f"""
        import {{ Cascade }} from "edgecascade";
        const output = {{ name: "logits", datatype: "FP32", shape: [1, 3] }};
        const none = {{ name: "none", datatype: "UINT8", shape: [0], parameters: {{ binary_data_size: 0 }} }};
        for (const binary_data_size of [12, {size}]) {{
          globalThis.fetch = async (url, {{ body }}) => {{
            if (body === undefined) return Response.json({{ inputs: [{{ name: "z" }}], outputs: [output] }});
            const head = JSON.stringify({{ outputs: [none, {{ ...output, parameters: {{ binary_data_size }} }}] }});
            return new Response(new Blob([head, new Float32Array([1, 2, 3])]));
          }};
          const remote = "http://models.test/v2/models/m";
          const cascade = await Cascade.load({str(file)!r}, {{ remote, threshold: 9 }});
          console.log((await cascade.predict([0, 0.5, 0])).reason);
        }}
    """
    assert evaluate(packages, script) == "offloaded\nremote error\n"


@pytest.mark.parametrize("original", ["5", "{}", "[]", "['a']", "{ a: 5 }", "{ a: null }", "{ data: [1], dims: [2] }"])
def test_an_original_that_is_no_tensor_is_refused(packages: Path, file: Path, original: str) -> None:
    """Null means the input itself."""
    script = f"""
        import {{ Cascade }} from "edgecascade";
        const remote = async ({{ z }}) => z;
        const cascade = await Cascade.load({str(file)!r}, {{ remote, threshold: 9 }});
        console.log((await cascade.predict([0, 0.5, 0], {{ original: null }})).reason);
        await cascade.predict([0, 0.5, 0], {{ original: {original} }}).catch((error) => console.log(error.name));
    """
    assert evaluate(packages, script) == "offloaded\nInputError\n"


@pytest.mark.parametrize(
    "option",
    [
        "remote: 'http://h/v2/models/%ff'",
        "remote: 'http://:secret@h/v2/models/m'",
        "outputs: 'label'",
        "outputs: ['nope']",
        "threshold: NaN",
        "egress: 'no'",
    ],
)
def test_a_wrong_option_is_refused(packages: Path, file: Path, option: str) -> None:
    """So it is before anything is asked."""
    script = f"""
        import {{ Cascade }} from "edgecascade";
        await Cascade.load({str(file)!r}, {{ {option} }}).catch((error) => console.log(error.name));
    """
    assert evaluate(packages, script) == "ArgumentError\n"


def test_close_waits_for_what_has_begun(packages: Path, file: Path) -> None:
    """A second call does nothing, later predictions say why they fail, and the session is released in any case."""
    script = f"""
        import {{ Cascade }} from "edgecascade";
        const remote = {{ infer() {{}}, close() {{ throw Error("no"); }} }};
        const cascade = await Cascade.load({str(file)!r}, {{ remote }});
        const begun = Array.from({{ length: 5 }}, () => cascade.predict([0, 9, 0]));
        const closed = await Promise.allSettled([cascade.close(), cascade.close()]);
        console.log(closed.map((one) => one.reason.message).join());
        console.log((await Promise.all(begun)).map((one) => one.source).join());
        await cascade.predict([0, 9, 0]).catch((error) => console.log(error.name, error.message));
    """
    said = "no,no\nlocal,local,local,local,local\nEdgecascadeError cascade: it was closed\n"
    assert evaluate(packages, script) == said


def test_calls_may_overlap(packages: Path, pair: Path) -> None:
    """Many calls at a time get the answers that they get one after the other; a wrong input harms no other."""
    script = f"""
        import {{ Cascade }} from "edgecascade";
        const cascade = await Cascade.load({str(pair / "local.onnx")!r});
        const images = Array.from({{ length: 50 }}, (_, k) => new Uint8Array(192).fill(5 * k));
        const all = images.map((data) => cascade.predict({{ data, dims: [8, 8, 3] }}));
        const wrong = cascade.predict(new Uint8Array(5)).catch((error) => error.name);
        const together = await Promise.all(all);
        for (const [k, data] of images.entries()) {{
          const alone = await cascade.predict({{ data, dims: [8, 8, 3] }});
          if (alone.confidence !== together[k].confidence || alone.label !== together[k].label) throw Error(k);
        }}
        console.log(await wrong);
    """
    assert evaluate(packages, script) == "InputError\n"


@pytest.mark.parametrize("asked", ["", "0"])
def test_the_engine_collects_no_usage_events(packages: Path, file: Path, tmp_path: Path, asked: str) -> None:
    """It writes nothing, unless the user asks for the events."""
    home = tmp_path / "home"
    home.mkdir()
    places = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR")}
    script = f"""
        import {{ Cascade }} from "edgecascade";
        const cascade = await Cascade.load({str(file)!r});
        await cascade.predict([0, 1, 2]);
        console.log(process.env.ORT_DISABLE_TELEMETRY);
    """
    asking = {"ORT_DISABLE_TELEMETRY": asked} if asked else {}
    assert evaluate(packages, script, **places, **asking) == f"{asked or 1}\n"
    if not asked:
        assert [path for path in home.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("page", ["docs/other-languages.md", "runtime/js/README.md"])
def test_the_examples_of_the_pages_run(packages: Path, pair: Path, page: str) -> None:
    """No server is listening, so the answer comes from the local model."""
    (example,) = re.findall(r"^```js\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    shutil.copy(pair / "local.onnx", packages)
    name, confidence, source, reason = evaluate(packages, example).split()
    assert name in ("red", "green", "blue")
    assert 0 < float(confidence) <= 1
    assert (source, reason) in (("local", "confident"), ("local", "offline"))


def evaluate(packages: Path, script: str, **variables: str) -> str:
    """Return what a script prints in Node, with the package at hand."""
    inherited = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    ran = subprocess.run(
        ["node", "--input-type=module", "--eval", script],
        capture_output=True,
        text=True,
        cwd=packages,
        timeout=60,
        env={**inherited, **variables},
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout
