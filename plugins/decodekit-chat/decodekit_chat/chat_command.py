"""decodekit chat BUNDLE"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from decodekit.commands.asking import add_chain, add_machine
from decodekit.errors import DecodekitError, ParameterError
from decodekit.hookspecs import Command

if TYPE_CHECKING:
    from decodekit_chat.conversation import Conversation

HELP = """\
/chain NAME=VALUE, ...   another chain from now on
/seed N                  answers of that seed; without N a new one each time
/again                   another answer to the same
/undo                    forget the last question and its answer
/probabilities N         show the tokens' probabilities, and N alternatives; 0: do not
/length N                tokens of an answer at most
/adapter NAME            of the bundle; without NAME the model as it is
/clear, /help, /quit"""


class ChatCommand(Command):
    """The verb."""

    help = "talk with a model in the terminal"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("bundle", help="a folder, or the name of an embedded model")
        parser.add_argument("--system", default="", metavar="TEXT", help="said before everything")
        add_chain(parser)
        add_machine(parser)

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.loading import load
        from decodekit_chat.conversation import Conversation

        for given in ("criterion", "min_new_tokens", "ignore_eos", "max_time", "stop", "stop_token_id"):
            if getattr(args, given):
                raise ParameterError(f"--{given.replace('_', '-')} is not for chat; use `decodekit generate`")
        with load(
            args.bundle, device=args.device, threads=args.threads, plugins=self.plugins
        ) as decoder:
            talk = Conversation(
                decoder,
                seed=args.seed,
                length=args.max_new_tokens,
                system=args.system,
                adapter=args.adapter,
            )
            talk.set_chain(", ".join(args.process or ()))
            console.show_note(f"{decoder.bundle.name}; /help tells what else you can say")
            for line in _lines(talk):
                if line == "/quit":
                    return 0
                _heed(talk, line)
        return 0


def _heed(talk: Conversation, line: str) -> None:
    """One line: a command, or something to say. What is wrong with it is told, and nothing is lost."""
    from decodekit import console

    word, _, rest = line.partition(" ")
    try:
        if word == "/again":
            _show(talk, talk.again())
        elif line.startswith("/"):
            _command(talk, word, rest.strip())
        elif line.strip():
            _show(talk, talk.ask(line))
    except DecodekitError as error:
        console.show_error(error)


def _command(talk: Conversation, word: str, rest: str) -> None:
    commands: dict[str, Callable[[], object]] = {
        "/chain": lambda: talk.set_chain(rest),
        "/seed": lambda: setattr(talk, "seed", _number(word, rest) if rest else None),
        "/undo": talk.undo,
        "/probabilities": lambda: setattr(talk, "top", _number(word, rest or "3") or None),
        "/length": lambda: setattr(talk, "length", _number(word, rest) if rest else None),
        "/adapter": lambda: setattr(talk, "adapter", rest or None),
        "/clear": talk.clear,
        "/help": lambda: print(HELP),
    }
    if word not in commands:
        raise ParameterError(f"no command {word}; there are {', '.join([*commands, '/again', '/quit'])}")
    commands[word]()


def _number(word: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as exc:
        raise ParameterError(f"{word} takes a whole number, got {text!r}") from exc


def _show(talk: Conversation, pieces: Iterator[str]) -> None:
    from decodekit import console

    try:
        for piece in pieces:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]
    print()
    if talk.last is not None and talk.top is not None:
        console.show_logprobs(talk.last, talk.decoder.spell)


def _lines(talk: Conversation) -> Iterator[str]:
    """What a person types, or what a pipe brings."""
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter

    names = sorted(talk.decoder.plugins.logits_processors.entries)
    words = [
        "/chain",
        "/seed",
        "/again",
        "/undo",
        "/probabilities",
        "/length",
        "/adapter",
        "/clear",
        "/help",
        "/quit",
    ]
    session: PromptSession[str] = PromptSession(completer=WordCompleter(words + names, WORD=True))
    while True:
        try:
            yield session.prompt("> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
