"""
Compile a grammar in a process of its own, to see whether that ends: a script, run by `compiler`.

It reads one JSON object from standard input and writes one: {"error": null, or what is wrong}.
Where memory, time or stack do not suffice the system ends it, and nothing else.
"""

import json
import resource
import sys
from types import SimpleNamespace
from typing import Any


def main() -> None:
    task = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (task["memory"], task["memory"]))
    resource.setrlimit(resource.RLIMIT_CPU, (task["seconds"], task["seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    json.dump({"error": problem(task)}, sys.stdout)


def problem(task: dict[str, Any]) -> str | None:
    """What is wrong with the grammar, or None."""
    import llguidance

    tokens = llguidance.LLTokenizer(spelling(task["size"], task["special"]), eos_token=task["stop"])
    limits = llguidance.LLParserLimits(**task["limits"])
    matcher = llguidance.LLMatcher(tokens, task["grammar"], limits=limits, log_level=0)
    if matcher.is_error():
        return str(matcher.get_error())
    matcher.compute_bitmask()
    if matcher.is_error() or (matcher.is_stopped() and not matcher.is_accepting()):
        return "it matches no text at all"
    return None


def spelling(size: int, special: dict[str, str]) -> Any:
    """A vocabulary with the same special tokens; behind all of that size, one token for each byte."""
    tokens = [b""] * size + [bytes([byte]) for byte in range(256)]
    for id, name in special.items():
        tokens[int(id)] = name.encode()
    return Spelling(tokens, list(map(int, special)))


class Spelling(SimpleNamespace):
    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokens: list[bytes], special: list[int]) -> None:
        super().__init__(tokens=tokens, special_token_ids=special, eos_token_id=special[0])

    def __call__(self, text: str) -> list[int]:
        return [len(self.tokens) - 256 + byte for byte in text.encode()]


if __name__ == "__main__":
    main()
