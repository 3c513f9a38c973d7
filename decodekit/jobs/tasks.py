"""
Tasks: what a row asks for, checked, in the words of `Decoder.generate`.

A row says what it wants itself; what it does not say is taken from the job's own chain and
options. A field that is not known, or not honoured, is an error of that row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from decodekit.chain import parse
from decodekit.errors import ParameterError, PromptError
from decodekit.hint import hint
from decodekit.plugins import Plugins, Registry
from decodekit.processors import LogitsProcessor
from decodekit.settings import Settings

STAGES = (  # parameters that are strategies, in the order in which they are applied
    *("logit_bias", "repetition_penalty", "frequency_penalty", "presence_penalty"),
    *("temperature", "top_k", "typical", "top_p", "min_p"),
)
OPTIONS = tuple(f.name for f in fields(Settings) if f.name != "tenant")
OWN = ("id", "prompt", "messages", "completion", "chain", "decodekit", "n")
PLAIN = frozenset((*OWN, *OPTIONS, *STAGES))
REMEMBERED = 256  # chains that rows share


@dataclass(frozen=True, slots=True)
class Task:
    """One row's wish.

    prompt      text, messages, or ids
    chain       strategies, in order; None: greedy
    options     of `Decoder.generate`
    n           answers; None: one, by itself
    completion  a given answer, to be scored
    """

    prompt: Any
    chain: Any
    options: Mapping[str, Any]
    n: int | None = None
    completion: str | None = None


@dataclass(frozen=True)
class Tasks:
    """Reads tasks.

    chain    of rows that have none of their own
    options  of rows that do not say otherwise
    n        answers of a plain row that does not say otherwise
    """

    plugins: Plugins
    chain: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    n: int | None = None
    _made: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def plain(self, row: Mapping[str, Any]) -> Task:
        """Of a row with a prompt or messages, and parameters beside them; null is "not given"."""
        row = {name: value for name, value in row.items() if value is not None}
        check_names(row, PLAIN)
        prompt = prompt_of(row)
        if not isinstance(row.get("completion", ""), str):
            raise PromptError(f"completion must be a text, got {row['completion']!r:.40}")
        given = {name: row[name] for name in OPTIONS if name in row}
        return self.task(row, prompt, given, n=row.get("n", self.n), completion=row.get("completion"))

    def task(self, row: Mapping[str, Any], prompt: Any, given: Mapping[str, Any], **more: Any) -> Task:
        """With the strategies and criteria that a row names."""
        own = row.get("decodekit", {})
        if not isinstance(own, Mapping):
            raise ParameterError(f"decodekit must be an object, got {own!r:.40}")
        check_names(own, {"processors", "stopping"}, "decodekit.")
        options = {**self.options, **given}
        if "stopping" in own:
            if "criteria" in given:
                raise ParameterError("decodekit.stopping and criteria exclude each other; leave one out")
            options["criteria"] = self._named(own["stopping"], "stopping", self.plugins.stopping_criteria)
        return Task(prompt, self._chain(row, own), options, **more)

    def _chain(self, row: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
        stages = {name: row[name] for name in STAGES if name in row}
        ways = ["chain"] * ("chain" in row) + ["decodekit.processors"] * ("processors" in own) + [*stages][:1]
        if len(ways) > 1:
            raise ParameterError(f"{' and '.join(ways)} exclude each other; write one chain")
        if "processors" in own:
            return self._named(own["processors"], "processors", self.plugins.logits_processors)
        if stages:
            return self._remembered(stages, lambda: self._stages(stages))
        return self._written(row.get("chain", self.chain))

    def _written(self, chain: Any) -> tuple[Any, ...]:
        """Strategies from texts."""
        texts = chain if isinstance(chain, list) else [] if chain is None else [chain]
        if not all(isinstance(text, str) for text in texts):
            raise ParameterError(f"chain must be a text or a list of texts, got {chain!r:.60}")
        registry = self.plugins.logits_processors
        return self._remembered(
            ["chain", texts], lambda: tuple(one.strategy for one in parse(texts, registry, LogitsProcessor))
        )

    def _stages(self, stages: Mapping[str, Any]) -> tuple[Any, ...]:
        registry = self.plugins.logits_processors
        cold = type(stages.get("temperature")) in (int, float) and stages["temperature"] == 0
        made = [registry.create(n, v) for n, v in stages.items() if not (cold and n == "temperature")]
        return (*made, registry.create("greedy")) if cold else tuple(made)

    def _named(self, entries: Any, where: str, registry: Registry) -> tuple[Any, ...]:
        """Strategies from [{"name": ..., option: value}]."""
        if not isinstance(entries, list) or not all(
            isinstance(e, Mapping) and isinstance(e.get("name"), str) for e in entries
        ):
            raise ParameterError(
                f'decodekit.{where} must be a list of {{"name": NAME, OPTION: VALUE}}, got {entries!r:.60}'
            )

        def make() -> tuple[Any, ...]:
            return tuple(
                registry.create(e["name"], **{k: v for k, v in e.items() if k != "name"}) for e in entries
            )

        return self._remembered([where, entries], make)

    def _remembered(self, key: Any, make: Any) -> tuple[Any, ...]:
        """Rows mostly ask for the same."""
        spelt = json.dumps(key)
        if spelt not in self._made:
            if len(self._made) >= REMEMBERED:
                self._made.clear()
            self._made[spelt] = make()
        return self._made[spelt]


def check_names(row: Mapping[str, Any], known: Any, where: str = "") -> None:
    """ParameterError for a field that no row has."""
    for name in row:
        if name not in known:
            way_out = hint(name, known, f"fields: {', '.join(sorted(known))}")
            raise ParameterError(f"no field named {where}{name}; {way_out}")


def prompt_of(row: Mapping[str, Any]) -> Any:
    """A text, token ids, or messages."""
    if ("prompt" in row) == ("messages" in row):
        raise PromptError("a row has either a prompt or messages")
    return messages(row["messages"]) if "messages" in row else checked_prompt(row["prompt"])


def checked_prompt(prompt: Any) -> Any:
    """A text, or token ids."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and prompt and all(type(id) is int for id in prompt):
        return prompt
    raise PromptError(f"prompt must be a text or a list of token ids, got {prompt!r:.60}")


def messages(found: Any) -> Sequence[Mapping[str, Any]]:
    """Messages whose contents are texts; a list of text parts is one."""
    if not isinstance(found, list) or not found or not all(isinstance(m, Mapping) for m in found):
        raise PromptError(f"messages must be a list of objects, got {found!r:.60}")
    return [{**m, "content": _content(m.get("content"), i)} for i, m in enumerate(found)]


def _content(content: Any, index: int) -> Any:
    if not isinstance(content, list):
        return content  # a text, or refused where messages are rendered
    for part in content:
        if (
            not isinstance(part, Mapping)
            or part.get("type") != "text"
            or not isinstance(part.get("text"), str)
        ):
            raise PromptError(f"messages[{index}].content: only parts of type 'text' can be read")
    return "".join(part["text"] for part in content)
