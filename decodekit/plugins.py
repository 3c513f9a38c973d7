"""Discovery: find the installed plugins, ask each what it registers, look strategies up by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import warnings
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated, Any, get_args, get_origin

import pluggy

from decodekit import hookspecs
from decodekit.errors import ParameterError, PluginError, PluginWarning, UnknownNameError
from decodekit.plugin_choice import ALLOWED

GROUP = "decodekit"
BUILT_IN = (
    "greedy",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical",
    "penalties",
    "logit_bias",
    "min_new_tokens",
    "end_tokens",
    "max_new_tokens",
    "max_time",
    "stop_strings",
    "repetition_loop",
)
HOOKS = {
    "logits processor": "register_logits_processors",
    "stopping criterion": "register_stopping_criteria",
    "command": "register_commands",
}

Offer = tuple[str, str, Callable[..., Any]]  # kind, name, factory


@dataclass(frozen=True, slots=True)
class Plugin:
    """One module that registers something, and whether it could."""

    name: str
    distribution: str  # "decodekit-mirostat 0.1.0"
    state: str  # "ok", "disabled", or "broken: " and why


@dataclass(frozen=True, slots=True)
class Registry:
    """Names to factories of one kind. Built once, then read-only."""

    kind: str
    entries: Mapping[str, tuple[Callable[..., Any], Plugin]]
    broken: tuple[Plugin, ...] = ()

    def create(self, name: str, /, *args: Any, **options: Any) -> Any:
        """A strategy by its registered name."""
        factory, plugin = self._find(name)
        try:
            inspect.signature(factory).bind(*args, **options)
        except TypeError as exc:
            raise ParameterError(f"{name}: {exc}; it takes {self.parameters(name) or 'no options'}") from exc
        try:
            return factory(*args, **options)
        except ParameterError:
            raise
        except Exception as exc:
            raise PluginError(f"{name} (from {plugin.distribution}) could not be made: {exc!r}") from exc

    def bound(self, name: str, /, *args: Any, **options: Any) -> dict[str, Any]:
        """The options of such a call by the names of the factory's parameters."""
        return dict(inspect.signature(self._find(name)[0]).bind(*args, **options).arguments)

    def parameters(self, name: str) -> str:
        """The options of a strategy, as a call would spell them."""
        parameters = signature(self._find(name)[0]).parameters.values()
        plain = [p.replace(annotation=_plain(p.annotation)) for p in parameters]
        return ", ".join(str(p).replace("'", "") for p in plain)

    def help(self, name: str) -> str:
        """The first line of a strategy's documentation."""
        return (inspect.getdoc(self._find(name)[0]) or "").partition("\n")[0]

    def plugin(self, name: str) -> Plugin:
        return self._find(name)[1]

    def _find(self, name: str) -> tuple[Callable[..., Any], Plugin]:
        if name in self.entries:
            return self.entries[name]
        near = difflib.get_close_matches(name, self.entries, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(sorted(self.entries))}"
        broken = [f"{p.distribution} is {p.state}" for p in self.broken]
        raise UnknownNameError("; ".join([f"no {self.kind} named {name!r}", hint, *broken]))


@dataclass(frozen=True, slots=True)
class Plugins:
    """Everything the installed plugins offer."""

    logits_processors: Registry
    stopping_criteria: Registry
    commands: Registry
    installed: tuple[Plugin, ...]

    @property
    def broken(self) -> tuple[Plugin, ...]:
        """Those that could not be loaded."""
        return tuple(plugin for plugin in self.installed if plugin.state.startswith("broken"))


def load_plugins(only: Container[str] | None = None) -> Plugins:
    """The built-in strategies and those of every installed plugin, or of `only` the named ones.

    A plugin that fails to load is skipped with a PluginWarning and named again when
    something is asked for that is not there. Two plugins with one name are an error.
    """
    own = Plugin("decodekit", f"decodekit {metadata.version('decodekit')}", "ok")
    loaded = [(own, _offers(importlib.import_module(f"decodekit.strategies.{name}"))) for name in BUILT_IN]
    installed = [
        _load(entry_point)
        if only is None or entry_point.name in only
        else (_plugin(entry_point, "disabled"), [])
        for entry_point in metadata.entry_points(group=GROUP)
    ]
    broken = tuple(plugin for plugin, _ in installed if plugin.state.startswith("broken"))
    for plugin in broken:
        warnings.warn(f"{plugin.distribution} is {plugin.state}", PluginWarning, stacklevel=2)
    processors, criteria, commands = (_registry(kind, loaded + installed, broken) for kind in HOOKS)
    return Plugins(processors, criteria, commands, tuple(plugin for plugin, _ in installed))


def signature(factory: Callable[..., Any]) -> inspect.Signature:
    """Of a factory, with annotations as objects where they can be."""
    try:
        return inspect.signature(factory, eval_str=True)
    except NameError:  # an annotation that holds for type checkers only
        return inspect.signature(factory)


def _plain(annotation: Any) -> Any:
    """Without what `Annotated` adds to a type."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _load(entry_point: metadata.EntryPoint) -> tuple[Plugin, list[Offer]]:
    try:
        offers = _offers(entry_point.load())
    except (Exception, SystemExit) as exc:  # one broken plugin must not take the others down
        return _plugin(entry_point, f"broken: {type(exc).__name__}: {exc}"), []
    return _plugin(entry_point, "ok"), offers


def _plugin(entry_point: metadata.EntryPoint, state: str) -> Plugin:
    dist = entry_point.dist
    return Plugin(entry_point.name, f"{dist.name} {dist.version}" if dist else entry_point.value, state)


def _offers(module: Any) -> list[Offer]:
    """What one module registers: all of it, or an error."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    manager.check_pending()  # a misspelt hook is an error, not silence
    if not manager.get_hookcallers(module):
        raise PluginError("it has no hook; mark a function with @decodekit.hookimpl")
    offers: list[Offer] = []
    for kind, hook in HOOKS.items():

        def register(name: str, factory: Callable[..., Any], *, kind: str = kind) -> None:
            if not name.isidentifier() or name != name.lower():
                raise PluginError(f"the name of a {kind} is snake_case, got {name!r}")
            if not callable(factory):
                raise PluginError(f"{kind} {name!r}: {factory!r} cannot be called")
            offers.append((kind, name, factory))

        getattr(manager.hook, hook)(register=register)
    return offers


def _registry(kind: str, loaded: list[tuple[Plugin, list[Offer]]], broken: tuple[Plugin, ...]) -> Registry:
    entries: dict[str, tuple[Callable[..., Any], Plugin]] = {}
    for plugin, offers in loaded:
        for offered_kind, name, factory in offers:
            if offered_kind != kind:
                continue
            if name in entries:
                raise PluginError(
                    f"{kind} {name!r} is registered twice: by {entries[name][1].distribution} and by "
                    f"{plugin.distribution}; uninstall one, or name those to load in {ALLOWED}"
                )
            entries[name] = (factory, plugin)
    return Registry(kind, entries, broken)
