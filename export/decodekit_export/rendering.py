"""
An example as rows: rendered as the model will be prompted, and refused where nothing could be learnt from it.
"""

from __future__ import annotations

from decodekit.chat import Chat, Rendered
from decodekit_export.examples import Conversation, Example, Fault, Pair, text_of


def rows_of(example: Example, chat: Chat, *, allow_empty: bool, refuse_special: bool) -> list[Rendered]:
    """Rows whose last token, and never the first, is trained. Raises Fault, or what the chat raises."""
    if not allow_empty:
        _check_said(example)
    if refuse_special and (token := chat.special_text(text_of(example))):
        raise Fault(f"the text of the special token {token!r} is in it; remove it, or allow it as text")
    if isinstance(example, Conversation):
        rendered = chat.conversation(example.messages, example.tools)
    else:
        rendered = [chat.pair(example.prompt, example.completion)]
    for row in rendered:
        if not any(row.mask):
            raise Fault("no token of it would be trained; the tokenizer makes nothing of the completion")
        if row.mask[0]:
            raise Fault(
                "no token comes before the completion; the first one cannot be predicted, give a prompt"
            )
        assert row.mask[-1]
    return rendered


def _check_said(example: Example) -> None:
    if isinstance(example, Pair):
        for key, text in (("prompt", example.prompt), ("completion", example.completion)):
            if isinstance(text, str) and not text.strip():
                raise Fault(f"{key!r} is empty - remove the row or set allow_empty")
        return
    for i, message in enumerate(example.messages):
        if message.get("role") == "assistant" and not message.get("tool_calls"):
            content = message.get("content")
            if isinstance(content, str) and not content.strip():
                raise Fault(f"messages[{i}] of the assistant is empty - remove it or set allow_empty")
