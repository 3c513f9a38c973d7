"""A stream cut anywhere is gone on with by another replica, for every API. Without Ray."""

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs Ray; make test-ray")
pytest.importorskip("decodekit_server", reason="needs decodekit-ray[serve]; make test-ray")

from decodekit_ray import replica
from decodekit_ray.replica import APIS, Model, Replica, software
from decodekit_ray.retelling import TELLING, Question, Retelling, Telling, Told
from decodekit_server.answers import Update
from decodekit_server.app import create_app
from decodekit_server.ask import Raw
from decodekit_server.limits import Limits
from decodekit_server.models import Models
from decodekit_server.params import ChatParams, MessagesParams, ResponsesParams
from decodekit_server.preparing import prepare_job

import decodekit
from decodekit.bundle import open_bundle
from decodekit.errors import BundleError, EngineStalledError, PluginError

MESSAGES = [{"role": "user", "content": "Give me a tagline for a new coffee shop."}]
BODIES = {
    "/v1/chat/completions": {"messages": MESSAGES, "n": 3, "logprobs": True, "top_logprobs": 2}
    | {"stream_options": {"include_usage": True}},
    "/v1/completions": {"prompt": ["A tagline for a zoo:", "A slogan:"], "n": 2, "max_tokens": 12},
    "/v1/responses": {"input": "A slogan for a bakery.", "top_logprobs": 1},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 20},
}


@pytest.fixture(scope="module")
def model():
    known = software(decodekit.load_plugins(()))
    return Model(("tagline",), "tagline", open_bundle("tagline").sha256, {"threads": 1}, known)


@pytest.fixture(scope="module")
def replicas(model):
    return [Replica(model, Limits()) for _ in range(2)]


def question(path, **fields):
    body = {"model": "tagline", **BODIES[path], **fields}
    headers = ((b"content-type", b"application/json"),)
    return Question("POST", path, headers, json.dumps(body).encode(), "", "0123456789ab", 1_700_000_000, 7)


def ask(asked, *args):
    async def pieces():
        return [piece async for piece in asked.answer(*args)]

    return asyncio.run(pieces())


