"""Discovery: load the built-in strategies and the installed plugins, and collect what they register."""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pluggy

from decodekit import hookspecs
from decodekit.errors import PluginError, PluginWarning
from decodekit.plugin_choice import ALLOWED, Choice
from decodekit.plugins.registry import Plugin, Registry

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


def load_plugins(only: Choice | Iterable[str] | None = None) -> Plugins:
    """The built-in strategies and those of every installed plugin, or of `only` those that it admits.

    A plugin that fails to load is skipped with a PluginWarning and named again when
    something is asked for that is not there. Two plugins with one name are an error.
    """
    choice = only if isinstance(only, Choice) else Choice(None if only is None else frozenset(only))
    own = Plugin("decodekit", f"decodekit {metadata.version('decodekit')}", "ok", "built in")
    loaded = [(own, _offers(importlib.import_module(f"decodekit.strategies.{name}"))) for name in BUILT_IN]
    installed = [_load(entry_point, choice) for entry_point in metadata.entry_points(group=GROUP)]
    absent = tuple(plugin for plugin, _ in installed if plugin.state != "ok")
    processors, criteria, commands = (_registry(kind, loaded + installed, absent) for kind in HOOKS)
    plugins = Plugins(processors, criteria, commands, tuple(plugin for plugin, _ in installed))
    for plugin in plugins.broken:
        warnings.warn(f"{plugin.distribution} is {plugin.state}", PluginWarning, stacklevel=2)
    return plugins


def shadowed() -> tuple[Plugin, ...]:
    """Plugins that are installed again, behind a copy of their distribution that counts instead."""
    first: dict[str, str] = {}
    found = []
    for dist in metadata.distributions():
        label, place = f"{dist.name} {dist.version}", str(dist.locate_file(""))
        name = re.sub("[-_.]+", "-", dist.name).lower()
        if name in first:
            state = f"shadowed by {first[name]}; uninstall both, then install one"
            found += [Plugin(e.name, label, state, place) for e in dist.entry_points.select(group=GROUP)]
        else:
            first[name] = f"{label} in {place}"
    return tuple(found)


def _load(entry_point: metadata.EntryPoint, choice: Choice) -> tuple[Plugin, list[Offer]]:
    if why := choice.why_not(entry_point.name):
        return _plugin(entry_point, why), []
    try:
        offers = _offers(entry_point.load())
    except (Exception, SystemExit) as exc:  # one broken plugin must not take the others down
        return _plugin(entry_point, f"broken: {type(exc).__name__}: {exc}"), []
    return _plugin(entry_point, "ok"), offers


def _plugin(entry_point: metadata.EntryPoint, state: str) -> Plugin:
    dist = entry_point.dist
    module = sys.modules.get(entry_point.module)
    label = f"{dist.name} {dist.version}" if dist else entry_point.value
    if file := getattr(module, "__file__", None):
        return Plugin(entry_point.name, label, state, str(Path(file).parent))
    return Plugin(entry_point.name, label, state, str(dist.locate_file("")) if dist else "")


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


def _registry(kind: str, loaded: list[tuple[Plugin, list[Offer]]], absent: tuple[Plugin, ...]) -> Registry:
    entries: dict[str, tuple[Callable[..., Any], Plugin]] = {}
    for plugin, offers in loaded:
        for offered_kind, name, factory in offers:
            if offered_kind != kind:
                continue
            if name in entries:
                raise PluginError(
                    f"{kind} {name!r} is registered twice: by {entries[name][1].distribution} and by "
                    f"{plugin.distribution}; uninstall one, leave it out with `{ALLOWED}= decodekit "
                    f"plugins disable {plugin.name}`, or name those to load in {ALLOWED}"
                )
            entries[name] = (factory, plugin)
    return Registry(kind, entries, absent)
