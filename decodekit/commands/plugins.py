"""`decodekit plugins list | show | schema | page | check | new`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from decodekit.chain import Link, parse
from decodekit.errors import InputError, ParameterError, UnknownNameError
from decodekit.hookspecs import Command
from decodekit.plugin_choice import choose
from decodekit.plugins import Plugins, Registry
from decodekit.processors import LogitsProcessor
from decodekit.schema import LABELS, labels, schema, summary
from decodekit.stopping import StoppingCriterion


class PluginsCommand(Command):
    """decodekit plugins ACTION"""

    help = "what is installed, what it takes, whether it keeps the contract; a new one"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins
        self._kinds: tuple[tuple[Registry, type], ...] = (
            (plugins.logits_processors, LogitsProcessor),
            (plugins.stopping_criteria, StoppingCriterion),
        )

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
            action(name, does).add_argument("name", help="as `plugins list` calls the plugin")
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

    def _show(self, args: argparse.Namespace) -> int:
        from decodekit import console

        registry, _ = self._of(args.name)
        factory, plugin = registry.entries[args.name]
        described = labels(factory)
        facts = {"what it does": summary(factory), "from": plugin.distribution}
        facts |= {label: described[label] for label in LABELS if label in described}
        for option, found in schema(factory)["properties"].items():
            rest = {key: value for key, value in found.items() if key != "description"}
            facts[f"option {option}"] = f"{found.get('description', '')} {json.dumps(rest)}".strip()
        console.show_facts(args.name, facts)
        return 0

    def _schema(self, args: argparse.Namespace) -> int:
        if args.name is not None:
            registry, _ = self._of(args.name)
            print(json.dumps(schema(registry.entries[args.name][0]), indent=1))
            return 0
        all_of = {
            registry.kind: {name: schema(factory) for name, (factory, _) in registry.entries.items()}
            for registry, _ in self._kinds
        }
        print(json.dumps(all_of, indent=1))
        return 0

    def _disable(self, args: argparse.Namespace) -> int:
        return self._choose(args.name, load=False)

    def _enable(self, args: argparse.Namespace) -> int:
        return self._choose(args.name, load=True)

    def _choose(self, name: str, *, load: bool) -> int:
        from decodekit import console

        installed = [plugin.name for plugin in self.plugins.installed]
        if name not in installed:
            raise InputError(f"no installed plugin is called {name!r}; there are {', '.join(installed)}")
        console.show_note(f"{name} is {'enabled' if load else 'disabled'} in {choose(name, load=load)}")
        return 0

    def _page(self, args: argparse.Namespace) -> int:
        from decodekit.strategies_page import page

        print(page(self.plugins), end="")
        return 0

    def _new(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.new_plugin import new_plugin

        folder = new_plugin(args.name, "criterion" if args.criterion else "processor", args.out)
        console.show_note(f"{folder}: pip install -e '{folder}[test]' && pytest {folder}")
        return 0

    def _check(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.badge import badge
        from decodekit.bundle import open_bundle
        from decodekit.testing.examination import costs, examine
        from decodekit.tokenizer import Tokenizer

        bundle = open_bundle("tagline")
        tokenizer = Tokenizer(bundle.tokenizer, bundle.stop_ids)
        reports: dict[str, Any] = {}
        for name in self._named(args.name):
            registry, link = self._made(name, args.option)
            factory = registry.entries[name][0]
            found = examine(factory, link.strategy, link.options or {}, tokenizer)
            passed = all(finding.holds for finding in found)
            timed = passed and isinstance(link.strategy, LogitsProcessor)
            microseconds = costs(link.strategy.bind(tokenizer)) if timed else {}
            reports[name] = {
                "passed": passed,
                "options": link.options,
                "laws": {finding.law: finding.why or finding.holds for finding in found},
                "microseconds": microseconds,
            }
            if not args.json:
                console.show_examination(name, link.origin, found, microseconds)
        passed = all(report["passed"] for report in reports.values())
        if args.json:
            print(json.dumps(reports, indent=1))
        if args.badge is not None:
            args.badge.write_text(badge("decodekit", "contract kept" if passed else "fails", good=passed))
        return 0 if passed else 1

    def _named(self, name: str) -> list[str]:
        """The strategy of that name, or all those of a distribution."""
        every = [(n, plugin) for registry, _ in self._kinds for n, (_, plugin) in registry.entries.items()]
        of = [n for n, plugin in every if plugin.distribution.partition(" ")[0] == name]
        return of or [name]

    def _of(self, name: str) -> tuple[Registry, type]:
        for registry, kind in self._kinds:
            if name in registry.entries:
                return registry, kind
        try:
            self.plugins.logits_processors.plugin(name)
        except UnknownNameError as exc:
            raise InputError(str(exc)) from exc
        raise AssertionError

    def _made(self, name: str, written: list[str]) -> tuple[Registry, Link]:
        """The strategy with the options that were given, and plain ones where it needs some."""
        registry, kind = self._of(name)
        given = {text.partition("=")[0] for text in written}
        found = schema(registry.entries[name][0])
        needed = {option: found["properties"][option] for option in found["required"] if option not in given}
        plain = {option: _plain(name, option, entry) for option, entry in needed.items()}
        texts = [f"{name}.{text}" for text in written]
        texts += [f"{name}.{option}={json.dumps(value)}" for option, value in plain.items()]
        (link,) = parse(texts or name, registry, kind)
        return registry, link


def _plain(name: str, option: str, found: Mapping[str, Any]) -> Any:
    """A value inside the domain of an option that has no default."""
    low = found.get("minimum", found.get("exclusiveMinimum"))
    high = found.get("maximum", found.get("exclusiveMaximum"))
    if found.get("type") == "number":
        return (low + high) / 2 if None not in (low, high) and high - low <= 10 else (low or 0) + 0.5
    if found.get("type") == "integer":
        return max(3, (low or 0) + 1)
    if found.get("type") == "array" and found.get("items", {}).get("type") == "integer":
        return [1, 2, 3]
    raise ParameterError(f"{name} needs {option}; give it with -o {option}=VALUE")


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
