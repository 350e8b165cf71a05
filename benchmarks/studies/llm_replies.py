"""Record the replies behind the pairs of language models: every model answers each question once, on llama.cpp.

    python -m studies.llm_replies --models smollm2-135m
    python -m studies.llm_replies --models qwen-0.5b,qwen-1.5b   # their packages state no licence: for measurement only

Replies are kept in the cache as they come, so an interrupted recording continues. It needs
`edgecascade-benchmarks[llm]`; the confidences of cascadeflow's estimator are recorded too where `cascadeflow==1.2.0` is
installed, and kept otherwise.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgecascade.benchmarks.cache import cache_folder
from edgecascade.benchmarks.chat.rivals import CASCADEFLOWS, cascadeflow_confidence
from edgecascade.benchmarks.chat.rows import verification
from edgecascade.benchmarks.choices.questions import Question
from edgecascade.benchmarks.pairs.bigbench import BIG_BENCH, read_tasks
from edgecascade.benchmarks.pairs.llm import RECORDED, SHOTS, TASKS, LlmTask, turns
from edgecascade.benchmarks.pairs.llm_weights import MODELS, SERVER, llama_server
from edgecascade.benchmarks.progress import counting
from edgecascade.export.chat.endpoint import AskedEndpoint
from edgecascade.export.chat.prompts import ChatPrompt
from edgecascade.export.chat.replies import ChatReply, Replies
from edgecascade.export.writing import write_whole

__all__ = ["asked", "main", "questions_of", "recorded", "replies_of"]

_DIGITS = 12  # of a prompt's digest
_DECIMALS = 4  # of a log-probability
_CHECK_TOKENS = 2


def questions_of(task: LlmTask, cache: Path) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Return the examples of a task and the questions that are asked, in BIG-bench's order by digest."""
    every = read_tasks([task.name], cache)
    return tuple(every[:SHOTS]), tuple(every[SHOTS : SHOTS + task.most])


def asked(task: LlmTask, cache: Path) -> Iterator[ChatPrompt]:
    """Yield the prompts of a task."""
    shots, questions = questions_of(task, cache)
    for question in questions:
        yield ChatPrompt(tuple(turns(task, question, shots)), question.choices[question.answer])


def replies_of(model: str, cache: Path) -> tuple[Replies, str]:
    """Return the replies of a model that are kept, and what they are kept under."""
    return Replies(cache / "llm-replies" / f"{model}.jsonl"), MODELS[model].sha256[:16]


def record(model: str, cache: Path, *, threads: int, checks: bool) -> None:
    """Ask a model every question that it has not answered yet.

    Args:
        model: its name.
        cache: the folder of downloads and replies.
        threads: of llama.cpp.
        checks: whether to ask it, too, if each reply is right.
    """
    kept, key = replies_of(model, cache)
    with llama_server(MODELS[model].file(cache), threads=threads) as url:
        for task in TASKS:
            prompts = list(asked(task, cache))
            with counting(f"{model} {task.name}", len(prompts)) as progress:
                for prompt in prompts:
                    reply = _ask(kept, key, url, prompt, task.max_tokens)
                    if checks:
                        _ask(kept, key, url, ChatPrompt(verification(prompt, reply), None), _CHECK_TOKENS)
                    progress(1)


def _ask(kept: Replies, key: str, url: str, prompt: ChatPrompt, tokens: int) -> ChatReply:
    found = kept.get(prompt.digest, "local", key)
    if found is None:
        endpoint = AskedEndpoint("local", url, fields={"max_tokens": tokens})
        found = replace(endpoint.ask(prompt.messages), request=key)
        endpoint.close()
        kept.add(prompt.digest, prompt.reference, "local", found)
    return found


def recorded(models: Sequence[str], cache: Path, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what the recorded file holds: replies of these models from the cache.

    Args:
        models: their names.
        cache: the folder of downloads and replies.
        before: an earlier recorded file, for confidences that cannot be computed here.
    """
    found: dict[str, Any] = {
        "server": SERVER,
        "source": f"{BIG_BENCH.name} {BIG_BENCH.version} (Apache-2.0), SHA-256 {BIG_BENCH.sha256}",
        "models": {name: MODELS[name].sha256 for name in models},
        "digits": _DIGITS,
        "cascadeflow": list(CASCADEFLOWS),
        "tasks": {},
    }
    for task in TASKS:
        shots, questions = questions_of(task, cache)
        prompts = list(asked(task, cache))
        part: dict[str, Any] = {
            "shots": [_stored(one) for one in shots],
            "questions": [_stored(one) for one in questions],
            "digests": [one.digest[:_DIGITS] for one in prompts],
            "replies": {},
            "checks": {},
            "cascadeflow": {},
        }
        for model in models:
            kept, key = replies_of(model, cache)
            replies = [kept.get(one.digest, "local", key) for one in prompts]
            checks = [
                reply and kept.get(ChatPrompt(verification(one, reply), None).digest, "local", key)
                for one, reply in zip(prompts, replies, strict=True)
            ]
            part["replies"][model] = [_row(one) for one in replies]
            part["checks"][model] = [_row(one) for one in checks]
            if find_spec("cascadeflow") is not None:
                part["cascadeflow"][model] = _cascadeflow(prompts, replies)
            elif before is not None:
                part["cascadeflow"][model] = before["tasks"][task.name]["cascadeflow"].get(model, [])
        found["tasks"][task.name] = part
    return found


def _cascadeflow(prompts: Sequence[ChatPrompt], replies: Sequence[ChatReply | None]) -> list[list[float] | None]:
    found: list[list[float] | None] = []
    for prompt, reply in zip(prompts, replies, strict=True):
        if reply is None:
            found.append(None)
        else:
            both = [cascadeflow_confidence([prompt], [reply], logprobs=seen) for seen in (True, False)]
            found.append([round(float(one[0]), _DECIMALS) for one in both])
    return found


def _stored(question: Question) -> list[Any]:
    return [question.question, list(question.choices), question.answer]


def _row(reply: ChatReply | None) -> list[Any] | None:
    if reply is None:
        return None
    return [reply.text, [round(one, _DECIMALS) for one in reply.logprobs or ()], int(reply.cut_off)]


def written(document: Mapping[str, Any], path: Path) -> None:
    """Write a recorded file; the same document always gives the same bytes."""
    content = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, content, mtime=0) as file:
        file.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
    write_whole(content.getvalue(), path)


def main() -> int:
    """Record replies, and write the file that the pairs are read from."""
    parser = ArgumentParser(prog="python -m studies.llm_replies", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", default="smollm2-135m", help="Models to ask, separated by commas.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of llama.cpp (default 1).")
    parser.add_argument("--out", type=Path, default=RECORDED, help="File to write (default: the pairs' own).")
    arguments = parser.parse_args()
    cache, names = cache_folder(), arguments.models.split(",")
    if unknown := [name for name in names if name not in MODELS]:
        parser.error(f"--models: expected some of {', '.join(MODELS)}, got {unknown[0]}")
    for name in names:
        print(f"{MODELS[name].title}; licence: {MODELS[name].licence}", file=sys.stderr)
        record(name, cache, threads=arguments.threads, checks=name != "qwen-1.5b")
    before = json.loads(gzip.decompress(arguments.out.read_bytes())) if arguments.out.exists() else None
    there = [name for name in MODELS if (cache / "llm-replies" / f"{name}.jsonl").exists()]
    written(recorded(there, cache, before), arguments.out)
    print(f"replies of {', '.join(there)} in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
