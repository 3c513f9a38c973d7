"""Parts by themselves: calls in a text, pieces of a choice, chains, limits."""

import asyncio
import json
import time

import pytest
from decodekit_server import chains
from decodekit_server.ask import Ask, Constraint, Raw, Sampling
from decodekit_server.errors import ApiError
from decodekit_server.json_body import parse
from decodekit_server.limits import Limits
from decodekit_server.params.fields import Extras, Strategy
from decodekit_server.preparing import Preparing
from decodekit_server.tools import ForcedCall, MarkedCalls, ToolCall, parser, read_call
from hypothesis import given, settings
from hypothesis import strategies as st

from decodekit.errors import ParameterError
from decodekit.plugins import load_plugins

CALL = '{"name": "f", "arguments": {"x": "<tool_call>"}}'


def flat(parts):
    """Adjacent texts as one, calls without their ids."""
    found = []
    for part in parts:
        if isinstance(part, ToolCall):
            found.append((part.name, part.arguments))
        elif found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", ["plain"]),
        (f"<tool_call>{CALL}</tool_call>", [("f", '{"x": "<tool_call>"}')]),
        (f"a<tool_call>{CALL}</tool_call>b", ["a", ("f", '{"x": "<tool_call>"}'), "b"]),
        ("a<tool_call>no json</tool_call>b", ["a<tool_call>no json</tool_call>b"]),
        ("a<tool_call>{", ["a<tool_call>{"]),
        (f"a<tool_call>{CALL}", ["a", ("f", '{"x": "<tool_call>"}')]),
        (f" a \n<tool_call>{CALL}</tool_call>\nb ", [" a", ("f", '{"x": "<tool_call>"}'), " \n\nb "]),
        (f"\n<tool_call>{CALL}</tool_call>\n", [("f", '{"x": "<tool_call>"}')]),
        ("a \n<tool_call>no json</tool_call>\n b", ["a \n<tool_call>no json</tool_call>\n b"]),
        (" \n ", [" \n "]),
        ("a<tool_cal", ["a<tool_cal"]),
        ("</tool_call>", ["</tool_call>"]),
        ("", []),
    ],
)
def test_calls_are_found_however_the_text_is_cut(text, expected):
    for size in (1, 2, 3, 7, 100):
        parser, found = MarkedCalls(), []
        for start in range(0, len(text), size):
            found += parser.push(text[start : start + size])
        assert flat([*found, *parser.end()]) == expected


@given(st.lists(st.sampled_from(["<tool_call>", "</tool_call>", "<tool", "_call>", CALL, "text", "{", "<"])))
@settings(max_examples=200, deadline=None)
def test_nothing_of_a_text_is_lost(parts):
    parser, found = MarkedCalls(), []
    for part in parts:
        found += parser.push(part)
    found += parser.end()
    told = "".join(
        part
        if isinstance(part, str)
        else f'<tool_call>{{"name": "{part.name}", "arguments": {part.arguments}}}</tool_call>'
        for part in found
    )
    text = "".join(parts)
    assert told in (text, text + "</tool_call>")  # where only the last mark is missing, the call is whole


def test_a_forced_call_is_the_whole_text():
    parser = ForcedCall()
    assert parser.push(CALL[:9]) == parser.push(CALL[9:]) == []
    assert flat(parser.end()) == [("f", '{"x": "<tool_call>"}')]
    cut = ForcedCall()
    cut.push(CALL[:9])
    assert cut.end() == [CALL[:9]]  # cut short, it stays text


@pytest.mark.parametrize("text", ["", "[]", '{"name": 1}', '{"name": "f", "arguments": "x"}', "{" * 100_000])
def test_what_is_no_call_is_none(text):
    assert read_call(text) is None


def test_a_long_text_in_small_pieces_takes_linear_time():
    """Each is what a model may write to make a parser go back again and again."""
    for piece in ("<tool_call", "<tool_call>", "<", "<tool_call>{", '{"name": ' * 3, "  \n"):
        parser, began = MarkedCalls(), time.perf_counter()
        for _ in range(50_000):
            parser.push(piece)
        parser.end()
        assert time.perf_counter() - began < 5


@pytest.fixture(scope="module")
def registry():
    return load_plugins(only=()).logits_processors


def ask(sampling=None, **extras):
    return Ask("m", [Raw("x")], sampling=sampling or Sampling(), extras=Extras(**extras))


