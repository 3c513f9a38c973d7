"""The kit for plugin authors: every law finds the strategy that breaks it."""

import json
import os
import random
import signal
import sys
import threading
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import numpy as np
import pytest

from decodekit import Edits, LogitsProcessor, Stop, StoppingCriterion, hookimpl, mask_of, noise
from decodekit.errors import ParameterError
from decodekit.parameters import Real, Whole
from decodekit.schema import schema
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.logit_bias import LogitBias
from decodekit.strategies.min_new_tokens import MinNewTokens
from decodekit.strategies.penalties import RepetitionPenalty
from decodekit.strategies.stop_strings import StopStrings
from decodekit.strategies.top_p import TopP
from decodekit.testing import check_logits_processor, check_stopping_criterion
from decodekit.testing.examination import examine
from decodekit.testing.portability import portable


class Wrong(LogitsProcessor):
    """Breaks one law: `fault` is what it does."""

    kept = None

    def __init__(self, fault):
        self.fault = fault

    def init(self, batch):
        return [0.0] * batch if self.fault == "list" else np.zeros(batch)

    def process(self, logits, step, state):
        return self.fault(self, logits, step, state) if callable(self.fault) else logits

    def accept(self, logits, column, state):
        if self.fault == "in place":
            state += 1
            return state
        if self.fault == "noise":
            return state + np.random.default_rng().random()
        if self.fault is mean_state:
            return state + column
        return logits if self.fault == "lent" else state + 1


def shape(self, logits, step, state):
    return logits[:, :-1]


def dtype(self, logits, step, state):
    return logits.astype(np.float64)


def writes(self, logits, step, state):
    logits *= 2
    return logits


def nan(self, logits, step, state):
    return np.where(step.ids == 7, np.nan, logits).astype(logits.dtype)


def empty(self, logits, step, state):
    return np.full_like(logits, -np.inf)


def revives(self, logits, step, state):
    return np.nan_to_num(logits, neginf=0.0)


def changes(self, logits, step, state):
    return logits + logits.dtype.type(np.random.default_rng().random())


def global_random(self, logits, step, state):
    np.random.random()
    return logits


def python_random(self, logits, step, state):
    return logits * logits.dtype.type(random.random())


def environment(self, logits, step, state):
    os.environ["DECODEKIT_TEST_OF_LAWS"] = str(random.Random().random())
    return logits


def errors_off(self, logits, step, state):
    np.seterr(over="ignore" if np.geterr()["over"] != "ignore" else "warn")
    return logits


def thread(self, logits, step, state):
    done = threading.Event()
    started = threading.Thread(target=done.wait, args=(0.2,), daemon=True)
    started.start()
    return logits


def neighbours(self, logits, step, state):
    return logits - np.nan_to_num(logits[:1], neginf=0.0) / 8


def columns(self, logits, step, state):
    return logits + np.arange(logits.shape[1], dtype=logits.dtype)


def dense(self, logits, step, state):
    return logits + np.zeros(257, logits.dtype)


def remembers(self, logits, step, state):
    row = bytes(step.rows[0].ids[:1])
    self.kept = row if self.kept is None else self.kept
    return logits if row == self.kept else -logits


def counts_calls(self, logits, step, state):
    self.kept = (self.kept or 0) + 1
    return np.where(step.ids == self.kept % 7, logits - 9, logits).astype(logits.dtype)


def writes_state(self, logits, step, state):
    state += 1
    return logits


def raises(self, logits, step, state):
    raise KeyError("no table")


def listed(self, logits, step, state):
    return logits.tolist()


def always_single(self, logits, step, state):
    return (logits * 2).astype(np.float32)


def counts_columns(self, logits, step, state):
    return logits * logits.dtype.type(1 + logits.shape[1] / 257)


def mean_state(self, logits, step, state):
    return logits * logits.dtype.type(1 + state.mean())


def knows_the_noise(self, logits, step, state):
    return (logits - noise.gumbel(noise.keys(step.rows), step.ids) / 2).astype(logits.dtype)


