"""A conversation: what was said, and how the next answer is to be chosen. Knows no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from decodekit.completion import Completion
from decodekit.decoder import Decoder
from decodekit.errors import ParameterError


@dataclass
class Conversation:
    """With one decoder.

    chain    of strategies, as text; "": greedy
    seed     of every answer; None: a new one for each
    length   of an answer, tokens at most; None: what the context window has room for
    adapter  of the bundle, by name; None: the model as it is
    top      alternatives to give for each token; None: none, and no probabilities
    last     the last answer with all that belongs to it; None where it was cut short
    """

    decoder: Decoder
    chain: str = ""
    seed: int | None = None
    length: int | None = None
    top: int | None = None
    system: str = ""
    adapter: str | None = None
    turns: list[tuple[str, str]] = field(default_factory=list)
    last: Completion | None = None
    _sample: int = 0

    def ask(self, text: str) -> Iterator[str]:
        """The answer, piece by piece. It is part of the conversation as far as it was read."""
        self._sample = 0
        return self._answer(text)

    def again(self) -> Iterator[str]:
        """Another answer to the last question: the next sample of its seed."""
        text = self.undo()
        self._sample += 1
        return self._answer(text)

    def undo(self) -> str:
        """Forget the last question and its answer; the question."""
        if not self.turns:
            raise ParameterError("nothing was said yet; say something first")
        return self.turns.pop()[0]

    def clear(self) -> None:
        self.turns.clear()

    def change(self, **settings: Any) -> None:
        """Other settings from the next answer on. What cannot be is an error now, and changes nothing."""
        changed = replace(self, **settings)
        self.decoder.prepare("?", changed.chain or None, **changed._options())
        for name, value in settings.items():
            setattr(self, name, value)

    def _answer(self, text: str) -> Iterator[str]:
        stream = self.decoder.stream(self._prompt(text), self.chain or None, **self._options())
        self.last = None
        said: list[str] = []
        try:
            for piece in stream:
                said.append(piece)
                yield piece
        finally:
            stream.close()
            self.last = stream.completion
            self.turns.append((text, "".join(said)))

    def _options(self) -> dict[str, Any]:
        return {
            "seed": self._seed(),
            "sample": self._sample,
            "max_new_tokens": self.length,
            "adapter": self.adapter,
            "logprobs": self.top,
        }

    def _seed(self) -> int | None:
        """For another answer to the same question the seed stays, whoever chose it."""
        if self.seed is None and self._sample and self.last is not None:
            return self.last.seed
        return self.seed

    def _prompt(self, text: str) -> Any:
        if self.decoder.chat.continues:
            return self.system + "".join(q + a for q, a in self.turns) + text
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for question, answer in self.turns:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return [*messages, {"role": "user", "content": text}]
