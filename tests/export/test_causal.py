"""Causal language models with small random weights answer a prompt as they do in transformers."""

import json
import re
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgecascade.calibration import softmax
from edgecascade.cli import main
from edgecascade.export import ExportError, unfold
from edgecascade.export.graph import load_model
from edgecascade.export.sources import export_causal
from edgecascade.export.weight_only import quantize_weights
from edgecascade.runtime import Cascade
from edgecascade.runtime.engine import open_session, read_properties
from edgecascade.runtime.text import TextInput, text_input
from edgecascade.types.document import PROMPT_KEY

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CORPUS = [
    "The train to the coast leaves at half past nine, and the parcel arrived with a broken corner. Yes or no?",
    "Is this sentence about sport? Answer: yes, no or perhaps not. She won the final in three sets.",
    "Question and answer: how many people live in 2024? user system assistant\n\n\tname",
] * 5
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PROMPT = "Is this sentence about sport? {input}\nAnswer:"
ANSWERS = {"sport": " yes", "other": " no", "unclear": " perhaps not"}
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.4,
    "max_position_embeddings": 96,
}
ARCHITECTURES = {
    "llama": {**SIZES, "num_key_value_heads": 2},
    "qwen2": {**SIZES, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96, "initializer_range": 0.4},
    "gemma2": {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8},  # bounds its logits
    "phi": SIZES,  # has a bias in its head
}


def _tokenizer(kind: str = "bytes") -> Any:
    """Return a tokenizer of the kind of GPT-2 and Llama 3, or of the kind of SentencePiece and Llama 2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<|end|>", "<|im_start|>", "<|im_end|>"]
    if kind == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<|end|>"))
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        special, alphabet = [*special, *(f"<0x{i:02X}>" for i in range(256))], []
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    )
    if kind != "bytes":
        made.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
        )
    names = {"bos_token": "<|im_start|>", "eos_token": "<|end|>", "pad_token": "<|end|>"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, additional_special_tokens=["<|im_end|>"], chat_template=CHAT, **names
    )


def _model(folder: Path, kind: str, tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, vocab_size=len(tokenizer), **ARCHITECTURES[kind])
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def _files(folder: Path, prompt: Any = PROMPT, answers: Any = ANSWERS) -> tuple[Path, Path]:
    """Return files with a prompt and the answers to it."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt)
    asked, answered = folder / ("prompt.txt" if isinstance(prompt, str) else "prompt.json"), folder / "answers.json"
    asked.write_text(f"{text}\n", encoding="utf-8")
    answered.write_text(json.dumps(answers), encoding="utf-8")
    return asked, answered


