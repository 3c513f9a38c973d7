"""A comparison of chains as tables: what each keeps of the candidates, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from decodekit.comparison import Comparison, Place
from decodekit.console import BAR, bar, out


def show(prompt: str, comparison: Comparison) -> None:
    """For each place the candidates as bars and what every chain kept; then the answers."""
    chains = list(comparison.completions)
    for number, place in enumerate(comparison.places):
        title = f"token {number + 1} after {prompt!r}" if number == 0 else f"token {number + 1}"
        out.print(_place_table(title, place, chains))
    answers = Table(title="answers", title_justify="left", title_style="bold", box=None, header_style="dim")
    answers.add_column("chain")
    answers.add_column("text", overflow="fold")
    for chain, completion in comparison.completions.items():
        answers.add_row(escape(chain), escape(completion.text))
    out.print(answers)


def _place_table(title: str, place: Place, chains: Sequence[str]) -> Table:
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=None, header_style="dim")
    table.add_column("candidate")
    table.add_column("model", justify="right")
    table.add_column("", min_width=BAR)
    for chain in chains:
        table.add_column(escape(chain), justify="right", overflow="fold")
    largest = max(c.probability for c in place.candidates)
    for c in place.candidates:
        kept = [f"{p:.0%}" if (p := c.under[chain]) else "[dim]·[/dim]" for chain in chains]
        table.add_row(escape(repr(c.text)), f"{c.probability:.1%}", bar(c.probability / largest, BAR), *kept)
    table.add_row("[dim]kept[/dim]", "", "", *(f"[dim]{place.kept[chain]}[/dim]" for chain in chains))
    return table
