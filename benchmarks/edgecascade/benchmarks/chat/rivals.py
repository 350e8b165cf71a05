"""Other ways to choose between two endpoints, as scores of the local reply: the prompts of the lowest are forwarded.

| name | source | what it sees |
|---|---|---|
| raw mean log-probability | | the log-probabilities of the local reply |
| cascadeflow | cascadeflow 1.2.0, `quality/confidence.py` | prompt, reply, log-probabilities |
| prompt-only router | in the form of RouteLLM (Ong et al., arXiv 2406.18665) | the prompt |
| prompt-and-answer scorer | in the form of FrugalGPT (Chen et al., arXiv 2305.05176) | prompt and reply |
| self-verification | in the form of AutoMix (Aggarwal et al., arXiv 2310.12963) | one more local reply |

The router is fitted on which endpoint was better, the scorer on right and wrong; nothing is fitted for the others.
The form is that of each method, with a linear model of words in place of a fine-tuned encoder, which would need far
more than a few hundred replies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.chat.rows import ChatRows
from edgecascade.export.chat.prompts import ChatPrompt
from edgecascade.export.chat.replies import ChatReply
from edgecascade.types.document import ChatScore

__all__ = [
    "CASCADEFLOW",
    "CASCADEFLOWS",
    "RAW",
    "ROUTER",
    "SCORER",
    "VERIFICATION",
    "cascadeflow_confidence",
    "prompt_text",
    "rivals",
]

RAW = "raw mean log-probability"
CASCADEFLOW = "cascadeflow"
CASCADEFLOWS = (CASCADEFLOW, "cascadeflow, no log-probabilities")  # with and without them
ROUTER = "prompt-only router"
SCORER = "prompt-and-answer scorer"
VERIFICATION = "self-verification"

_ALL = ChatScore("mean", whole=1 << 30, start=1)
_FOLDS = 5
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # of the regularisation, inverse; chosen by cross-validation

Scores = NDArray[np.float64]


def rivals(fit: ChatRows | None, test: ChatRows, known: Mapping[str, Scores] | None = None) -> dict[str, Scores]:
    """Return scores float64 [n] of the test rows by name; what is missing for a rival leaves it out.

    Args:
        fit: The rows that a router and a scorer are fitted on; None leaves both out.
        test: The rows that are scored.
        known: Scores that were computed elsewhere, by name.
    """
    return {**dict(_rivals(fit, test)), **(known or {})}


def _rivals(fit: ChatRows | None, test: ChatRows) -> Iterator[tuple[str, Scores]]:
    yield RAW, test.scores(_ALL)
    if find_spec("cascadeflow") is not None:
        for name, logprobs in zip(CASCADEFLOWS, (True, False), strict=True):
            yield name, cascadeflow_confidence(test.prompts, test.local, logprobs=logprobs)
    if test.checks is not None:
        yield VERIFICATION, np.array([_surely_right(one) for one in test.checks], np.float64)
    if fit is not None and find_spec("sklearn") is not None:
        better = fit.remote_value > fit.local_value
        yield ROUTER, -_fitted(_prompts(fit), better, _prompts(test))
        yield SCORER, _fitted(_answers(fit), fit.local_value >= 0.5, _answers(test))


def prompt_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of the last message, which is the question; earlier turns are the same for many prompts."""
    content = messages[-1]["content"]
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))


def cascadeflow_confidence(prompts: Sequence[ChatPrompt], replies: Sequence[ChatReply], *, logprobs: bool) -> Scores:
    """Return the confidence float64 [n] of cascadeflow's estimator in each reply.

    Args:
        prompts: n prompts.
        replies: The local replies to them.
        logprobs: Whether it sees log-probabilities; its provider is then vLLM, otherwise Ollama, as its own table says.

    Raises:
        ModuleNotFoundError: cascadeflow is not installed.
    """
    import logging

    from cascadeflow.quality.confidence import ProductionConfidenceEstimator

    logging.getLogger("cascadeflow").setLevel(logging.ERROR)  # it warns of single replies
    estimator = ProductionConfidenceEstimator("vllm" if logprobs else "ollama")
    found = [
        estimator.estimate(
            reply.text,
            query=prompt_text(prompt.messages),
            logprobs=list(reply.logprobs or ()) if logprobs else None,
            temperature=0.0,
            finish_reason="length" if reply.cut_off else "stop",
        ).final_confidence
        for prompt, reply in zip(prompts, replies, strict=True)
    ]
    return np.array(found, np.float64)


def _surely_right(check: ChatReply) -> float:
    """Return the probability of "yes", from the first token of a reply that says yes or no."""
    share = math.exp((check.logprobs or (0.0,))[0])
    said = check.text.strip().casefold()
    if said.startswith("yes"):
        return share
    return 1 - share if said.startswith("no") else 0.5


def _prompts(rows: ChatRows) -> list[str]:
    return [prompt_text(one.messages) for one in rows.prompts]


def _answers(rows: ChatRows) -> list[str]:
    return [f"{prompt}\n{reply.text}" for prompt, reply in zip(_prompts(rows), rows.local, strict=True)]


def _fitted(texts: Sequence[str], outcome: NDArray[np.bool_], others: Sequence[str]) -> Scores:
    """Return the probability of the outcome for other texts, by logistic regression on words and characters."""
    if outcome.all() or not outcome.any():
        return np.full(len(others), float(outcome.mean()))
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    model = make_pipeline(make_union(words, characters), LogisticRegression(max_iter=2000))
    folds = min(_FOLDS, int(outcome.sum()), int((~outcome).sum()))
    if folds >= 2:
        grid = {"logisticregression__C": _STRENGTHS}
        split = StratifiedKFold(folds, shuffle=True, random_state=0)
        model = GridSearchCV(model, grid, scoring="neg_log_loss", cv=split)
    model.fit(list(texts), outcome)
    return np.asarray(model.predict_proba(list(others))[:, 1], np.float64)
