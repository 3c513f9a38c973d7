"""Samples: what the model says while it learns, drawn by decodekit's own sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from decodekit.chain import parse
from decodekit.generate import stream
from decodekit.plugin_choice import allowed
from decodekit.plugins import load_plugins
from decodekit.processors import LogitsProcessor
from decodekit.sampling import Sampler
from decodekit.strategies.end_tokens import EndTokens
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit_export.data import Row
from decodekit_export.ending import spread
from decodekit_export.pretrained import Pretrained
from decodekit_export.settings import Watching
from decodekit_export.torch_model import TorchModel


@dataclass(frozen=True, slots=True)
class Sample:
    """What the model answered after `step` steps, and why it stopped: "stop" or "length"."""

    step: int
    prompt: str
    answer: str
    finish_reason: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Sampling:
    """Answers the same few prompts of `rows` each time; a sample depends on weights and seed alone."""

    def __init__(self, rows: Sequence[Row], start: Pretrained, watching: Watching) -> None:
        chain = parse(watching.chain, load_plugins(allowed()).logits_processors, LogitsProcessor)
        self._sampler = Sampler(tuple(link.strategy.bind(start.tokenizer) for link in chain))
        self._rows = spread(rows, watching.samples)
        self._start, self._longest = start, watching.sample_tokens

    def __call__(self, model: Any, step: int) -> list[Sample]:
        asked = TorchModel(model, self._start.context_length)
        return [self._answer(asked, row, step) for row in self._rows]

    def _answer(self, model: TorchModel, row: Row, step: int) -> Sample:
        tokenizer, asking = self._start.tokenizer, row.prompt
        room = MaxNewTokens(min(self._longest, model.context_length - len(asking)))
        ends = EndTokens(self._start.stop_ids).bind(tokenizer)
        detokenizer = tokenizer.detokenizer(continues=self._start.chat.continues)
        tokens = list(stream(model, asking, self._sampler, (ends, room), detokenizer=detokenizer))
        stop = tokens[-1].stop
        assert stop
        text = "".join(token.text for token in tokens)
        return Sample(step, tokenizer.decode(asking), text[: stop.keep], stop.reason)
