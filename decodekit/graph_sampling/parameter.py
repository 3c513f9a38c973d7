"""
Parameters of a strategy as a graph's inputs.

While a strategy is traced, a parameter is a column of numbers that are not known yet, one a row.
But a strategy may ask for more: `if p == 1: return logits`. So a parameter also has the value that
it has now. A comparison with a number is answered by that value, and the answer is written down: the
graph is right for all values that answer alike. Where a number itself is asked for, as by `math.exp`,
the graph is right for that value only.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import ndonnx as ndx

Values = Sequence[float]  # of all parameters of a chain, in order
Of = Callable[[Values], Any]
Guard = Callable[[Values], bool]  # whether values answer as those did that were traced


class Parameter(ndx.Array):
    """A column [B, 1] of float64 or int64, with a value; beside arrays it takes their precision.

    So does a number of Python, which it stands for.
    """

    _value: Any
    _of: Of
    _guards: list[Guard]

    @staticmethod
    def made(column: ndx.Array, value: Any, of: Of, guards: list[Guard]) -> Parameter:
        """A parameter.

        of      computes its value from those of a chain
        guards  takes what was answered
        """
        parameter = object.__new__(Parameter)
        parameter.__dict__.update(column.__dict__)
        parameter._value, parameter._of, parameter._guards = value, of, guards
        return parameter

    def told(self) -> Any:
        """The value, on which the graph depends from now on."""
        of, value = self._of, self._value
        self._guards.append(lambda values: bool(of(values) == value))
        return value

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __float__(self) -> float:
        return float(self.told())

    def __int__(self) -> int:
        return int(self.told())

    def __index__(self) -> int:
        return operator.index(self.told())

    __hash__ = None  # type: ignore[assignment]


def _as_column(parameter: Parameter) -> ndx.Array:
    column = object.__new__(ndx.Array)
    column.__dict__.update({"_tyarray": parameter._tyarray})
    return column


def _beside(parameter: Parameter, array: ndx.Array) -> ndx.Array:
    """The column in the precision of an array, as NumPy treats Python's numbers."""
    column = _as_column(parameter)
    floating = ndx.isdtype(array.dtype, "real floating")
    whole = ndx.isdtype(column.dtype, "integral") and ndx.isdtype(array.dtype, "integral")
    return ndx.astype(column, array.dtype) if floating or whole else column


def _known(operand: Any) -> Of | None:
    """How to compute an operand from the values; None: it is an array."""
    if isinstance(operand, Parameter):
        return operand._of
    return (lambda values: operand) if isinstance(operand, bool | int | float) else None


def _binary(function: Callable[[Any, Any], Any], *, compares: bool) -> Any:
    def method(self: Parameter, other: Any, *, reflected: bool = False) -> Any:
        mine, theirs = self._of, _known(other)
        if theirs is None:
            if not isinstance(other, ndx.Array):
                return NotImplemented
            column = _beside(self, other)
            return function(other, column) if reflected else function(column, other)

        def of(values: Values) -> Any:
            a, b = mine(values), theirs(values)
            return function(b, a) if reflected else function(a, b)

        there = other._value if isinstance(other, Parameter) else other
        value = function(there, self._value) if reflected else function(self._value, there)
        if compares:
            self._guards.append(lambda values: bool(of(values) == value))
            return value
        a, b = _as_column(self), _as_column(other) if isinstance(other, Parameter) else other
        column = function(b, a) if reflected else function(a, b)
        return Parameter.made(column, value, of, self._guards)

    return method


def _unary(function: Callable[[Any], Any]) -> Any:
    def method(self: Parameter) -> Parameter:
        mine = self._of
        return Parameter.made(
            function(_as_column(self)),
            function(self._value),
            lambda values: function(mine(values)),
            self._guards,
        )

    return method


def _reflected(method: Any) -> Any:
    return lambda self, other: method(self, other, reflected=True)


for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Parameter, f"__{_name}__", _binary(getattr(operator, _name), compares=True))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _method = _binary(getattr(operator, _name), compares=False)
    setattr(Parameter, f"__{_name}__", _method)
    setattr(Parameter, f"__r{_name}__", _reflected(_method))
for _name in ("neg", "pos", "abs"):
    setattr(Parameter, f"__{_name}__", _unary(getattr(operator, _name)))
