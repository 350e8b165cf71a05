"""Hugging Face classifiers with small random weights give the same answers as transformers."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image

from edgecascade.benchmarks.server import serving
from edgecascade.calibration import softmax
from edgecascade.cli import main
from edgecascade.export import ExportError, local_scores, save_model, unfold
from edgecascade.export.graph import first_sides, load_model
from edgecascade.export.sources import HuggingFaceBody, export_hugging_face, hugging_face
from edgecascade.runtime import Cascade, Deadline, InputError, ModelFileError, OpenInference, Reason, RemoteError
from edgecascade.types.document import LABELS_KEY

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("optimum.exporters.onnx")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
WORDS = [f"w{i}" for i in range(60)]
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.6,
}
COMMIT = "0" * 40
NAMES = {0: "negative", 1: "neutral", 2: "positive"}


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed the weights, so that they are the same on every run, whichever tests run before."""
    torch.manual_seed(0)


def _text_model(folder: Path, kind: str) -> Any:
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=16)
    config = transformers.BertConfig(vocab_size=65, max_position_embeddings=32, id2label=NAMES, **SMALL)
    model = getattr(transformers, kind)(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def _sentences(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 25))) for _ in range(n)]


def _logits(model: Any, tokenizer: Any, sentences: list[str], padding: bool = True) -> NDArray[np.float32]:
    with torch.no_grad():
        encoded = tokenizer(sentences, padding=padding, truncation=True, return_tensors="pt")
        return np.asarray(model(**encoded).logits.numpy())


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """Return a folder with `body.onnx`, its tokenizer and `local.onnx`, calibrated on 400 sentences; and the model."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("text")
    model, tokenizer = _text_model(folder / "bert", "BertForSequenceClassification")
    assert main(["export", str(folder / "bert"), "-o", str(folder / "body" / "body.onnx")]) == 0
    sentences = _sentences(400)
    logits = _logits(model, tokenizer, sentences)
    rng = np.random.default_rng(1)
    labels = (logits / 2 + rng.gumbel(size=logits.shape)).argmax(axis=1)
    np.savez(folder / "data.npz", x=np.array(sentences), y=labels)
    np.save(folder / "remote.npy", np.eye(3)[labels] * 4 + rng.gumbel(size=logits.shape))
    np.save(folder / "expected.npy", logits)
    arguments = ["calibrate", str(folder / "body" / "body.onnx"), "--data", str(folder / "data.npz")]
    arguments += ["--remote", str(folder / "remote.npy"), "--expected", str(folder / "expected.npy")]
    assert main([*arguments, "--offload-rate", "0.3", "-o", str(folder / "local.onnx")]) == 0
    return folder, model, tokenizer


def test_a_served_text_model_is_a_remote_for_sentences(text: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """It reads the sentences itself, also several of different lengths in a request, and still takes tokens."""
    folder, model, tokenizer = text
    sentences = _sentences(7)
    with serving(folder / "body" / "body.onnx", name="large", threads=1, log=tmp_path / "log") as address:
        with Cascade.load(folder / "local.onnx", remote=address, deadline=30, threshold=2.0) as cascade:
            answers = cascade.predict_batch(sentences)
            assert {one.reason for one in answers} == {Reason.OFFLOADED}
            expected = _logits(model, tokenizer, sentences).argmax(axis=1)
            assert [one.label for one in answers] == expected.tolist()
        with contextlib.closing(OpenInference(address)) as remote:
            tokens = tokenizer(sentences, padding=True, truncation=True, return_tensors="np")
            feeds = {name: tokens[name].astype(np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
            of_text = remote.infer(np.array(sentences, object), Deadline.after(30))
            np.testing.assert_allclose(remote.infer(feeds, Deadline.after(30)), of_text, rtol=1e-5)
            with pytest.raises(RemoteError, match="400"):
                remote.infer({"input_ids": feeds["input_ids"]}, Deadline.after(30))


def test_a_sentence_gets_the_answer_of_transformers(text: tuple[Path, Any, Any]) -> None:
    """The tokenizer beside the file runs on the device and truncates long sentences, alone or in a batch."""
    folder, model, tokenizer = text
    sentences = _sentences(30)
    expected = _logits(model, tokenizer, sentences)
    with Cascade.load(folder / "local.onnx") as cascade:
        temperature = cascade.document.to_dict()["calibration"]["temperature"]
        together = cascade.predict_batch(sentences)
        alone = [cascade.predict(sentence) for sentence in sentences]
        assert cascade.predict_batch([]) == []
        with pytest.raises(
            InputError, match=r"x: expected sentences \(str\), or one array for each of .* <U2 \[1, 2\]"
        ):
            cascade.predict(["w1", "w2"])
    assert cascade.document.labels == tuple(NAMES.values())
    for answers in (together, alone):
        probabilities = np.stack([answer.local.probabilities for answer in answers])
        np.testing.assert_allclose(probabilities, softmax(expected, temperature), atol=1e-5)


def test_dynamic_int8_gives_a_sentence_the_same_answer_in_a_batch(text: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """Its scales depend on the batch and on padding, so it is calibrated, proved and run on one sentence at a time."""
    folder, body, out = text[0], tmp_path / "int8.onnx", tmp_path / "out" / "local.onnx"
    assert main(["export", str(folder / "bert"), "--int8-dynamic", "-o", str(body)]) == 0
    arguments = ["calibrate", str(body), "--data", str(folder / "data.npz"), "--remote", str(folder / "remote.npy")]
    assert main([*arguments, "--offload-rate", "0.3", "-o", str(out)]) == 0
    assert main(["inspect", str(out), "--verify"]) == 0
    sentences = _sentences(30)
    with Cascade.load(out) as cascade:
        temperature = cascade.document.calibration.temperature
        together = np.stack([answer.local.probabilities for answer in cascade.predict_batch(sentences)])
        alone = np.stack([cascade.predict(sentence).local.probabilities for sentence in sentences])
    np.testing.assert_array_equal(together, alone)
    scores = np.concatenate([local_scores(body, np.array([sentence])) for sentence in sentences])
    np.testing.assert_allclose(alone, softmax(scores, temperature), atol=1e-5)


TOKENS = {"<unk>": 0, "<s>": 1, "</s>": 2, "<mask>": 3, **{word: i + 4 for i, word in enumerate(WORDS)}, "<pad>": 64}
NO_TYPES = ["input_ids", "attention_mask"]
GPT2 = {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "eos_token_id": 2, "initializer_range": 0.6}


def _tokenizer(kind: str, template: str, **options: Any) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel(TOKENS, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    used = [(token, i) for token, i in TOKENS.items() if token in template]
    processor = processors.TemplateProcessing(single=template, special_tokens=used)
    made.post_processor = processor
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    found = getattr(transformers, kind)(tokenizer_object=made, **{**names, "model_max_length": 16, **options})
    found.backend_tokenizer.post_processor = processor
    return found


def _exported(folder: Path, config: Any, tokenizer: Any) -> tuple[Any, HuggingFaceBody]:
    """Return a model with random weights, and what `export` makes of its folder, written to `folder`."""
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    body = export_hugging_face(str(folder / "model"))
    assert body.tokenizer is not None
    save_model(body.model, folder / "body.onnx")
    (folder / "tokenizer.json").write_bytes(body.tokenizer)
    return model, body


@pytest.mark.parametrize(
    ("config", "options", "first"),
    [
        ({"pad_token_id": 64}, {}, "batch_size"),
        ({"pad_token_id": 2}, {"pad_token": "</s>"}, "batch_size"),
        ({"pad_token_id": 64}, {"pad_token": None}, "batch_size"),
        ({}, {}, "batch_size"),
        ({}, {"pad_token": None}, 1),
        ({"pad_token_id": 64}, {"padding_side": "left"}, 1),
    ],
    ids=["own", "end of text", "of the model only", "of the tokenizer only", "none", "left"],
)
def test_a_decoder_is_padded_with_its_own_token(
    tmp_path: Path, config: dict[str, Any], options: dict[str, Any], first: int | str
) -> None:
    """It reads the last token that is not padding. Where padding changes the scores, texts are run one at a time."""
    settings = transformers.GPT2Config(vocab_size=65, id2label=NAMES, **GPT2, **config)
    tokenizer = _tokenizer("PreTrainedTokenizerFast", "$A", **{"model_input_names": NO_TYPES, **options})
    model, body = _exported(tmp_path, settings, tokenizer)
    sentences = _sentences(40)
    expected = np.concatenate([_logits(model, tokenizer, [one], padding=False) for one in sentences])
    np.testing.assert_allclose(local_scores(tmp_path / "body.onnx", np.array(sentences)), expected, rtol=0, atol=1e-3)
    assert set(first_sides(body.model).values()) == {first}
    with pytest.raises(InputError, match="expected text with at least one token, got ' '"):
        local_scores(tmp_path / "body.onnx", np.array([" "]))


def test_a_post_processor_of_its_own_is_kept(tmp_path: Path) -> None:
    """A class of transformers replaces it as it loads the tokenizer; the export keeps it, and says so."""
    config = transformers.LlamaConfig(vocab_size=65, pad_token_id=64, max_position_embeddings=64, **SMALL)
    tokenizer = _tokenizer("LlamaTokenizerFast", "<s> $A <mask> </s>", legacy=False)
    model, body = _exported(tmp_path, config, tokenizer)
    sentences = _sentences(20)
    expected = np.concatenate([_logits(model, tokenizer, [one]) for one in sentences])
    np.testing.assert_allclose(local_scores(tmp_path / "body.onnx", np.array(sentences)), expected, rtol=0, atol=1e-3)
    (note,) = body.notes
    assert re.search(r"input_ids of '.*' are \[1, .*, 3, 2\], in transformers \[1, ", note)


def test_token_types_that_the_graph_does_not_take_are_reported(tmp_path: Path) -> None:
    """GPT-2 adds their embeddings if it gets them, but the graph takes none."""
    config = transformers.GPT2Config(vocab_size=65, pad_token_id=64, **GPT2)
    _, body = _exported(tmp_path, config, _tokenizer("PreTrainedTokenizerFast", "$A"))
    assert [note[:40] for note in body.notes] == ["texts have no token_type_ids here, altho"]


@pytest.mark.parametrize(
    ("template", "options", "length"),
    [
        ("<s> $A </s>", {"truncation_side": "left"}, 16),
        ("<s>:1 $A:1 </s>:1", {}, 16),
        ("<s>:1 $A:1 </s>:1", {"model_input_names": NO_TYPES}, 16),
        ("<s> $A </s>", {"model_max_length": None}, 32),
    ],
    ids=["truncated on the left", "token types", "no token types", "no length"],
)
def test_truncation_and_token_types_are_those_of_transformers(
    tmp_path: Path, template: str, options: dict[str, Any], length: int
) -> None:
    """They come from the tokenizer's settings; positions bound the length where the tokenizer does not."""
    config = transformers.BertConfig(vocab_size=65, pad_token_id=64, max_position_embeddings=32, **SMALL)
    tokenizer = _tokenizer("PreTrainedTokenizerFast", template, **options)
    model, _ = _exported(tmp_path, config, tokenizer)
    sentences = [*_sentences(20), " ".join(WORDS)]
    tokenizer.model_max_length = length
    expected = _logits(model, tokenizer, sentences)
    found = local_scores(tmp_path / "body.onnx", np.array(sentences))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_positions_that_start_after_padding_bound_the_length(tmp_path: Path) -> None:
    """RoBERTa has as many positions less as the id of its padding, and one."""
    config = transformers.RobertaConfig(vocab_size=65, pad_token_id=4, max_position_embeddings=32, **SMALL)
    tokenizer = _tokenizer("PreTrainedTokenizerFast", "<s> $A </s>", pad_token="w0", model_max_length=None)
    model, _ = _exported(tmp_path, config, tokenizer)
    tokenizer.model_max_length = 32 - 4 - 1
    expected = _logits(model, tokenizer, [" ".join(WORDS[1:])])
    found = local_scores(tmp_path / "body.onnx", np.array([" ".join(WORDS[1:])]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_a_graph_that_differs_from_transformers_is_refused(
    text: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference texts are run by both before anything is written."""

    def damaged(path: str) -> Any:
        model = onnx.load(path)
        bias = next(one for one in model.graph.initializer if one.name == "classifier.bias")
        moved = numpy_helper.to_array(bias) + np.array([0, 0.1, 0])
        bias.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), bias.name))
        return model

    monkeypatch.setattr(hugging_face, "onnx", SimpleNamespace(load=damaged))
    with pytest.raises(ExportError, match=r"differs from transformers by 0\.1 in a logit of reference texts alone"):
        export_hugging_face(str(text[0] / "bert"))


def test_lines_of_a_file_are_sentences(
    text: tuple[Path, Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`edgecascade run local.onnx sentences.txt` answers one sentence per line."""
    (tmp_path / "sentences.txt").write_text("w1 w2\nw3\n")
    assert main(["run", str(text[0] / "local.onnx"), str(tmp_path / "sentences.txt")]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["input"][-4:] for answer in answers] == ["xt:1", "xt:2"]
    with Cascade.load(text[0] / "local.onnx") as cascade:
        assert [answer["name"] for answer in answers] == [cascade.predict(s).name for s in ("w1 w2", "w3")]


def test_the_remote_gets_the_sentence(text: tuple[Path, Any, Any]) -> None:
    """The remote gets the text, not the tokens of the local model's tokenizer."""
    asked: list[str] = []

    def remote(sentences: Any) -> NDArray[Any]:
        asked.extend(sentences.tolist())
        return np.zeros((len(sentences), 3), np.float32)

    with Cascade.load(text[0] / "local.onnx", remote=remote, threshold=2.0) as cascade:
        assert cascade.predict("w1 w2 w3").reason is Reason.OFFLOADED
    assert asked == ["w1 w2 w3"]


def test_a_text_file_verifies_and_unfolds(text: tuple[Path, Any, Any]) -> None:
    """The tokenizer was copied beside the file."""
    folder = text[0]
    assert main(["inspect", str(folder / "local.onnx"), "--verify"]) == 0
    body = (folder / "body" / "body.onnx").read_bytes()
    assert unfold(load_model(folder / "local.onnx")).SerializeToString() == body
    assert (folder / "tokenizer.json").read_bytes() == (folder / "body" / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "expected its tokenizer tokenizer.json"), (b"{}", "the tokenizer that it was exported with, got")],
)
def test_another_tokenizer_is_refused(
    text: tuple[Path, Any, Any], tmp_path: Path, content: bytes | None, message: str
) -> None:
    """Another tokenizer would give wrong answers without an error, so it is refused."""
    (tmp_path / "local.onnx").write_bytes((text[0] / "local.onnx").read_bytes())
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        Cascade.load(tmp_path / "local.onnx")


def test_a_name_of_the_hub_is_found_in_its_cache(text: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """A model in the hub's cache gives the same body without a network as from its folder."""
    folder, _, _ = text
    cached = tmp_path / "hub" / "models--someone--bert"
    shutil.copytree(folder / "bert", cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "edgecascade.cli", "export", "hf:someone/bert", "-o", str(tmp_path / "body.onnx")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    sentences = np.array(_sentences(20))
    here, there = (local_scores(path, sentences) for path in (folder / "body" / "body.onnx", tmp_path / "body.onnx"))
    np.testing.assert_array_equal(here, there)
    unknown = [*command[:4], "hf:someone/else", "-o", str(tmp_path / "none.onnx")]
    done = subprocess.run(unknown, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    progress, error = done.stderr.splitlines()
    assert progress.startswith("exporting hf:someone/else")
    assert error.startswith("edgecascade: source: cannot export 'someone/else': ")


def test_multiple_choice_is_fed_by_name(tmp_path: Path) -> None:
    """A multiple-choice model takes three token arrays [batch, choices, tokens] and returns logits [batch, choices]."""
    model, tokenizer = _text_model(tmp_path / "mc", "BertForMultipleChoice")
    assert main(["export", str(tmp_path / "mc"), "-o", str(tmp_path / "body.onnx")]) == 0
    encoded = tokenizer(_sentences(8), padding=True, truncation=True, return_tensors="pt")
    inputs = {name: tokens.reshape(2, 4, -1) for name, tokens in encoded.items()}
    with torch.no_grad():
        expected = model(**inputs).logits.numpy()
    found = local_scores(tmp_path / "body.onnx", {name: tokens.numpy() for name, tokens in inputs.items()})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("crop", [False, True])
def test_an_image_model_takes_pixels(tmp_path: Path, crop: bool) -> None:
    """The graph resizes, crops and normalises as the processor does, closely enough for the same answers."""
    config = transformers.ViTConfig(image_size=32, patch_size=8, id2label=NAMES, **{**SMALL, "initializer_range": 0.2})
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path / "vit")
    if crop:
        processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=1.0)
        document = {**json.loads(processor.to_json_string()), "size": {"shortest_edge": 40}, "resample": 2}
        document |= {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
        (tmp_path / "vit" / "preprocessor_config.json").write_text(
            json.dumps({**document, "image_processor_type": "CLIPImageProcessor"})
        )
        processor = transformers.CLIPImageProcessor.from_pretrained(tmp_path / "vit")
    else:
        processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
        processor.save_pretrained(tmp_path / "vit")
    assert main(["export", str(tmp_path / "vit"), "-o", str(tmp_path / "body.onnx")]) == 0
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
    image = coarse.resize((90, 60), Image.Resampling.BICUBIC)
    with torch.no_grad():
        expected = model(**processor(image, return_tensors="pt")).logits.numpy()
    found = local_scores(tmp_path / "body.onnx", np.asarray(image)[None])
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * np.abs(expected).max())
    properties = {entry.key: entry.value for entry in load_model(tmp_path / "body.onnx").metadata_props}
    assert json.loads(properties[LABELS_KEY]) == list(NAMES.values())


def test_placeholders_are_not_written_as_class_names(tmp_path: Path) -> None:
    """LABEL_0 names nothing, so that data with names is not refused for it."""
    _text_model(tmp_path / "model", "BertForSequenceClassification")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["id2label"] = {k: f"LABEL_{k}" for k in range(3)}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    exported = export_hugging_face(str(tmp_path / "model"))
    assert LABELS_KEY not in {entry.key for entry in exported.model.metadata_props}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/none", "--shape", "3,4,4"], "--shape, .* --int8: .*Hugging Face"),
        (["{}/none"], "source: cannot export "),
        (["{}/masked"], "source: .*ForSequenceClassification.* is BertForMaskedLM"),
        (["{}/several"], "source: .* is a model of independent labels"),
    ],
)
def test_a_model_that_is_not_a_classifier_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The error is one sentence, and nothing is written."""
    (tmp_path / "none").mkdir()
    _text_model(tmp_path / "masked", "BertForMaskedLM")
    model, _ = _text_model(tmp_path / "several", "BertForSequenceClassification")
    model.config.problem_type = "multi_label_classification"
    model.config.save_pretrained(tmp_path / "several")
    filled = [argument.format(tmp_path) for argument in arguments]
    assert main(["export", *filled, "-o", str(tmp_path / "o.onnx")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "o.onnx").exists()


def test_the_tokenizer_of_another_model_is_not_replaced(
    text: tuple[Path, Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither by a model exported nor by one calibrated into its folder; a model that is written again is."""
    folder, _, _ = text
    (tmp_path / "tokenizer.json").write_text("{}")
    arguments = ["recalibrate", str(folder / "local.onnx"), "--offload-rate", "0.2", "-o", str(tmp_path / "local.onnx")]
    exported = ["export", str(folder / "bert"), "-o", str(tmp_path / "body.onnx")]
    for command in (exported, arguments):
        assert main(command) == 2
        assert "tokenizer.json" in capsys.readouterr().err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["tokenizer.json"]
    (tmp_path / "local.onnx").touch()
    assert main(arguments) == 0
    assert (tmp_path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_a_tokenizer_in_the_way_is_found_before_the_remote_is_asked(
    text: tuple[Path, Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command does not get as far as the remote, which is away; without it, both files are named as written."""
    folder, _, _ = text
    command = ["calibrate", str(folder / "body" / "body.onnx"), "--data", str(folder / "data.npz")]
    command += ["--offload-rate", "0.2", "-o", str(tmp_path / "local.onnx"), "--remote"]
    (tmp_path / "tokenizer.json").write_text("{}")
    assert main([*command, "http://127.0.0.1:1/v2/models/large"]) == 2
    assert "tokenizer.json" in capsys.readouterr().err
    (tmp_path / "tokenizer.json").unlink()
    assert main([*command, str(folder / "remote.npy")]) == 0
    assert "local.onnx, with tokenizer.json beside it" in capsys.readouterr().out
