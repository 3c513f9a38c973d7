"""Text to ids and back. Knows `tokenizer.json` and nothing of models or templates."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from decodekit.detokenizer import ByteDetokenizer, DecodingDetokenizer, Detokenizer
from decodekit.errors import TokenizerError
from decodekit.regex_trial import SECONDS, slow

MAX_ADDED = 300_000  # tokens beside the vocabulary
MAX_BYTES = 128 << 20  # of a tokenizer.json; 256,000 tokens take 33 MiB


class Tokenizer:
    """A `tokenizer.json`, read with the `tokenizers` library.

    stop_ids  the tokens that end an answer of the model it belongs to, for strategies that ask
    """

    def __init__(self, path: Path, stop_ids: Iterable[int] = ()) -> None:
        text = _read(path)
        self._tokenizer = _parse(path, text)
        decoder = self._tokenizer.decoder  # its state is its part of the file, as JSON
        self._decoder: dict[str, Any] = json.loads(decoder.__getstate__()) if decoder else {}
        self.stop_ids = frozenset(stop_ids)
        _try_patterns(path, self._tokenizer)
        self.size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    def spells_like(self, other: Tokenizer) -> bool:
        """Whether every id is the same token in both."""
        ours, theirs = (t._tokenizer.get_vocab(with_added_tokens=True) for t in (self, other))
        return bool(ours == theirs)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; a special token written in it becomes its id; nothing is added."""
        return _encode(self._tokenizer, text)

    def encode_plain(self, text: str) -> list[int]:
        """Ids of `text`; a special token written in it is ordinary text."""
        return _encode(self._plain, text)

    @cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """A second one, for which special tokens are ordinary text."""
        plain = copy.deepcopy(self._tokenizer)
        plain.encode_special_tokens = True
        return plain

    @cached_property
    def prefix(self) -> tuple[int, ...]:
        """Ids that this tokenizer puts before a text of its own accord, such as a begin token."""
        with_special = self._tokenizer.encode("a").ids
        without = self._tokenizer.encode("a", add_special_tokens=False).ids
        start = next(
            (i for i in range(len(with_special)) if with_special[i : i + len(without)] == without), 0
        )
        return tuple(with_special[:start])

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of the tokens that steer the model and are no part of a text."""
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(i for i, token in added.items() if token.special)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def token(self, id: int) -> str | None:
        """The token as the vocabulary spells it, or None where the id has none."""
        token = self._tokenizer.id_to_token(id)
        return None if token is None else str(token)

    def spell(self, id: int) -> str:
        """A token by itself: its text, its name if it is a special one, its bytes if they are no text."""
        spelled = self.bytes_of(id)
        if spelled is None:
            return self.decode([id]) or self.token(id) or ""
        try:
            return spelled.decode() or self.token(id) or ""
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in spelled)

    def id(self, token: str) -> int | None:
        """The id of a token as the vocabulary spells it."""
        id = self._tokenizer.token_to_id(token)
        return None if id is None else int(id)

    def detokenizer(self, *, continues: bool = False) -> Detokenizer:
        """A fresh detokenizer: by bytes where the tokenizer's tokens are bytes, else by decoding again.

        continues  the text goes on where another ended, so a space at its start is part of it
        """
        if self.token_bytes is None:
            return DecodingDetokenizer(self.decode)
        return ByteDetokenizer(self.token_bytes, strip_first_space=self._strips_first_space and not continues)

    @cached_property
    def token_bytes(self) -> list[bytes] | None:
        """What each id adds to a text, special tokens and gaps nothing; None where tokens are not bytes."""
        if self._decoder.get("type") == "ByteLevel":
            spell = _bytes_of_byte_level
        elif _is_byte_fallback(self._decoder):
            spell = _bytes_of_sentencepiece
        else:
            return None
        added, special = self._tokenizer.get_added_tokens_decoder(), self.special_ids
        return [
            b"" if token is None or id in special else token.encode() if id in added else spell(token)
            for id, token in enumerate(map(self.token, range(self.size)))
        ]

    def bytes_of(self, id: int) -> bytes | None:
        """What an id adds to a text, nothing where no token has it; None where tokens are not bytes."""
        known = self.token_bytes
        return None if known is None else known[id] if id < self.size else b""

    @cached_property
    def _strips_first_space(self) -> bool:
        parts = self._decoder.get("decoders", [])
        return any(p["type"] == "Strip" and p["content"] == " " and p["start"] == 1 for p in parts)


def _read(path: Path) -> str:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise TokenizerError(f"{path}: {size} bytes; at most {MAX_BYTES} are read")
        content = path.read_bytes()
        if (added := content.count(b'"single_word"')) > MAX_ADDED:
            raise TokenizerError(f"{path}: {added} added tokens; at most {MAX_ADDED} are read")
        return content.decode()
    except (OSError, UnicodeDecodeError) as exc:
        raise TokenizerError(f"{path}: cannot be read ({exc})") from exc


def _parse(path: Path, text: str) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_str(text)
    except Exception as exc:  # the library raises bare Exception
        raise TokenizerError(f"{path}: not a tokenizer.json ({exc})") from exc
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _try_patterns(path: Path, tokenizer: tokenizers.Tokenizer) -> None:
    names = ("normalizer", "pre_tokenizer", "decoder")
    found = {name: getattr(tokenizer, name) for name in names}  # their state is JSON
    states = {name: json.loads(part.__getstate__()) if part else None for name, part in found.items()}
    if pattern := slow(json.dumps(states)):
        raise TokenizerError(
            f"{path}: its pattern {pattern[:80]!r} takes more than {SECONDS} s for a text, or fails; "
            "use the tokenizer.json of the model's author"
        )


def _encode(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    try:
        return list(tokenizer.encode(_valid(text), add_special_tokens=False).ids)
    except BaseException as exc:
        if type(exc).__module__ != "pyo3_runtime":  # a panic of the library is no Exception
            raise
        raise TokenizerError(f"the tokenizer failed at a text of {len(text)} characters ({exc})") from exc


def _valid(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise TokenizerError(
            f"text has a lone surrogate at character {exc.start}, which no tokenizer can encode; "
            "decode the input with errors='replace'"
        ) from exc
    return text


def _is_byte_fallback(decoder: dict[str, Any]) -> bool:
    kinds = [part["type"] for part in decoder.get("decoders", [])]
    return "ByteFallback" in kinds and set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip"}


def _bytes_of_byte_level(token: str) -> bytes:
    return bytes(_BYTE_OF[c] for c in token) if all(c in _BYTE_OF for c in token) else token.encode()


def _bytes_of_sentencepiece(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()


def _byte_level_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in byte-level BPE (Radford et al., 2019)."""
    printable: Sequence[int] = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(hidden)}


_BYTE_OF = _byte_level_alphabet()
