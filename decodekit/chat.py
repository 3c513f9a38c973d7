"""
Rendering: messages, or a prompt and its completion, to ids and a loss mask.

The mask is born where the tokens are born. What a model is asked and what it answers are encoded
apart and joined, so the boundary between them is exact, and what it is asked in training is what
it is asked at prompting. Nothing is ever searched for in the ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from decodekit.chat_template import ChatTemplate
from decodekit.errors import PromptError, TemplateError
from decodekit.messages import Message, Tools, checked, is_trained
from decodekit.script import Script
from decodekit.tokenizer import Tokenizer

MAX_TURNS = 500  # of the assistant in a conversation; each is rendered with all that came before it
_SAID = ("tool_calls", "reasoning_content", "reasoning", "thinking")  # keys of what is answered besides text
_PROBE = "\ue000"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A training row: `mask[i]` says whether `ids[i]` is trained."""

    ids: tuple[int, ...]
    mask: tuple[bool, ...]

    def then(self, asked: tuple[int, ...], answered: tuple[int, ...]) -> Rendered:
        """This row, gone on to the whole prompt `asked`, which begins with it, and its answer."""
        untrained = len(asked) - len(self.ids)
        return Rendered(asked + answered, self.mask + (False,) * untrained + (True,) * len(answered))


class Chat:
    """Renders for one tokenizer, with its chat template, or raw text where there is none.

    template  Jinja source as transformers writes it, or None
    stop_id   the token that ends a completion where the template does not say
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None, stop_id: int | None) -> None:
        self._tokenizer = tokenizer
        self._stop_id = stop_id
        begin = next((tokenizer.token(i) for i in tokenizer.prefix), "")
        end = "" if stop_id is None else tokenizer.token(stop_id)
        self._template = None if template is None else ChatTemplate(template, begin, end)
        self._special = sorted(
            (t for i in tokenizer.special_ids if (t := tokenizer.token(i))), key=len, reverse=True
        )

    @property
    def continues(self) -> bool:
        """Whether an answer goes on where the prompt's text ended, as it does without a template."""
        return self._template is None

    def prompt(self, prompt: str | Sequence[Message], tools: Tools | None = None) -> tuple[int, ...]:
        """Ids up to where the answer begins. Special-token text inside a content stays text.

        tools  JSON schemas of functions that the model may call, for templates that tell it
        """
        if self._template is None and isinstance(prompt, str):
            return self._tokenizer.prefix + tuple(self._tokenizer.encode_plain(prompt))
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else checked(prompt)
        script = self._script(messages, tools)
        script.check_tools(len(messages))
        ids = script.encode(script.prompt(len(messages)))
        if not ids:
            raise TemplateError("chat template: wrote nothing; check the messages against the template")
        return ids

    def pair(self, prompt: str | Sequence[Message], completion: str) -> Rendered:
        """Ids of prompt and completion; trained are the completion and its stop token."""
        answered = (*self._tokenizer.encode_plain(completion), *self.end)
        return Rendered((), ()).then(self.prompt(prompt), answered)

    def conversation(self, messages: Sequence[Message], tools: Tools | None = None) -> list[Rendered]:
        """Rows in which every answer of the assistant is trained, and its stop token, and nothing else.

        An answer is what the template writes for it behind the prompt of all that came before. While
        that prompt begins with the row so far, the row goes on; where the template writes the past
        otherwise, leaving out what was thought for instance, another row begins. So every answer
        follows exactly what the model will be asked with. An answer whose `weight` is 0 is not trained.

        TemplateError if the template has no place for a tool, a call or a thought.
        """
        script = self._script(checked(messages), tools)
        turns = [at for at, message in enumerate(script.messages) if is_trained(message)]
        if not turns or turns[-1] != len(messages) - 1:
            raise PromptError("the last message must be an answer to train; remove what is behind it")
        script.check_tools(turns[0])
        if len(turns) > MAX_TURNS:
            raise PromptError(
                f"a conversation of {len(turns)} answers; at most {MAX_TURNS} are trained, split it"
            )
        rows: list[Rendered] = []
        for at in turns:
            asked, answered = self._turn(script, at)
            before = rows[-1] if rows and asked[: len(rows[-1].ids)] == rows[-1].ids else None
            row = (before or Rendered((), ())).then(asked, answered)
            rows[len(rows) - (before is not None) :] = [row]
        return rows

    @cached_property
    def end(self) -> tuple[int, ...]:
        """The ids that end a completion: the template's end of turn, else the stop token."""
        first = self._tokenizer.encode(self._after_content)[:1]
        if first and first[0] in self._tokenizer.special_ids:
            return tuple(first)
        return () if self._stop_id is None else (self._stop_id,)

    def special_text(self, text: str) -> str | None:
        """A special token that is written in a text, or None."""
        return next((token for token in self._special if token in text), None)

    @cached_property
    def _after_content(self) -> str:
        """What the template writes behind an answer that is the last message."""
        if self._template is None:
            return ""
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _PROBE}]
        return self._template.render(turns, answer=False).partition(_PROBE)[2]

    def _script(self, messages: Sequence[Message], tools: Tools | None) -> Script:
        if self._template is None:
            raise PromptError("messages need a chat template and this model has none; give a text prompt")
        return Script(self._template, self._tokenizer, self._special, messages, tools)

    def _turn(self, script: Script, at: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The prompt of the answer `messages[at]` and the answer, as ids."""
        before, whole = script.prompt(at), script.text(at + 1)
        if not whole.startswith(before):
            raise TemplateError(
                f"chat template: the prompt of messages[{at}] is not how the template begins that message; "
                "give rows of prompt and completion instead"
            )
        for key in _SAID:
            if script.messages[at].get(key):
                script.check_key(at, key)
        answer, after = whole[len(before) :], self._after_content
        ends_as_text = answer.endswith(after)
        said = script.encode(answer.removesuffix(after) if ends_as_text else answer.rstrip())
        stops = {*self.end, *self._tokenizer.stop_ids} | {self._stop_id}
        if said and said[-1] in stops:  # as a call may end
            said, end = said[:-1], said[-1:]
        elif ends_as_text:
            end = self.end
        else:
            raise TemplateError(
                f"chat template: messages[{at}] ends with {answer[-20:]!r} and no stop token of the model; "
                "name it in generation_config.json"
            )
        if stops & {*said}:
            raise TemplateError(f"chat template: messages[{at}] goes on behind a stop token of the model")
        return script.encode(before), said + end