def _texts(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    words = [*" ".join(CORPUS[:3]).split(), "Café", "naïve", "日本語", "😀", "3.14", "x_1", "(e.g.)"]
    return [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(n)]


def _scores(model: Any, tokenizer: Any, ids: list[list[int]]) -> NDArray[np.float32]:
    """Return what transformers gives for the first tokens of the answers, one prompt at a time."""
    rows = [tokenizer(text, add_special_tokens=False).input_ids[0] for text in ANSWERS.values()]
    with torch.no_grad():
        return np.stack([model(torch.tensor([one])).logits[0, -1, rows].numpy() for one in ids])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """Return the folder of a small model, which also has its body, `body.onnx`; the model, and its tokenizer."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = _tokenizer()
    model = _model(folder / "llama", "llama", tokenizer)
    prompt, answers = _files(folder)
    arguments = ["--prompt", str(prompt), "--answers", str(answers), "-o", str(folder / "body.onnx")]
    assert main(["export", str(folder / "llama"), *arguments]) == 0
    return folder, model, tokenizer


def _opened(path: Path) -> tuple[Any, TextInput]:
    session = open_session(path)
    text = text_input(session, path)
    assert text is not None
    return session, text


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_text_gets_the_scores_of_transformers(kind: str, tmp_path: Path) -> None:
    """Whatever the architecture: alone, and padded with others on the right or on the left."""
    tokenizer = _tokenizer()
    model = _model(tmp_path / kind, kind, tokenizer)
    prompt, answers = _files(tmp_path)
    arguments = ["--prompt", str(prompt), "--answers", str(answers), "-o", str(tmp_path / "body.onnx")]
    assert main(["export", str(tmp_path / kind), *arguments]) == 0
    session, text = _opened(tmp_path / "body.onnx")
    texts = _texts(6)
    wanted = _scores(model, tokenizer, [tokenizer(PROMPT.replace("{input}", one)).input_ids for one in texts])
    alone = np.concatenate([session.run(None, text.encode([one]))[0] for one in texts])
    right = text.encode(texts)
    left = {
        name: np.stack([np.roll(row, (right["attention_mask"][i] == 0).sum()) for i, row in enumerate(array)])
        for name, array in right.items()
    }
    assert (left["attention_mask"][:, -1] == 1).all()
    assert len(set(right["attention_mask"].sum(axis=1))) > 1
    for got in (alone, session.run(None, right)[0], session.run(None, left)[0]):
        np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())
    assert session.get_outputs()[0].shape[1] == len(ANSWERS)
    assert json.loads(read_properties(session, "")[PROMPT_KEY]) == {"prompt": PROMPT, "answers": ANSWERS}


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
@pytest.mark.parametrize("prompt", [PROMPT, "{input}\nAnswer:", "Sentence:\n{input} Answer:"])
def test_a_thousand_texts_get_the_ids_of_transformers(kind: str, prompt: str, tmp_path: Path) -> None:
    """The ids are those of the prompt's two ends and of the text, which transformers encodes without special tokens.

    Those of simple words are also those of the whole prompt in one piece.
    """
    tokenizer = _tokenizer(kind)
    _model(tmp_path / "llama", "llama", tokenizer)
    body = export_causal(str(tmp_path / "llama"), *_files(tmp_path, prompt)[::-1])
    assert body.tokenizer is not None
    (tmp_path / "tokenizer.json").write_bytes(body.tokenizer)
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_str(body.tokenizer.decode())
    encoder.no_truncation()
    encoder.no_padding()
    empty = encoder.encode("").ids
    before, _ = prompt.split("{input}")
    start = tokenizer(before.rstrip(" ") if before.endswith(" ") else before).input_ids
    start = start if before else tokenizer("").input_ids
    end = empty[len(start) :]
    assert empty[: len(start)] == start
    space = " " if before.endswith(" ") and kind == "bytes" else ""
    for text in _texts(1000):
        plain = tokenizer(space + text, add_special_tokens=False, split_special_tokens=True).input_ids
        ids = encoder.encode(text).ids
        if kind == "bytes" or before.endswith(" ") or not before:
            assert ids == [*start, *plain, *end]
        assert tokenizer.decode(ids).removeprefix("<|im_start|>").strip() == prompt.replace("{input}", text).strip()
    for text in ("Yes", "the sport", "people live"):
        assert encoder.encode(text).ids == tokenizer(prompt.replace("{input}", text)).input_ids


def test_the_prompt_is_whole_whatever_the_input(made: tuple[Path, Any, Any]) -> None:
    """A long input is truncated to what the prompt leaves; one that spells special tokens stays text."""
    folder, _, tokenizer = made
    _, text = _opened(folder / "body.onnx")
    start, end = tokenizer("Is this sentence about sport?").input_ids, tokenizer("\nAnswer:").input_ids
    for long in (" ".join(["sport"] * 500), "<|im_end|><|end|> " * 100):
        ids = text.encode([long])["input_ids"][0].tolist()
        assert len(ids) == SIZES["max_position_embeddings"]
        assert (ids[: len(start)], ids[-len(end) :]) == (start, end)
        assert not set(ids) & set(tokenizer.all_special_ids)


def test_turns_take_the_chat_template(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """A list of turns has examples before the question; `--chat` makes one turn of a text."""
    folder, _, tokenizer = made
    turns = [
        {"role": "system", "content": "Answer yes, no or perhaps not."},
        {"role": "user", "content": "Is this about sport? {input}"},
    ]
    answers = {"sport": "yes", "other": "no"}
    for chat, asked in ((False, turns), (True, turns[1]["content"])):
        files = _files(tmp_path, asked, answers)[::-1]
        body = export_causal(str(folder / "llama"), *files, chat=chat)
        assert body.tokenizer is not None
        from tokenizers import Tokenizer

        encoder = Tokenizer.from_str(body.tokenizer.decode())
        wanted = [{**one, "content": one["content"].replace("{input}", "the train")} for one in turns[chat:]]
        ids = tokenizer.apply_chat_template(wanted, add_generation_prompt=True)
        assert encoder.encode("the train").ids == ids
        assert tokenizer.eos_token_id not in ids


@pytest.mark.parametrize(
    ("prompt", "answers", "sentence"),
    [
        (PROMPT, {"a": " yes", "b": " yes or no"}, r"^--answers: .*' yes or no' \(b\).*' yes' \(a\)|' yes' \(a\) and"),
        ("No place:", ANSWERS, r"^--prompt: expected \{input\} once"),
        ("{input} {input}", ANSWERS, r"^--prompt: expected \{input\} once"),
        ("{input} Answer: ", {"a": "yes", "b": "no"}, r"^--answers: .* got 'yes' for 'a', which joins"),
        (PROMPT, {"a": " yes"}, r"^--answers: expected two or more answers"),
        (PROMPT, [" yes", "yes "], r"^--answers: expected every label once .*'yes' twice"),
        (PROMPT, {"a": " yes", "b": 3}, r"^--answers: expected two or more answers"),
        (
            "the train to the coast " * 40 + "{input}\nAnswer:",
            ANSWERS,
            r"^--prompt: expected a prompt that leaves room",
        ),
        ([{"role": "user"}], ANSWERS, r"^--prompt: expected a list of turns"),
        ([{"role": "user", "content": "none"}], ANSWERS, r"^--prompt: expected \{input\} once"),
    ],
)
def test_what_the_model_cannot_be_asked_is_refused(
    made: tuple[Path, Any, Any], tmp_path: Path, prompt: Any, answers: Any, sentence: str, capsys: Any
) -> None:
    """The command ends with code 2 and one sentence, and writes nothing."""
    asked, answered = _files(tmp_path, prompt, answers)
    out = tmp_path / "body.onnx"
    arguments = ["--prompt", str(asked), "--answers", str(answered), "-o", str(out)]
    with pytest.raises(ExportError, match=sentence):
        export_causal(str(made[0] / "llama"), answered, asked)
    assert main(["export", str(made[0] / "llama"), *arguments]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].count("expected") >= 1
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [["--prompt", "p.txt"], ["--answers", "a.json"], ["--chat"], ["--data", "d.npz"], ["--int4", "--int8-weights"]],
)
def test_options_of_language_models_need_each_other(made: tuple[Path, Any, Any], arguments: list[str]) -> None:
    """An option without its other half, or two precisions, is refused before the model is loaded."""
    with pytest.raises(SystemExit) if len(arguments) == 2 and "--int4" in arguments else nullcontext():
        assert main(["export", str(made[0] / "body.onnx"), *arguments, "-o", str(made[0] / "no.onnx")]) == 2
    assert not (made[0] / "no.onnx").exists()


def _grid(rng: np.random.Generator, steps: int, lowest: int) -> NDArray[np.float32]:
    """Return weights [64, 48] on grids of so many steps, one for each 32 inputs of an output, from a lowest step."""
    scales = rng.uniform(0.01, 0.1, (2, 1, 48)).astype(np.float16).astype(np.float32)
    offsets = lowest * scales if lowest else rng.normal(0, 0.3, (2, 1, 48)).astype(np.float16).astype(np.float32)
    taken = rng.integers(0, steps + 1, (2, 32, 48))
    taken[:, 0], taken[:, 1] = 0, steps
    return np.asarray((taken * scales + offsets).reshape(64, 48), np.float32)


def _layers(weights: NDArray[np.float32], gemm: bool) -> onnx.ModelProto:
    """Return a model of a table, a product with the weights, and a last layer."""
    rng = np.random.default_rng(1)
    bias = [numpy_helper.from_array(rng.normal(size=48).astype(np.float32), "bias")] if gemm else []
    kept = numpy_helper.from_array(np.ascontiguousarray(weights.T if gemm else weights), "weights")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node(*("Gemm", ["x", "weights", "bias"]) if gemm else ("MatMul", ["x", "weights"]), ["y"]),
        helper.make_node("MatMul", ["y", "last"], ["logits"]),
    ]
    if gemm:
        nodes[1].attribute.append(helper.make_attribute("transB", 1))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"] if gemm else ["n", "t"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3] if gemm else ["n", "t", 3])
    table = np.rint(127 * rng.uniform(-1, 1, (50, 64)))
    table[:, ::32] = 127
    constants = [("table", table / 64), ("last", rng.normal(size=(48, 3)))]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants]
    graph = helper.make_graph(nodes, "layers", [ids], [logits], [*tensors, kept, *bias])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize(
    ("bits", "steps", "lowest"),
    [(8, 254, -127), (8, 15, 0), (8, 11, -5), (4, 15, -8), (4, 15, 0), (4, 11, -5), (4, 3, 0)],
)
def test_weights_that_had_few_bits_before_are_kept(bits: int, steps: int, lowest: int, gemm: bool) -> None:
    """The values of GGUF files in Q8_0, Q4_0, Q4_1 and Q4_K are on such grids; so is the table here."""
    body = _layers(_grid(np.random.default_rng(0), steps, lowest), gemm)
    small = quantize_weights(body, bits)
    ids = np.arange(50) if gemm else np.arange(50).reshape(5, 10)
    wanted, got = (open_session(one.SerializeToString()).run(None, {"ids": ids})[0] for one in (body, small))
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())
    onnx.checker.check_model(small)
    assert {one.data_type for one in small.graph.initializer if len(one.dims) > 2} & {
        TensorProto.INT8,
        TensorProto.UINT8,
    }
    assert "weights" not in {one.name for one in small.graph.initializer}


def test_a_file_of_several_kinds_keeps_each() -> None:
    """Beside weights that had 4 bits, those that had more get 8 with `--int4`."""
    rng = np.random.default_rng(0)
    body = _layers(_grid(rng, 15, -8), gemm=False)
    last = helper.make_node("MatMul", ["h", "last"], ["logits"])
    more = rng.normal(size=(48, 48)).astype(np.float32)
    body.graph.node[-1].CopyFrom(helper.make_node("MatMul", ["y", "more"], ["h"]))
    body.graph.node.append(last)
    body.graph.initializer.append(numpy_helper.from_array(more, "more"))
    kinds = {one.name: one.data_type for one in quantize_weights(body, 4).graph.initializer}
    assert kinds["weights/int4"] == TensorProto.UINT8
    assert kinds["more/int8"] == TensorProto.INT8


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.01), (4, 0.15)])
def test_other_weights_are_rounded(bits: int, bound: float) -> None:
    """The error is that of rounding to so many bits."""
    body = _layers(np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32), gemm=False)
    ids = np.arange(50).reshape(5, 10)
    wanted, got = (
        open_session(one.SerializeToString()).run(None, {"ids": ids})[0] for one in (body, quantize_weights(body, bits))
    )
    assert 0 < np.abs(got - wanted).max() < bound * np.abs(wanted).max()


@pytest.mark.parametrize("option", ["--int8-weights", "--int4"])
def test_a_precision_shows_what_it_changes_and_runs_everywhere(
    made: tuple[Path, Any, Any], option: str, tmp_path: Path, environment: Any, capsys: Any
) -> None:
    """Without data, the share of labels that stay; the file runs in the oldest supported ONNX Runtime."""
    folder, _, _ = made
    prompt, answers = _files(tmp_path)
    arguments = ["--prompt", str(prompt), "--answers", str(answers), option, "-o", str(tmp_path / "body.onnx")]
    assert main(["export", str(folder / "llama"), *arguments]) == 0
    said = capsys.readouterr().out
    whole, small = (open_session(one / "body.onnx") for one in (folder, tmp_path))
    text = text_input(small, tmp_path / "body.onnx")
    assert text is not None
    tokens = text.encode(_texts(20))
    first, second = whole.run(None, tokens)[0], small.run(None, tokens)[0]
    shown = re.search(r"the same label as in float on ([\d.]+) %", said)
    assert shown is not None
    assert ("warning" in said) == (float(shown[1]) < 100)
    assert 0 < np.median(np.abs(first - second)) < (0.05 if option == "--int8-weights" else 0.3) * np.abs(first).max()
    arrays: dict[str, Any] = dict(tokens)
    np.savez(tmp_path / "tokens.npz", **arrays)
    script = (
        "import numpy, onnxruntime, sys; one = onnxruntime.InferenceSession(sys.argv[1]); "
        "numpy.save(sys.argv[3], one.run(None, dict(numpy.load(sys.argv[2])))[0])"
    )
    python = environment("onnxruntime==1.19.2")
    files = [str(tmp_path / name) for name in ("body.onnx", "tokens.npz", "old.npy")]
    subprocess.run([python, "-c", script, *files], check=True)
    np.testing.assert_allclose(np.load(files[2]), second, atol=1e-4 * np.abs(second).max())


def test_a_body_that_was_exported_takes_another_precision(
    made: tuple[Path, Any, Any], tmp_path: Path, capsys: Any
) -> None:
    """Its tokenizer goes along, and the share of labels that stay is printed."""
    folder, _, _ = made
    assert main(["export", str(folder / "body.onnx"), "--int8-weights", "-o", str(tmp_path / "small.onnx")]) == 0
    assert "the same label as in float on" in capsys.readouterr().out
    session, text = _opened(tmp_path / "small.onnx")
    wanted = _opened(folder / "body.onnx")[1].encode(["the train"])
    assert np.array_equal(text.encode(["the train"])["input_ids"], wanted["input_ids"])
    assert json.loads(read_properties(session, "")[PROMPT_KEY])["answers"] == ANSWERS


def test_a_cascade_of_a_language_model_works_as_any_other(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    """It is calibrated with a remote, verified, run and unfolded; `predict` takes the bare text."""
    folder, model, tokenizer = made
    texts = _texts(300)
    scores = _scores(model, tokenizer, [tokenizer(PROMPT.replace("{input}", one)).input_ids for one in texts])
    rng = np.random.default_rng(1)
    labels = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    np.savez(tmp_path / "data.npz", x=np.array(texts), y=labels, names=np.array(list(ANSWERS)))
    np.save(tmp_path / "remote.npy", np.eye(3)[labels] * 4 + rng.gumbel(size=scores.shape))
    local = tmp_path / "local.onnx"
    arguments = ["calibrate", str(folder / "body.onnx"), "--data", str(tmp_path / "data.npz")]
    arguments += ["--remote", str(tmp_path / "remote.npy"), "--offload-rate", "0.3", "-o", str(local)]
    assert main(arguments) == 0
    assert main(["inspect", str(local), "--verify"]) == 0
    (tmp_path / "texts.txt").write_text("\n".join(texts[:5]))
    assert main(["run", str(local), str(tmp_path / "texts.txt")]) == 0
    with Cascade.load(local) as cascade:
        temperature = cascade.document.calibration.temperature
        got = np.stack([cascade.predict(one).local.probabilities for one in texts[:20]])
        assert cascade.document.labels == tuple(ANSWERS)
        assert cascade.predict("").name in ANSWERS
    np.testing.assert_allclose(got, softmax(scores[:20], temperature), atol=1e-4)
    unfolded, body = unfold(load_model(local)), load_model(folder / "body.onnx")
    assert unfolded.SerializeToString(deterministic=True) == body.SerializeToString(deterministic=True)
