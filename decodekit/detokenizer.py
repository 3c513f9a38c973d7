"""Detokenizers: a growing sequence of ids to a growing text, which never ends inside a character."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol


class Detokenizer(Protocol):
    """Ids in, one at a time; the text they add out. Concatenated, the pieces are the text."""

    def push(self, id: int) -> str:
        """What this token adds; "" while a character is incomplete."""

    def flush(self) -> str:
        """What an incomplete character at the end becomes: U+FFFD, or nothing."""

    def reset(self) -> None:
        """Begin again."""


class ByteDetokenizer:
    """For byte-level BPE and byte-fallback vocabularies: every token is a string of bytes."""

    def __init__(self, token_bytes: Sequence[bytes], *, strip_first_space: bool = False) -> None:
        self.token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._strips_first_space = self._strip = strip_first_space
        self._whole = True  # no bytes of an incomplete character are waiting

    def push(self, id: int) -> str:
        added = self.token_bytes[id] if id < len(self.token_bytes) else b""
        if self._whole and added.isascii():
            text = added.decode()
        else:
            text = self._utf8.decode(added)
            self._whole = not self._utf8.getstate()[0]
        if self._strip and text:
            self._strip = False
            return text.removeprefix(" ")
        return text

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)

    def reset(self) -> None:
        self._utf8.reset()
        self._whole, self._strip = True, self._strips_first_space


class DecodingDetokenizer:
    """For every other tokenizer: decode a window of ids again and take what is new.

    A window begins at a token whose text is complete, since some decoders look at
    the token before to decide about a space.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._shown = ""  # text of the window that was given out

    def push(self, id: int) -> str:
        self._ids.append(id)
        text = self._decode(self._ids)
        if text.endswith("\ufffd") or not text.startswith(self._shown):
            return ""
        new = text[len(self._shown) :]
        self._shown = text
        if new and len(self._ids) > 16:
            self._ids = self._ids[-8:]
            self._shown = self._decode(self._ids)
        return new

    def flush(self) -> str:
        return self._decode(self._ids)[len(self._shown) :]

    def reset(self) -> None:
        self._ids, self._shown = [], ""
