"""
What a person sees of a fine-tuning run: one example, the counts, a bar.

Everything goes to standard error unless another console is given, and reads without colour. On a
terminal the bar moves; elsewhere, a line is printed at every tenth of the run.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
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
from decodekit_export.ending import Ending
from decodekit_export.samples import Sample


class Display:
    """Shows a run on a console, by default standard error."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self._console = console or Console(stderr=True, highlight=False, quiet=quiet)

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
            loss += f" ({record['valid_accuracy']:.1%} of tokens foreseen)"
        run = f"{record['steps']:,} steps in {record['seconds']:.0f} s, {loss}"
        self._console.print(f"[bold]{escape(str(out))}[/bold]: {run}", soft_wrap=True)
        if record["chosen_step"] != record["steps"]:
            self.note(
                f"the weights are those after step {record['chosen_step']:,}, the best on the validation file"
            )

    def ending(self, ending: Ending, bar: float, *, of: str = "greedy answers") -> None:
        """How many answers stopped; what to do where too few did."""
        self.note(f"{ending.ended} of {ending.asked} {of} ended within {ending.within} tokens")
        if ending.share < bar:
            self._console.print(
                f"[yellow]the model has hardly learnt to stop[/yellow]: {ending.share:.0%} of its answers "
                f"end by a stop token, {bar:.0%} are wanted; train longer (--epochs), on shorter "
                "completions, or on more rows",
                soft_wrap=True,
            )

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
        self._share, self._first_share = 0.0, 0.0
        self._trained, self._first_trained = 0, 0

    def show(self, trained: int, share: float) -> None:
        """How many tokens were trained, and how much of the run is over, in [0, 1]."""
        self._trained, self._share = trained, share

    def samples(self, samples: Sequence[Sample]) -> None:
        """What the model says now."""
        for sample in samples:
            line = f"{sample.prompt.strip()} -> {sample.answer.strip()} ({sample.finish_reason})"
            self._console.print(f"[dim]step {sample.step:,}:[/dim] {escape(line)}", soft_wrap=True)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.monotonic()
        self._first_share = state.global_step / state.max_steps
        self._first_trained = self._trained
        self._task = self._progress.add_task("the first step ...", total=1.0)
        self._progress.start()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        logs = kwargs["logs"]
        if "eval_loss" in logs:
            loss, right = logs["eval_loss"], logs["eval_accuracy"]
            self._console.print(
                f"step {state.global_step:,}: validation loss {loss:.3f}, {right:.1%} of tokens foreseen"
            )
        if "loss" not in logs:
            return
        seconds = max(time.monotonic() - self._began, 1e-9)
        done = self._share - self._first_share
        left = f"{seconds * (1 - self._share) / done:.0f} s left" if done > 0 else ""
        speed = f"{(self._trained - self._first_trained) / seconds:,.0f} trained tokens/s"
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