def names(chain):
    return [type(one).__name__ for one in chain]


def test_the_order_of_the_flat_fields(registry):
    sampling = Sampling(0.5, 0.9, 40, 0.1, 0.2, {"1": 1.0})
    assert names(chains.chain(ask(sampling), registry)) == [
        "LogitBias", "FrequencyPenalty", "PresencePenalty", "Temperature", "TopK", "TopP"
    ]  # fmt: skip
    assert names(chains.chain(ask(), registry)) == ["Temperature"]
    neutral = Sampling(top_p=1, top_k=0, frequency_penalty=0, presence_penalty=0, logit_bias={})
    assert names(chains.chain(ask(neutral), registry)) == ["Temperature"]


def test_named_strategies_are_the_whole_chain(registry):
    wanted = [Strategy(name="top_k", k=3), Strategy(name="greedy")]
    assert names(chains.chain(ask(processors=wanted), registry)) == ["TopK", "Greedy"]
    with pytest.raises(ApiError, match=r"temperature: decodekit\.processors is the whole chain"):
        chains.chain(ask(Sampling(temperature=0.5), processors=wanted), registry)


def test_a_constraint_is_never_dropped(registry):
    constrained = Ask(
        "m", [Raw("x")], constraint=Constraint("json_schema", {"schema": {}}, "response_format")
    )
    with pytest.raises(ApiError, match="response_format: needs the package decodekit-grammar"):
        chains.chain(constrained, registry)


def test_limits_are_checked():
    with pytest.raises(ParameterError, match="queue must be in"):
        Limits(queue=-1)


def test_a_body_may_hold_many_token_ids():
    body = json.dumps({"prompt": list(range(100_000))}).encode()
    assert len(parse(body, "application/json; charset=utf-8")["prompt"]) == 100_000
    with pytest.raises(ApiError, match="more than 200,000 values"):
        parse(json.dumps({"x": [{}] * 200_001}).encode(), "application/json")


def test_a_strategy_that_takes_text_back_streams_what_stays(server, http):
    pytest.importorskip("decodekit_banned_phrases", reason="decodekit-banned-phrases is not installed")
    own = server.decoder("tagline").generate("Hi", 'banned_phrases=["coffee"], temperature=1', seed=3)
    body = {
        "model": "tagline",
        "messages": [{"role": "user", "content": "Hi"}],
        "seed": 3,
        "logprobs": True,
        "stream": True,
        "decodekit": {
            "processors": [{"name": "banned_phrases", "phrases": ["coffee"]}, {"name": "temperature", "t": 1}]
        },
    }
    lines = http.post("/v1/chat/completions", json=body).text.split("\n\n")
    chunks = [json.loads(line[6:])["choices"][0] for line in lines if line.startswith("data: {")]
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == own.text
    tokens = [token["token"] for c in chunks if c["logprobs"] for token in c["logprobs"]["content"]]
    assert "".join(tokens) == own.text


def test_calls_have_the_same_ids_each_time_an_answer_is_written():
    """Of one answer, told again by another replica; and no id comes twice."""
    parsed = Ask("m", [Raw("x")], parsed=True)
    forced = Ask(
        "m", [Raw("x")], parsed=True, constraint=Constraint("tool_call", {}, "tool_choice", calls=True)
    )
    marked = f"<tool_call>{CALL}</tool_call>" * 2

    def ids(ask, name, text):
        found = parser(ask, name)
        return [part.id for part in (*found.push(text), *found.end())]

    assert ids(parsed, "a", marked) == ids(parsed, "a", marked) and len(set(ids(parsed, "a", marked))) == 2
    assert not {*ids(parsed, "a", marked)} & {*ids(parsed, "b", marked)}
    assert ids(forced, "a", CALL) == ids(forced, "a", CALL) != ids(forced, "b", CALL)


def test_who_leaves_the_moment_the_work_is_done_has_left():
    """The loop hears that the work is done and that nobody wants it, one right after the other."""

    async def leave():
        preparing = Preparing(Limits())
        waiting = asyncio.create_task(preparing.run(time.monotonic))
        await asyncio.sleep(0)
        time.sleep(0.1)  # meanwhile the thread says that it is done, and the loop cannot hear it yet
        asyncio.get_running_loop().call_soon(waiting.cancel)
        await asyncio.wait([waiting])
        preparing.close()
        return waiting.cancelled()

    assert asyncio.run(leave())
