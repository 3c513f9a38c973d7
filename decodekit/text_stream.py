"""
The text of one answer while it grows: pieces that no verdict can take back any more.

A stop string may begin in text that looked harmless, so what may still become one is
held back until it is decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
        recipe: Mapping[str, Any],
    ) -> None:
        self.completion: Completion | None = None  # set when the last piece is out
        self._tokens = tokens
        self._stopping = stopping
        self._detokenizer = detokenizer
        self._prompt_tokens = prompt_tokens
        self._recipe = recipe
        self._pieces = self._run()

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def complete(self) -> Completion:
        """Run to the end."""
        for _ in self._pieces:
            pass
        assert self.completion is not None
        return self.completion

    def _run(self) -> Iterator[str]:
        drawn: list[Token] = []
        text, shown = "", 0
        for token in self._tokens:
            drawn.append(token)
            text += token.text
            if token.stop:
                break
            safe = len(text) - max(c.pending(text) for c in self._stopping)
            if safe > shown:
                yield text[shown:safe]
                shown = safe

        stop = drawn[-1].stop
        assert stop is not None
        text = text + self._detokenizer.flush() if stop.keep is None else text[: stop.keep]
        self.completion = Completion(
            text=text,
            tokens=tuple(drawn),
            finish_reason=stop.reason,
            stopped_by=stop.by,
            seed=self._recipe["seed"],
            sample=self._recipe["sample"],
            usage=Usage(self._prompt_tokens, len(drawn)),
            recipe=self._recipe,
        )
        if text[shown:]:
            yield text[shown:]
