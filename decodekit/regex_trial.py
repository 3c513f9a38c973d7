"""
A trial of the regular expressions in a tokenizer, before a text of a user meets them.

A tokenizer.json may hold patterns that take hours for some texts, or end the matcher with an
error. A pattern that is not a known one is tried on long texts of few characters in a process of
its own, which is ended when its time is over. Run as a program, this file is that process.

Oniguruma, which tokenizers uses, backtracks: https://github.com/kkos/oniguruma
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

SECONDS = 2  # of a processor, for all texts
PATIENCE = 8.0  # seconds on the clock, where the processor has other work
LENGTH = 50_000  # characters of a text
KNOWN = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits +
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for digits in (r"\p{N}", r"\p{N}{1,3}")  # of Qwen and of Llama 3
}  # fmt: skip


@cache
def slow(parts: str) -> str | None:
    """The pattern that may take too long, or None.

    parts  JSON: the normalizer, pre_tokenizer and decoder of a tokenizer.json
    """
    unknown = sorted({*_patterns(json.loads(parts))} - KNOWN)
    if not unknown:
        return None
    try:  # -P: the modules beside this file are not those that it imports
        words = [sys.executable, "-P", __file__]
        subprocess.run(words, input=parts.encode(), capture_output=True, timeout=PATIENCE, check=True)
    except (subprocess.SubprocessError, OSError):
        return unknown[0]
    return None


def texts(patterns: list[str]) -> Iterator[str]:
    """What a pattern could go back and forth in: runs of each character that it names, and others."""
    for character in sorted({*"a0 \n!é猫", *re.findall(r"[^\W_]", "".join(patterns))}):
        yield character * LENGTH + "\x00"
    yield "ab" * (LENGTH // 2)


def _patterns(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(found := part.get("Regex"), str):
            yield found
        part = [*part.values()]
    if isinstance(part, list):
        for inner in part:
            yield from _patterns(inner)


def _try(parts: dict[str, Any]) -> None:
    import tokenizers

    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    empty = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    whole = {"version": "1.0", "added_tokens": [], "post_processor": None, "model": empty, **parts}
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(whole))
    for text in texts([*_patterns(parts)]):
        tokenizer.encode(text)
        if tokenizer.decoder is not None:
            tokenizer.decoder.decode([text])


if __name__ == "__main__":
    _try(json.load(sys.stdin))
