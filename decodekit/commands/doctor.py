"""`decodekit doctor`."""

from __future__ import annotations

import argparse
import json
import platform

from decodekit.hookspecs import Command
from decodekit.plugins import Plugins


class Doctor(Command):
    """decodekit doctor"""

    help = "what this machine offers, and what is in the way"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.doctor import examine

        report = examine(self.plugins)
        if args.json:
            print(json.dumps(report.to_json(), indent=1))
        else:
            console.show_facts(f"decodekit on Python {platform.python_version()}", report.facts)
            for problem in report.problems:
                console.show_note(f"problem: {problem}")
            if not report.problems:
                console.show_note("no problem found")
        return 3 if report.problems else 0