def folder(self, logits, step, state):
    os.chdir("/" if os.getcwd() != "/" else "/tmp")
    return logits


def handler(self, logits, step, state):
    signal.signal(signal.SIGUSR1, lambda *_: None)
    return logits


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (raises, "raises nothing, from init over process to accept: raised KeyError: 'no table'"),
        (listed, "raises nothing"),
        (shape, "keeps shape and dtype"),
        (dtype, "keeps shape and dtype"),
        (always_single, "keeps shape and dtype: float64 gave float32"),
        (counts_columns, "columns that were removed may be gone"),
        (mean_state, "a row does not see its neighbours: after a token"),
        (knows_the_noise, "draws follow the distribution it returns: it knows nothing of the noise: total"),
        (folder, "changes nothing around it: the working folder"),
        (handler, "changes nothing around it: the handlers of signals"),
        (writes, "never writes to its inputs"),
        (nan, "answers no NaN"),
        (empty, "leaves a candidate in every row"),
        (revives, "never brings back a removed candidate"),
        (changes, "same inputs, same output"),
        (global_random, "draws no random numbers"),
        (python_random, "same inputs, same output"),
        (environment, "changes nothing around it: the environment"),
        (errors_off, "changes nothing around it: NumPy's handling of floating-point errors"),
        (thread, "changes nothing around it: the threads"),
        (neighbours, "a row does not see its neighbours"),
        (columns, "columns are candidates, not token ids"),
        (dense, "columns that were removed may be gone"),
        (counts_calls, "same inputs, same output"),
        ("in place", "state moves by value"),
        ("noise", "same inputs, same state"),
        ("lent", "the logits are the caller's"),
        (writes_state, "same state, same output: process does not write to the state"),
        (remembers, "a row does not see its neighbours"),
    ],
)
def test_every_law_finds_who_breaks_it(fault, law, monkeypatch):
    monkeypatch.setenv("DECODEKIT_TEST_OF_LAWS", "")
    monkeypatch.chdir(Path.cwd())  # and back
    before, on_signal = np.geterr(), signal.getsignal(signal.SIGUSR1)
    try:
        with np.errstate(all="ignore"), pytest.raises(AssertionError) as caught:
            check_logits_processor(Wrong(fault))
    finally:
        np.seterr(**before)
        signal.signal(signal.SIGUSR1, on_signal)
    assert str(caught.value).startswith(law)


class Tells(LogitsProcessor):
    """Keeps what is positive, and says of its survivors what `told` makes of them."""

    def __init__(self, told):
        self.told = told

    def process(self, logits, step, state):
        return np.where(
            (logits > 0) | (logits == logits.max(axis=-1, keepdims=True)), logits, -np.inf
        ).astype(logits.dtype)

    def survivors(self, logits, step, state):
        return self.told(np.isfinite(self.process(logits, step, state)[0]))


@pytest.mark.parametrize("told", [lambda mask: mask, np.flatnonzero, lambda mask: None])
def test_survivors_may_be_told_as_a_mask_or_as_columns(told):
    check_logits_processor(Tells(told))


@pytest.mark.parametrize(
    "told", [np.logical_not, lambda mask: np.flatnonzero(mask)[1:], lambda mask: np.flatnonzero(mask)[::-1]]
)
def test_who_tells_other_survivors_is_found(told):
    with pytest.raises(AssertionError, match=r"^`survivors` are the candidates that process keeps"):
        check_logits_processor(Tells(told))


@pytest.mark.parametrize(
    "right", [Greedy(), TopP(0.3), RepetitionPenalty(1.3, window=4), Wrong(None), MinNewTokens(2, [3])]
)
def test_who_keeps_the_laws_passes(right):
    check_logits_processor(right)


class Forces(LogitsProcessor):
    def process(self, logits, step, state):
        return np.where(step.ids == 9, -np.inf, logits).astype(logits.dtype)

    def forced(self, row, state):
        return (9, 1)


class Says(LogitsProcessor):
    """Edits, or masks, and does something else: `fault` says what."""

    def __init__(self, fault=None):
        self.fault = fault

    def process(self, logits, step, state):
        if self.fault == "process":
            return np.where(step.ids == step.ids.max(), logits - 1, logits).astype(logits.dtype)
        return super().process(logits, step, state)


