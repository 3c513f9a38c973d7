"""`decodekit plugins list | show | schema | page | check | new | disable | enable`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path

from decodekit.errors import InputError, UnknownNameError
from decodekit.hint import hint
from decodekit.hookspecs import Command
from decodekit.plugin_choice import ALLOWED, choose
from decodekit.plugins import Plugins, Registry, summary
from decodekit.schema import LABELS, labels, schema


class PluginsCommand(Command):
    """decodekit plugins ACTION"""

    help = "what is installed, what it takes, whether it keeps the contract; a new one"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins
        self._strategies: Mapping[str, Registry] = {
            name: registry
            for registry in (plugins.stopping_criteria, plugins.logits_processors)
            for name in registry.entries
        }

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

        def action(name: str, help: str) -> argparse.ArgumentParser:
            made = actions.add_parser(name, help=help, description=help)
            made.add_argument("--debug", action="store_true", help="show where an error came from")
            made.set_defaults(action=getattr(self, f"_{name}"))
            return made

        action("list", "what is installed, and from where").add_argument("--json", action="store_true")
        one = action("show", "what one strategy does, and what it takes")
        one.add_argument("name")
        one = action("schema", "the options of strategies as JSON Schema")
        one.add_argument("name", nargs="?", help="one of them; by default all")
        for name, does in (("disable", "do not load a plugin"), ("enable", "load it again")):
            action(name, does).add_argument("name", help="of a plugin or a distribution")
        action("page", "all strategies as a page of Markdown")
        one = action("check", "whether a strategy keeps the contract, law by law")
        one.add_argument("name", help="of a strategy, or of a distribution: all it registers")
        one.add_argument(
            "-o", "--option", action="append", default=[], metavar="K=V", help="to make it with; JSON"
        )
        one.add_argument("--json", action="store_true")
        one.add_argument("--badge", type=Path, metavar="FILE.svg", help="write the verdict as a badge")
        one = action("new", "a repository of a plugin that passes at once")
        one.add_argument("name", help="of the strategy, snake_case")
        one.add_argument("--criterion", action="store_true", help="a stopping criterion, not a strategy")
        one.add_argument("--out", type=Path, metavar="DIR")

    def run(self, args: argparse.Namespace) -> int:
        return int(args.action(args))

    def _list(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.commands.plugins_list import line, offers, packages

        found = packages(self.plugins)
        kinds = (self.plugins.logits_processors, self.plugins.stopping_criteria, self.plugins.commands)
        offered = {registry.kind: offers(registry) for registry in kinds}
        if args.json:
            print(json.dumps({"plugins": found, "offers": offered}, indent=1))
            return 0
        console.show_table("installed plugins", map(line, found))
        for kind, rows in offered.items():
            if rows:
                console.show_table(
                    kind, [{key: row[key] for key in ("name", "what it does")} for row in rows]
                )
        return 0

    def _show(self, args: argparse.Namespace) -> int:
        from decodekit import console

        factory, plugin = self._registry(args.name).entries[args.name]
        described = labels(factory)
        facts = {"what it does": summary(factory), "from": f"{plugin.distribution}, {plugin.origin}"}
        facts |= {label: described[label] for label in LABELS if label in described}
        for option, found in schema(factory)["properties"].items():
            rest = {key: value for key, value in found.items() if key != "description"}
            facts[f"option {option}"] = f"{found.get('description', '')} {json.dumps(rest)}".strip()
        console.show_facts(args.name, facts)
        return 0

    def _schema(self, args: argparse.Namespace) -> int:
        if args.name is not None:
            print(json.dumps(schema(self._registry(args.name).entries[args.name][0]), indent=1))
            return 0
        all_of = {
            registry.kind: {name: schema(factory) for name, (factory, _) in registry.entries.items()}
            for registry in (self.plugins.logits_processors, self.plugins.stopping_criteria)
        }
        print(json.dumps(all_of, indent=1))
        return 0

    def _disable(self, args: argparse.Namespace) -> int:
        return self._choose(args.name, load=False)

    def _enable(self, args: argparse.Namespace) -> int:
        return self._choose(args.name, load=True)

    def _choose(self, name: str, *, load: bool) -> int:
        from decodekit import console

        installed = self.plugins.installed
        names = {p.name for p in installed if name in (p.name, p.distribution.partition(" ")[0])}
        if not names:
            there = ", ".join(plugin.name for plugin in installed)
            raise InputError(f"no installed plugin is called {name!r}; there are {there}")
        file = choose(names, load=load)
        console.show_note(f"{', '.join(sorted(names))}: {'enabled' if load else 'disabled'} in {file}")
        if ALLOWED in os.environ:
            console.show_note(f"{ALLOWED} is set and decides as long as it is")
        return 0

    def _page(self, args: argparse.Namespace) -> int:
        from decodekit.strategies_page import page

        print(page(self.plugins), end="")
        return 0

    def _new(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.new_plugin import new_plugin

        if args.name in self._strategies:
            owner = self._strategies[args.name].plugin(args.name).distribution
            raise InputError(f"{args.name} is a strategy of {owner}; names are global, choose another one")
        folder = new_plugin(args.name, "criterion" if args.criterion else "processor", args.out)
        console.show_note(f"{folder}: pip install -e '{folder}[test]' && pytest {folder}")
        return 0

    def _check(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.badge import badge
        from decodekit.commands.plugins_check import check, plain

        reports = {}
        for report in check(self._named(args.name), args.option):
            reports[report["name"]] = plain(report)
            if not args.json:
                console.show_examination(
                    report["name"], report["from"], report["laws"], report.get("microseconds", {})
                )
                if "array_api" in report:
                    console.show_facts("", {"on any array of the array API standard": report["array_api"]})
        passed = all(report["passed"] for report in reports.values())
        if args.json:
            print(json.dumps(reports, indent=1))
        if args.badge is not None:
            try:
                args.badge.write_text(badge("decodekit", "contract kept" if passed else "fails", good=passed))
            except OSError as exc:
                raise InputError(f"{args.badge}: cannot be written ({exc.strerror}); check the path") from exc
        return 0 if passed else 1

    def _registry(self, name: str) -> Registry:
        return self._named(name, of_distributions=False)[name]

    def _named(self, name: str, *, of_distributions: bool = True) -> Mapping[str, Registry]:
        """The strategy of that name, or all those of a distribution, with their registries."""
        if name in self._strategies:
            return {name: self._strategies[name]}
        origin = {n: reg.plugin(n).distribution.partition(" ")[0] for n, reg in self._strategies.items()}
        if of_distributions and name in origin.values():
            return {n: self._strategies[n] for n in origin if origin[n] == name}
        for plugin in self.plugins.installed:
            if name in (plugin.name, plugin.distribution.partition(" ")[0]) and plugin.state != "ok":
                raise InputError(f"{plugin.distribution} is {plugin.state}")
        way_out = hint(name, {*origin, *origin.values()}, "`decodekit plugins list` shows all")
        raise UnknownNameError(f"no strategy or distribution is called {name!r}; {way_out}")
