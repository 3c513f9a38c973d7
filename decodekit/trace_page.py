"""
The page of a trace: one HTML file that needs nothing else, neither a server nor the network.

It is put together from the files in `page/`, modules that a server may serve one by one. The data
is text in an inert element, in which no character can end that element, and a content security
policy names the one style and the one script that may act, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "page"
STYLES = ("parts.css", "answer.css", "page.css")
SCRIPTS = ("numbers.js", "elements.js", "code.js", "answer.js", "plot.js", "step.js", "page.js")
_MODULAR = re.compile(r"^import [^;]*;\n|^export ", re.MULTILINE)


def page(trace: Mapping[str, Any]) -> str:
    """The page of a trace, given as the plain data of `Trace.to_json`."""
    style, script = "\n".join(map(_read, STYLES)), _script()
    parts = {
        "STYLE": style,
        "SCRIPT": script,
        "STYLE_HASH": _hash(style),
        "SCRIPT_HASH": _hash(script),
        "TRACE": _inert(trace),
    }
    before, *rest = _read("page.html").split("{{")
    return before + "".join(parts[name] + text for name, _, text in (part.partition("}}") for part in rest))


def compact(data: Any) -> str:
    """JSON without a space that it does not need."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _script() -> str:
    """The modules as one script: what they import from each other is all there."""
    return '"use strict";\n' + "\n".join(_MODULAR.sub("", _read(name)) for name in SCRIPTS)


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a content security policy names a style or a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _inert(data: Mapping[str, Any]) -> str:
    """JSON without a character that means something in HTML; the same value when it is read."""
    text = compact(data)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
