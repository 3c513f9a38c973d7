"""
A trace: what every strategy did to the distribution at every step of an answer, as data.

The tokens are those of `Decoder.generate` with the same settings, since it is a session that
draws them; its sampler is only looked at. Nothing of it runs where no trace is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from decodekit.answer import Token
from decodekit.engine import Engine
from decodekit.errors import InputError, ParameterError
from decodekit.ops import Array
from decodekit.origin import distribution
from decodekit.parameters import snake_case, whole
from decodekit.preparation import Prepared, Prompt
from decodekit.processors import State, Step
from decodekit.record import Entry
from decodekit.sampling import Draw, Sampler
from decodekit.session import Session
from decodekit.stopping import Stop
from decodekit.trace_page import compact, page
from decodekit.trace_recipe import Recipe, recipe
from decodekit.trace_step import StepTrace, look

FORMAT = "decodekit.trace/1"
MAX_TOP = 1000
SUFFIXES = (".html", ".json")


@dataclass(frozen=True, slots=True)
class Trace:
    """One answer and how it came about.

    bundle, bundle_sha256   name and hash of the model folder
    made_by                 versions of the libraries, and the execution provider
    vocabulary              candidates of the model at each step
    top                     how many are listed at each place
    chain                   a strategy for each of a step's `stages`, in order, with those that
                            come before every chain
    criteria                stopping criteria, the model's own end included
    seed, sample            name the noise
    prompt                  token ids
    text                    what belongs to the answer
    finish_reason, stopped_by   the verdict that ended it
    tokens                  the spelling of every id that is mentioned, by id
    recipe                  the call that gives the same answer again
    steps                   one a token
    """

    bundle: str
    bundle_sha256: str
    made_by: Mapping[str, str]
    vocabulary: int
    top: int
    chain: tuple[Entry, ...]
    criteria: tuple[Entry, ...]
    seed: int
    sample: int
    prompt: tuple[int, ...]
    text: str
    finish_reason: str
    stopped_by: str
    tokens: Mapping[int, str]
    recipe: Recipe
    steps: tuple[StepTrace, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the answer's tokens."""
        return tuple(step.id for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `json.dumps`; docs/schemas/trace.json describes it. Six digits of every number."""
        return {"format": FORMAT} | {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    def to_html(self) -> str:
        """One self-contained page that shows it."""
        return page(self.to_json())

    def save(self, path: str | Path) -> int:
        """Write a page (.html) or data (.json); how many bytes it has."""
        path = saving_to(path)
        text = self.to_html() if path.suffix == ".html" else compact(self.to_json())
        try:
            return path.write_bytes(text.encode())
        except OSError as exc:
            raise InputError(f"{path}: cannot be written ({exc.strerror or exc}); check the path") from exc


def trace(prepared: Prepared, prompt: Prompt, engine: Engine, owner: object, *, top: int = 20) -> Trace:
    """Decode a request to its end, looking at every step.

    prompt  from which the request was prepared
    owner   is kept alive meanwhile
    top     candidates to list at each place, in [1, 1000]
    """
    whole("top", top, f"[1, {MAX_TOP}]")
    if prepared.logprobs is not None:
        raise ParameterError("logprobs is for generate; a trace has the probabilities of every stage")
    tracing = Tracing(prepared, top)
    session = Session(tracing.prepared, engine, owner)
    while not tracing.is_whole:
        tracing.see(session.sample())
    return tracing.trace(prompt)


class Tracing:
    """Looks at every step of one answer, whoever decodes it.

    prepared  what is to be decoded for it
    """

    def __init__(self, prepared: Prepared, top: int) -> None:
        self._asked, self._top = prepared, top
        self._watched = Watched(prepared.sampler.processors, prepared.sampler.compact)
        self._steps: list[StepTrace] = []
        self.prepared = replace(prepared, sampler=self._watched)

    def see(self, token: Token) -> None:
        """The token just drawn, before the next one is."""
        self._steps.append(look(*self._watched.seen.pop(), token, self._top))
        if token.takes_back:
            del self._steps[-token.takes_back :]

    @property
    def is_whole(self) -> bool:
        """Whether the last token came with a verdict."""
        return bool(self._steps) and self._steps[-1].stop is not None

    def trace(self, prompt: Prompt) -> Trace:
        """Of an answer that is whole, to this prompt."""
        return _assemble(self._asked, prompt, tuple(self._steps), self._top)


def _assemble(prepared: Prepared, prompt: Prompt, steps: tuple[StepTrace, ...], top: int) -> Trace:
    preparer, stop = prepared.preparer, steps[-1].stop
    assert stop is not None
    mentioned = {*prepared.ids, *(id for step in steps for id in step.mentioned())}
    return Trace(
        **preparer.origin,
        vocabulary=preparer.vocabulary,
        top=top,
        chain=(*_before(prepared), *map(Entry.of, prepared.links)),
        criteria=tuple(map(Entry.of, prepared.criteria)),
        seed=prepared.seed,
        sample=prepared.settings.sample,
        prompt=prepared.ids,
        text=_text(prepared, steps, stop),
        finish_reason=stop.reason,
        stopped_by=stop.by,
        tokens={id: preparer.tokenizer.spell(id) for id in sorted(mentioned)},
        recipe=recipe(prepared, prompt),
        steps=steps,
    )


@dataclass(frozen=True)
class Watched(Sampler):
    """A sampler that keeps its last draw to be looked at."""

    seen: list[tuple[Array, Step, Draw]] = field(default_factory=list)

    def draw(self, logits: Array, step: Step, states: tuple[State, ...]) -> Draw:
        draw = super().draw(logits, step, states)
        self.seen[:] = [(logits, step, draw)]
        return draw


def saving_to(path: str | Path) -> Path:
    """The path, if a trace can be written there."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ParameterError(f"{path}: a trace is a file that ends in {' or '.join(SUFFIXES)}; rename it")
    if not path.parent.is_dir():
        raise ParameterError(f"{path}: no folder {path.parent}; make it first")
    return path


def _before(prepared: Prepared) -> Iterator[Entry]:
    """What comes before every chain."""
    for name in prepared.names[: len(prepared.names) - len(prepared.links)]:
        yield Entry(snake_case(name), None, distribution("decodekit"))


def _text(prepared: Prepared, steps: Iterable[StepTrace], stop: Stop) -> str:
    detokenizer = prepared.preparer.detokenizer()
    text = "".join(detokenizer.push(step.id) for step in steps)
    return text + detokenizer.flush() if stop.keep is None else text[: stop.keep]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Entry):
        return value.to_json()
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
