"""A badge: one line as a small picture (SVG), for a README."""

from __future__ import annotations

from html import escape

_WIDTH = 6.6  # pixels a character of the font takes


def badge(left: str, right: str, *, good: bool) -> str:
    """Two boxes of text; the right one is green or red."""
    a, b = (round(_WIDTH * len(text)) + 12 for text in (left, right))
    colour = "#2e7d32" if good else "#b3261e"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{a + b}" height="20" role="img" '
        f'aria-label="{escape(left)}: {escape(right)}">'
        f'<rect width="{a}" height="20" fill="#444"/><rect x="{a}" width="{b}" height="20" fill="{colour}"/>'
        '<g fill="#fff" font-family="Verdana,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{a / 2}" y="14">{escape(left)}</text>'
        f'<text x="{a + b / 2}" y="14">{escape(right)}</text></g></svg>\n'
    )
