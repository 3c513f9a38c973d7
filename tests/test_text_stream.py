"""
What a stream shows is the answer's text, in pieces, wherever tokens, characters and stop strings begin.

The reference is naive: decode everything, find the stop string that ends first, cut there.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decodekit
from decodekit.detokenizer import ByteDetokenizer
from decodekit.errors import ParameterError
from decodekit.generate import stream
from decodekit.history import History
from decodekit.sampling import Sampler
from decodekit.stopping import Progress, Stop
from decodekit.strategies.end_tokens import EndTokens
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.strategies.min_new_tokens import MinNewTokens
from decodekit.strategies.repetition_loop import RepetitionLoop
from decodekit.strategies.stop_strings import StopStrings
from decodekit.testing import TableModel, Tokens, check_logits_processor, check_stopping_criterion
from decodekit.text_stream import Pieces
from decodekit.tokenizer import Tokenizer

SOAK = bool(os.environ.get("DECODEKIT_SOAK"))
IN_PLACE = Path(__file__).parent / "fixtures" / "in_place"
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"  # three persons and two joiners: 18 bytes
GLYPHS = [
    "a",
    "b",
    "ab",
    " ",
    "é",
    "e\u0301",
    "猫",
    "が",
    "🐈",
    FAMILY,
    "\u200d",
    "\ufffd",
    "\n",
    "END",
    "<|",
    "|>",
]


@dataclass(frozen=True)
class Script(TableModel):
    """Writes the given tokens, whatever was asked."""

    ids: tuple = ()

    def __call__(self, tokens, cache, *, last=1):
        read = Tokens((*cache.ids, *np.asarray(tokens).tolist()))
        places = range(len(read.ids) - last, len(read.ids))
        return np.stack([self.table[self.ids[min(p, len(self.ids) - 1)]] for p in places]), read


def script(ids):
    return Script(np.eye(max(ids) + 1, dtype=np.float32), ids=tuple(ids))


def tokens_of(table, ids, criteria, *, strip=False):
    """The events of the reference loop, and the detokenizer after them."""
    spelled = [table.get(id, b"") for id in range(max(table) + 1)]
    detokenizer = ByteDetokenizer(spelled, strip_first_space=strip)
    stopping = [*criteria, MaxNewTokens(len(ids))]
    sampler = Sampler((Greedy(),))
    return list(stream(script(ids), [0], sampler, stopping, detokenizer=detokenizer)), detokenizer


def shown(events, criteria, detokenizer):
    """Pieces as a stream shows them, the text of the completion, and the verdict."""
    pieces = Pieces(criteria, detokenizer, lambda text, tokens, stop: (text, tokens, stop))
    parts = [pieces.push(event) for event in events]
    text, _, stop = pieces.completion
    return parts, text, stop


def naive(table, ids, stops, *, after=0, ends=(), strip=False):
    """Text, stop string that fired, and number of tokens: by decoding everything and looking."""
    texts = []
    for count in range(len(ids) + 1):
        data = b"".join(table.get(id, b"") for id in ids[:count])
        texts.append(whole_characters(data))
    if strip and texts[-1].startswith(" "):
        texts = [text.removeprefix(" ") for text in texts]
    last = next((n for n in range(1, len(ids) + 1) if ids[n - 1] in ends), len(ids))
    held = len(texts[min(after, len(ids))])
    found = [
        (at + len(stop), at, stop)
        for stop in stops
        for at in range(len(texts[-1]))
        if texts[-1].startswith(stop, at) and at + len(stop) > held
    ]
    if found:
        end, at, stop = min(found)
        count = next(n for n in range(len(texts)) if len(texts[n]) >= end)
        if count <= last:
            return texts[-1][:at], repr(stop), count
    data = b"".join(table.get(id, b"") for id in ids[:last])
    incomplete = whole_characters(data) != data.decode("utf-8", "replace")
    return texts[last] + "\ufffd" * incomplete, None, last


def whole_characters(data):
    """The text of bytes, without an incomplete character at the end."""
    for cut in range(min(4, len(data) + 1)):
        try:
            data[len(data) - cut :].decode()
        except UnicodeDecodeError as error:
            waits = error.reason == "unexpected end of data" and error.start == 0
            if waits and data[: len(data) - cut].decode("utf-8", "replace") + "\ufffd" == data.decode(
                "utf-8", "replace"
            ):
                return data[: len(data) - cut].decode("utf-8", "replace")
    return data.decode("utf-8", "replace")


@st.composite
def answers(draw):
    """A table of tokens as bytes, the ids of an answer, and stop strings, many of which occur in it."""
    text = "".join(draw(st.lists(st.sampled_from(GLYPHS), max_size=14))).encode()
    if draw(st.booleans()):
        noise = draw(st.binary(min_size=1, max_size=3))
        at = draw(st.integers(0, len(text)))
        text = text[:at] + noise + text[at:]
    tokens, at = [], 0
    while at < len(text):
        size = draw(st.integers(1, 7))
        tokens.append(text[at : at + size])
        at += size
    for at in sorted(draw(st.lists(st.integers(0, len(tokens)), max_size=2)), reverse=True):
        tokens.insert(at, b"")  # special tokens have no text
    tokens = tokens or [b"a"]
    names = {token: id for id, token in enumerate(dict.fromkeys(tokens), start=1)}
    table = {id: token for token, id in names.items()}
    decoded = text.decode("utf-8", "replace")
    stops = draw(st.lists(st.sampled_from([*GLYPHS, "aba", "bab", "猫が", "\u0301", "ND"]), max_size=2))
    for _ in range(draw(st.integers(0, 2))):
        if decoded:
            start = draw(st.integers(0, len(decoded) - 1))
            stops.append(decoded[start : start + draw(st.integers(1, 6))])
    return table, [names[token] for token in tokens], stops


@given(answers(), st.integers(0, 6), st.booleans(), st.data())
@settings(max_examples=20_000 if SOAK else 500, deadline=None, derandomize=not SOAK)
def test_a_stream_shows_the_text_that_decoding_everything_and_cutting_would_give(answer, after, strip, data):
    table, ids, stops = answer
    silent = [id for id in table if not table[id]]
    ends = silent if data.draw(st.booleans()) else []
    criteria = [EndTokens(ends), *([StopStrings(stops, after)] if stops else [])]
    events, detokenizer = tokens_of(table, ids, criteria, strip=strip)
    text, stopped_by, count = naive(table, ids, stops, after=after, ends=ends, strip=strip)

    parts, completed, stop = shown(events, criteria, detokenizer)
    assert "".join(parts) == completed == text
    assert len(events) == count
    assert stopped_by is None or stop.by == stopped_by

    again, other = tokens_of(table, ids, criteria, strip=strip)
    pieces = Pieces(criteria, other, lambda text, tokens, stop: text)
    assert pieces.complete(again) == text


@given(answers())
@settings(max_examples=5000 if SOAK else 200, deadline=None, derandomize=not SOAK)
def test_nothing_is_held_back_but_what_may_become_a_stop_string(answer):
    table, ids, stops = answer
    criteria = [StopStrings(stops)] if stops else []
    events, detokenizer = tokens_of(table, ids, criteria)
    parts, _, _ = shown(events, criteria, detokenizer)
    text = so_far = ""
    for event, part in zip(events[:-1], parts[:-1], strict=True):
        text += event.text
        so_far += part
        held = max((n for s in stops for n in range(len(s)) if text.endswith(s[:n])), default=0)
        assert so_far == text[: len(text) - held] or len(so_far) > len(text) - held


@given(answers(), st.lists(st.integers(1, 9), min_size=1))
@settings(max_examples=5000 if SOAK else 200, deadline=None, derandomize=not SOAK)
def test_where_tokens_begin_changes_neither_the_text_nor_what_ended_it(answer, sizes):
    """A stop string is found in the text: other tokens of the same bytes give the same answer."""
    table, ids, stops = answer
    data = b"".join(table[id] for id in ids) or b"a"
    texts = []
    for split in ([1], [len(data)], sizes):
        cuts, at = [], 0
        while at < len(data):
            cuts.append(data[at : at + split[len(cuts) % len(split)]])
            at += len(cuts[-1])
        criteria = [StopStrings(stops)] if stops else []
        events, detokenizer = tokens_of(dict(enumerate(cuts, 1)), range(1, 1 + len(cuts)), criteria)
        _, text, stop = shown(events, criteria, detokenizer)
        texts.append((text, stop.by if stop.reason == "stop" else ""))
    assert len(set(texts)) == 1


@pytest.fixture(scope="module")
def says():
    """A decoder with one token per byte that answers texts, an end token behind each."""
    bundle, plugins = decodekit.open_bundle(IN_PLACE), decodekit.load_plugins(only=())
    tokenizer = Tokenizer(bundle.tokenizer)

    def make(*texts):
        ids = [id for text in texts for id in (*tokenizer.encode_plain(text), 0)]
        return decodekit.Decoder(
            Script(np.eye(257, dtype=np.float32), ids=tuple(ids)), tokenizer, bundle, plugins
        )

    return make


def both(decoder, **options):
    """The completion, after checking that a stream gives the same."""
    found = decoder.generate("?", seed=1, **options)
    streamed = decoder.stream("?", seed=1, **options)
    assert "".join(streamed) == found.text and streamed.completion == found
    return found


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("the cat", "cat", "the "),
        ("我喜欢猫和狗", "猫", "我喜欢"),
        ("我喜欢猫和狗", "欢猫和", "我喜"),
        ("a" + FAMILY + "b", FAMILY, "a"),
        ("a" + FAMILY + "b", "\u200d", "a\U0001f469"),
        ("cafe\u0301 noir", "e\u0301", "caf"),
        ("cafe\u0301 noir", "\u00e9", "cafe\u0301 noir"),  # nothing is normalised
        ("aaa", "aa", ""),
        ("abab", ["abc", "bab"], "a"),
        ("abcd", ["bcd", "c"], "ab"),  # "c" is complete first, wherever tokens begin
        ("abcd", ["cd", "bcd", "d"], "a"),  # of those that end together the longest
        ("ENDE", ["ENDEN", "DE"], "EN"),
        ("<|im_en|im_end|>", "<|im_end|>", "<|im_en|im_end|>"),
        ("<<|end|>", "<|end|>", "<"),
        ("no stop", ["stop!", "p\n"], "no stop"),
        ("line\r\nline", "\n", "line\r"),
    ],
)
def test_a_stop_string_by_hand(says, text, stop, expected):
    completion = both(says(text), stop=stop)
    assert completion.text == expected
    assert completion.finish_reason == "stop"
    if expected != text:
        stops = [stop] if isinstance(stop, str) else stop
        assert completion.stopped_by in map(repr, stops)


def test_a_stop_string_in_the_prompt_does_not_count_and_none_that_begins_there(says):
    decoder = says("!ok!")
    assert both(decoder, stop="?").text == "!ok!"
    assert both(decoder, stop="?!").text == "!ok!"


def test_no_stop_string_counts_before_the_least_length(says):
    decoder = says("stop, stop, stop")
    assert both(decoder, stop="stop").text == ""
    assert both(decoder, stop="stop", min_new_tokens=3).text == ""  # complete with the fourth
    assert both(decoder, stop="stop", min_new_tokens=4).text == "stop, "
    assert both(decoder, stop="stop", min_new_tokens=12).text == "stop, stop, "
    assert both(decoder, stop="stop", min_new_tokens=16, max_new_tokens=16).text == "stop, stop, stop"


def test_no_end_token_is_drawn_before_the_least_length(says):
    decoder = says("ab")
    for least in (0, 1, 2):
        assert both(decoder, min_new_tokens=least).ids[-1] == 0
    longer = both(decoder, min_new_tokens=5)
    assert len(longer.ids) >= 5 and 0 not in longer.ids[:5]
    stop = decoder.tokenizer.encode_plain("b")
    assert both(decoder, stop_token_ids=stop).text == "a"
    assert len(both(decoder, stop_token_ids=stop, min_new_tokens=3, max_new_tokens=4).ids) >= 3


def test_ignoring_the_end_token_goes_on_behind_it_and_other_ends_still_count(says):
    count, decoder = 9, says("ab", "cd", "ef")
    assert both(decoder).text == "ab"
    whole = both(decoder, ignore_eos=True, max_new_tokens=count)
    assert whole.text == "abcdef" and whole.finish_reason == "length"
    assert both(decoder, ignore_eos=True, stop="bc").text == "a"
    assert both(decoder, ignore_eos=True, stop_token_ids=[0]).text == "ab"  # asked for by name
    assert both(decoder, ignore_eos=True, stop_token_ids=decoder.tokenizer.encode_plain("e")).text == "abcd"


def test_an_answer_that_ends_within_a_character_says_so(says):
    decoder = says("猫")
    assert both(decoder, max_new_tokens=2).text == "\ufffd"
    assert both(decoder, max_new_tokens=3).text == "猫"
    assert list(decoder.stream("?")) == ["猫"]  # not before it is complete


def test_what_is_held_back_comes_when_it_is_decided(says):
    decoder = says("aab ab abc")
    pieces = list(decoder.stream("?", stop=["abc", "x"]))
    assert "".join(pieces) == "aab ab " and pieces == ["a", "ab ", "ab "]


# what it costs


class Counted(str):
    """A text that counts the characters that are looked at."""

    looked: ClassVar[Counter] = Counter()

    def find(self, what, start=0, end=None):
        self.looked["found"] += len(self) - start
        return super().find(what, start)

    def __getitem__(self, place):
        part = super().__getitem__(place)
        self.looked["sliced"] += len(part)
        return part


def test_sixteen_long_stop_strings_cost_as_much_after_a_long_text_as_after_a_short_one():
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz .,\n"))
    stops = ["".join(rng.choice(letters, 1024)) for _ in range(16)]
    criterion = StopStrings(stops)
    history = History(np.asarray([1, 2]), 1)
    costs = []
    for length in (2_000, 20_000, 200_000):
        text = Counted("".join(rng.choice(letters, length)))
        Counted.looked.clear()
        assert criterion.check(Progress(history, text, length - 5)) is None
        checked = Counted.looked["found"]
        assert criterion.pending(text) < 5
        costs.append(sum(Counted.looked.values()))
        assert checked <= 16 * (1023 + 5)
    assert max(costs) < 16 * 1024 * 60  # 1023 places, of which one in 30 is a first letter and is compared
    assert max(costs) < 1.3 * min(costs)


# a loop


def progress(generated, prompt=(9,)):
    return Progress(History(np.asarray([*prompt, *generated], np.int64), len(prompt)), "", 0)


def naive_loop(ids, period, times, least):
    for block in range(1, period + 1):
        length = max(block * times, least)
        tail = ids[len(ids) - length :]
        if len(ids) >= length and all(tail[i] == tail[i - block] for i in range(block, length)):
            return length, block
    return None


def test_a_loop_by_hand():
    loop = RepetitionLoop(period=3, times=3, least=2)
    assert loop.check(progress([5, 7, 5, 7, 5])) is None
    assert loop.check(progress([5, 7, 5, 7, 5, 7])) == Stop("repetition", by="6 tokens with period 2")
    assert loop.check(progress([1, 2, 3, 5, 7, 5, 7, 5, 7])).by == "6 tokens with period 2"
    assert loop.check(progress([5, 7, 5, 7, 5, 7, 1])) is None
    assert loop.check(progress([4, 4, 4])).by == "3 tokens with period 1"
    assert loop.check(progress([1, 2, 3, 4] * 5)) is None  # longer than a block may be
    assert RepetitionLoop(period=4, times=3, least=2).check(progress([1, 2, 3, 4] * 3)).reason == "repetition"


def test_short_blocks_need_more_copies():
    loop = RepetitionLoop(period=4, times=2, least=7)
    assert loop.check(progress([4] * 6)) is None
    assert loop.check(progress([4] * 7)).by == "7 tokens with period 1"
    assert loop.check(progress([1, 2] * 3)) is None
    assert loop.check(progress([2, *[1, 2] * 3])).by == "7 tokens with period 2"  # not whole copies


def test_only_the_answer_is_searched():
    assert RepetitionLoop(2, 2, 2).check(progress([5], prompt=[5, 5, 5])) is None
    assert RepetitionLoop(2, 2, 2).check(progress([5, 5], prompt=[1])).by == "2 tokens with period 1"


def test_a_loop_keeps_its_text_and_ends_the_answer(says):
    decoder = says("well, no no no no no")
    completion = both(decoder, criteria="repetition_loop.times=3, repetition_loop.least=3")
    assert (completion.text, completion.finish_reason) == ("well, no no no", "repetition")


@st.composite
def repetitive(draw):
    """Something, copies of a block, and perhaps something else."""
    few = st.lists(st.integers(0, 2), max_size=4)
    block = draw(st.lists(st.integers(0, 2), min_size=1, max_size=7))
    copies = block * draw(st.integers(0, 6))
    return draw(few) + copies[draw(st.integers(0, 6)) :] + draw(st.just([]) | few)


@given(
    repetitive(),
    st.integers(1, 6),
    st.integers(2, 4),
    st.integers(2, 12),
)
@settings(max_examples=20_000 if SOAK else 400, deadline=None, derandomize=not SOAK)
def test_a_loop_is_found_where_a_search_finds_one(ids, period, times, least):
    stop = RepetitionLoop(period, times, least).check(progress(ids))
    expected = naive_loop(ids, period, times, least)
    assert (stop is None) == (expected is None)
    if expected:
        assert stop.by == "{} tokens with period {}".format(*expected)


@pytest.mark.parametrize(
    "loop", [RepetitionLoop(), RepetitionLoop(1, 2, 2), RepetitionLoop(4096, 1000, 10**9)]
)
def test_a_loop_keeps_the_contract(loop):
    check_stopping_criterion(loop)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"period": 0}, r"repetition_loop: period must be in \[1, 4096\], got 0"),
        ({"times": 1}, r"repetition_loop: times must be in \[2, 1000\], got 1"),
        ({"least": 1}, r"repetition_loop: least must be in \[2, inf\), got 1"),
        ({"times": 2.0}, "repetition_loop: times must be a whole number"),
    ],
)
def test_a_loop_that_cannot_be_is_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        RepetitionLoop(**options)


# a least length


def step_of(*rows, ids=4):
    histories = tuple(History(np.asarray([7, *row], np.int64), 1) for row in rows)
    return decodekit.Step(histories, np.broadcast_to(np.arange(ids), (len(rows), ids)))


def test_a_least_length_by_hand():
    least, logits = MinNewTokens(2, [1, 3]), np.asarray([[1.0, 2.0, 3.0, 4.0]] * 3, np.float32)
    out = least.process(logits, step_of([], [5], [5, 6]), ())
    dead = -np.inf
    assert out.tolist() == [[1, dead, 3, dead], [1, dead, 3, dead], [1, 2, 3, 4]]
    assert least.process(logits[:1], step_of([5, 6]), ()) is not None
    assert np.array_equal(least.process(logits[:1], step_of([5, 6]), ()), logits[:1])


def test_a_least_length_of_none_and_of_no_tokens_is_neutral():
    logits = np.asarray([[1.0, 2.0, 3.0, 4.0]], np.float32)
    for least in (MinNewTokens(0, [1]), MinNewTokens(5, [])):
        assert np.array_equal(least.process(logits, step_of([]), ()), logits)


def test_a_least_length_looks_at_ids_not_at_columns():
    step = decodekit.Step(step_of([]).rows, np.asarray([[3, 0]]))
    assert MinNewTokens(1, [3]).process(np.zeros((1, 2), np.float32), step, ()).tolist() == [[-np.inf, 0]]


@pytest.mark.parametrize("least", [MinNewTokens(0, [1]), MinNewTokens(1, [1, 2]), MinNewTokens(9, range(50))])
def test_a_least_length_keeps_the_contract(least):
    check_logits_processor(least)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: MinNewTokens(-1, []), r"min_new_tokens: n must be in \[0, inf\), got -1"),
        (lambda _: MinNewTokens(1, "ab"), "min_new_tokens: ids must be token ids"),
        (lambda t: MinNewTokens(1, [257]).bind(t), r"min_new_tokens: token ids are in \[0, 257\), got 257"),
    ],
)
def test_a_least_length_that_cannot_be_is_refused(says, make, message):
    decoder = says("a")
    with pytest.raises(ParameterError, match=message):
        make(decoder.tokenizer)
    with pytest.raises(ParameterError, match="min_new_tokens must be at most max_new_tokens, 2, got 3"):
        decoder.generate("?", min_new_tokens=3, max_new_tokens=2)
