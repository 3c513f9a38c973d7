"""The plot of a report: a panel for each metric, a point and its interval for each chain, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from decodekit.evaluation.report import Report, Value

WIDTH, ROW, HEAD, LABEL, RIGHT = 760, 26, 44, 300, 60  # pixels
INK, PALE, MARK = "#222", "#ccc", "#1f6fb2"


def svg(report: Report, title: str) -> str:
    """The picture as a text."""
    parts, top = [], 34
    for name, values in report.values.items():
        parts += _panel(name, values, report.chains, top)
        top += HEAD + ROW * len(values) + 16
    label = f"{title}: {report.rows:,} rows, intervals at 95%"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" '
            f'height="{top}" role="img" font-family="sans-serif" font-size="13" fill="{INK}">',
            f"<title>{escape(label)}</title>",
            f'<rect width="{WIDTH}" height="{top}" fill="white"/>',
            f'<text x="12" y="22" font-weight="bold">{escape(label)}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def _panel(name: str, values: Sequence[Value], chains: Sequence[str], top: int) -> list[str]:
    high = max(0.01, *(value.high for value in values)) * 1.05
    bottom = top + HEAD + ROW * len(values) - 10

    def x(value: float) -> float:
        return LABEL + max(value, 0.0) / high * (WIDTH - LABEL - RIGHT)

    parts = [f'<text x="12" y="{top + 18}" font-weight="bold">{escape(name)}</text>']
    for share in (0.0, 0.5, 1.0):
        at = x(share * high)
        parts.append(f'<path d="M{at:.1f} {top + 26}V{bottom}" stroke="{PALE}"/>')
        parts.append(f'<text x="{at:.1f}" y="{top + 18}" text-anchor="middle">{share * high:.3g}</text>')
    for i, (chain, value) in enumerate(zip(chains, values)):
        y = top + HEAD + ROW * i
        parts += [
            f'<text x="{LABEL - 12}" y="{y + 4}" text-anchor="end">{escape(_short(chain))}</text>',
            f'<path d="M{x(value.low):.1f} {y}H{x(value.high):.1f}" stroke="{MARK}" stroke-width="2"/>',
            f'<circle cx="{x(value.mean):.1f}" cy="{y}" r="5" fill="{MARK}"/>',
        ]
    return parts


def _short(chain: str) -> str:
    return chain if len(chain) <= 42 else f"{chain[:41]}…"
