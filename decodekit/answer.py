"""An answer: one sequence being decoded, its ids, its text, and the states of its strategies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

from decodekit.detokenizer import Detokenizer
from decodekit.errors import ContractError
from decodekit.graph_sampling.candidates import Candidates
from decodekit.history import History, Sequence
from decodekit.logprobs import Logprobs
from decodekit.ops import Array
from decodekit.origin import describe, named
from decodekit.processors import State, Step
from decodekit.progress import Confidence
from decodekit.sampling import Draw, Sampler
from decodekit.stopping import Progress, Stop, StoppingCriterion, first_stop

MAX_TAKEN_BACK = 10_000  # tokens of one sequence: a strategy that goes on for ever is stopped


@dataclass(frozen=True, slots=True)
class Token:
    """One turn of the loop, as the caller sees it.

    id        the token
    text      what it adds to the text; "" while a character is incomplete
    logit     of the token, as the model gave it
    score     of the token, its logit after the chain
    width     how many columns it was drawn from
    logprob   log-probability of the token where `Logprobs` looks, nats; None: not asked for
    top       the most probable tokens there, with theirs, best first
    stop      the verdict that ends the sequence, on the last token only
    takes_back  how many tokens, this one the last of them, are no part of the sequence any more
    """

    id: int
    text: str
    logit: float = 0.0
    score: float = 0.0
    width: int = 0
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    stop: Stop | None = None
    takes_back: int = 0


class Answer:
    """One sequence being decoded: its ids, its text, and the states of its strategies."""

    def __init__(
        self,
        prompt: Iterable[int],
        sampler: Sampler,
        stopping: Seq[StoppingCriterion],
        *,
        seed: int = 0,
        sample: int = 0,
        detokenizer: Detokenizer | None = None,
        logprobs: Logprobs | None = None,
        companion: Callable[[Array], Array] | None = None,
    ) -> None:
        self.sequence = Sequence(prompt, seed=seed, sample=sample)
        self.states = sampler.init(batch=1)
        self.text = ""
        self.began = time.monotonic()
        self.sampling = 0.0  # seconds the last draw took
        self._sampler, self._stopping = sampler, stopping
        self._detokenizer, self._logprobs = detokenizer, logprobs
        self._companion = companion
        self._starts: list[int] = []  # where each token's part of the text begins
        # States before each token, where a strategy may go back to them.
        self._before: list[tuple[State, ...]] | None = [] if sampler.takes_back else None
        self._taken_back = 0
        self._watched = any(criterion.needs_confidence for criterion in stopping)
        self._confidence: list[Confidence] = []
        self._history = self.sequence.history()
        self.newest = int(self._history.ids[-1])

    @property
    def strategies(self) -> Seq[object]:
        """Processors and criteria, in order."""
        return (*self._sampler.processors, *self._stopping)

    @property
    def history(self) -> History:
        """The sequence as strategies see it."""
        return self._history

    @property
    def ids(self) -> Array:
        """Prompt and generated ids, int64 [T]."""
        return self._history.ids

    def step(self, logits: Array) -> Step:
        """What strategies are told besides logits [1, V]."""
        companion = None if self._companion is None else self._companion(self._history.generated)
        return Step.dense((self._history,), logits.shape[-1], companion)

    @property
    def looks_at_all(self) -> bool:
        """Whether something besides the strategies wants to see every logit."""
        return self._watched or self._logprobs is not None

    def take(self, logits: Array | None, candidates: Candidates | None = None) -> Token:
        """One turn, from logits float [1, V] of what comes next.

        candidates  what the first strategies leave of them, where that is known; then nothing
                    looks at the logits themselves, which may be None
        """
        began = time.perf_counter()
        start = len(self.text)
        self._starts.append(start)
        if self._before is not None:
            self._before.append(self.states)
        if candidates is None:
            assert logits is not None
            draw = self._sampler.draw(logits, self.step(logits), self.states)  # sample
            logit = float(logits[0, int(draw.tokens[0])])
        else:
            draw = self._draw_from(candidates)
            logit = candidates.raw_logit(int(draw.tokens[0]))
        id = int(draw.tokens[0])
        self.states, self.newest = draw.states, id
        self.sampling = time.perf_counter() - began

        self.sequence.append(id)  # append
        self._history = self.sequence.history()
        new = self._detokenizer.push(id) if self._detokenizer else ""
        if new:
            self.text += new

        if self._watched:
            assert logits is not None
            self._confidence.append(Confidence.of(logits[0], id))
        elapsed = time.monotonic() - self.began
        progress = Progress(self._history, self.text, start, elapsed, self._starts, self._confidence)
        taken = 0 if self._before is None else self._take_back(progress)
        stop = None if taken else first_stop(self._stopping, progress)  # stop?

        logprob, top = (None, ()) if self._logprobs is None else self._logprobs(logits, draw, id)
        return Token(id, new, logit, float(draw.scores[0]), draw.width, logprob, top, stop, taken)

    def _draw_from(self, candidates: Candidates) -> Draw:
        """A draw by the strategies that come after those behind the candidates, which have no state."""
        done = candidates.done
        companion = None if self._companion is None else self._companion(self._history.generated)
        step = Step((self._history,), candidates.ids, companion)
        draw = self._sampler.after(done).draw(candidates.logits, step, self.states[done:])
        return replace(draw, states=(*self.states[:done], *draw.states))

    def forced(self) -> Seq[int]:
        """Ids that must come next, as far as a strategy knows."""
        for processor, state in zip(self._sampler.processors, self.states, strict=True):
            if ids := processor.forced(self._history, state):
                return ids
        return ()

    def cut(self, length: int) -> None:
        """Forget what came after the first `length` ids; within the prompt, shorten it."""
        assert self._before is not None
        generated = max(0, length - self.sequence.asked)
        if generated < len(self._before):
            self.states, self.text = self._before[generated], self.text[: self._starts[generated]]
        for by_token in (self._before, self._starts, self._confidence):
            del by_token[generated:]
        self.sequence.cut(length)
        self.sequence.asked = min(self.sequence.asked, length)
        self.sequence = self.sequence.copy()  # views that strategies may hold stay as they are
        self._look()
        if self._detokenizer is not None:
            self._detokenizer.reset()
            for id in self._history.generated.tolist():
                self._detokenizer.push(id)

    def _take_back(self, progress: Progress) -> int:
        """Let the first strategy that wants to take tokens back; how many it took."""
        for i, processor in enumerate(self._sampler.processors):
            with named(processor, f"token {len(self._starts) - 1}"):
                verdict = processor.take_back(progress, self.states[i])
            if verdict is None:
                continue
            count, state = verdict
            self._taken_back += count
            if not 0 < count <= len(self._starts):
                raise ContractError(f"{describe(processor)} takes back {count} of {len(self._starts)} tokens")
            if self._taken_back > MAX_TAKEN_BACK:
                raise ContractError(f"{describe(processor)} took back over {MAX_TAKEN_BACK:,} tokens")
            self.cut(len(self.ids) - count)
            self.states = (*self.states[:i], state, *self.states[i + 1 :])
            return count
        return 0

    def _look(self) -> None:
        self._history = self.sequence.history()
        self.newest = int(self._history.ids[-1])
