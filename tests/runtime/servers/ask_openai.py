"""OpenAI's own client: `ask_openai.py URL` prints what it got from a gateway, for `test_real_gateway.py`."""

import json
import sys
from typing import Any

import openai  # type: ignore[import-not-found,unused-ignore]


def main() -> None:
    """Ask for a whole reply, a stream, the models, and what the gateway must refuse."""
    client = openai.OpenAI(base_url=sys.argv[1], api_key="key-of-the-client", max_retries=0)
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Say hi."}], "temperature": 0, "max_tokens": 8}
    raw = client.chat.completions.with_raw_response.create(model="any", **asked)
    whole = raw.parse()
    with client.chat.completions.create(model="any", stream=True, **asked) as chunks:
        streamed = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    try:
        client.chat.completions.create(model="any", messages=[])
        refused = ""
    except openai.BadRequestError as error:
        refused = str(error)
    found = {
        "whole": whole.choices[0].message.content,
        "source": raw.headers["x-edgecascade-source"],
        "verdict": whole.model_extra["edgecascade"]["source"],
        "usage": whole.usage.completion_tokens,
        "streamed": "".join(streamed),
        "models": [one.id for one in client.models.list()],
        "refused": refused,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
