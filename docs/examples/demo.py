"""
The whole path on one screen: fine-tune, export, decode with several strategies.

    make demo        or, in an environment that has everything:  python docs/examples/demo.py

An early checkpoint of the embedded model is fine-tuned on bundled pairs about food and drink, exported
to a checked bundle in build/demo, and asked the same question with five strategies, one of
them from an installed plugin. Each step prints the command that does it.
"""

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "export" / "recipes" / "tagline"
OUT = ROOT / "build" / "demo"
DECODEKIT = Path(sys.executable).parent / "decodekit"

PROMPT = "Give me a tagline for a new coffee shop."
CHAINS = ["greedy", "top_k=3", "top_p=0.8", "min_p=0.2", "mirostat.tau=1.5"]
TRAINING = ["--epochs", 20, "--max-seconds", 80, "--batch-size", 32, "--learning-rate", 3e-3]


def run(*words: object) -> None:
    """Show a command and run it."""
    line = shlex.join(["decodekit", *map(str, words)]).replace(f"{ROOT}/", "")
    print(f"\n\033[1m$ {line}\033[0m", flush=True)
    began = time.monotonic()
    done = subprocess.run([DECODEKIT, *map(str, words)], cwd=ROOT)
    if done.returncode:
        sys.exit(done.returncode)
    print(f"\033[2m({time.monotonic() - began:.0f} s)\033[0m", flush=True)


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    run("export", RECIPE / "checkpoint", "--out", OUT / "before", "--name", "before")
    run("finetune", RECIPE / "checkpoint", RECIPE / "demo.jsonl", "--out", OUT / "tuned", *TRAINING)
    run("export", OUT / "tuned", "--out", OUT / "bundle", "--name", "tuned")
    print("\nBefore fine-tuning:")
    run("generate", OUT / "before", PROMPT)
    print("\nAfter, with five strategies (· : removed at that token):")
    run("compare", OUT / "bundle", PROMPT, *CHAINS, "--tokens", 2, "--top", 6)


if __name__ == "__main__":
    main()
