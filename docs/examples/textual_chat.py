"""
A chat in the terminal, made with Textual: the decoder inside, no server.

    pip install textual 'decodekit[cpu]'
    python docs/examples/textual_chat.py

Answers come while you read. Escape ends one: what was said stays, and its place is free before the next step.
"""

from textual import on, work
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Footer, Input, Static

import decodekit


class Chat(App[None]):
    """One conversation with one decoder."""

    BINDINGS = [("escape", "end", "End the answer")]  # noqa: RUF012
    AUTO_FOCUS = "Input"
    CSS = ".question { color: $text-accent; margin-top: 1; }"

    def __init__(self, decoder: decodekit.Decoder, chain: str = "temperature=0.8, top_p=0.9") -> None:
        super().__init__()
        self._decoder, self._chain = decoder, chain
        self.messages: list[dict[str, str]] = []

    def compose(self) -> ComposeResult:
        yield VerticalScroll()
        yield Input(placeholder="Say something")
        yield Footer()

    @on(Input.Submitted)
    def say(self, event: Input.Submitted) -> None:
        if event.value.strip():
            event.input.clear()
            self.answer(event.value)

    @work(exclusive=True)  # who asks again ends the answer before
    async def answer(self, question: str) -> None:
        asked = [*self.messages, {"role": "user", "content": question}]
        try:
            stream = self._decoder.astream(asked, self._chain)
        except decodekit.DecodekitError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        reply = {"role": "assistant", "content": ""}
        self.messages = [*asked, reply]
        said = Static(markup=False)
        try:
            shown = Static(question, classes="question", markup=False)
            await self.query_one(VerticalScroll).mount(shown, said)
            async for piece in stream:
                reply["content"] += piece
                said.update(reply["content"])
                said.scroll_visible()
        finally:
            stream.close()

    def action_end(self) -> None:
        self.workers.cancel_all()


if __name__ == "__main__":
    with decodekit.load("tagline") as decoder:
        Chat(decoder).run()
