"""
What a line that begins with a slash does: the one table of a chat's commands.

Help, completion and the README's table are made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from decodekit.errors import ParameterError
from decodekit.hint import hint
from decodekit_chat.conversation import Conversation


@dataclass(frozen=True, slots=True)
class Line:
    """One command.

    usage   how it is written
    effect  what it does, in words
    act     does it, with what stands behind the word; an answer, piece by piece, where it makes one
    """

    usage: str
    effect: str
    act: Callable[[Conversation, str], Iterator[str] | None]

    @property
    def word(self) -> str:
        return self.usage.partition(" ")[0]


def obey(talk: Conversation, text: str) -> Iterator[str] | None:
    """Do what a line says; the answer, where there is one. EOFError: the conversation is over."""
    word, _, rest = text.partition(" ")
    for line in LINES:
        if line.word == word:
            return line.act(talk, rest.strip())
    words = [line.word for line in LINES]
    way_out = hint(word, words, f"there are {', '.join(words)}")
    raise ParameterError(f"no command {word}; {way_out}")


def help_text() -> str:
    width = max(len(line.usage) for line in LINES)
    return "\n".join(f"{line.usage:{width}}  {line.effect}" for line in LINES)


def _chain(talk: Conversation, rest: str) -> None:
    talk.change(chain=rest)


def _seed(talk: Conversation, rest: str) -> None:
    talk.change(seed=_number("/seed", rest) if rest else None)


def _again(talk: Conversation, rest: str) -> Iterator[str]:
    return talk.again()


def _undo(talk: Conversation, rest: str) -> None:
    talk.undo()


def _probabilities(talk: Conversation, rest: str) -> None:
    talk.change(top=_number("/probabilities", rest or "3") or None)


def _length(talk: Conversation, rest: str) -> None:
    talk.change(length=_number("/length", rest) if rest else None)


def _adapter(talk: Conversation, rest: str) -> None:
    talk.change(adapter=rest or None)


def _clear(talk: Conversation, rest: str) -> None:
    talk.clear()


def _help(talk: Conversation, rest: str) -> None:
    print(help_text())


def _quit(talk: Conversation, rest: str) -> None:
    raise EOFError


LINES = (
    Line("/chain NAME=VALUE, ...", "another chain from now on; without one the best token always", _chain),
    Line("/seed N", "answers of that seed; without N of a new one each time", _seed),
    Line("/again", "another answer to the same: the next sample of the seed", _again),
    Line("/undo", "forget the last question and its answer", _undo),
    Line(
        "/probabilities N",
        "tokens' probabilities, and N others that could have come; 0: not",
        _probabilities,
    ),
    Line("/length N", "tokens of an answer at most; without N what there is room for", _length),
    Line("/adapter NAME", "of the bundle; without NAME the model as it is", _adapter),
    Line("/clear", "forget all that was said", _clear),
    Line("/help", "this table", _help),
    Line("/quit", "the end; so is Ctrl-D", _quit),
)


def _number(word: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as exc:
        raise ParameterError(f"{word} takes a whole number, got {text!r}") from exc