def events(pieces):
    """The data of each event; what follows the JSON of a chat API stays as it is."""
    lines = b"".join(piece.data for piece in pieces).decode()
    assert all(re.match(r"(event: \S+\n)?data: ", part) for part in lines.rstrip("\n").split("\n\n"))
    data = [line.removeprefix("data: ") for line in lines.splitlines() if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


def told_text(path, found):
    """What a client makes of a stream: texts by choice, tokens with log-probabilities, and how it ended."""
    texts, tokens, ends = {}, {}, {}
    for event in (e for e in found if e != "[DONE]"):
        for choice in event.get("choices", ()):
            index = choice["index"]
            text = choice["text"] if "text" in choice else choice["delta"].get("content", "")
            texts[index] = texts.get(index, "") + text
            scored = (choice["logprobs"] or {}).get("content") or ()
            tokens.setdefault(index, []).extend(one["token"] for one in scored)
            if choice["finish_reason"]:
                assert index not in ends
                ends[index] = choice["finish_reason"]
        if event.get("type") == "response.output_text.delta":
            texts[0] = texts.get(0, "") + event["delta"]
            tokens.setdefault(0, []).extend(one["token"] for one in event["logprobs"])
        if event.get("type") == "content_block_delta":
            texts[0] = texts.get(0, "") + event["delta"]["text"]
    return texts, tokens, ends


def ending(found):
    """The last event, whatever the portion of text in it."""
    last = [event for event in found if event != "[DONE]"][-1]
    return {name: value for name, value in last.items() if name != "choices"}


@pytest.mark.parametrize("path", APIS)
def test_a_stream_cut_anywhere_is_one_stream(replicas, path, monkeypatch):
    monkeypatch.setattr(replica, "PACE", 0.0)
    monkeypatch.setattr(replica, "with_ready", lambda piece, _: piece)  # any event may be the last
    asked = question(path, stream=True)
    whole = ask(replicas[0], asked)
    assert len(whole) > 1
    expected = told_text(path, events(whole))
    ids = {json.dumps(e.get("id")) for e in events(whole) if isinstance(e, dict)}
    assert whole[-1].last and not any(piece.last for piece in whole[:-1])
    for cut in range(1, len(whole)):
        before = [told for piece in whole[:cut] for told in piece.told]
        rest = ask(replicas[1], asked, before, sum(piece.events for piece in whole[:cut]))
        found = events(whole[:cut] + rest)
        assert told_text(path, found) == expected, cut
        assert {json.dumps(e.get("id")) for e in found if isinstance(e, dict)} == ids
        if path == "/v1/responses":
            assert [e["sequence_number"] for e in found] == list(range(len(found)))
            assert found[-1]["response"]["output"] == events(whole)[-1]["response"]["output"]
        else:
            assert ending(found) == ending(events(whole))
        assert found.count("[DONE]") == events(whole).count("[DONE]")


def test_a_fast_stream_is_told_in_fewer_pieces(replicas):
    pieces = ask(replicas[0], question("/v1/completions", stream=True))
    assert len(pieces) < sum(piece.events for piece in pieces) / 2


@pytest.mark.parametrize("path", APIS)
def test_two_replicas_give_the_same_whole_answer(replicas, path):
    asked = question(path)
    (first,), (second,) = ask(replicas[0], asked), ask(replicas[1], asked)
    assert first.data == second.data and first.last and first.head[0] == 200


PARAMS = {
    "/v1/chat/completions": ChatParams,
    "/v1/responses": ResponsesParams,
    "/v1/messages": MessagesParams,
}
TOOL = {"name": "weather", "parameters": {"type": "object"}}
SAID = 'Let me look.<tool_call>{"name": "weather", "arguments": {"city": "Kyiv"}}</tool_call>'
TOOLS = {
    "/v1/chat/completions": {"tools": [{"type": "function", "function": TOOL}]},
    "/v1/responses": {"tools": [{"type": "function", **TOOL}]},
    "/v1/messages": {"tools": [{"name": "weather", "input_schema": {"type": "object"}}]},
}


def written(teller, path, portions, before=(), known=0):
    """The events of an answer with calls that comes in these portions, and what each was told with."""
    telling = Telling(question(path), before, known)
    TELLING.set(telling)
    api, served = Retelling(APIS[path]), teller._models.by_name["tagline"]
    body = {"model": "tagline", **BODIES[path], "n": 1, **TOOLS[path]}
    if path == "/v1/responses":
        del body["top_logprobs"]
    params = PARAMS[path].model_validate({k: v for k, v in body.items() if k != "n" or "chat" in path})
    plain = replace(api.ask(params), prompts=[Raw("A")], logprobs=None)
    job = prepare_job(replace(plain, parsed=False), served, "", Limits())
    writer = api.writer(params, replace(job, ask=replace(plain, parsed=True)))
    completion = served.decoder.generate("A", max_new_tokens=1)
    updates = [Update(0, text, (), None) for text in portions] + [Update(0, "", (), completion)]
    events, told = [], []
    for made in (writer.begin(), *map(writer.update, updates), writer.end({})):
        for event in made:
            events.append(event)
            told.append(telling.sent()[0])
    return events, told


@pytest.mark.parametrize("path", TOOLS)
def test_a_call_of_a_tool_has_one_id_whoever_tells_it(replicas, path):
    whole, told = written(replicas[0], path, [SAID[:5], SAID[5:40], SAID[40:]])
    ids = set(re.findall(r'"(call_[0-9a-f]\w+)"', json.dumps(whole)))
    assert ids == {"call_0123456789ab_0_1" if "chat" in path else "call_0123456789ab_1"}  # the server's
    for cut in range(1, len(whole)):
        before = [one for part in told[:cut] for one in part]
        rest, _ = written(replicas[1], path, [SAID], before, cut)
        found = [data for _, data in whole[:cut] + rest]
        assert set(re.findall(r'"(call_[0-9a-f]\w+)"', json.dumps(found))) == ids
        assert found[-1] == whole[-1][1]


def test_a_seed_is_fixed_before_the_first_try_and_told_as_the_servers(replicas):
    asked = question("/v1/chat/completions", decodekit={"echo_params": True})
    answer = json.loads(ask(replicas[0], asked)[0].data)
    assert answer["decodekit"]["seed"] == asked.seed
    assert answer["decodekit"]["params"]["values"]["seed"] == {"value": asked.seed, "from": "server"}
    answer = json.loads(ask(replicas[0], question("/v1/chat/completions", seed=3))[0].data)
    assert answer["decodekit"]["seed"] == 3
    assert (
        replicas[0]
        ._models.by_name["tagline"]
        .decoder.generate(MESSAGES, "temperature=1", seed=3, max_new_tokens=200)
        .text
        == answer["choices"][0]["message"]["content"]
    )


def test_another_text_is_an_error_and_no_mixture(replicas):
    (piece,) = ask(replicas[0], question("/v1/completions", stream=True), [Told(0, "Zebra", 1, False)], 1)
    assert piece.head[0] == 500 and json.loads(piece.data)["error"]["code"] == "E_REPLICA"


def test_an_error_is_the_servers(replicas):
    (piece,) = ask(replicas[0], question("/v1/chat/completions", top_p=3))
    assert piece.head[0] == 400 and json.loads(piece.data)["error"]["param"] == "top_p"


def test_who_leaves_frees_the_engine(replicas):
    async def leave():
        answer = replicas[0].answer(question("/v1/chat/completions", stream=True, n=128))
        await anext(answer)
        await answer.aclose()
        await asyncio.sleep(0.5)

    asyncio.run(leave())
    engine = replicas[0]._engine
    assert (engine.running, engine.waiting) == (0, 0)


def test_a_step_that_hangs_is_told_to_serve(model):
    stuck = Replica(model, Limits(stall_seconds=1e-9))
    stuck.check_health()

    async def look():
        answer = stuck.answer(question("/v1/chat/completions", stream=True, n=64))
        await anext(answer)
        with pytest.raises(EngineStalledError, match="no step for"):
            while True:
                stuck.check_health()
        await answer.aclose()

    asyncio.run(look())


FAILS = """
import asyncio, sys
from test_retelling import Limits, Model, Replica, decodekit, open_bundle, question, software

known = software(decodekit.load_plugins(()))
replica = Replica(Model(("tagline",), "tagline", open_bundle("tagline").sha256, {}, known), Limits())

async def ask():
    async for piece in replica.answer(question("/v1/completions", stream=True)):
        print("told")
        replica._engine._turn = lambda: 1 / 0

asyncio.run(ask())
"""


def test_an_engine_that_fails_ends_its_process_and_tells_no_error():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FAILS],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 4 and "ZeroDivisionError" in done.stderr


def test_another_bundle_or_other_software_is_refused(model):
    with pytest.raises(BundleError, match="another bundle"):
        replace(model, sha256="00").loaded()
    with pytest.raises(PluginError, match="install the same packages"):
        replace(model, software={"decodekit": "0.0"}).loaded()


def fields_of(endpoint):
    return getattr(getattr(endpoint, "params", None), "model_fields", ())


def test_every_streaming_route_of_the_server_can_be_gone_on_with():
    routes = create_app(Models({})).routes
    endpoints = {route.path: getattr(route, "endpoint", None) for route in routes}
    streaming = {path for path, one in endpoints.items() if "stream" in fields_of(one)}
    assert streaming == set(APIS)
