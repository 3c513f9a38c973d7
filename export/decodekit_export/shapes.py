"""
Shapes of a record: which keys make a prompt and what is answered.

    prompt, completion          a text, or messages; a text, or the assistant's messages
    instruction, input, output  as Alpaca has it; the input may be missing or empty
    messages, tools             a conversation; every answer in it is trained
    conversations, system       as ShareGPT has it: `from` and `value`

A file has one shape, that of its first record, unless columns are mapped. Nothing is guessed:
a record of another shape is a fault.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from decodekit.errors import ParameterError
from decodekit_export import examples
from decodekit_export.examples import Example, Fault, Record


@dataclass(frozen=True, slots=True)
class Shape:
    """The fields that a record of this shape has and may have, and what they make."""

    needs: tuple[str, ...]
    may: tuple[str, ...]
    read: Callable[[Record], Example]


class Shaper:
    """Reads records of one file.

    columns  field -> the column it stands in, where that has another name
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self._shape = _of_fields(columns)

    @property
    def used(self) -> frozenset[str]:
        """The columns that are looked at."""
        shape = self._shape or SHAPES[0]
        return frozenset(self._column(field) for field in (*shape.needs, *shape.may))

    def __call__(self, record: Record) -> Example:
        """The example that a record is. Raises Fault."""
        self._shape = shape = self._shape or self._recognised(record)
        fields = {}
        for field in shape.needs:
            if (column := self._column(field)) not in record:
                raise Fault(self._missing(field, list(record), shape))
            fields[field] = record[column]
        for field in shape.may:
            if (value := record.get(self._column(field))) is not None:
                fields[field] = value
        return shape.read(fields)

    def _column(self, field: str) -> str:
        return self._columns.get(field, field)

    def _recognised(self, record: Record) -> Shape:
        fitting = [s for s in SHAPES if all(self._column(field) in record for field in s.needs)]
        if len(fitting) > 1:
            names = " and as ".join(", ".join(shape.needs) for shape in fitting)
            field = fitting[0].needs[0]
            raise Fault(f"can be read as {names}; choose, such as with --map {field}={field}")
        if fitting:
            return fitting[0]
        # None fits: the fault is told of the shape that most of the keys belong to.
        return max(SHAPES, key=lambda shape: sum(self._column(field) in record for field in shape.needs))

    def _missing(self, field: str, found: list[str], shape: Shape) -> str:
        column = self._column(field)
        free = [key for key in found if key not in self.used]
        close = difflib.get_close_matches(column, free, n=1, cutoff=0.5)
        expected = " and ".join(repr(self._column(field)) for field in shape.needs)
        keys = ", ".join(map(repr, found)) or "no key"
        way_out = (
            f"did you mean {close[0]!r}? --map {field}={close[0]}"
            if close
            else f"name it with --map {field}=KEY"
        )
        return f"no key {column!r}; expected {expected}, found {keys}; {way_out}"


def columns_of(written: Sequence[str]) -> dict[str, str]:
    """`field=column` as a mapping. Raises ParameterError."""
    columns: dict[str, str] = {}
    known = sorted({field for shape in SHAPES for field in (*shape.needs, *shape.may)})
    for text in written:
        field, equals, column = text.partition("=")
        if not equals or not column:
            raise ParameterError(f"map must be FIELD=KEY, got {text!r}")
        if field not in known:
            raise ParameterError(f"map: no field {field!r}; fields are {', '.join(known)}")
        if field in columns:
            raise ParameterError(f"map: {field} is there twice; keep one")
        columns[field] = column
    if len({*columns.values()}) < len(columns):
        raise ParameterError(f"map: two fields are read from one key, in {', '.join(written)}")
    _of_fields(columns)
    return columns


def _of_fields(columns: Mapping[str, str]) -> Shape | None:
    """The one shape that has all the mapped fields; None if several have."""
    fitting = [shape for shape in SHAPES if {*columns} <= {*shape.needs, *shape.may}]
    if not fitting:
        raise ParameterError(f"map: {', '.join(columns)} are fields of different shapes of rows")
    return fitting[0] if len(fitting) == 1 else None


SHAPES = (
    Shape(("prompt", "completion"), (), examples.pair),
    Shape(("instruction", "output"), ("input", "system"), examples.instruction),
    Shape(("messages",), ("tools",), examples.messages),
    Shape(("conversations",), ("system", "tools"), examples.sharegpt),
)
