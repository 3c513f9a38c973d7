"""
The decoder: text in, text out. What an application holds.

It prepares requests, hands them to its engine, and gives text only once no stop string can
take it back. All its methods may be called from any thread, and the `a...` ones from any
event loop.
"""

from __future__ import annotations

import queue
import weakref
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

from decodekit.again import prepare_again
from decodekit.beam import Beam, search_beams
from decodekit.bundle import Bundle
from decodekit.chain import Written
from decodekit.chat import Chat
from decodekit.companion import Companion
from decodekit.completion import Completion, best
from decodekit.engine import Engine
from decodekit.errors import PromptError
from decodekit.gathering import Started, begin, gather
from decodekit.model import Model
from decodekit.parameters import whole
from decodekit.plugins import Plugins
from decodekit.preparation import Prepared, Preparer, Prompt, origin
from decodekit.processors import LogitsProcessor
from decodekit.record import Record
from decodekit.request import Emit, Event, Request
from decodekit.requests import Requests, is_many
from decodekit.score import Score
from decodekit.scorer import Scorer, Text
from decodekit.search import Rules
from decodekit.session import Session
from decodekit.settings import Settings
from decodekit.text_stream import AsyncTextStream, Pieces, TextStream
from decodekit.tokenizer import Tokenizer

if TYPE_CHECKING:
    from decodekit.trace import Trace


