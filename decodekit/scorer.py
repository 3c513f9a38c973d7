"""
The scorer: given texts to log-probabilities, in one pass of the model over each.

A text that is longer than the context window is read in windows that overlap. Every token is
scored once: in the first window all of them, in a later one those that were not in the one
before, which have at least `window - stride` tokens before them there. Jelinek et al.,
"Perplexity, a measure of the difficulty of speech recognition tasks", JASA 62, 1977; on windows:
Press et al., "Shortformer", ACL 2021, section 2, arXiv:2012.15832.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from decodekit.engine import Engine
from decodekit.errors import ContextError, ParameterError, PromptError
from decodekit.logprobs import MAX_TOP
from decodekit.messages import Message
from decodekit.ops import Array
from decodekit.parameters import whole
from decodekit.preparation import Preparer, Prompt
from decodekit.reading import read
from decodekit.score import Score, TokenScore, logprobs

Text = str | Sequence[int] | Sequence[Message]


@dataclass(frozen=True, slots=True)
class Passage:
    """What a scorer reads.

    ids      int64 [T]
    given    how many of them come before what is scored
    answers  a prompt comes before it, which must stay in sight: there is one window
    """

    ids: Array
    given: int
    answers: bool

    @property
    def unseen(self) -> int:
        """Tokens without a log-probability, 0 or 1: the first one where nothing is before it."""
        return int(self.given == 0)


class Scorer:
    """Scores texts with one model. Its methods may be called from any thread."""

    def __init__(self, engine: Engine, preparer: Preparer) -> None:
        self._engine, self._preparer = engine, preparer
        self._window = preparer.bundle.context_length

    def passage(self, text: Text, prompt: Prompt | None = None) -> Passage:
        """The ids that `Decoder.score` reads for these arguments."""
        if not text:
            raise PromptError("text is empty; give at least one character")
        if _is_messages(text):
            return self._answer(text, prompt)  # type: ignore[arg-type]
        if prompt is not None:
            given, ids = self._continued(text, prompt)  # type: ignore[arg-type]
        elif isinstance(text, str):
            prefix = self._preparer.tokenizer.prefix
            given, ids = len(prefix), (*prefix, *self._preparer.tokenizer.encode_plain(text))
        else:
            given, ids = 0, self._preparer.ids("text", text)  # type: ignore[arg-type]
        if len(ids) == given:
            raise PromptError(f"text must have a token, got {text!r}")
        if prompt is not None and len(ids) > self._window:
            raise ContextError(
                f"prompt of {given} tokens and text of {len(ids) - given} exceed the context window of "
                f"{self._window}; shorten the prompt, or score the text without one"
            )
        return Passage(np.asarray(ids, np.int64), given, prompt is not None)

    def pieces(
        self, passage: Passage, *, top: int = 0, stride: int | None = None, adapter: str | None = None
    ) -> Iterator[tuple[TokenScore, ...]]:
        """The scores, as they come: at most a chunk of them at a time."""
        whole("top", top, f"[0, {MAX_TOP}]")
        self._preparer.bundle.check_adapter(adapter)
        chat, tokenizer = self._preparer.chat, self._preparer.tokenizer
        detokenizer = tokenizer.detokenizer(continues=passage.answers and chat.continues)
        if passage.unseen:
            first = int(passage.ids[0])
            yield (TokenScore(first, detokenizer.push(first), None),)
        for begin, new, end in self.windows(passage, stride):
            for logits in read(self._engine, passage.ids[begin : end - 1], new - begin - 1, adapter):
                ids = passage.ids[new : new + len(logits)]
                new += len(logits)
                yield tuple(
                    TokenScore(id, detokenizer.push(id), logprob, others)
                    for id, (logprob, others) in zip(ids.tolist(), logprobs(logits, ids, top))
                )

    def windows(self, passage: Passage, stride: int | None = None) -> list[tuple[int, int, int]]:
        """For each window the places of its first token, its first scored one, and behind its last.

        stride  tokens by which a window begins later than the one before, in [1, window);
                None: half a window
        """
        if stride is not None and self._window > 1:
            whole("stride", stride, f"[1, {self._window})", "so that windows overlap")
        by = stride or max(1, self._window // 2)
        begin, new, end = 0, passage.given + passage.unseen, min(len(passage.ids), self._window)
        windows = [(begin, new, end)]
        while end < len(passage.ids):
            begin, new, end = begin + by, end, min(begin + by + self._window, len(passage.ids))
            windows.append((begin, new, end))
        return windows

    def score(
        self,
        passage: Passage,
        *,
        top: int = 0,
        stride: int | None = None,
        adapter: str | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Score:
        """All scores of a passage.

        wanted  asked after every chunk; the scores end where it says no
        """
        pieces = self.pieces(passage, top=top, stride=stride, adapter=adapter)
        tokens = tuple(token for piece in takewhile(lambda _: wanted(), pieces) for token in piece)
        return Score(tokens, passage.given, len(self.windows(passage, stride)))

    def _answer(self, messages: Sequence[Message], prompt: Prompt | None) -> Passage:
        """The last of the messages, the others given."""
        *before, last = messages
        if prompt is not None:
            raise ParameterError("prompt must be left out where text is messages, which hold theirs")
        if len(messages) < 2 or last.get("role") != "assistant" or not isinstance(last.get("content"), str):
            raise PromptError(
                "messages to score must end with one of the role 'assistant' behind at least one other, "
                f"got the role {last.get('role')!r}"
            )
        return self.passage(last["content"], before)

    def _continued(self, text: str | Sequence[int], prompt: Prompt) -> tuple[int, Sequence[int]]:
        """How many ids the prompt has; and those of both."""
        preparer = self._preparer
        if prompt and isinstance(text, str) and (isinstance(prompt, str) or _is_messages(prompt)):
            pair = preparer.chat.pair(prompt, text)  # type: ignore[arg-type]
            return pair.mask.count(False), pair.ids
        given = preparer.encode(prompt)
        if isinstance(text, str):
            return len(given), (*given, *preparer.tokenizer.encode_plain(text), *preparer.chat.end)
        return len(given), (*given, *preparer.ids("text", text))


def _is_messages(text: Any) -> bool:
    return not isinstance(text, str) and isinstance(text[0], Mapping)
