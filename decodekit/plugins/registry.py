"""A registry: names to factories of one kind, and strategies made by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from decodekit.errors import ParameterError, PluginError, UnknownNameError
from decodekit.hint import hint
from decodekit.plugins.options import check_options


@dataclass(frozen=True, slots=True)
class Plugin:
    """One module that registers something, and whether it could.

    name          of its entry point
    distribution  "decodekit-mirostat 0.1.0"
    state         "ok", "disabled", "not allowed", or "broken: " and why
    origin        the folder it was loaded from, or else the one its distribution is in; "built in"
    """

    name: str
    distribution: str
    state: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Registry:
    """Names to factories of one kind. Built once, then read-only.

    absent  installed plugins that were not loaded
    """

    kind: str
    entries: Mapping[str, tuple[Callable[..., Any], Plugin]]
    absent: tuple[Plugin, ...] = ()

    def create(self, name: str, /, *args: Any, **options: Any) -> Any:
        """A strategy by its registered name."""
        factory, plugin = self._find(name)
        try:
            given = inspect.signature(factory).bind(*args, **options).arguments
        except TypeError as exc:
            near = self._near_options(name, options)
            raise ParameterError(
                f"{name}: {exc}; {near}it takes {self.parameters(name) or 'no options'}"
            ) from exc
        try:
            strategy = factory(*args, **options)
        except ParameterError:
            raise
        except Exception as exc:
            check_options(name, signature(factory), given)
            raise PluginError(f"{name} (from {plugin.distribution}) could not be made: {exc!r}") from exc
        check_options(name, signature(factory), given)  # those that the factory let through
        return strategy

    def bound(self, name: str, /, *args: Any, **options: Any) -> dict[str, Any]:
        """The options of such a call by the names of the factory's parameters."""
        return dict(inspect.signature(self._find(name)[0]).bind(*args, **options).arguments)

    def parameters(self, name: str) -> str:
        """The options of a strategy, as a call would spell them."""
        parameters = signature(self._find(name)[0]).parameters.values()
        plain = [p.replace(annotation=_plain(p.annotation)) for p in parameters]
        spelt = ", ".join(str(p).replace("'", "") for p in plain)
        return spelt.replace("collections.abc.", "").replace("typing.", "")

    def help(self, name: str) -> str:
        """The first line of a strategy's documentation."""
        return summary(self._find(name)[0])

    def plugin(self, name: str) -> Plugin:
        return self._find(name)[1]

    def _find(self, name: str) -> tuple[Callable[..., Any], Plugin]:
        if name in self.entries:
            return self.entries[name]
        way_out = hint(name, self.entries, f"installed: {', '.join(sorted(self.entries))}")
        broken = [f"{p.distribution} is {p.state}" for p in self.absent if p.state.startswith("broken")]
        others = ", ".join(f"{p.name} ({p.state})" for p in self.absent if not p.state.startswith("broken"))
        unloaded = [f"not loaded: {others}"] if others else []
        raise UnknownNameError("; ".join([f"no {self.kind} named {name!r}", way_out, *broken, *unloaded]))

    def _near_options(self, name: str, options: Mapping[str, Any]) -> str:
        """What an option that is not there may have meant."""
        there = signature(self._find(name)[0]).parameters
        hints = (hint(option, there, "") for option in options if option not in there)
        near = next(filter(None, hints), "")
        return f"{near} " if near else ""


def signature(factory: Callable[..., Any]) -> inspect.Signature:
    """Of a factory, with annotations as objects where they can be."""
    try:
        return inspect.signature(factory, eval_str=True)
    except NameError:  # an annotation that holds for type checkers only
        return inspect.signature(factory)


def summary(factory: Callable[..., Any]) -> str:
    """The first line of a strategy's documentation."""
    return (inspect.getdoc(factory) or "").partition("\n")[0]


def _plain(annotation: Any) -> Any:
    """Without what `Annotated` adds to a type."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