class Decoder:
    """Decodes prompts with one model. Safe to share between threads and event loops; closed when dropped."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        bundle: Bundle,
        plugins: Plugins,
        *,
        draft: Model | None = None,
        **engine: Any,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.bundle = bundle
        self.plugins = plugins
        self.chat = Chat(tokenizer, bundle.chat_template, min(bundle.stop_ids, default=None))
        self.engine = Engine(model, **engine)
        self._preparer = Preparer(
            bundle,
            tokenizer,
            self.chat,
            plugins,
            model.vocabulary,
            origin(bundle, model),
            partial(Companion, model, self.engine.call),
        )
        self.scorer = Scorer(self.engine, self._preparer)
        self._requests = Requests(self._preparer, self.engine, self.scorer, draft)
        weakref.finalize(self, self.engine.close, 1.0)  # seconds; a program must end

    def close(self) -> None:
        """End what runs with an error, and free the model's thread. Nothing can be decoded after."""
        self.engine.close()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @overload
    def generate(
        self, prompt: Prompt, chain: Written = None, *, n: None = None, **options: Any
    ) -> Completion: ...
    @overload
    def generate(
        self, prompt: Sequence[Prompt], chain: Written = None, **options: Any
    ) -> list[Completion]: ...
    @overload
    def generate(
        self, prompt: Prompt, chain: Written = None, *, n: int, **options: Any
    ) -> list[Completion]: ...

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        chain: Written = None,
        *,
        n: int | None = None,
        **options: Any,
    ) -> Any:
        """The completion of a prompt. A list of prompts, or `n`, gives a list: prompt by prompt, n of each.

        prompt   text, messages, or token ids
        chain    "temperature=0.8, top_p=0.9", or LogitsProcessor objects; None: greedy
        n        answers per prompt, in [1, 128]; number i of them does not depend on n
        options  see `Settings`
        """
        prepared = self._requests.prepare_all(prompt, chain, n, options)
        prepared = self._requests.with_prompt_logprobs(prepared)
        # Closed, since an error keeps frames alive, and with them requests.
        with closing(gather(self.engine, self.request, prepared, n or 1)) as started:
            completions = [pieces.complete(future.result()) for future, pieces in started]
        return completions if is_many(prompt) or n is not None else completions[0]

    def begin(
        self, prompt: Prompt, chain: Written = None, *, n: int | None = None, **options: Any
    ) -> Sequence[Started]:
        """The completions of one prompt, begun and not waited for.

        Each is a future of events, and the pieces that `complete` makes of them. Cancelled, it ends.
        """
        if is_many(prompt):
            raise PromptError("begin takes one prompt; call it for each")
        prepared = self._requests.prepare_all(prompt, chain, n, options)
        (one,) = self._requests.with_prompt_logprobs(prepared)
        return begin(self.engine, self.request, one, n or 1)

    async def agenerate(
        self,
        prompt: Prompt | Sequence[Prompt],
        chain: Written = None,
        *,
        n: int | None = None,
        **options: Any,
    ) -> Any:
        """`generate` without blocking the event loop. Cancelling the task ends its requests."""
        import asyncio  # 7 MB that only a program with an event loop needs

        prepared = await asyncio.to_thread(self._requests.prepare_all, prompt, chain, n, options)
        if prepared[0].settings.prompt_logprobs is not None:
            prepared = await asyncio.to_thread(self._requests.with_prompt_logprobs, prepared)
        with closing(gather(self.engine, self.request, prepared, n or 1)) as started:
            completions = [pieces.complete(await asyncio.wrap_future(future)) for future, pieces in started]
        return completions if is_many(prompt) or n is not None else completions[0]

    def stream(self, prompt: Prompt, chain: Written = None, **options: Any) -> TextStream:
        """The same completion, piece by piece: iterate for text, then read `.completion`."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        request, pieces = self._requests.start(prompt, chain, options, events.put)
        return TextStream(request, pieces, self, events)

    def astream(self, prompt: Prompt, chain: Written = None, **options: Any) -> AsyncTextStream:
        """The same for `async for`. Call it on a running event loop."""
        import asyncio

        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def emit(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)  # on a closed loop an error, and the end

        request, pieces = self._requests.start(prompt, chain, options, emit)
        return AsyncTextStream(request, pieces, self, events)

    def best_of(self, prompt: Prompt, chain: Written = None, *, n: int, **options: Any) -> Completion:
        """Of `n` completions the one the model finds most probable per token; see `completion.best`."""
        if is_many(prompt):
            raise PromptError("best_of takes one prompt; call it for each")
        return best(self.generate(prompt, chain, n=n, **{"logprobs": 0, **options}))

    def beam(
        self,
        prompt: Prompt,
        chain: Written = None,
        *,
        beams: int = 4,
        n: int = 1,
        length_penalty: float = 1.0,
        early_stopping: bool | Literal["never"] = False,
        max_new_tokens: int | None = None,
        min_new_tokens: int = 0,
        stop_token_ids: Sequence[int] = (),
        ignore_eos: bool = False,
        adapter: str | None = None,
    ) -> list[Beam]:
        """The `n` best answers that beam search finds, best first; fewer where there are no more.

        chain  changes log-probabilities, as logits processors do in transformers; None: none does
        beams, length_penalty, early_stopping  how it searches, see `search`
        others  see `Settings`
        """
        rules = Rules(beams, length_penalty, early_stopping)
        whole("n", n, f"[1, {beams}]", "ask for more beams")
        settings = Settings(
            max_new_tokens=max_new_tokens,
            min_new_tokens=min_new_tokens,
            stop_token_ids=stop_token_ids,
            ignore_eos=ignore_eos,
            adapter=adapter,
        )
        prepared = self._preparer.prepare(prompt, chain, settings)
        return search_beams(prepared, rules, self.engine, chained=bool(chain))[:n]

    def session(self, prompt: Prompt, chain: Written = None, **options: Any) -> Session:
        """The same, step by step, in a loop of your own; options as for `stream`, without speculation."""
        prepared = self.prepare(prompt, chain, **options)
        return Session(prepared, self.engine, self)

    def score(
        self,
        text: Text,
        *,
        prompt: Prompt | None = None,
        top: int = 0,
        stride: int | None = None,
        adapter: str | None = None,
    ) -> Score:
        """How probable the model finds a given text, token by token.

        text    text; token ids; or messages, of which the last, the assistant's, is scored
        prompt  what it answers, rendered as for `generate`, and the end of the answer is scored too;
                None: it is a text by itself
        top     most probable tokens to give at each place, in [0, 20]
        stride  tokens from window to window, where a text by itself exceeds the context window;
                None: half a window
        adapter see `Settings`

        The first token of a text by itself is conditioned on what the tokenizer puts before every
        text, such as a begin token. Where it puts nothing, that token has no log-probability.
        """
        return self.scorer.score(self.scorer.passage(text, prompt), top=top, stride=stride, adapter=adapter)

    def trace(self, prompt: Prompt, chain: Written = None, *, top: int = 20, **options: Any) -> Trace:
        """The same answer, and what every strategy did at each step of it; options as for `session`.

        top  candidates to list at each place, in [1, 1000]
        """
        from decodekit.trace import trace  # for who asks; a decoder is there sooner without

        prepared = self.prepare(prompt, chain, **options)
        return trace(prepared, prompt, self.engine, self, top=top)

    def again(self, record: Record) -> Prepared:
        """What a record asks for, with this model and these plugins; see `replay` and `verify`."""
        return prepare_again(self._preparer, record)

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids a prompt stands for, up to where the answer begins."""
        return self._preparer.encode(prompt)

    def check_length(self, prompt: Prompt) -> None:
        """ContextError where a prompt cannot fit by far, quicker than encoding it; `prepare` does it too."""
        self._preparer.check_length(prompt)

    def processors(self, chain: Written) -> tuple[LogitsProcessor, ...]:
        """The strategies a chain names, in order, bound to this model's tokens."""
        return tuple(link.strategy for link in self._preparer.chain(chain))

    def prepare(self, prompt: Prompt, chain: Written = None, **options: Any) -> Prepared:
        """A checked request, not begun; options as for `stream`. What takes time is done here."""
        return self._requests.prepare(prompt, chain, options)

    def request(
        self, prepared: Prepared, sample: int, emit: Emit, leader: Request | None = None
    ) -> tuple[Request, Pieces]:
        """A request for one sample, to hand to `engine.submit`, and what makes text of its events.

        leader  another request with the same prompt, whose reading is shared
        """
        return self._requests.request(prepared, sample, emit, leader)
