"""A new plugin: a repository with one strategy, its tests and its checks, which pass at once."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path

from decodekit.errors import InputError

KINDS = {
    "processor": "A sampling strategy for decodekit.",
    "criterion": "A stopping criterion for decodekit.",
}
MAX_NAME = 64  # characters


def new_plugin(name: str, kind: str, out: Path | None = None) -> Path:
    """Write it to a new folder `out`, by default decodekit-NAME beside where one stands.

    name  of the strategy, snake_case
    kind  "processor" or "criterion"
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise InputError(f"the name of a strategy is snake_case, such as top_p, got {name!r}")
    if len(name) > MAX_NAME:
        raise InputError(f"the name of a strategy has at most {MAX_NAME} characters, got {len(name)}")
    camel = "".join(part.capitalize() for part in name.split("_"))
    taken = set(re.findall(r"\w+", _template(f"{kind}.py") + _template(f"{kind}_test.py")))
    if keyword.iskeyword(name) or {name, camel} & taken:
        raise InputError(
            f"{name} or {camel} means something else in the module to be written; choose another name"
        )
    dashed = name.replace("_", "-")
    folder = Path(f"decodekit-{dashed}") if out is None else out
    if folder.exists():
        raise InputError(f"{folder}: already exists; choose another name, or another --out")
    words = {
        "name": name,
        "dashed": dashed,
        "class": camel,
        "summary": KINDS[kind],
        "flag": f"-p {name}=0.5" if kind == "processor" else f"-c {name}.n=1",
    }
    for target, template in {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        ".gitignore": "gitignore",
        ".github/workflows/test.yml": "ci.yml",
        f"decodekit_{name}.py": f"{kind}.py",
        f"tests/test_{name}.py": f"{kind}_test.py",
    }.items():
        path = folder / target
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_filled(template, words), encoding="utf-8")
        except OSError as exc:
            raise InputError(f"{path}: cannot be written ({exc.strerror or exc}); check the path") from exc
    return folder


def _filled(template: str, words: dict[str, str]) -> str:
    return re.sub(r"@(\w+)@", lambda found: words[found[1]], _template(template))


def _template(name: str) -> str:
    return files("decodekit").joinpath("template", f"{name}.txt").read_text(encoding="utf-8")