class Edited(Says):
    def edits(self, row, state):
        ids = np.float32([1]) if self.fault == "ids" else row.ids - 3 * (self.fault == "below")
        return Edits(ids, add=np.zeros(2) if self.fault == "numbers" else -1.0, factor=1.3)


class Masked(Says):
    def mask(self, row, state):
        mask = mask_of(np.arange(int(row.ids[-1]) % 2, 300, 2), 300)
        return mask.astype(np.int64) if self.fault == "dtype" else mask


def test_what_a_strategy_says_is_what_it_does():
    for processor, why in (
        (Edited("process"), "what it says of a row, edits or a mask, is what process does"),
        (Masked("process"), "what it says of a row, edits or a mask, is what process does"),
        (Edited("ids"), "raises nothing.*ids must be an array of whole numbers"),
        (Edited("below"), "raises nothing.*ids must be >= 0, got -"),
        (Edited("numbers"), "raises nothing.*add must be one number or one for each of"),
        (Masked("dtype"), "what it says of a row, edits or a mask, is what process does"),
        (LogitsProcessor(), "raises nothing.*NotImplementedError"),
    ):
        with pytest.raises(AssertionError, match=why):
            check_logits_processor(processor)
    check_logits_processor(Edited())
    check_logits_processor(Masked())


class TakesBack(LogitsProcessor):
    """Takes back the token in which "no" ends, or does it wrongly: `fault` says how."""

    def __init__(self, fault):
        self.fault = fault

    def init(self, batch):
        return ({},) * batch

    def process(self, logits, step, state):
        banned = [there.get(row.position, -1) for there, row in zip(state, step.rows, strict=True)]
        return np.where(step.ids == np.asarray(banned)[:, None], -np.inf, logits).astype(logits.dtype)

    def take_back(self, progress, state):
        if "no" not in progress.text[-3:]:
            return None
        if self.fault == "count":
            return len(progress.starts) + 1, state
        count = 2 if self.fault == "shown" else 1
        place = {progress.history.position - count: int(progress.history.generated[-count])}
        return count, state if self.fault == "again" else (place,)

    def pending(self, text):
        return len(text) + 1 if self.fault == "pending" else 0


def test_what_is_forced_and_taken_back_has_laws():
    for processor, why in (
        (Forces(), r"what must come next is not removed: forced gave \[9, 1\]"),
        (TakesBack("count"), "text that it takes back was held back before, .*: [0-9]+ tokens"),
        (TakesBack("again"), "its first token does not come again: it may come again"),
        (TakesBack("shown"), "text that it takes back was held back before, .*: text was shown"),
        (TakesBack("pending"), "text that it takes back was held back before, .*: holds back 3 of 2"),
    ):
        with pytest.raises(AssertionError, match=why):
            check_logits_processor(processor)
    check_logits_processor(TakesBack(None))


def test_memory_outside_the_state_is_found():
    class Leaky(LogitsProcessor):
        """Counts the tokens of all sequences together."""

        count = 0

        def process(self, logits, step, state):
            return np.where(step.ids == self.count % 3, -99, logits).astype(logits.dtype)

        def accept(self, logits, column, state):
            Leaky.count += 1
            return state

    with pytest.raises(AssertionError, match="a row does not see its neighbours"):
        check_logits_processor(Leaky())


