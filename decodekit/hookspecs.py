"""What a plugin can add. Each hook is called once, when plugins are loaded, never per token."""

from collections.abc import Callable
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("decodekit")
hookimpl = pluggy.HookimplMarker("decodekit")

Register = Callable[..., None]


@hookspec
def register_logits_processors(register: Register) -> None:
    """Call `register(name, factory)` for each processor; `factory(**options)` returns a LogitsProcessor."""


@hookspec
def register_stopping_criteria(register: Register) -> None:
    """Call `register(name, factory)` for each criterion; `factory(**options)` returns a StoppingCriterion."""


@hookspec
def register_commands(register: Register) -> None:
    """Call `register(name, command)` for each verb of the `decodekit` command, a class; see `Command`.

    The verb of `serve_ray` is written serve-ray.
    """


class Command:
    """A verb of the `decodekit` command: a line of help, its arguments, and what it does.

    Heavy imports belong inside `run`: the module of a command is loaded whenever plugins are.

    plugins  what is installed and not disabled, a `decodekit.plugins.Plugins`; give it to `decodekit.load`
    """

    help: str = ""

    def __init__(self, plugins: Any) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: Any) -> None:
        """Declare options on an argparse.ArgumentParser."""

    def run(self, args: Any) -> int:
        """Do the work; the exit status. A DecodekitError ends as one line and its own status."""
        raise NotImplementedError
