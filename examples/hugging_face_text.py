"""Make a cascade of two text classifiers of Hugging Face, and answer sentences.

pip install 'edgecascade[cpu,hf,parquet]' pandas
python hugging_face_text.py SMALL LARGE labelled.csv    # names on the Hub or folders; columns `text` and `label`
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from edgecascade import Cascade
from edgecascade.calibration import MostAccuracy
from edgecascade.export import calibrate, export_hugging_face, local_scores, read_labelled, save_model


class Remote:
    """A model of transformers in this process; a server would do as well."""

    def __init__(self, name: str) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(name)  # type: ignore[no-untyped-call]
        self.model = AutoModelForSequenceClassification.from_pretrained(name).eval()

    def __call__(self, sentences: Any) -> Any:
        """Return the logits [n, classes] of sentences."""
        with torch.inference_mode():
            given = self.tokenizer([*map(str, sentences)], padding=True, truncation=True, return_tensors="pt")
            return self.model(**given).logits.numpy()


def main(small: str, large: str, table: str) -> None:
    """Export, calibrate, and answer the first sentences of the table."""
    body = export_hugging_face(small)
    Path("body").mkdir(exist_ok=True)
    save_model(body.model, "body/body.onnx")
    if body.tokenizer is not None:
        Path("body/tokenizer.json").write_bytes(body.tokenizer)
    data, remote = read_labelled(pd.read_csv(table)), Remote(large)
    sentences = np.asarray(data.inputs).tolist()
    scores = np.concatenate([remote(sentences[at : at + 32]) for at in range(0, len(sentences), 32)])
    local = local_scores("body/body.onnx", data.inputs)
    found = calibrate("body/body.onnx", "text.onnx", data, local, scores, objective=MostAccuracy(0.2))
    print(found.plan)
    with Cascade.load("text.onnx", remote=remote, deadline=5) as cascade:
        for sentence in sentences[:5]:
            answer = cascade.predict(sentence)
            print(f"{answer.name} {answer.confidence:.2f} ({answer.source.value}): {sentence[:60]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