class Ends(StoppingCriterion):
    def __init__(self, fault):
        self.fault, self.calls = fault, 0

    def check(self, progress):
        self.calls += 1
        return self.fault(self, progress)

    def pending(self, text):
        return -1 if self.fault is None else 0


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (lambda self, progress: True, "answers a Stop or None"),
        (lambda self, progress: Stop("stop") if self.calls % 2 else None, "same progress, same verdict"),
        (lambda self, progress: Stop(""), "gives a reason"),
        (lambda self, progress: Stop("stop", keep=len(progress.text) + 1), "keeps a part of the text"),
        (
            lambda self, progress: Stop("stop", keep=0) if len(progress.text) > 5 else None,
            "text that a verdict cuts off was held back before",
        ),
        (
            lambda self, progress: os.environ.update(DECODEKIT_TEST_OF_LAWS=str(len(progress.text))),
            "changes nothing around it: the environment",
        ),
    ],
)
def test_every_law_of_criteria_finds_who_breaks_it(fault, law, monkeypatch):
    monkeypatch.setenv("DECODEKIT_TEST_OF_LAWS", "")
    with pytest.raises(AssertionError) as caught:
        check_stopping_criterion(Ends(fault))
    assert str(caught.value).startswith(law)


def test_a_criterion_is_tried_on_its_own_strings():
    class Hasty(StopStrings):
        def pending(self, text):
            return 0

    with pytest.raises(AssertionError, match="text that a verdict cuts off was held back before"):
        check_stopping_criterion(Hasty(["###Human"]))
    check_stopping_criterion(StopStrings(["###Human"]))


@dataclass(frozen=True)
class Loose(LogitsProcessor):
    """Promises more of its option than it keeps; `fault` is what."""

    p: Annotated[float, Real("[0, 1]", "a share", neutral=0)] = 0.5
    fault: str = ""

    def __post_init__(self):
        if self.fault not in ("unchecked", "neutral"):
            super().__post_init__()
        if self.fault == "refused" and self.p == 1:
            raise ParameterError("loose: p must be less")

    def bind(self, tokenizer):
        if self.fault == "bind":
            object.__setattr__(self, "size", tokenizer.size)
        return self

    def process(self, logits, step, state):
        if self.p == 0:
            return logits * 2 if self.fault == "neutral" else logits + 0 if self.fault == "copy" else logits
        if self.p == 1 and self.fault == "edge":
            return np.full_like(logits, -np.inf)
        return logits * logits.dtype.type(self.p)


DOMAINS = "options outside their domain are refused, and those at its ends work"
NEUTRAL = "neutral options change nothing: process returns its input as it is, check never stops"
BIND = "bind returns what knows the tokens and leaves the strategy as it was"


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        ("", {}),
        ("unchecked", {DOMAINS: "p=-5e-324 is outside its domain and taken"}),
        ("refused", {DOMAINS: "raised ParameterError: loose: p must be less"}),
        ("edge", {DOMAINS: "p=1.0 leaves no candidate"}),
        (
            "neutral",
            {DOMAINS: "p=-5e-324 is outside its domain and taken", NEUTRAL: "{'p': 0} changes the logits"},
        ),
        ("copy", {NEUTRAL: "{'p': 0} gives equal logits, but not the input itself"}),
        ("bind", {BIND: ""}),
    ],
)
def test_what_a_schema_promises_is_tried(tokenizer, fault, broken):
    found = examine(Loose, schema(Loose), {"fault": fault}, tokenizer)
    assert {finding.law: finding.why for finding in found if not finding.holds} == broken


def test_a_neutral_criterion_never_stops(tokenizer):
    @dataclass(frozen=True)
    class Often(StoppingCriterion):
        n: Annotated[int, Whole("[0, 9]", "letters", neutral=0)] = 1

        def check(self, progress):
            return Stop("stop") if len(progress.text) > self.n else None

    broken = [finding for finding in examine(Often, schema(Often), {}, tokenizer) if not finding.holds]
    assert [(finding.law, finding.why) for finding in broken] == [(NEUTRAL, "{'n': 0} stops")]


def test_options_of_one_domain_may_need_each_other(tokenizer):
    @dataclass(frozen=True)
    class Between(StoppingCriterion):
        low: Annotated[float, Real("[0, 1]")] = 0.4
        high: Annotated[float, Real("[0, 1]")] = 0.6

        def __post_init__(self):
            super().__post_init__()
            if self.low > self.high:
                raise ParameterError("between: low is at most high")

        def check(self, progress):
            return None

    assert all(finding.holds for finding in examine(Between, schema(Between), {}, tokenizer))


