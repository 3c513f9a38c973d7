"""
How fast decodekit's server answers, beside others with the same weights.

    python peers.py [--quick] [--only SERVER] [--rounds 5] [--tokens 64]

Each server is started alone, is asked once to get warm, then answers one greedy stream and 8 at a
time; then the next one's turn comes, round by round. All read the same text through
`/v1/completions`, a token a character. Prints every table, keeps all rounds in
docs/figures/serving.json and writes its part of docs/benchmarks.md. --quick only proves that
everything runs, --only measures some; neither writes. Ends with status 1 if something failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import string
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "benchmarks"))
import wire
from case import PAUSE, Case, Taken
from engines import ROOT, Failure
from parts import ratio, same_ids
from report import Part, failures, missed, record, save, section, write_page
from servers import OWN, PEERS, Peer, running

FIGURES = ROOT / "docs" / "figures" / "serving.json"
PAGE = ROOT / "docs" / "benchmarks.md"
STREAMS = (1, 8)
PROMPT = 128  # characters, each of which is a token
WARM = 8  # tokens
PATIENCE = 600  # seconds for an answer
SAME = 16  # first tokens that have to be those of the others

PART = Part(
    "serving",
    "Serving",
    """\
`make bench-server`. Servers take turns, round by round, each started alone and warm, with two threads; the
float32 weights of the section above, behind prompts of 128 tokens that none has read before, greedy, through
`/v1/completions`, streamed. The first token is that of the middle stream; tokens a second are all tokens
over all the time, the reading of prompts included. llama-cpp-python's server ends one answer before it
begins the next.""",
)


@dataclass(frozen=True)
class Asked:
    """What a server gave for some streams at a time.

    first  milliseconds from the request to the first piece of text, of the middle stream
    rate   tokens a second of all
    words  of the first stream's answer, each of which is a token
    """

    first: float
    rate: float
    words: Sequence[str]


async def ask(peer: Peer, port: int, prompts: Sequence[str], tokens: int) -> Asked:
    """All prompts at once."""

    async def one(prompt: str) -> wire.Reply:
        body = {"model": peer.model, "prompt": prompt, "max_tokens": tokens, "stream": True, **peer.greedy}
        async with asyncio.timeout(PATIENCE):
            return await wire.post(port, "/v1/completions", body)

    try:
        replies = await asyncio.gather(*map(one, prompts))
    except (OSError, TimeoutError) as error:
        raise Failure(f"{type(error).__name__} {error}") from error
    for reply in replies:
        if reply.status != 200 or not reply.first:
            raise Failure(f"status {reply.status}, {reply.body[:200]!r}")
    words = [_text(reply).split() for reply in replies]
    if min(map(len, words)) < tokens // 2:
        raise Failure(f"an answer ended early: {min(words, key=len)}")
    first = 1000 * statistics.median(reply.first for reply in replies)
    return Asked(first, len(prompts) * tokens / max(reply.last for reply in replies), words[0])


def _text(reply: wire.Reply) -> str:
    choices = [choice for event in reply.events() for choice in event.get("choices", ())]
    return "".join(choice.get("text") or "" for choice in choices)


def prompts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(string.ascii_letters, k=PROMPT)) for _ in range(count)]


def take_turn(peer: Peer, number: int, tokens: int) -> dict[int, Asked]:
    """What a server that was just started gives, by the number of streams."""
    given = {}
    with running(peer) as port:
        for streams in STREAMS:
            asyncio.run(ask(peer, port, prompts(streams, -streams), WARM))
        for streams in STREAMS:
            time.sleep(PAUSE)
            given[streams] = asyncio.run(ask(peer, port, prompts(streams, 100 * number + streams), tokens))
    return given


def cases(names: Sequence[str], tokens: int) -> dict[str, Case]:
    """The tables by name."""
    others = [name for name in names if name != OWN] if OWN in names else []
    ratios = [ratio(OWN, name) for name in others]
    same = [same_ids(name, OWN, min(tokens, SAME)) for name in others]
    made = []
    for streams in STREAMS:
        what = "one stream" if streams == 1 else f"{streams} streams at a time"
        made += [
            Case(f"first-{streams}", f"Time to the first token, {what}", "Less is better.", "ms", {}, ratios),
            Case(
                f"rate-{streams}",
                f"Tokens a second, {what}",
                "More is better.",
                "tokens/s",
                {},
                [*ratios, *(same if streams == 1 else ())],
            ),
        ]
    return {case.name: case for case in made}


def measure(names: Sequence[str], rounds: int, tokens: int) -> dict[str, dict[str, Taken]]:
    """What every server gave, by table. A server that fails is not asked again."""
    tables = {key: {name: Taken() for name in names} for key in cases(names, tokens)}
    for number in range(1, rounds + 1):
        for name in names:
            if any(table[name].failure for table in tables.values()):
                continue
            try:
                given, failure = take_turn(PEERS[name], number, tokens), None
            except Failure as error:
                given, failure = {}, str(error).replace(f"{ROOT}/", "")
            rates = ", ".join(f"{asked.rate:.1f} tokens/s" for asked in given.values())
            print(f"round {number}, {name}: {rates or failure}", file=sys.stderr, flush=True)
            for key, table in tables.items():
                taken = table[name]
                taken.failure = failure
                if asked := given.get(int(key.rpartition("-")[2])):
                    taken.values.append(asked.first if key.startswith("first") else asked.rate)
                    taken.ids = asked.words[:SAME]
    return tables


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round, nothing written")
    parser.add_argument("--only", action="append", metavar="SERVER", choices=list(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.tokens = 1, 16
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"load average {load:.1f}: somebody else computes, which slows some servers more than others\n")

    names = args.only or list(PEERS)
    tables = measure(names, args.rounds, args.tokens)
    known = cases(names, args.tokens)
    versions = {name: PEERS[name].versions for name in names}
    records = {key: record(known[key], table, versions, args.rounds) for key, table in tables.items()}
    for one in records.values():
        print(section(one), flush=True)
    if not (args.quick or args.only):
        write_page(save(records, FIGURES), PAGE, PART)

    wrong = sorted({what for one in records.values() for what in failures(one)})
    wrong += [f"missed: {what}" for one in records.values() for what in missed(one)]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
