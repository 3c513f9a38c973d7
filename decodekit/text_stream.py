"""
The text of one answer while it grows: pieces that no verdict can take back any more.

A stop string may begin in text that looked harmless, so what may still become one is
held back until it is decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from decodekit.completion import Completion, Usage
from decodekit.generate import Token
from decodekit.stopping import StoppingCriterion
from decodekit.tokenizer import Detokenizer


class TextStream:
    """The pieces of one answer's text. Their concatenation is `completion.text`."""

    def __init__(
        self,
        tokens: Iterator[Token],
        stopping: Sequence[StoppingCriterion],
        detokenizer: Detokenizer,
        prompt_tokens: int,
        seed: int,
        sample: int,
        recipe: dict[str, Any],
    ) -> None:
        self.completion: Completion | None = None  # set when the last piece is out
        self._pieces = self._run(tokens, stopping, detokenizer, prompt_tokens, seed, sample, recipe)

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def complete(self) -> Completion:
        """Run to the end."""
        for _ in self._pieces:
            pass
        assert self.completion is not None
        return self.completion

    def _run(
        self,
        tokens: Iterator[Token],
        stopping: Sequence[StoppingCriterion],
        detokenizer: Detokenizer,
        prompt_tokens: int,
        seed: int,
        sample: int,
        recipe: dict[str, Any],
    ) -> Iterator[str]:
        drawn: list[Token] = []
        text, shown = "", 0
        for token in tokens:
            drawn.append(token)
            text += token.text
            if token.stop:
                break
            safe = len(text) - max(c.pending(text) for c in stopping)
            if safe > shown:
                yield text[shown:safe]
                shown = safe

        stop = drawn[-1].stop
        assert stop is not None
        text = text + detokenizer.flush() if stop.keep is None else text[: stop.keep]
        usage = Usage(prompt_tokens, len(drawn))
        recipe = {**recipe, "seed": seed, "sample": sample}
        self.completion = Completion(text, tuple(drawn), stop.reason, stop.by, seed, sample, usage, recipe)
        if text[shown:]:
            yield text[shown:]
