"""decodekit chat BUNDLE"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from decodekit.commands.asking import add_machine, add_sampling
from decodekit.errors import DecodekitError
from decodekit.hookspecs import Command

if TYPE_CHECKING:
    from decodekit_chat.conversation import Conversation


class ChatCommand(Command):
    """The verb."""

    help = "talk with a model in the terminal"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("bundle", help="a folder, or the name of an embedded model")
        parser.add_argument("--system", default="", metavar="TEXT", help="said before everything")
        add_sampling(parser)
        add_machine(parser)

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.loading import load
        from decodekit_chat.conversation import Conversation

        with load(args.bundle, device=args.device, threads=args.threads, plugins=self.plugins) as decoder:
            talk = Conversation(decoder, system=args.system)
            talk.change(
                chain=", ".join(args.process or ()),
                seed=args.seed,
                length=args.max_new_tokens,
                adapter=args.adapter,
            )
            console.show_note(f"{decoder.bundle.name}; /help tells what else you can say")
            with suppress(EOFError):
                for line in _lines(talk):
                    _heed(talk, line)
        return 0


def _heed(talk: Conversation, line: str) -> None:
    """One line: a command, or something to say. What is wrong with it is told, and nothing is lost."""
    from decodekit import console
    from decodekit_chat.lines import obey

    try:
        pieces = obey(talk, line) if line.startswith("/") else talk.ask(line) if line.strip() else None
        if pieces is not None:
            _show(talk, pieces)
    except DecodekitError as error:
        console.show_error(error)


def _show(talk: Conversation, pieces: Iterator[str]) -> None:
    from decodekit import console

    try:
        for piece in pieces:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]
    print()
    if talk.last is not None and talk.top is not None:
        console.show_logprobs(talk.last, talk.decoder.tokenizer.spell)


def _lines(talk: Conversation) -> Iterator[str]:
    """What a person types, or what a pipe brings."""
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter

    from decodekit_chat.lines import LINES

    words = [line.word for line in LINES]
    names = sorted(talk.decoder.plugins.logits_processors.entries)
    session: PromptSession[str] = PromptSession(completer=WordCompleter(words + names, WORD=True))
    while True:
        with suppress(KeyboardInterrupt):
            yield session.prompt("> ")
