"""`decodekit plugins list`."""

from __future__ import annotations

import argparse
import json

from decodekit.hookspecs import Command
from decodekit.plugins import Plugins, Registry


class ListPlugins(Command):
    """decodekit plugins list"""

    help = "what is installed, and from where"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("action", choices=["list"])
        parser.add_argument("--json", action="store_true")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console

        registries = (self.plugins.logits_processors, self.plugins.stopping_criteria, self.plugins.commands)
        offers = {registry.kind: _offers(registry) for registry in registries}
        packages = [
            {"plugin": p.name, "distribution": p.distribution, "state": p.state}
            for p in self.plugins.installed
        ]
        if args.json:
            print(json.dumps({"plugins": packages, "offers": offers}, indent=1))
            return 0
        console.show_table("installed plugins", packages)
        for kind, rows in offers.items():
            console.show_table(kind, rows)
        return 0


def _offers(registry: Registry) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "parameters": registry.parameters(name),
            "from": registry.plugin(name).distribution,
            "what it does": registry.help(name),
        }
        for name in registry.entries
    ]
