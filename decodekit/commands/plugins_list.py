"""`decodekit plugins list`: what is installed, from where, in which state, and what it registers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from decodekit.plugins import Plugin, Plugins, Registry, shadowed


def packages(plugins: Plugins) -> list[dict[str, Any]]:
    """decodekit itself, then each plugin as discovery found it, then those behind another copy."""
    registries = (plugins.logits_processors, plugins.stopping_criteria, plugins.commands)
    built_in = plugins.logits_processors.plugin("greedy")
    return [_package(plugin, registries) for plugin in (built_in, *plugins.installed, *shadowed())]


def line(package: Mapping[str, Any]) -> dict[str, str]:
    """A package as a line of a table for people."""
    names = [name for of_kind in package["registers"].values() for name in of_kind]
    state = ": ".join(filter(None, (package["state"], ", ".join(names))))
    return {
        "plugin": package["plugin"],
        "distribution": f"{package['distribution']} {package['version']}",
        "state, what it registers, where it is": f"{state}\n{package['origin']}",
    }


def offers(registry: Registry) -> list[dict[str, str]]:
    """Each name with its options and its help."""
    return [
        {
            "name": name,
            "parameters": registry.parameters(name),
            "from": registry.plugin(name).distribution,
            "what it does": registry.help(name),
        }
        for name in registry.entries
    ]


def _package(plugin: Plugin, registries: tuple[Registry, ...]) -> dict[str, Any]:
    distribution, _, version = plugin.distribution.partition(" ")
    registers = {
        registry.kind: [name for name, (_, by) in registry.entries.items() if by == plugin]
        for registry in registries
    }
    return {
        "plugin": plugin.name,
        "distribution": distribution,
        "version": version,
        "origin": plugin.origin,
        "state": plugin.state,
        "registers": {kind: names for kind, names in registers.items() if names},
    }
