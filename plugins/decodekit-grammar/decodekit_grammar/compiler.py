"""
Compiling within bounds.

A grammar comes from a request and may be hostile: a few characters can ask for more states than
there is memory. llguidance has limits of its own, for the grammar and for every step. Before a
grammar is compiled here it is compiled in a process of its own, which may be killed: what it
cannot do in time and memory is refused. What was shown once is remembered.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decodekit.errors import ParameterError, PluginError
from decodekit_grammar import child

if TYPE_CHECKING:
    import llguidance

SECONDS = 10  # of processor time, and of the clock
MEMORY = 512 << 20  # bytes of the process that tries
MAX_BYTES = 256 << 10  # of a grammar, as text
LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 1_000_000,  # work for the regular expressions, about 20 ms
    "max_grammar_size": 500_000,  # symbols
    "step_lexer_fuel": 200_000,  # work in a step, about 15 ms
    "step_max_items": 50_000,  # of the parser in a step, about 3 ms
    "max_lexer_states": 50_000,  # over all answers, 1 to 2 kB each
    "verbose_errors": False,
}


def prove(grammar: str, size: int, special: Mapping[int, str], stop: int) -> None:
    """ParameterError unless a process of its own compiles the grammar within the bounds.

    grammar  in the language of llguidance
    size     of the vocabulary
    special  names of its special tokens, by id
    stop     one of them, which ends an answer
    """
    problem = _tried(grammar, size, tuple(special.items()), stop)
    if problem:
        raise ParameterError(problem)


def compiled(grammar: str, tokens: llguidance.LLTokenizer) -> llguidance.LLMatcher:
    """A matcher for a grammar that was shown to compile."""
    import llguidance

    limits = llguidance.LLParserLimits(**LIMITS)
    matcher = llguidance.LLMatcher(tokens, grammar, limits=limits, log_level=0)
    if matcher.is_error():
        raise ParameterError(one_line(matcher.get_error()))
    return matcher


def one_line(error: str) -> str:
    """The gist of what llguidance says."""
    gist = error.rpartition("error: ")[2].strip().partition("\n")[0]
    if gist.startswith("oneOf"):
        return "oneOf can be enforced only where its alternatives exclude each other; write anyOf"
    return gist if len(gist) <= 200 else gist[:200] + " ..."


@lru_cache(maxsize=128)
def _tried(grammar: str, size: int, special: tuple[tuple[int, str], ...], stop: int) -> str:
    """What is wrong with the grammar, or "". What the clock decided is not remembered: it is raised."""
    task = {
        "grammar": grammar,
        "size": size,
        "special": dict(special),
        "stop": stop,
        "limits": LIMITS,
        "memory": MEMORY,
        "seconds": SECONDS,
    }
    try:
        process = subprocess.run(
            [sys.executable, "-P", str(Path(child.__file__))],
            input=json.dumps(task).encode(),
            capture_output=True,
            timeout=SECONDS,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise ParameterError(f"it takes longer than {SECONDS} s to compile; make it smaller") from exc
    except OSError as exc:
        raise PluginError(f"the process that compiles grammars cannot be started ({exc})") from exc
    if process.returncode < 0:
        return f"it takes too much to compile ({_ended(-process.returncode)}); make it smaller"
    if process.returncode:
        return f"it takes too much to compile ({_last_line(process.stderr)}); make it smaller"
    error = json.loads(process.stdout)["error"]
    return one_line(error) if error else ""


def _ended(number: int) -> str:
    """What a signal says of the bound that was passed."""
    if number in (signal.SIGXCPU, signal.SIGKILL):
        return f"more than {SECONDS} s"
    return f"more than {MEMORY >> 20} MiB, or too deeply nested: {signal.Signals(number).name}"


def _last_line(stderr: bytes) -> str:
    return stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
