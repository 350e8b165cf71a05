"""Two chat endpoints as one: the local one answers, and the remote one where the local reply is at a disadvantage.

    from edgecascade.chat import ChatCascade

    with ChatCascade.load("chat.json") as cascade:
        reply = cascade.complete([{"role": "user", "content": "Who wrote Emma?"}])
        print(reply.text, reply.source.value, reply.reason.value)

Read `cascade.py` first. This package needs aiohttp, the extra `gateway`, and no ONNX Runtime. Each name is imported
when it is first used.
"""

from typing import TYPE_CHECKING

from edgecascade.types.extras import when_used

if TYPE_CHECKING:
    from edgecascade.chat.answer import ChatAnswer, ChatReason, Verdict
    from edgecascade.chat.cascade import ChatCascade
    from edgecascade.chat.decision import ChatDecision
    from edgecascade.chat.open_reply import OpenReply
    from edgecascade.chat.reply import Usage
    from edgecascade.types.document import ChatDocument, ChatScore, ChatSide, TokenPrice

__all__ = [
    "ChatAnswer",
    "ChatCascade",
    "ChatDecision",
    "ChatDocument",
    "ChatReason",
    "ChatScore",
    "ChatSide",
    "OpenReply",
    "TokenPrice",
    "Usage",
    "Verdict",
]

_MODULES = {
    "ChatAnswer": "edgecascade.chat.answer",
    "ChatCascade": "edgecascade.chat.cascade",
    "ChatDecision": "edgecascade.chat.decision",
    "ChatDocument": "edgecascade.types.document",
    "ChatReason": "edgecascade.chat.answer",
    "ChatScore": "edgecascade.types.document",
    "ChatSide": "edgecascade.types.document",
    "OpenReply": "edgecascade.chat.open_reply",
    "TokenPrice": "edgecascade.types.document",
    "Usage": "edgecascade.chat.reply",
    "Verdict": "edgecascade.chat.answer",
}

__getattr__ = when_used(globals(), _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
