"""Every file in examples/ does what its first lines say."""

import http.server
import json
import re
import runpy
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from asked_endpoints import fake_endpoint, large, prompts_about, small
from edgecascade.runtime import Cascade
from general_tasks import text_pair

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
CLASSES = ("0-red", "1-green", "2-blue")
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example in a folder of its own, in this process, and return what it prints."""

    def run(name: str, *arguments: object) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def photos(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return class folders of images: `judged`, of which every tenth is in the wrong folder, and `held-out`.

    Their alphabetical order is that of the models' classes.
    """
    folder, data = tmp_path_factory.mktemp("photos"), np.load(pair / "test.npz")
    for i, (image, label) in enumerate(zip(data["x"], data["y"], strict=True)):
        part, moved = ("judged", int(i % 10 == 0)) if i < 200 else ("held-out", 0)
        place = folder / part / CLASSES[(label + moved) % 3] / f"{i:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    return folder


def expected(pair: Path, image: Path) -> Any:
    """Return the answer that the cascade gives without a remote."""
    with Cascade.load(pair / "local.onnx") as cascade:
        return cascade.predict(image)


def test_the_list_names_every_example() -> None:
    """Each begins with what it does and how to run it."""
    named = set(re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text()))
    files = {
        str(one.relative_to(EXAMPLES)) for ending in ("py", "mjs", "html") for one in EXAMPLES.rglob(f"*.{ending}")
    }
    assert {one for one in files if not one.startswith("device/")} <= named
    for one in sorted(named & files):
        head = (EXAMPLES / one).read_text()[:900]
        assert re.search(r"pip install|npm install", head), one


