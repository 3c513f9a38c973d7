"""A grammar as a strategy: what the families of this package have in common."""

from __future__ import annotations

import reprlib
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from decodekit import History, LogitsProcessor, Step
from decodekit.edits import mask_of
from decodekit.errors import ContractError, ParameterError, StrategyError
from decodekit.ops import Array
from decodekit.parameters import snake_case
from decodekit.processors import State, masked
from decodekit.tokenizer import Tokenizer
from decodekit_grammar.compiler import MAX_BYTES, one_line
from decodekit_grammar.cursor import Astray, Cursor
from decodekit_grammar.vocabulary import Vocabulary, vocabulary

if TYPE_CHECKING:
    import llguidance


class Grammar(LogitsProcessor):
    """Remove every candidate after which the answer could no longer fit. Override `grammar`.

    The state is one Cursor per row, a memo: what is allowed depends on the answer's ids alone, so
    guesses, rewinds and forks need nothing of their own. Prompt ids do not count.
    """

    field: ClassVar[str]  # that holds the grammar, for errors
    _text: str
    _vocabulary: Vocabulary  # it and the following are set by `bind`
    _fresh: Any = None  # an LLMatcher
    _tokenizer: Tokenizer
    _ends: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._store(_text=self._written())

    def grammar(self) -> str:
        """The grammar in the language of llguidance. ParameterError where the fields give none."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        return snake_case(type(self).__name__)

    def bind(self, tokenizer: Tokenizer) -> Self:
        """A copy for these tokens, compiled; the second time of a grammar costs nothing."""
        bound = copy(self)
        words = vocabulary(tokenizer, self.name)
        try:
            fresh = words.matcher(self._text)
        except ParameterError as exc:
            raise ParameterError(f"{self.name}: {self.field}: {exc}") from exc
        bound._store(_vocabulary=words, _fresh=fresh, _tokenizer=tokenizer, _ends=tokenizer.stop_ids)
        return bound

    def init(self, batch: int) -> State:
        return tuple(Cursor(self._bound()) for _ in range(batch))

    def process(self, logits: Array, step: Step, state: State) -> Array:
        rows = zip(step.rows, state, strict=True)
        return masked(logits, step, [self.mask(row, (cursor,)) for row, cursor in rows])

    def forced(self, row: History, state: State) -> tuple[int, ...]:
        """The ids that must come next in an answer; () where there is a choice. A guess for speculation.

        row    the sequence so far
        state  of this row alone, as `init(1)` gives it

        That the bytes must come is certain. How they part into tokens is how the tokenizer writes
        them; the mask agrees, but only a check of each token against it proves that.
        """
        if self._ended(row):
            return ()
        matcher = self._matcher(row, state[0])
        if matcher.is_stopped():
            return tuple(self._ends) if len(self._ends) == 1 else ()
        return tuple(matcher.compute_ff_tokens())

    def mask(self, row: History, state: State) -> Array:
        if self._ended(row):  # after a stop token only stop tokens
            return mask_of(sorted(self._ends), self._tokenizer.size)
        matcher = self._matcher(row, state[0])
        mask = matcher.compute_bitmask()
        if matcher.is_error() or (matcher.is_stopped() and not matcher.is_accepting()):
            raise self._stuck(row, matcher.get_error() or matcher.stop_reason())
        return np.frombuffer(mask, np.uint8)

    def _matcher(self, row: History, cursor: Cursor) -> llguidance.LLMatcher:
        try:
            return cursor.at(row.generated)
        except Astray as exc:
            if exc.why:
                raise self._stuck(row, exc.why) from exc
            id = int(row.generated[exc.place])
            raise StrategyError(
                f"{self.name}: token {exc.place} of the answer, {self._tokenizer.token(id)!r} ({id}), is not "
                "what the grammar allows there; let no strategy or caller put tokens past it"
            ) from exc

    def _stuck(self, row: History, why: str) -> StrategyError:
        """The error of an answer that the matcher cannot follow."""
        self._vocabulary.forget(self._text)
        return StrategyError(
            f"{self.name}: at token {len(row.generated)} the answer can neither go on nor end "
            f"({one_line(why)}); the grammar is too complex there, or needs bytes that no token has; "
            "make it simpler"
        )

    def _ended(self, row: History) -> bool:
        return len(row.generated) > 0 and int(row.generated[-1]) in self._ends

    def _bound(self) -> llguidance.LLMatcher:
        if not self._ends:
            raise ContractError(f"{self.name} does not know its tokens; bind it to a tokenizer first")
        fresh: llguidance.LLMatcher = self._fresh
        return fresh

    def _written(self) -> str:
        try:
            text = self.grammar()
            size = len(text.encode())
        except UnicodeEncodeError as exc:
            raise ParameterError(f"{self.name}: half of a character (lone surrogate) in the text") from exc
        if size > MAX_BYTES:
            raise ParameterError(
                f"{self.name}: the grammar must be at most {MAX_BYTES:,} bytes, got {size:,}; make it smaller"
            )
        return text

    def _store(self, **values: Any) -> None:
        self.__dict__.update(values)  # dataclasses of this kind are frozen

    def __repr__(self) -> str:
        return f"{type(self).__name__}({reprlib.repr(getattr(self, self.field))})"
