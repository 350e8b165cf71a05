"""Causal language models with small random weights answer a prompt as they do in transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.cli import main
from edgecascade.export.sources import export_causal
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
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
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
