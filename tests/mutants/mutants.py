"""
Planted bugs, each of which the tests must find.

    python tests/mutants/mutants.py                   # all; minutes
    python tests/mutants/mutants.py top_p "the noise"   # those with a word in their name

Each bug is written into a copy of the packages, which comes first on the import path, and the tests that
should find it are run until one fails. Prints killed/total and the survivors. It fails if one survives,
if a piece to be replaced is not found once, or if the tests fail without a bug.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from in_draw import MUTANTS as IN_DRAW
from in_plugins import MUTANTS as IN_PLUGINS
from in_strategies import MUTANTS as IN_STRATEGIES

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60  # seconds a mutant
FAILED = 1  # pytest's exit status where a test failed
PASSED = 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("words", nargs="*", help="plant only bugs with one of these in their name")
    words = parser.parse_args().words
    chosen = [
        m for m in IN_DRAW + IN_STRATEGIES + IN_PLUGINS if not words or any(word in m.name for word in words)
    ]
    with tempfile.TemporaryDirectory() as folder:
        sources = {package: copied(package, Path(folder)) for package in sorted({m.package for m in chosen})}
        places = [place(mutant, sources[mutant.package]) for mutant in chosen]
        check_unharmed(chosen, Path(folder))
        survivors = [
            m for m, file in zip(chosen, places, strict=True) if not is_killed(m, file, Path(folder))
        ]
    print(f"{len(chosen) - len(survivors)}/{len(chosen)} killed")
    for mutant in survivors:
        print(f"survived: {mutant.package}: {mutant.name}")
    sys.exit(bool(survivors))


def copied(package, folder):
    """The source files of a copy of the package, which is a module or a folder of them."""
    ignored = shutil.ignore_patterns("__pycache__")
    here = (
        ROOT / package if package == "decodekit" else ROOT / "plugins" / package.replace("_", "-") / package
    )
    if here.is_dir():
        return sorted(shutil.copytree(here, folder / package, ignore=ignored).rglob("*.py"))
    return [shutil.copy(here.with_suffix(".py"), folder / f"{package}.py")]


def place(mutant, files):
    """The file that has the piece which a mutant replaces."""
    found = [file for file in files for _ in range(file.read_text().count(mutant.old))]
    if len(found) != 1:
        sys.exit(
            f"{mutant.package}: {mutant.name}: the piece to replace is there {len(found)} times, must be once"
        )
    return found[0]


def check_unharmed(mutants, folder):
    """Exit unless the copies are what is imported, and the tests pass with them."""
    for package in sorted({mutant.package for mutant in mutants}):
        code = f"import {package}; print({package}.__file__)"
        file = run(folder, "-c", code).stdout.strip()
        if not Path(file).is_relative_to(folder):
            sys.exit(f"{package} is imported from {file}, not from its copy")
    tests = dict.fromkeys(test for mutant in mutants for test in mutant.tests)
    result = run_tests(folder, tests, limit=10 * LIMIT)
    if result.returncode != PASSED:
        sys.exit(f"the tests fail without a bug:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")


def is_killed(mutant, file, folder):
    """Whether a test fails with the bug; one that runs for ever is found too."""
    with planted(mutant, file):
        try:
            result = run_tests(folder, mutant.tests, LIMIT)
        except subprocess.TimeoutExpired:
            print(f"killed    {mutant.package}: {mutant.name}, by the time it takes", flush=True)
            return True
    if result.returncode not in (PASSED, FAILED):
        sys.exit(f"{mutant.name}: the tests could not run:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    by = next((line for line in result.stdout.splitlines() if line.startswith("FAILED")), "")
    verdict = "killed   " if result.returncode == FAILED else "SURVIVED "
    print(
        f"{verdict} {mutant.package}: {mutant.name}{by.partition(' - ')[0].replace('FAILED', ', by')}",
        flush=True,
    )
    return result.returncode == FAILED


@contextmanager
def planted(mutant, file):
    unharmed = file.read_text()
    file.write_text(unharmed.replace(mutant.old, mutant.new))
    yield
    file.write_text(unharmed)


def run_tests(folder, tests, limit):
    options = ["-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--tb=no"]
    return run(folder, "-m", "pytest", *options, *tests, limit=limit)


def run(folder, *arguments, limit=LIMIT):
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",  # two bugs may have one size and one second
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
    }
    command = ["nice", sys.executable, "-P", *arguments]  # -P: not what lies in this folder
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit)


if __name__ == "__main__":
    main()