def test_portability_is_told(monkeypatch):
    assert portable("top_p", TopP(0.5)) == "yes"
    assert portable("logit_bias", LogitBias({1: 2.0})).startswith("no: TypeError")
    assert portable("wrong", Wrong(columns)).startswith("no: ")
    assert portable("wrong", Wrong(None)) == "yes"  # no function of that name: `process` itself
    monkeypatch.setitem(sys.modules, "array_api_strict", None)
    assert portable("top_p", TopP(0.5)) == "not tried: pip install array-api-strict"


def test_check_reports_every_law(run, tmp_path):
    badge = tmp_path / "badge.svg"
    status, out, _ = run("plugins", "check", "top_p", "-o", "p=0.7", "--json", "--badge", str(badge))
    report = json.loads(out)["top_p"]
    assert status == 0 and report["passed"] and report["options"] == {"p": 0.7}
    assert set(report["laws"].values()) == {True} and len(report["laws"]) == 26
    assert report["array_api"] == "yes"
    assert report["microseconds"].keys() == {"32000", "49152", "151936"}
    assert "contract kept" in badge.read_text()
    status, out, _ = run("plugins", "check", "stop_strings", "-o", 'strings=["a"]')
    assert status == 0 and "held back before" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sharp"], "sharp needs table; give it with -o OPTION=VALUE"),
        (
            ["decodekit-wrong", "-o", "table={}"],
            "write OPTION=VALUE for one strategy, NAME.OPTION=VALUE for one",
        ),
        (["decodekit-wrong"], "sharp needs table; give it with -o NAME.OPTION=VALUE"),
        (["sharp", "-o", 'tabel={"a": 1}'], "sharp needs table; give"),
        (["sharp", "-o", "table={}", "-o", "lovd=1"], "'lovd'; did you mean 'loved'?"),
        (["sharp", "-o", "table"], "-o table: write OPTION=VALUE"),
        (["topp"], "no strategy or distribution is called 'topp'; did you mean 'top_p'?"),
        (["decodekit-absent"], "decodekit-absent 0.3.0 is broken: ImportError: x"),
    ],
)
def test_check_says_what_it_needs(wrong, run, words, message):
    status, _, err = run("plugins", "check", *words)
    assert status == 2 and message in err


def test_check_of_a_distribution_tries_all_it_registers(wrong, run, tmp_path):
    badge = tmp_path / "badge.svg"
    words = ("plugins", "check", "decodekit-wrong", "-o", 'sharp.table={"a": 1}', "--badge", str(badge))
    status, out, _ = run(*words, "--json")
    reports = json.loads(out)
    assert status == 1 and list(reports) == ["loose", "sharp"]
    assert reports["sharp"]["passed"] and reports["sharp"]["array_api"] == "yes"
    assert reports["sharp"]["options"] == {"table": {"a": 1}}
    assert [law for law, holds in reports["loose"]["laws"].items() if holds is not True] == [DOMAINS]
    assert "fails" in badge.read_text()
    assert "microseconds" not in reports["loose"]
    status, out, _ = run(*words)
    assert status == 1 and "broken" in out and "outside" in out


@pytest.fixture
def wrong(monkeypatch, run):
    """An installed distribution with a wrong strategy and one that needs a table, and one that is broken."""

    class Sharp(LogitsProcessor):
        def __init__(self, table, loved: int = 0):
            self.table = table

        def process(self, logits, step, state):
            return logits

    class Module:
        @hookimpl
        def register_logits_processors(self, register):
            register("loose", partial(Loose, fault="unchecked"))
            register("sharp", Sharp)

    def entry(name, load):
        dist = SimpleNamespace(
            name=f"decodekit-{name}", version="0.3.0", locate_file=lambda path: Path("/site")
        )
        return SimpleNamespace(name=name, module=f"{name}_module", value="", dist=dist, load=load)

    def absent():
        raise ImportError("x")

    monkeypatch.setenv("DECODEKIT_PLUGINS", "wrong,absent")
    both = [entry("wrong", Module), entry("absent", absent)]
    monkeypatch.setattr(metadata, "entry_points", lambda group: both)
