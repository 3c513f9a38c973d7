"""What the command line shows a person: tables, bars, one-line errors. The only module that knows rich."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from decodekit.comparison import Comparison, Place
from decodekit.completion import Completion
from decodekit.errors import DecodekitError
from decodekit.evaluation.report import Report, Value
from decodekit.jobs.summary import Summary, tokens
from decodekit.score import Sum
from decodekit.verdict import Verdict

if TYPE_CHECKING:
    from decodekit.testing.examination import Finding

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)

EIGHTHS = " ▏▎▍▌▋▊▉█"
BAR = 10  # characters
LINE_SECONDS = 30.0  # between two lines of a job where there is no terminal


def show_error(error: DecodekitError) -> None:
    """One line on standard error: the code, then what, where and the way out."""
    text = " ".join(str(error).split())
    print(f"error[{error.code}]: {text}", file=sys.stderr)


def show_note(text: str) -> None:
    _err.print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)


def show_completion(completion: Completion) -> None:
    """The end of a streamed answer: why it ended, and what names it."""
    usage = completion.usage
    show_note(
        f"{completion.finish_reason} ({completion.stopped_by}), {usage.prompt_tokens} + "
        f"{usage.completion_tokens} tokens, seed {completion.seed}"
    )


def show_logprobs(completion: Completion, spell: Any) -> None:
    table = Table("token", f"logprob, {completion.logprobs_at}", "instead of", box=None, header_style="dim")
    for token in completion.tokens:
        others = "  ".join(f"{spell(id)!r} {logp:.2f}" for id, logp in token.top)
        table.add_row(escape(repr(spell(token.id))), f"{token.logprob:.3f}", escape(others))
    _out.print(table)


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
    _out.print(table)


def show_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Name and value, one a line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(f"[dim]{escape(name)}[/dim]", escape(str(value)))
    _out.print(f"[bold]{escape(title)}[/bold]")
    _out.print(table)


def show_examination(name: str, origin: str, found: Iterable[Finding], costs: Mapping[int, float]) -> None:
    """The laws of a strategy, kept or broken, and what a call costs."""
    table = Table(title=f"{name}, {origin}", title_justify="left", box=None, show_header=False)
    for finding in found:
        mark = "[green]holds[/green]" if finding.holds else "[red]broken[/red]"
        table.add_row(mark, escape(finding.law), escape(finding.why))
    _out.print(table)
    if costs:
        each = ", ".join(f"{us:,.0f} us at {vocabulary:,}" for vocabulary, us in costs.items())
        _out.print(f"a call for one row: {each} tokens")


def show_verdict(place: str, verdict: Verdict) -> None:
    """A line for a record, and one for what is not as it was then."""
    step = "" if verdict.step is None else f", step {verdict.step}"
    _out.print(
        escape(f"{place}: {verdict.outcome}{step}: {verdict.why}"),
        style="green" if verdict.holds else "red",
        soft_wrap=True,
    )
    if verdict.changed:
        _out.print(
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


class Bar:
    """A bar on a terminal, of things named `unit`; what is told of them stands behind it."""

    def __init__(self, unit: str) -> None:
        self._progress = Progress(
            BarColumn(bar_width=20),
            TextColumn(f"{{task.completed:,}} of {{task.total:,}} {unit}"),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=_err,
            disable=not _err.is_terminal,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


class ScoreBar(Bar):
    """While tokens are scored: how many, how fast, how long still, perplexity so far."""

    def __init__(self, tokens: int) -> None:
        super().__init__("tokens")
        self._task = self._progress.add_task("", total=tokens)
        self._sum, self._began = Sum(), time.monotonic()

    def advance(self, added: Sum) -> None:
        """Tokens that were scored just now."""
        self._sum += added
        speed = self._sum.count / max(time.monotonic() - self._began, 1e-9)
        text = f"{speed:,.0f} tokens/s, perplexity {self._sum.perplexity:.3f}"
        self._progress.update(self._task, advance=added.count, description=text)


class JobBar(Bar):
    """How a job goes on: rows, tokens a second, what a row costs, how long still."""

    def __init__(self) -> None:
        super().__init__("rows")

    def begin(self, rows: int, done: int) -> JobBar:
        """A job of so many rows, of which some are done."""
        self._rows, self._done, self._first = rows, done, done
        self._tokens = self._failed = 0
        self._began = self._told = time.monotonic()
        self._task = self._progress.add_task("", total=rows, completed=done)
        if done:
            show_note(f"{done:,} of {rows:,} rows are done; going on")
        return self

    def advance(self, record: Mapping[str, Any]) -> None:
        """One more row."""
        self._done += 1
        self._tokens += tokens(record)
        self._failed += bool(record.get("error"))
        now = time.monotonic()
        if now - self._told > (0.25 if _err.is_terminal else LINE_SECONDS):
            self._told = now
            self._tell(now - self._began)

    def _tell(self, seconds: float) -> None:
        new = self._done - self._first
        text = f"{self._tokens / seconds:,.0f} tokens/s, {1000 * seconds / new:,.1f} ms and "
        text += f"{self._tokens / new:,.1f} tokens a row"
        text += f", {self._failed:,} failed" if self._failed else ""
        if _err.is_terminal:
            self._progress.update(self._task, completed=self._done, description=text)
        else:
            left = (self._rows - self._done) * seconds / new
            show_note(f"{self._done:,} of {self._rows:,} rows, {text}, {left:,.0f} s left")


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
        _out.print(table)
    if report.logprob is not None:
        value = report.logprob
        _out.print(
            f"logprob {value.mean:.4f}, {value.low:.4f} to {value.high:.4f} nats a token, of the model"
        )
    for sentence in report.words():
        _out.print(escape(sentence), soft_wrap=True)


def _value_cell(value: Value) -> str:
    return f"{value.mean:.2%} [dim]{value.low:.2%}-{value.high:.2%}[/dim]"


def show_comparison(prompt: str, comparison: Comparison) -> None:
    """For each place the candidates as bars and what every chain kept; then the answers."""
    chains = list(comparison.completions)
    for number, place in enumerate(comparison.places):
        _out.print(
            _place_table(
                f"token {number + 1} after {prompt!r}" if number == 0 else f"token {number + 1}",
                place,
                chains,
            )
        )
    answers = Table(title="answers", title_justify="left", title_style="bold", box=None, header_style="dim")
    answers.add_column("chain")
    answers.add_column("text", overflow="fold")
    for chain, completion in comparison.completions.items():
        answers.add_row(escape(chain), escape(completion.text))
    _out.print(answers)


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


def bar(share: float, width: int) -> str:
    """A bar of `share` in [0, 1] of `width` characters, in eighths."""
    eighths = math.ceil(share * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (EIGHTHS[rest] if rest else "")
