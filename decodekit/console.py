"""What the command line shows a person: tables, notes, one-line errors."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from decodekit.completion import Completion
from decodekit.errors import DecodekitError
from decodekit.evaluation.report import Report, Value
from decodekit.jobs.summary import Summary
from decodekit.score import Sum
from decodekit.verdict import Verdict

if TYPE_CHECKING:
    from decodekit.testing.examination import Finding


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # the command line ends as where anything else is printed


out = _Screen(highlight=False)
err = _Screen(stderr=True, highlight=False)

EIGHTHS = " ▏▎▍▌▋▊▉█"
BAR = 10  # characters


def show_error(error: DecodekitError) -> None:
    """One line on standard error: the code, then what, where and the way out."""
    text = " ".join(str(error).split())
    print(f"error[{error.code}]: {text}", file=sys.stderr)


def show_note(text: str) -> None:
    err.print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)


def show_completion(completion: Completion) -> None:
    """The end of a streamed answer: why it ended, and what names it."""
    usage = completion.usage
    show_note(
        f"{completion.finish_reason} ({completion.stopped_by}), {usage.prompt_tokens} + "
        f"{usage.completion_tokens} tokens, seed {completion.seed}"
    )


def show_logprobs(completion: Completion, spell: Callable[[int], str]) -> None:
    table = Table("token", f"logprob, {completion.logprobs_at}", "instead of", box=None, header_style="dim")
    for token in completion.tokens:
        others = "  ".join(f"{spell(id)!r} {logp:.2f}" for id, logp in token.top)
        table.add_row(escape(repr(spell(token.id))), f"{token.logprob:.3f}", escape(others))
    out.print(table)


def show_table(title: str, rows: Iterable[Mapping[str, str]]) -> None:
    """Rows with the same keys, under a title."""
    rows = list(rows)
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim")
    *keys, last = rows[0] if rows else ["none"]
    for key in keys:
        table.add_column(key, no_wrap=True)
    table.add_column(last, overflow="fold")
    for row in rows:
        table.add_row(*(escape(value) for value in row.values()))
    out.print(table)


def show_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Name and value, one a line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(f"[dim]{escape(name)}[/dim]", escape(str(value)))
    out.print(f"[bold]{escape(title)}[/bold]")
    out.print(table)


def show_examination(name: str, origin: str, found: Iterable[Finding], costs: Mapping[int, float]) -> None:
    """The laws of a strategy, kept or broken, and what a call costs."""
    table = Table(title=f"{name}, {origin}", title_justify="left", box=None, show_header=False)
    for finding in found:
        mark = "[green]holds[/green]" if finding.holds else "[red]broken[/red]"
        table.add_row(mark, escape(finding.law), escape(finding.why))
    out.print(table)
    if costs:
        each = ", ".join(f"{us:,.0f} us at {vocabulary:,}" for vocabulary, us in costs.items())
        out.print(f"a call for one row: {each} tokens")


def show_verdict(place: str, verdict: Verdict) -> None:
    """A line for a record, and one for what is not as it was then."""
    step = "" if verdict.step is None else f", step {verdict.step}"
    out.print(
        escape(f"{place}: {verdict.outcome}{step}: {verdict.why}"),
        style="green" if verdict.holds else "red",
        soft_wrap=True,
    )
    if verdict.changed:
        out.print(
            f"[dim]{escape(f'{place}: changed since: ' + '; '.join(verdict.changed))}[/dim]", soft_wrap=True
        )


def show_score(file: str, total: Sum, windows: int, rows: int | None) -> None:
    """The perplexity of a file and what it comes from."""
    parts = f"{windows:,} window{'s' * (windows != 1)}" if rows is None else f"{rows:,} rows"
    facts = {
        "perplexity": f"{total.perplexity:.4f}",
        "log-probability": f"{total.sum:.4f} nats, {total.mean:.6f} a token",
        "tokens": f"{total.count:,} in {parts}",
    }
    show_facts(file, facts)


def show_summary(file: str, summary: Summary) -> None:
    """What became of the rows of a job."""
    facts: dict[str, str] = {"rows": f"{summary.rows:,}, {summary.failed:,} failed"}
    for code, count in summary.errors.most_common():
        facts[code] = f"{count:,}"
    if summary.finish_reasons:
        ends = summary.finish_reasons.most_common()
        facts["ended by"] = ", ".join(f"{reason} {count:,}" for reason, count in ends)
        facts["tokens"] = f"{summary.prompt_tokens:,} read, {summary.completion_tokens:,} written"
        middle, most = summary.length(0.5), summary.length(1.0)
        facts["written a row"] = (
            f"{middle:,} tokens in the middle, {summary.length(0.9):,} at most in 9 of 10, {most:,} in all"
        )
    if summary.scored_tokens:
        facts["perplexity"] = f"{Sum(summary.scored_tokens, summary.logprob).perplexity:.4f}"
        facts["tokens"] = f"{summary.scored_tokens:,}"
    show_facts(file, facts)


def show_report(file: str, report: Report) -> None:
    """A row for each chain, a column for each metric, then what they tell."""
    table = Table(title=f"{file}, {report.rows:,} rows, intervals at 95%", title_justify="left", box=None)
    table.add_column("chain", overflow="fold", min_width=20)
    for name in report.values:
        table.add_column(name, justify="right")
    for i, chain in enumerate(report.chains):
        table.add_row(escape(chain), *(_value_cell(values[i]) for values in report.values.values()))
    if report.values:
        out.print(table)
    if report.logprob is not None:
        value = report.logprob
        out.print(f"logprob {value.mean:.4f}, {value.low:.4f} to {value.high:.4f} nats a token, of the model")
    for sentence in report.words():
        out.print(escape(sentence), soft_wrap=True)


def _value_cell(value: Value) -> str:
    return f"{value.mean:.2%} [dim]{value.low:.2%}-{value.high:.2%}[/dim]"


def bar(share: float, width: int) -> str:
    """A bar of `share` in [0, 1] of `width` characters, in eighths."""
    eighths = math.ceil(share * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (EIGHTHS[rest] if rest else "")
