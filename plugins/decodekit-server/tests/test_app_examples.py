"""The examples of the documentation that hold the decoder in an application of another kind, run."""

import asyncio
import base64
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import decodekit

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
CHAIN = "temperature=0.8, top_p=0.9"
QUESTION = "Write a slogan for a bakery."


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_langchain(server, tagline):
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": f"{server.url}/v1",
        "OPENAI_API_KEY": "none",
        "NO_PROXY": "*",
    }
    words = [sys.executable, EXAMPLES / "langchain_client.py"]
    run = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    whole, streamed, bakery, studio = run.stdout.splitlines()
    prompts = [f"Give me a tagline for a {what}." for what in ("new coffee shop", "bakery", "yoga studio")]
    own = [tagline.generate(prompt, "min_p=0.1, temperature=0.9", seed=1).text for prompt in prompts]
    assert [whole, bakery, studio] == own and streamed == whole


@pytest.fixture
def chat(tagline):
    return example("textual_chat").Chat(tagline, "greedy")


def conversation(app, act):
    """What `act` does with the application on a terminal that is not there."""

    async def go():
        async with asyncio.timeout(30), app.run_test() as pilot:
            await act(pilot)

    asyncio.run(go())


async def say(pilot, text):
    pilot.app.query_one("Input").value = text
    await pilot.press("enter")
    await pilot.pause()


def test_a_textual_chat_answers_what_is_typed(chat, tagline):
    async def act(pilot):
        for text in (QUESTION, "Shorter."):
            await say(pilot, text)
            await chat.workers.wait_for_complete()
        shown = [str(line.content) for line in chat.query("VerticalScroll Static")]
        assert shown == [message["content"] for message in chat.messages]

    conversation(chat, act)
    first = tagline.generate(QUESTION, "greedy").text
    asked = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": first}]
    asked.append({"role": "user", "content": "Shorter."})
    assert chat.messages == [*asked, {"role": "assistant", "content": tagline.generate(asked, "greedy").text}]


def test_a_textual_chat_tells_what_does_not_fit_and_goes_on(chat):
    async def act(pilot):
        await say(pilot, "word " * 400)
        assert not chat.messages
        (told,) = chat._notifications
        assert "context window" in told.message
        await say(pilot, QUESTION)
        await chat.workers.wait_for_complete()
        assert len(chat.messages) == 2

    conversation(chat, act)


def test_escape_ends_an_answer_of_a_textual_chat_and_frees_its_place(scripted):
    decoder = scripted("one two three four five six seven eight nine ten " * 20, seconds=0.01)
    app = example("textual_chat").Chat(decoder, "greedy")

    async def act(pilot):
        await say(pilot, QUESTION)
        while not (app.messages and app.messages[1]["content"]):
            await pilot.pause(0.01)
        await pilot.press("escape")
        await pilot.pause(0.1)
        calls = decoder.model.calls
        await pilot.pause(0.1)
        assert decoder.model.calls == calls

    with decoder:
        conversation(app, act)
    assert app.messages[1]["content"].startswith("one")
    assert len(app.messages[1]["content"]) < 900


def call(module, body, **event):
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 30_000)
    answer = module.handler({"body": body, **event}, context)
    return answer["statusCode"], json.loads(answer["body"])


@pytest.fixture
def function(monkeypatch):
    """The function after a cold start, and how often it loaded a model."""
    loaded = []
    load = decodekit.load

    def counted(*args, **options):
        loaded.append(args)
        return load(*args, **options)

    monkeypatch.delenv("DECODEKIT_BUNDLE", raising=False)
    monkeypatch.setattr(decodekit, "load", counted)
    module = example("lambda_handler")
    module.loaded = loaded
    with module.decoder:
        yield module


def test_a_function_loads_at_its_cold_start_and_never_again(function, tagline):
    own = tagline.generate(QUESTION, CHAIN, seed=2, max_new_tokens=64)
    asked = json.dumps({"prompt": QUESTION, "seed": 2})
    for _ in ("cold", "warm"):
        status, answer = call(function, asked)
        assert (status, answer) == (200, {"text": own.text, "finish_reason": own.finish_reason, "seed": 2})
    encoded = base64.b64encode(asked.encode()).decode()
    assert call(function, encoded, isBase64Encoded=True) == (200, answer)
    assert function.loaded == [("tagline",)]


@pytest.mark.parametrize(
    "body, told",
    [
        (None, "needs a JSON body"),
        ("{", "needs a JSON body"),
        ({"prompt": "x"}, "needs a JSON body"),
        ("[]", "must be an object"),
        ('{"prompt": "x", "chain": "greedy"}', "must be an object"),
        ('{"prompt": 5}', "prompt must be a text"),
        ('{"prompt": ""}', "prompt is empty"),
        ('{"prompt": "x", "seed": -1}', "seed must be in"),
        (json.dumps({"prompt": "word " * 350}), "context window"),
    ],
)
def test_a_bad_event_is_told_so_and_the_function_goes_on(function, body, told):
    status, answer = call(function, body)
    assert status == 400 and told in answer["error"]
    assert call(function, '{"prompt": "x"}')[0] == 200
