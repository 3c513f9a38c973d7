"""What a person sees of a check of training data. Reads without colour."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from decodekit.tokenizer import Tokenizer
from decodekit_export.data import Row
from decodekit_export.data_check import Bin, Check, Part
from decodekit_export.progress import Display

BAR = 40  # characters
BEFALLEN = ("truncated", "dropped", "repeated")


class DataScreen:
    """Shows a check on a console, by default standard output."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._display = Display(self._console)

    def check(self, check: Check, row: Row, tokenizer: Tokenizer) -> None:
        """Counts and lengths of each part, what is in both, and one row with its mask."""
        for part in filter(None, (check.train, check.valid)):
            self._part(part, check.window)
        if check.overlap:
            self._display.note(f"{check.overlap:,} examples are in both, so the loss on these flatters")
        self._display.note(f"a completion ends by {' or '.join(map(repr, check.stop_tokens))}")
        self._console.print()
        self._display.example(row, tokenizer, check.train.name)

    def _part(self, part: Part, window: int) -> None:
        self._display.counts(part.name, part.counts)
        for what in BEFALLEN:
            if lines := part.counts.first.get(what):
                more = " ..." * (getattr(part.counts, what) > len(lines))
                self._display.note(f"{what}: line {', '.join(map(str, lines))}{more}")
        least, median, most_of, most = part.lengths
        self._console.print(
            f"trained are {part.trained_share:.1%} of the tokens; a row has {least:,} to {most:,} of them, "
            f"half have at most {median:,}, 95% at most {most_of:,}; the window has {window:,}",
            soft_wrap=True,
        )
        self._console.print(_bars(part.histogram))


def _bars(histogram: tuple[Bin, ...]) -> Table:
    table = Table("tokens", "rows", "", box=None, header_style="dim")
    for column in table.columns[:2]:
        column.justify = "right"
    most = max(bin.rows for bin in histogram)
    for bin in histogram:
        bar = "█" * -(-bin.rows * BAR // most)
        table.add_row(escape(f"{bin.begin:,}-{bin.end:,}"), f"{bin.rows:,}", bar)
    return table
