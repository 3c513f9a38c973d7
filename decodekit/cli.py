"""The command line: parse, call, print. Verbs are `Command`s; installed packages add theirs."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from decodekit.commands.batch import Batch
from decodekit.commands.compare import Compare
from decodekit.commands.doctor import Doctor
from decodekit.commands.eval import Eval
from decodekit.commands.generate import Generate
from decodekit.commands.inspect import Inspect
from decodekit.commands.plugins import PluginsCommand
from decodekit.commands.replay import Replay
from decodekit.commands.score import Score
from decodekit.commands.trace import Trace
from decodekit.commands.verify import Verify
from decodekit.errors import DecodekitError, PluginWarning
from decodekit.origin import version
from decodekit.plugin_choice import allowed
from decodekit.plugins import Plugins, load_plugins


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Exit status 0; 1 for a record that does not hold; 2 for bad input, 3 for the
    environment, 4 for an internal error.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    from decodekit import console

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PluginWarning)
            plugins = load_plugins(allowed())
        for warning in caught:
            console.show_note(f"warning: {warning.message}; `decodekit plugins list` shows all")
        args = _parser(plugins).parse_args(argv)
        return int(args.command.run(args))
    except DecodekitError as error:
        if "--debug" in argv:
            raise
        console.show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at exit
        return 0
    except Exception as error:
        if "--debug" in argv:
            raise
        console.show_error(
            DecodekitError(f"{type(error).__name__}: {error}; run again with --debug for where")
        )
        return DecodekitError.exit_code


def _parser(plugins: Plugins) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="decodekit",
        description="Turn prompts into text on ONNX models, with sampling strategies as packages.",
    )
    parser.add_argument("--version", action="version", version=f"decodekit {version('decodekit')}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    own = {
        "generate": Generate(plugins),
        "batch": Batch(plugins),
        "eval": Eval(plugins),
        "compare": Compare(plugins),
        "trace": Trace(plugins),
        "score": Score(plugins),
        "replay": Replay(plugins),
        "inspect": Inspect(plugins),
        "verify": Verify(plugins),
        "plugins": PluginsCommand(plugins),
        "doctor": Doctor(plugins),
    }
    added = {name: command(plugins) for name, (command, _) in plugins.commands.entries.items()}
    for name, command in (own | added).items():
        verb = verbs.add_parser(name.replace("_", "-"), help=command.help, description=command.help)
        verb.add_argument("--debug", action="store_true", help="show where an error came from")
        command.add_arguments(verb)
        verb.set_defaults(command=command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