def test_camera(run: Run, pair: Path, photos: Path, tmp_path: Path) -> None:
    """It answers the images of a folder, and the frames of a video."""
    import av

    folder = photos / "held-out" / "0-red"
    lines = run("camera.py", pair / "local.onnx", folder, pair / "remote.onnx").splitlines()
    n = len(list(folder.iterdir()))
    assert re.fullmatch(rf"{n} frames, (\d+) forwarded", lines[-1])
    assert lines[0].startswith("0: ")
    with av.open(str(tmp_path / "v.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            image = np.full((64, 64, 3), (200, 20, 20), np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        video.mux(stream.encode())
    first, last = run("camera.py", pair / "local.onnx", tmp_path / "v.mp4").splitlines()
    assert first.startswith("0: red")
    assert last.startswith("5 frames")


@contextmanager
def service(pair: Path) -> Iterator[str]:
    """Run the service, and give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "service:app", "--port", str(port)]
    variables = {"CASCADE": str(pair / "local.onnx"), "REMOTE": str(pair / "remote.onnx"), "PATH": ""}
    server = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while time.monotonic() < end and server.poll() is None:
            try:
                urllib.request.urlopen(f"{address}/metrics", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail(f"the service did not come up: {server.communicate()[1][-500:]}")
        yield address
    finally:
        server.kill()
        server.communicate()


def test_service(pair: Path, photos: Path) -> None:
    """It answers as the cascade does, counts, and refuses what is no image."""
    image = next((photos / "held-out" / "0-red").iterdir())
    with Cascade.load(pair / "local.onnx", remote=pair / "remote.onnx", deadline=30) as cascade:
        answer = cascade.predict(image)
    with service(pair) as address:
        with urllib.request.urlopen(f"{address}/answers", image.read_bytes(), timeout=20) as reply:
            found = json.loads(reply.read())
        with urllib.request.urlopen(f"{address}/metrics", timeout=20) as reply:
            metrics = reply.read().decode()
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(f"{address}/answers", b"no image", timeout=20)
        assert raised.value.code == 422
        raised.value.close()
    assert found["name"] == answer.name
    assert found["confidence"] == pytest.approx(answer.confidence)
    assert "edgecascade" in metrics


def test_scikit_learn(run: Run) -> None:
    """The cascade is nearly as good as the large classifier, and forwards about a fifth."""
    shown = run("scikit_learn.py")
    small_one, large_one, both = (float(one) for one in re.findall(r"([\d.]+)% right", shown)[-3:])
    (forwarded,) = re.findall(r"([\d.]+)% forwarded", shown)
    assert small_one + 5 < both <= large_one + 1
    assert 10 < float(forwarded) < 30


def test_read_text(run: Run, tmp_path: Path) -> None:
    """The cascade makes fewer errors than the small recogniser."""
    text_pair(tmp_path)
    shown = run("read_text.py", "body.onnx", "large.onnx", "keys.txt", "calibration")
    both, alone = (float(one) for one in re.findall(r"1 - CER ([\d.]+)", shown))
    assert both > alone + 0.05


def test_chat_gateway(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It calibrates, answers, and would serve the file."""
    asked: list[list[str]] = []
    monkeypatch.setattr("edgecascade.cli.main", asked.append)
    rows = ({"prompt": one.messages[0]["content"], "reference": one.reference} for one in prompts_about(120))
    (tmp_path / "prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with fake_endpoint(small) as local, fake_endpoint(large) as remote:
        shown = run("chat_gateway.py", "prompts.jsonl", local.url, remote.url)
    assert re.search(r"^.*7.* \((local|remote), (confident|offloaded), confidence", shown, re.MULTILINE)
    assert asked == [["gateway", "chat.json", "--port", "8001"]]


def test_score_parquet(run: Run, pair: Path, tmp_path: Path) -> None:
    """It gives the answers of `predict_columns`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = np.load(pair / "test.npz")["x"][:100]
    pq.write_table(pa.table({"x": images.tolist()}), tmp_path / "rows.parquet")
    shown = run("score_parquet.py", pair / "local.onnx", pair / "remote.onnx", "rows.parquet", "answers.parquet")
    with Cascade.load(pair / "local.onnx", remote=pair / "remote.onnx") as cascade:
        columns = cascade.predict_columns(images)
    table = pq.read_table(tmp_path / "answers.parquet")
    assert table["name"].to_pylist() == [cascade.labels[label] for label in columns.label]
    assert table["source"].to_pylist() == columns.source.tolist()
    assert f"100 rows, {columns.forward.sum()} forwarded" in shown


def test_clean_images(run: Run, pair: Path, photos: Path, tmp_path: Path) -> None:
    """Most of the images that it lists first are in the wrong folder, and the copies to judge tell no folder."""
    shown = run("clean_images.py", photos / "judged", photos / "held-out", pair / "corner.onnx", pair / "remote.onnx")
    listed = [int(one) for one in re.findall(r"(\d{3})\.png: \S+, or rather \S+\?", shown)]
    assert len(listed) == 10
    assert sum(one % 10 == 0 for one in listed) >= 8
    copies = sorted((tmp_path / "audit").iterdir())
    assert [one.name for one in copies] == [f"{number:03}.png" for number in range(len(copies))]
    originals = {one.read_bytes() for one in (photos / "judged").glob("*/*.png")}
    assert copies
    assert {one.read_bytes() for one in copies} <= originals


def test_mlflow_run(pair: Path, tmp_path: Path) -> None:
    """The run has the plan's parameters and figures, its picture, and the file."""
    files = ["corner.onnx", "remote.onnx", "calibration.npz"]
    for file in files:
        shutil.copy(pair / file, tmp_path)
    command: list[Any] = [sys.executable, EXAMPLES / "mlflow_run.py", *files, "0.3"]
    store = f"file://{tmp_path}/runs"
    variables = {"MLFLOW_TRACKING_URI": store, "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    ran = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    (folder,) = (tmp_path / "runs").glob(f"*/{ran.stdout.split()[-1]}")
    assert (folder / "params" / "offload_rate").read_text() == "0.3"
    assert float((folder / "metrics" / "offload_rate").read_text().split()[1]) == pytest.approx(0.3, abs=0.05)
    assert (folder / "artifacts" / "local.onnx").read_bytes() == (tmp_path / "local.onnx").read_bytes()
    assert "<svg" in (folder / "artifacts" / "plan.html").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_hugging_face_text(run: Run, tmp_path: Path) -> None:
    """Two small models with random weights are exported, calibrated and asked."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    words = [f"w{i}" for i in range(40)]
    torch.manual_seed(0)
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        names = {0: "bad", 1: "good"}
        config = transformers.BertConfig(vocab_size=45, id2label=names, initializer_range=0.6, **sizes)
        transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / name)
        transformers.BertTokenizerFast(str(tmp_path / name / "vocab.txt")).save_pretrained(tmp_path / name)
    remote = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "large").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "large")
    rng = np.random.default_rng(0)
    sentences = [" ".join(rng.choice(words, 4)) for _ in range(150)]
    with torch.inference_mode():
        logits = remote(**tokenizer(sentences, padding=True, return_tensors="pt")).logits.numpy()
    labels = (logits / 2 + rng.gumbel(size=logits.shape)).argmax(axis=1)
    rows = [f"{text},{('bad', 'good')[label]}" for text, label in zip(sentences, labels, strict=True)]
    (tmp_path / "labelled.csv").write_text("\n".join(["text,label", *rows]))
    shown = run("hugging_face_text.py", "small", "large", "labelled.csv")
    assert len(re.findall(r"^(bad|good) [\d.]+ \((local|remote|merged)\): w", shown, re.MULTILINE)) == 5


@pytest.mark.slow
def test_node(packages: Path, pair: Path, photos: Path) -> None:
    """It answers as Python does."""
    image = next((photos / "held-out" / "1-green").iterdir())
    (packages / "photo.rgb").write_bytes(np.asarray(Image.open(image)).tobytes())
    shutil.copy(EXAMPLES / "decide.mjs", packages)
    command: list[Any] = ["node", "decide.mjs", pair / "local.onnx", "photo.rgb", "8", "8"]
    ran = subprocess.run(command, cwd=packages, capture_output=True, text=True, timeout=60, check=False)
    answer = expected(pair, image)
    assert ran.stdout.startswith(f"{answer.name} {answer.confidence:.2f} (local, {answer.reason.value})"), ran.stderr


@pytest.mark.slow
def test_browser(packages: Path, pair: Path, photos: Path, browser: Any, tmp_path: Path) -> None:
    """The page decides about an image that the user picks, and asks no other server."""
    shutil.copy(EXAMPLES / "browser" / "index.html", tmp_path)
    shutil.copy(pair / "local.onnx", tmp_path)
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    handler = partial(_Quiet, directory=str(tmp_path))
    image = next((photos / "held-out" / "2-blue").iterdir())
    answer = expected(pair, image)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        page.get_by_text("Pick an image.").wait_for(timeout=60_000)
        page.get_by_label("Image").set_input_files(image)
        page.get_by_text("confidence").wait_for(timeout=60_000)
        shown = page.get_by_role("status").inner_text()
        page.close()
        server.shutdown()
    assert shown.startswith(f"{answer.name}, confidence {answer.confidence:.2f}: ")
    assert ("asked" in shown) == answer.forwarded
    assert all(one.startswith(f"http://127.0.0.1:{server.server_port}/") for one in asked)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Print nothing."""
