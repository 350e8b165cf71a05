"""Calibrate two chat endpoints on prompts with known answers, and serve both as one endpoint.

pip install 'edgecascade[calibration,gateway]'
python chat_gateway.py prompts.jsonl http://127.0.0.1:8080/v1 http://HOST:8080/v1    # such as two llama.cpp servers
"""

import sys

from edgecascade import cli
from edgecascade.calibration import MostAccuracy
from edgecascade.chat import ChatCascade
from edgecascade.export import calibrate_chat


def main(prompts: str, local: str, remote: str, *, port: int = 8001, serve: bool = True) -> None:
    """Write chat.json, ask one question in this process, and serve. Any client of OpenAI's API can then ask."""
    found = calibrate_chat(
        prompts,  # {"prompt": "What is the capital of Peru?", "reference": "Lima"}, an object a line
        "chat.json",
        local=local,
        remote=remote,
        judge="contains",
        objective=MostAccuracy(0.3),
    )
    print(found.planned.plan)
    with ChatCascade.load("chat.json") as cascade:
        answer = cascade.complete([{"role": "user", "content": "Say 7"}], temperature=0)
        print(f"{answer.text} ({answer.source.value}, {answer.reason.value}, confidence {answer.confidence:.2f})")
    if serve:
        cli.main(["gateway", "chat.json", "--port", str(port)])


if __name__ == "__main__":
    main(*sys.argv[1:])
