"""A vocabulary: a tokenizer as llguidance reads it, and the matchers that were made for it."""

from __future__ import annotations

import threading
import weakref
from functools import cached_property
from typing import TYPE_CHECKING, Any

from decodekit.errors import ParameterError
from decodekit.parameters import known_ids
from decodekit.tokenizer import Tokenizer
from decodekit_grammar.compiler import compiled, prove

if TYPE_CHECKING:
    import llguidance

KEPT = 16  # matchers of one tokenizer

_lock = threading.Lock()
_vocabularies: weakref.WeakKeyDictionary[Tokenizer, Vocabulary] = weakref.WeakKeyDictionary()


class Vocabulary:
    """What an answer is spelled with, and which tokens end it. It does not keep the tokenizer alive.

    A matcher is kept for the next answer: it has learnt which tokens its expressions allow.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        import llguidance

        self._spelling = Spelling(tokenizer)
        spelling: Any = self._spelling  # in shape a TokenizerWrapper
        self._tokens = llguidance.LLTokenizer(spelling, eos_token=sorted(tokenizer.stop_ids))
        self._kept: dict[str, llguidance.LLMatcher] = {}  # by grammar, the last used last
        self._keeping = threading.Lock()

    def matcher(self, grammar: str) -> llguidance.LLMatcher:
        """A matcher that has read nothing. ParameterError where the grammar cannot be compiled in bounds."""
        with self._keeping:
            fresh = self._kept.pop(grammar, None)
        if fresh is None:
            prove(grammar, self._spelling.size, self._spelling.special, self._spelling.eos_token_id)
            fresh = compiled(grammar, self._tokens)
        with self._keeping:
            self._kept[grammar] = fresh
            if len(self._kept) > KEPT:
                self._kept.pop(next(iter(self._kept)))
        return fresh

    def forget(self, grammar: str) -> None:
        """Compile it anew the next time: what it learnt has come to its bound."""
        with self._keeping:
            self._kept.pop(grammar, None)


class Spelling:
    """A tokenizer in the shape that llguidance asks for: bytes of each token, names of special ones.

    A token that ends an answer is special too, whatever its bytes: inside an answer it would end it.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.token_bytes is not None
        self.size = tokenizer.size
        self.eos_token_id = min(tokenizer.stop_ids)
        marked = sorted(tokenizer.special_ids | tokenizer.stop_ids)
        self.special = {id: tokenizer.token(id) or f"<{id}>" for id in marked}
        self.special_token_ids = list(self.special)
        self.tokens = list(tokenizer.token_bytes)
        for id, name in self.special.items():
            self.tokens[id] = name.encode()
        self._tokenizer = weakref.ref(tokenizer)
        tokenizer.encode_plain("")  # what it makes for this at first, it makes now and not in a step

    def __call__(self, text: str) -> list[int]:
        """Ids of a text inside an answer, which spell it exactly.

        Some tokenizers put a space before every text. They are asked again with a character before
        it, and where they change the text itself, as by normalizing, its bytes are spelled greedily.
        """
        tokenizer = self._tokenizer()
        assert tokenizer is not None, "a bound strategy keeps its tokenizer"
        for before in ("", "\x02"):
            ids = tokenizer.encode_plain(before + text)
            spelled = [self.tokens[id] for id in ids]
            start = next((i for i in range(len(ids) + 1) if b"".join(spelled[i:]) == text.encode()), None)
            if start is not None:
                return ids[start:]
        return self._greedy(text.encode())

    def _greedy(self, text: bytes) -> list[int]:
        ids: list[int] = []
        while text:
            sizes = range(min(len(text), self._longest), 0, -1)
            size = next((n for n in sizes if text[:n] in self._by_bytes), 0)
            if not size:
                break  # no token has this byte: the grammar is at a dead end, and says so
            ids.append(self._by_bytes[text[:size]])
            text = text[size:]
        return ids

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        return {token: id for id, token in enumerate(self.tokens) if token and id not in self.special}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._by_bytes))


def vocabulary(tokenizer: Tokenizer, name: str) -> Vocabulary:
    """That of a tokenizer, made once. ParameterError, in the name of a strategy, where none can be."""
    if tokenizer.token_bytes is None:
        raise ParameterError(
            f"{name}: the tokenizer's tokens are not bytes, and a grammar is checked byte by byte; "
            "use a model with a byte-level or byte-fallback tokenizer"
        )
    if not tokenizer.stop_ids:
        raise ParameterError(
            f"{name}: the tokenizer knows no stop token, and where a grammar ends only one is allowed; "
            "name it as the model's end token"
        )
    known_ids(f"{name}: stop token", tokenizer.stop_ids, tokenizer.size)
    with _lock:
        if tokenizer not in _vocabularies:
            _vocabularies[tokenizer] = Vocabulary(tokenizer)
        return _vocabularies[tokenizer]
