"""
Protocol buffers, read by a table of the fields that are known.

Long values are skipped and only their size is kept, so gigabytes cost what their structure
costs. Reading is bounded in depth, in fields and in the length of a text. It is stricter than
a native reader: an unknown field, another wire type or a second value of a single field is an
error, so that no two readers see two messages in one file.

Encoding: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

INT, TEXT, SIZE = "int", "text", "size"

MAX_DEPTH = 64  # messages in messages; the native reader allows 100
MAX_FIELDS = 2_000_000  # a decoder of 100 layers has some 200,000
MAX_TEXT = 1 << 12  # bytes of a name

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Field:
    """A field that a message may have.

    kind  INT; TEXT; SIZE, for a value that is skipped: how many bytes it has; or the name of a message
    many  whether it may be there more than once: its value is a list, of SIZE the sum
    """

    name: str
    kind: str
    many: bool = False


Schema = Mapping[str, Mapping[int, Field]]  # message name -> field number -> field
Message = dict[str, Any]  # field name -> value; a field that is absent has no entry


class WireError(ValueError):
    """The bytes are no message of that schema; says where and why."""


def read(data: bytes | mmap.mmap, schema: Schema, name: str) -> Message:
    """The message of that name that all of `data` encodes."""
    return _Reader(data, schema).message(name, 0, len(data), 0)


class _Reader:
    def __init__(self, data: bytes | mmap.mmap, schema: Schema) -> None:
        self.data = data
        self.schema = schema
        self.fields = 0

    def message(self, name: str, at: int, end: int, depth: int) -> Message:
        if depth > MAX_DEPTH:
            raise WireError(f"byte {at}: nested deeper than {MAX_DEPTH}")
        known, found = self.schema[name], Message()
        while at < end:
            start = at
            self.count(at)
            key, at = self.varint(at, end)
            field, wire = known.get(key >> 3), key & 7
            if field is None:
                raise WireError(f"byte {start}: field {key >> 3} is not known in {name}")
            at, stop = self.extent(wire, at, end)
            kind = field.kind
            value: Any
            if kind == SIZE:
                value = stop - at
            elif kind == INT and wire == _VARINT:
                value = _signed(self.varint(at, stop)[0])
            elif kind == INT and wire == _BYTES and field.many:
                value = self.packed(at, stop)
            elif wire != _BYTES or kind == INT:
                raise WireError(f"byte {start}: {name}.{field.name} has wire type {wire}")
            elif kind == TEXT:
                value = self.text(at, stop)
            else:
                value = self.message(kind, at, stop, depth + 1)
            at = stop

            if not field.many:
                if field.name in found:
                    raise WireError(f"byte {start}: {name}.{field.name} is there twice")
                found[field.name] = value
            elif kind == SIZE:
                found[field.name] = found.get(field.name, 0) + value
            else:
                found.setdefault(field.name, []).extend(value if isinstance(value, list) else (value,))
        return found

    def count(self, at: int) -> None:
        self.fields += 1
        if self.fields > MAX_FIELDS:
            raise WireError(f"byte {at}: more than {MAX_FIELDS} fields")

    def extent(self, wire: int, at: int, end: int) -> tuple[int, int]:
        """Where a value of that wire type begins and ends."""
        if wire == _BYTES:
            size, at = self.varint(at, end)
            stop = at + size
        elif wire == _VARINT:
            stop = self.varint(at, end)[1]
        elif wire in (_FIXED32, _FIXED64):
            stop = at + (4 if wire == _FIXED32 else 8)
        else:
            raise WireError(f"byte {at}: wire type {wire} is not known")
        if stop > end:
            raise WireError(f"byte {at}: cut off, {stop - end} bytes are missing")
        return at, stop

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """The unsigned number at that place, and the place behind it."""
        data, value, shift = self.data, 0, 0
        while at < end:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    break
                return value, at
            shift += 7
            if shift > 63:
                break
        raise WireError(f"byte {at}: cut off or damaged, a number does not end")

    def packed(self, at: int, end: int) -> list[int]:
        values = []
        while at < end:
            self.count(at)
            value, at = self.varint(at, end)
            values.append(_signed(value))
        return values

    def text(self, at: int, end: int) -> str:
        if end - at > MAX_TEXT:
            raise WireError(f"byte {at}: a name of {end - at} bytes; at most {MAX_TEXT} are read")
        try:
            return self.data[at:end].decode("utf-8")
        except UnicodeDecodeError:
            raise WireError(f"byte {at}: a name is not UTF-8") from None


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
