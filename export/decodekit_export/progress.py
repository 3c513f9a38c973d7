"""
What a person sees of a fine-tuning run: one example, the counts, a bar. The only module here that knows rich.

Everything goes to standard error and reads without colour. On a terminal the bar moves; elsewhere, a
line is printed at every tenth of the run.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from decodekit.tokenizer import Tokenizer
from decodekit_export.data import Counts, Row


class Display:
    """Shows a run on a console, by default standard error."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)

    def example(self, row: Row, tokenizer: Tokenizer, file: str) -> None:
        """A row as the model sees it, with the trained tokens between ⟦ and ⟧."""
        title = f"{file}:{row.line}, {len(row.ids)} tokens, {sum(row.mask)} of them trained, marked ⟦so⟧"
        self._console.print(f"[bold]{escape(title)}[/bold]")
        text = Text(spell(row, tokenizer))
        text.highlight_regex(r"(?s)⟦.*?⟧", "bold green")
        self._console.print(text, soft_wrap=True)

    def counts(self, title: str, counts: Counts) -> None:
        """What became of a file's lines, in a line; what is odd about them, in more."""
        self._console.print(
            f"[bold]{escape(title)}[/bold]: {counts.rows:,} rows, {counts.tokens:,} tokens, "
            f"{counts.trained_tokens:,} trained, {counts.truncated:,} rows truncated, "
            f"{counts.dropped:,} dropped",
            soft_wrap=True,
        )
        if counts.bad:
            self.note(f"{counts.bad:,} bad rows were passed over; {title}.bad.txt lists them")
        if counts.repeated:
            self.note(f"{counts.repeated:,} records repeat an earlier one")
        if counts.with_control_characters:
            self.note(f"{counts.with_control_characters:,} records hold control characters; they are kept")
        if counts.ignored_keys:
            self.note(f"keys that are not used: {', '.join(counts.ignored_keys)}")

    def result(self, out: Path, record: Mapping[str, Any]) -> None:
        """Where the checkpoint is, and what the run was worth."""
        loss = f"loss {record['losses'][-1][1]:.3f}" if record["losses"] else "no step"
        if record["valid_after"] is not None:
            loss += f", on the validation file {record['valid_before']:.3f} -> {record['valid_after']:.3f}"
        run = f"{record['steps']:,} steps in {record['seconds']:.0f} s, {loss}"
        self._console.print(f"[bold]{escape(str(out))}[/bold]: {run}", soft_wrap=True)
        ending = record["ending"]
        text = f"{ending['ended']} of {ending['asked']} greedy answers ended within {ending['within']} tokens"
        if 2 * ending["ended"] < ending["asked"]:
            text += "; the model has hardly learnt to stop: train longer, or on shorter completions"
        self.note(text)

    def note(self, text: str) -> None:
        self._console.print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)

    @contextmanager
    def noting_warnings(self) -> Iterator[None]:
        """Warnings inside the block are notes."""
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_: self.note(f"warning: {message}")
            yield

    def bar(self) -> Bar:
        return Bar(self._console)


class Bar(transformers.TrainerCallback):
    """A bar with loss, speed and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            BarColumn(), TextColumn("{task.description}"), console=console, disable=not console.is_terminal
        )
        self._tenths = 0
        self._began = 0.0
        self._share = 0.0
        self._tokens = 0

    def show(self, tokens: int, share: float) -> None:
        """How many tokens were seen, and how much of the run is over, in [0, 1]."""
        self._tokens, self._share = tokens, share

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.monotonic()
        self._task = self._progress.add_task("the first step ...", total=1.0)
        self._progress.start()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        logs = kwargs["logs"]
        if "loss" not in logs:
            return
        seconds = max(time.monotonic() - self._began, 1e-9)
        left = f"{seconds * (1 - self._share) / self._share:.0f} s left" if self._share else ""
        speed = f"{self._tokens / seconds:,.0f} tokens/s"
        text = f"step {state.global_step:,}  loss {logs['loss']:.3f}  {speed}  {left}"
        self._progress.update(self._task, completed=self._share, description=text)
        if not self._console.is_terminal and int(self._share * 10) > self._tenths:
            self._tenths = int(self._share * 10)
            self._console.print(f"{self._share:4.0%}  {text}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        self._progress.stop()


def spell(row: Row, tokenizer: Tokenizer) -> str:
    """A row as text, special tokens spelled out, each run of trained tokens between ⟦ and ⟧."""
    text, trained = "", False
    detokenizer = tokenizer.detokenizer()
    for id, mask in zip(row.ids, row.mask, strict=True):
        if mask != trained:
            text += detokenizer.flush() + ("⟦" if mask else "⟧")
            detokenizer, trained = tokenizer.detokenizer(), mask
        if id in tokenizer.special_ids:
            text += detokenizer.flush() + (tokenizer.token(id) or "")
            detokenizer = tokenizer.detokenizer()
        else:
            text += detokenizer.push(id)
    return text + detokenizer.flush() + ("⟧" if trained else "")


@contextmanager
def without_bars() -> Iterator[None]:
    """transformers draws no bars of its own inside the block."""
    logging = transformers.utils.logging
    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
