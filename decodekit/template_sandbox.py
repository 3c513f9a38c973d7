"""
The environment that chat templates run in: they compute a text, in bounded time and memory.

A template is a program of the model's author. jinja2's sandbox keeps it from the interpreter; here
every turn of a loop, every call and every character made also costs steps of a budget, and what
makes a long text out of short ones in one go is left out.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from decodekit.errors import TemplateError

MAX_STEPS = 500_000  # of a rendering
MAX_NUMBER = 1_000_000  # as an argument
CHARACTERS = 64  # that cost a step
_PADDING = {"center", "ljust", "rjust", "zfill", "expandtabs", "translate"}
_LEFT_OUT = ("center", "format", "wordwrap", "urlize", "xmlattr", "random", "pprint")
_COUNTED = "counted"

_left: ContextVar[list[int]] = ContextVar("left")  # steps, of the rendering that runs


@contextmanager
def bounded() -> Iterator[None]:
    """A budget for the rendering inside the block."""
    token = _left.set([MAX_STEPS])
    try:
        yield
    finally:
        _left.reset(token)


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """Compiles templates whose renderings spend the budget of `bounded`."""

    intercepted_binops = frozenset(["*", "**", "%", "+"])

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        self.globals["raise_exception"] = _raise
        self.globals.pop("lipsum", None)
        for name in _LEFT_OUT:
            self.filters.pop(name, None)
        self.filters["tojson"] = _to_json
        self.filters = {name: _paid(filter) for name, filter in self.filters.items()}
        self.filters[_COUNTED] = _counted

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Count().visit(super()._parse(source, name, filename))
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return not (isinstance(obj, str) and attr in _PADDING) and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is not None:
            _raise("texts are not formatted with format")
        return None

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        _pay(1)
        _check_arguments(getattr(__obj, "__self__", None), *args, *kwargs.values())
        result = super().call(__context, __obj, *args, **kwargs)
        _pay(_size(result))
        return result

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*" and not (isinstance(left, int | float) and isinstance(right, int | float)):
            _pay(_length(left) * _length(right))
        elif operator == "**":
            _check_arguments(left, right, 2 ** min(abs(right), 64))
        elif operator == "%" and isinstance(left, str):
            _raise("texts are not formatted with %")
        result = super().call_binop(context, operator, left, right)
        _pay(_size(result))
        return result


class _Count(NodeTransformer):
    """Puts the budget where a template goes round, filters or joins texts."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _counting(node.iter)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Filter:
        self.generic_visit(node)
        if node.node is not None:
            node.node = _counting(node.node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _counting(node)


def _counting(node: Any) -> nodes.Filter:
    return nodes.Filter(node, _COUNTED, [], [], None, None, lineno=node.lineno)


def _counted(value: Any) -> Any:
    """The value, paid for: by its size where it has one, else item by item."""
    if isinstance(value, Iterator):
        return _one_by_one(value)
    _pay(_size(value) if isinstance(value, str) or not isinstance(value, Iterable) else _length(value))
    return value


def _one_by_one(values: Iterator[Any]) -> Iterator[Any]:
    for value in values:
        _pay(1)
        yield value


def _paid(filter: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(filter)
    def paid(*args: Any, **kwargs: Any) -> Any:
        _pay(1)
        _check_arguments(*args, *kwargs.values())
        result = filter(*args, **kwargs)
        _pay(_size(result))
        return result

    return paid


def _pay(steps: int) -> None:
    left = _left.get()
    left[0] -= steps
    if left[0] < 0:
        _raise(f"takes more than {MAX_STEPS} steps, so perhaps it would never end")


def _size(value: Any) -> int:
    return len(value) // CHARACTERS if isinstance(value, str) else 0


def _length(value: Any) -> int:
    """Of what is repeated, or how often."""
    return len(value) if hasattr(value, "__len__") else abs(value) if isinstance(value, int) else 1


def _check_arguments(*values: Any) -> None:
    """No large number, and no two long texts, one of which could be put into each place of the other."""
    if large := [value for value in values if isinstance(value, int) and abs(value) > MAX_NUMBER]:
        _raise(f"the number {large[0]} is out of bounds, which are {MAX_NUMBER}")
    lengths = sorted(len(value) for value in values if isinstance(value, str | list | tuple))
    if len(lengths) > 1 and lengths[-2] > 1000:
        _pay(lengths[-1] * lengths[-2] // CHARACTERS)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Not Jinja's own, which writes for web pages; the options are those that transformers offers."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise TemplateError(f"chat template: {message}")
