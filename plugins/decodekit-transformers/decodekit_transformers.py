"""
Logits processors and stopping criteria written for transformers, as strategies of decodekit.

    from decodekit_transformers import Wrapped, WrappedCriterion
    decoder.generate(prompt, [Wrapped(MyProcessor()), "top_p=0.9"])
    decoder.generate(prompt, criteria=[WrappedCriterion(MyCriterion())])

transformers calls them with a batch of dense tensors; decodekit shows each row what is left of it. A row
goes there alone, as a batch of one, and nothing of it is kept. torch is needed where one is used, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from decodekit import LogitsProcessor, Stop, StoppingCriterion
from decodekit.errors import ParameterError, PluginError, StrategyError
from decodekit.parameters import Whole

REFUSED = {
    "SynthIDTextWatermarkLogitsProcessor": "it counts its calls, so nothing could be guessed or replayed",
    "UnbatchedClassifierFreeGuidanceLogitsProcessor": "it keeps a model and a cache of its own; use guidance",
    "ClassifierFreeGuidanceLogitsProcessor": "it reads two rows as a pair; use guidance",
    "DiaClassifierFreeGuidanceLogitsProcessor": "it reads two rows as a pair; use guidance",
    "DiaEOSChannelFilterLogitsProcessor": "it is for several channels of sound",
    "DiaEOSDelayPatternLogitsProcessor": "it is for several channels of sound and keeps state between calls",
    "WhisperNoSpeechDetection": "it needs a model of speech and keeps state between calls",
    "MaxTimeCriteria": "it counts from when it was made, not from the request; use max_time",
    "ConfidenceCriteria": "it needs the scores of each step; use low_confidence",
}


@dataclass(frozen=True, eq=False, repr=False)
class Wrapped(LogitsProcessor):
    """Do what a logits processor of transformers does, or a list of them in order.

    formula   l' = processor(ids, l), ids int64 [1, T] of prompt and answer, l float32 [1, V], -inf for
              what was removed before
    boundary  the processor's, but what was removed before stays removed
    ties      the processor's
    history   prompt and answer, as the processor uses it
    neutral   the processor's; LogitsProcessorList() changes nothing
    source    transformers, generation/logits_process.py

    It must be a function of ids and scores. What it is told when it is made, such as the length of a
    prompt, holds for that prompt only: make one for each request. V is `vocabulary`, if not given the
    number of the tokenizer's tokens.
    """

    processor: Callable[[Any, Any], Any]
    vocabulary: Annotated[int | None, Whole("[1, inf)", "logits of the model; none: the tokenizer's")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _accepted(self, self.processor, "a LogitsProcessor or a LogitsProcessorList")

    def __repr__(self) -> str:
        return f"Wrapped({_name(self.processor)})"

    def bind(self, tokenizer):
        return self if self.vocabulary else replace(self, vocabulary=tokenizer.size)

    def process(self, logits, step, state):
        rows = zip(logits, step.ids, step.rows, strict=True)
        return np.stack([self._row(row, ids, history.ids) for row, ids, history in rows])

    def _row(self, logits, ids, history):
        import torch

        live = logits > -np.inf  # an id may stand in a second column, where it is removed
        places, size = ids[live], self.vocabulary or int(ids.max()) + 1
        if places.max() >= size:
            raise ParameterError(
                f"{self!r}: token {places.max()} is not in a vocabulary of {size}; give vocabulary=V"
            )
        scores = np.full((1, size), -np.inf, np.float32)
        scores[0, places] = logits[live]
        with torch.inference_mode():
            given = self.processor(torch.from_numpy(history[None].copy()), torch.from_numpy(scores))
        if not isinstance(given, torch.Tensor) or given.shape != (1, size):
            raise StrategyError(f"{self!r} must answer scores [1, {size}], got {_shape(given)}")
        answer = np.full(logits.shape, -np.inf, logits.dtype)
        answer[live] = given[0].float().numpy()[places]
        return answer


@dataclass(frozen=True, eq=False, repr=False)
class WrappedCriterion(StoppingCriterion):
    """Stop where a stopping criterion of transformers, or one of a list of them, says so.

    formula   criterion(ids, None), ids int64 [1, T] of prompt and answer
    boundary  the criterion's; all of the text stays in the answer
    ties      none
    history   prompt and answer, as the criterion uses it
    neutral   StoppingCriteriaList() never stops
    source    transformers, generation/stopping_criteria.py

    The reason it gives is "stop", or "length" for MaxLengthCriteria.
    """

    criterion: Callable[..., Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        _accepted(self, self.criterion, "a StoppingCriteria or a StoppingCriteriaList")

    def __repr__(self) -> str:
        return f"WrappedCriterion({_name(self.criterion)})"

    def check(self, progress):
        import torch

        ids = torch.from_numpy(progress.history.ids[None].copy())
        for one in _each(self.criterion):
            with torch.inference_mode():
                verdict = one(ids, None)
            if bool(torch.as_tensor(verdict).all()):
                reason = "length" if "MaxLengthCriteria" in _lineage(one) else "stop"
                return Stop(reason, by=_name(one))
        return None


def _accepted(wrapper: Any, wrapped: Any, kind: str) -> None:
    """Raise unless torch is there and `wrapped` is something that a row alone may be given to."""
    place = type(wrapper).__name__
    try:
        import torch  # noqa: F401
    except ImportError as exc:
        raise PluginError(f"{place} needs torch; pip install 'decodekit-transformers[torch]'") from exc
    if not callable(wrapped) or isinstance(wrapped, type):
        raise ParameterError(f"{place} takes {kind}, or a function like one, got {wrapped!r}")
    for one in _each(wrapped):
        for name in _lineage(one) & REFUSED.keys():
            raise ParameterError(f"{place}: {name} cannot be wrapped: {REFUSED[name]}")
        if getattr(one, "_num_beams", 1) != 1:
            raise ParameterError(f"{place}: {_name(one)} must be made with num_beams=1, got {one._num_beams}")


def _each(wrapped: Any) -> list[Any]:
    return list(wrapped) if isinstance(wrapped, list) else [wrapped]


def _lineage(one: Any) -> set[str]:
    """The names of the classes of transformers that it is or comes from."""
    return {c.__name__ for c in type(one).__mro__ if c.__module__.partition(".")[0] == "transformers"}


def _name(wrapped: Any) -> str:
    if isinstance(wrapped, list):
        return f"[{', '.join(map(_name, wrapped))}]"
    return getattr(wrapped, "__name__", type(wrapped).__name__)


def _shape(given: Any) -> str:
    return str(list(given.shape)) if hasattr(given, "shape") else type(given).__name__
