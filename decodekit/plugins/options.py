"""Options: of the types that a factory is annotated with, exactly; for factories that do not look."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from decodekit.errors import ParameterError
from decodekit.parameters import real, whole


def check_options(name: str, signature: inspect.Signature, given: Mapping[str, Any]) -> None:
    """Raise ParameterError unless numbers, texts, truth values and choices are such.

    name   of the strategy
    given  options by the names of the factory's parameters
    """
    for option, value in given.items():
        _check(f"{name}: {option}", signature.parameters[option].annotation, value)


def _check(label: str, annotation: Any, value: Any) -> None:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not types.NoneType]
        optional = len(kinds) < len(get_args(annotation))
        if len(kinds) == 1 and not (optional and value is None):
            _check(label, kinds[0], value)
    elif get_origin(annotation) is Literal:
        _check_choice(label, get_args(annotation), value)
    elif annotation in _CHECKS:
        _CHECKS[annotation](label, value)


def _check_choice(label: str, choices: tuple[Any, ...], value: Any) -> None:
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ParameterError(f"{label} must be {' or '.join(map(repr, choices))}, got {value!r}")


def _check_number(label: str, value: Any) -> None:
    real(label, value, "(-inf, inf)")


def _check_whole(label: str, value: Any) -> None:
    whole(label, value, "(-inf, inf)")


def _check_text(label: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ParameterError(f'{label} must be a text, got {value!r}; in quotes, "...", anything is one')


def _check_truth(label: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ParameterError(f"{label} must be true or false, got {value!r}")


_CHECKS: dict[Any, Callable[[str, Any], None]] = {
    float: _check_number,
    int: _check_whole,
    str: _check_text,
    bool: _check_truth,
}
