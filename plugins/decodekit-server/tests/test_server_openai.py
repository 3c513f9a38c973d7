"""The client of OpenAI against a real server: what it asks for, it gets, in its own types."""

import asyncio
import json
import math
from pathlib import Path

import anthropic
import openai
import pydantic
import pytest

import decodekit


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_chat_gives_what_the_decoder_gives(client, server, ask):
    answer = client.chat.completions.create(model="tagline", messages=ask, seed=3, temperature=0.9, top_p=0.8)
    own = server.decoder("tagline").generate(ask, "temperature=0.9, top_p=0.8", seed=3)
    assert answer.choices[0].message.content == own.text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == own.usage.prompt_tokens
    assert answer.usage.completion_tokens == own.usage.completion_tokens
    assert answer.system_fingerprint.startswith(server.decoder("tagline").bundle.sha256[:16])
    assert answer.model_extra["decodekit"]["seed"] == 3


def test_a_stream_adds_up_to_the_answer(client, ask):
    asked = {"model": "tagline", "messages": ask, "seed": 5, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    *rest, last = chunks
    assert "".join(c.choices[0].delta.content or "" for c in rest) == whole.choices[0].message.content
    assert rest[-1].choices[0].finish_reason == "stop"
    assert last.choices == [] and last.usage == whole.usage
    streamed = [t for c in rest if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert streamed == whole.choices[0].logprobs.content
    assert "".join(t.token for t in streamed) == whole.choices[0].message.content


def test_without_usage_every_chunk_has_a_choice(client, ask):
    for chunk in client.chat.completions.create(model="tagline", messages=ask, seed=5, stream=True):
        assert len(chunk.choices) == 1


def test_several_answers_are_the_samples_of_the_seed(client, server, ask):
    answer = client.chat.completions.create(model="tagline", messages=ask, seed=7, n=3)
    own = server.decoder("tagline").generate(ask, "temperature=1.0", seed=7, n=3)
    assert [c.message.content for c in answer.choices] == [c.text for c in own]
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(model="tagline", messages=ask, seed=7, n=3, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [c.text for c in own]


def test_completions_in_both_ways(client, server):
    asked = {"model": "tagline", "prompt": ["Fresh", "Warm"], "seed": 1, "max_tokens": 8, "logprobs": 2}
    whole = client.completions.create(**asked)
    own = server.decoder("tagline")
    ids = [[*own.tokenizer.prefix, *own.tokenizer.encode(text)] for text in ("Fresh", "Warm")]
    assert [c.text for c in whole.choices] == [
        c.text for c in own.generate(ids, "temperature=1.0", seed=1, max_new_tokens=8)
    ]
    logprobs = whole.choices[0].logprobs
    assert "".join(logprobs.tokens) == whole.choices[0].text
    assert logprobs.text_offset[0] == 0 and all(len(top) == 2 for top in logprobs.top_logprobs)
    texts, tokens = ["", ""], [[], []]
    for chunk in client.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.text
        tokens[choice.index] += choice.logprobs.tokens
    assert texts == [c.text for c in whole.choices]
    assert tokens == [c.logprobs.tokens for c in whole.choices]


def test_logprobs_are_of_the_place_asked_for(client, ask):
    asked = {"model": "tagline", "messages": ask, "seed": 5, "logprobs": True, "temperature": 0.2}
    raw = client.chat.completions.create(**asked)
    final = client.chat.completions.create(**asked, extra_body={"decodekit": {"logprobs_at": "final"}})
    assert raw.choices[0].message.content == final.choices[0].message.content
    assert sum(t.logprob for t in final.choices[0].logprobs.content) > sum(
        t.logprob for t in raw.choices[0].logprobs.content
    )


def test_stop_bias_and_penalties_do_something(client, server, ask):
    whole = client.chat.completions.create(model="tagline", messages=ask, temperature=0)
    text = whole.choices[0].message.content
    stopped = client.chat.completions.create(model="tagline", messages=ask, temperature=0, stop=text[5:9])
    assert stopped.choices[0].message.content == text[:5]
    first = server.decoder("tagline").tokenizer.encode(text)[0]
    biased = client.chat.completions.create(
        model="tagline", messages=ask, temperature=0, logit_bias={str(first): -100}
    )
    assert biased.choices[0].message.content != text
    penalized = client.chat.completions.create(
        model="tagline", messages=ask, temperature=0, frequency_penalty=2, presence_penalty=2
    )
    own = server.decoder("tagline").generate(ask, "frequency_penalty=2, presence_penalty=2, temperature=0")
    assert penalized.choices[0].message.content == own.text


def test_any_strategy_by_name(client, server, ask):
    wanted = {
        "processors": [{"name": "min_p", "p": 0.2}, {"name": "temperature", "t": 1.5}],
        "echo_params": True,
    }
    answer = client.chat.completions.create(
        model="tagline", messages=ask, seed=4, extra_body={"decodekit": wanted}
    )
    own = server.decoder("tagline").generate(ask, "min_p=0.2, temperature=1.5", seed=4)
    assert answer.choices[0].message.content == own.text
    told = answer.model_extra["decodekit"]["params"]
    assert told["processors"] == [{"name": "min_p", "p": 0.2}, {"name": "temperature", "t": 1.5}]
    assert told["values"]["seed"] == {"value": 4, "from": "request"}


def test_a_drawn_seed_gives_the_same_again(client, ask):
    first = client.chat.completions.create(model="tagline", messages=ask)
    seed = first.model_extra["decodekit"]["seed"]
    again = client.chat.completions.create(model="tagline", messages=ask, seed=seed)
    assert again.choices[0].message.content == first.choices[0].message.content


def test_a_trace_is_that_of_the_decoder(client, server, ask):
    extra = {"decodekit": {"trace": True, "trace_top": 5}}
    asked = {"model": "tagline", "messages": ask, "seed": 2, "top_p": 0.9, "max_tokens": 6}
    answer = client.chat.completions.create(**asked, extra_body=extra)
    trace = answer.model_extra["decodekit"]["trace"]
    own = server.decoder("tagline").trace(
        ask, "temperature=1.0, top_p=0.9", seed=2, top=5, max_new_tokens=6, max_time=600.0
    )
    assert trace["steps"] == json.loads(json.dumps(own.to_json()["steps"]))
    *_, last = client.chat.completions.create(**asked, stream=True, extra_body=extra)
    assert last.model_extra["decodekit"]["trace"]["steps"] == trace["steps"]


def test_models_are_listed(client):
    assert [m.id for m in client.models.list()] == ["tagline", "caller", "slow"]
    assert client.models.retrieve("tagline").id == "tagline"
    with pytest.raises(openai.NotFoundError, match="did you mean 'tagline'"):
        client.models.retrieve("taglin")


def test_marked_calls_are_parsed(client, ask):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    asked = {"model": "caller", "messages": ask, "tools": tools, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    (call,) = whole.choices[0].message.tool_calls
    assert call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "Kyiv"}
    assert whole.choices[0].finish_reason == "tool_calls"
    assert whole.choices[0].message.content == "Let me look."

    content, calls = "", []
    for chunk in client.chat.completions.create(**asked, stream=True):
        content += chunk.choices[0].delta.content or ""
        calls += chunk.choices[0].delta.tool_calls or []
    assert content == "Let me look." and calls[0].function.arguments == call.function.arguments
    assert chunk.choices[0].finish_reason == "tool_calls"

    unasked = client.chat.completions.create(model="caller", messages=ask, temperature=0)
    assert unasked.choices[0].message.content.startswith("Let me look.<tool_call>")

    answered = [*ask, whole.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    again = client.chat.completions.create(**{**asked, "messages": answered})
    assert again.usage.prompt_tokens > whole.usage.prompt_tokens


def test_a_forced_call_is_one(client, ask):
    pytest.importorskip("decodekit_grammar", reason="decodekit-grammar is not installed")
    parameters = {
        "type": "object",
        "properties": {"unit": {"enum": ["C", "F"]}},
        "required": ["unit"],
        "additionalProperties": False,
    }
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    answer = client.chat.completions.create(
        model="tagline", messages=ask, tools=tools, tool_choice="required", seed=1, max_tokens=60
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "weather" and json.loads(call.function.arguments)["unit"] in "CF"
    asked = {"model": "caller", "messages": ask, "max_tokens": 60}
    untold = client.chat.completions.create(**asked).usage.prompt_tokens
    told = client.chat.completions.create(**asked, tools=tools, tool_choice="required")
    assert told.usage.prompt_tokens > untold  # its template knows tools, so the model hears of them


def test_json_to_a_schema(client, ask):
    pytest.importorskip("decodekit_grammar", reason="decodekit-grammar is not installed")
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["n"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(model="tagline", messages=ask, response_format=wanted, seed=1)
    assert 0 <= json.loads(answer.choices[0].message.content)["n"] <= 99
    unkept = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"uniqueItems": True}}}
    with pytest.raises(openai.BadRequestError, match="uniqueItems"):
        client.chat.completions.create(model="tagline", messages=ask, response_format=unkept)


def test_errors_are_those_of_the_client(client, ask):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="../../etc/passwd", messages=ask)
    assert caught.value.code == "model_not_found" and caught.value.param == "model"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tagline", messages=ask, top_p=1.5)
    assert caught.value.code == "E_PARAMETER" and caught.value.param == "top_p"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tagline", messages=ask, extra_body={"temperatur": 1})
    assert caught.value.code == "E_UNKNOWN_FIELD" and "did you mean 'temperature'?" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tagline", messages=ask, max_tokens=256)
    assert caught.value.code == "E_CONTEXT" and "256" in caught.value.message


def test_responses_in_both_ways(client, ask):
    asked = {"model": "tagline", "input": "Give me a tagline for a new coffee shop.", "temperature": 0}
    whole = client.responses.create(**asked)
    chat = client.chat.completions.create(model="tagline", messages=ask, temperature=0)
    assert whole.output_text == chat.choices[0].message.content and whole.status == "completed"
    assert whole.usage.output_tokens == chat.usage.completion_tokens
    events = list(client.responses.create(**asked, stream=True))
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    assert events[-1].response.output_text == whole.output_text
    short = client.responses.create(**asked, max_output_tokens=2)
    assert short.status == "incomplete" and short.incomplete_details.reason == "max_output_tokens"
    with client.responses.stream(**asked) as stream:
        assert stream.get_final_response().output_text == whole.output_text


WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}


def test_calls_in_responses(client):
    asked = {"model": "caller", "input": "Is it sunny?", "tools": [WEATHER], "temperature": 0}
    whole = client.responses.create(**asked)
    message, call = whole.output
    assert whole.output_text == "Let me look." and (message.type, message.status) == ("message", "completed")
    assert (call.type, call.name, call.status) == ("function_call", "weather", "completed")
    assert json.loads(call.arguments) == {"city": "Kyiv"} and call.call_id != call.id
    assert (whole.tool_choice, whole.tools[0].name, whole.parallel_tool_calls) == ("auto", "weather", True)

    *events, last = client.responses.create(**asked, stream=True)
    assert [e.sequence_number for e in (*events, last)] == list(range(len(events) + 1))
    said = [e for e in events if e.type != "response.output_text.delta"]
    assert [e.type.removeprefix("response.") for e in said] == [
        "created", "in_progress",
        "output_item.added", "content_part.added",
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
    ]  # fmt: skip
    assert {e.output_index for e in said[2:7]} == {0} and {e.output_index for e in said[7:]} == {1}
    added, delta, done, item = said[7:]
    assert added.item.arguments == "" and (done.name, done.item_id) == ("weather", added.item.id)
    assert delta.delta == done.arguments == item.item.arguments == call.arguments
    assert last.response.output[1] == item.item and last.response.output[0] == said[6].item

    with client.responses.stream(**asked) as stream:
        final = stream.get_final_response()
    assert [one.type for one in final.output] == ["message", "function_call"]
    assert final.output[1].arguments == call.arguments

    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    turn = [{"role": "user", "content": asked["input"]}, *whole.output, result]
    again = client.responses.create(**asked | {"input": turn})
    chat = client.chat.completions.create(
        model="caller",
        messages=[
            {"role": "user", "content": asked["input"]},
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [
                    {
                        "id": call.call_id,
                        "type": "function",
                        "function": {"name": "weather", "arguments": call.arguments},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": call.call_id, "content": "sunny"},
        ],
        tools=[
            {
                "type": "function",
                "function": {"name": "weather", "parameters": {"type": "object"}, "strict": False},
            }
        ],
    )
    assert again.usage.input_tokens == chat.usage.prompt_tokens > whole.usage.input_tokens
    silent = client.responses.create(**asked, tool_choice="none")
    assert silent.output_text.startswith("Let me look.<tool_call>") and len(silent.output) == 1


def test_arguments_in_a_response_are_parsed_by_the_client(client):
    class weather(pydantic.BaseModel):
        city: str

    tool = openai.pydantic_function_tool(weather)
    function = {"type": "function", **tool["function"]}
    parsed = client.responses.parse(model="caller", input="Is it sunny?", tools=[function], temperature=0)
    assert parsed.output[1].parsed_arguments == {"city": "Kyiv"}


def test_a_response_may_be_forced_to_call(client):
    pytest.importorskip("decodekit_grammar", reason="decodekit-grammar is not installed")
    parameters = {
        "type": "object",
        "properties": {"unit": {"enum": ["C", "F"]}},
        "required": ["unit"],
        "additionalProperties": False,
    }
    tools = [WEATHER | {"parameters": parameters}, WEATHER | {"name": "time"}]
    for choice in ({"type": "function", "name": "weather"}, "required"):
        asked = {"model": "tagline", "input": "Hi", "max_output_tokens": 60, "tool_choice": choice}
        answer = client.responses.create(**asked, tools=tools if choice != "required" else tools[:1])
        (call,) = answer.output
        assert call.name == "weather" and json.loads(call.arguments)["unit"] in "CF"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "none"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "include": ["message.output_text.logprobs"]}, "include"),
        ({"tools": [WEATHER | {"defer_loading": True}]}, "tools.0.defer_loading"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input.0.type"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input.0.arguments"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.call_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.type"),
        (
            {"tools": [WEATHER], "tool_choice": "required", "text": {"format": {"type": "json_object"}}},
            "text.format",
        ),
    ],
)
def test_what_a_response_cannot_have_is_named(client, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "caller", "input": "x"} | fields)
    assert caught.value.param == param and caught.value.message


def test_where_calls_are_not_parallel_the_first_ends_the_answer(serve, scripted, ask):
    call = json.dumps({"name": "weather", "arguments": {"city": "Kyiv"}})
    text = f"Look.\n<tool_call>{call}</tool_call>\n<tool_call>{call}</tool_call> Done."
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    with (
        serve({"two": scripted(text)}) as running,
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client,
    ):
        for single, count in ((None, 2), (False, 1)):
            more = {} if single is None else {"parallel_tool_calls": single}
            asked = {"model": "two", "messages": ask, "tools": tools, "temperature": 0, **more}
            (choice,) = client.chat.completions.create(**asked).choices
            calls, content = [], ""
            for chunk in client.chat.completions.create(**asked, stream=True):
                calls += chunk.choices[0].delta.tool_calls or []
                content += chunk.choices[0].delta.content or ""
            assert len(choice.message.tool_calls) == len(calls) == count
            assert choice.message.content == content == ("Look." if single is False else "Look.\n\n Done.")
            response = client.responses.create(model="two", input="x", tools=[WEATHER], temperature=0, **more)
            items = ["message", "function_call", "function_call", "message"]
            assert [item.type for item in response.output] == (items[:2] if single is False else items)
        with anthropic.Anthropic(base_url=running.url, api_key="none", max_retries=0) as other:
            answer = other.messages.create(
                model="two",
                messages=ask,
                max_tokens=200,
                tools=[{"name": "weather", "input_schema": {"type": "object"}}],
                tool_choice={"type": "auto", "disable_parallel_tool_use": True},
            )
        assert [block.type for block in answer.content] == ["text", "tool_use"]
        assert (answer.stop_reason, answer.stop_sequence) == ("tool_use", None)


def test_the_async_client(server, ask):
    async def talk():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            asked = {"model": "tagline", "messages": ask}
            many = [client.chat.completions.create(**asked, seed=seed) for seed in range(8)]
            answers = [a.choices[0].message.content for a in await asyncio.gather(*many)]
            stream = await client.chat.completions.create(**asked, seed=3, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return answers, text

    answers, text = asyncio.run(talk())
    assert text == answers[3]
    own = [server.decoder("tagline").generate(ask, "temperature=1.0", seed=seed).text for seed in range(8)]
    assert answers == own


def test_scores_are_those_of_the_decoder(http, server):
    answer = http.post(
        "/v1/score", json={"model": "tagline", "text": "Good days start here.", "top": 1}
    ).json()
    own = server.decoder("tagline").score("Good days start here.", top=1)
    assert answer["logprob"] == own.sum and answer["tokens"] == own.total.count
    assert math.isclose(answer["perplexity"], own.perplexity)
    messages = [{"role": "user", "content": "Say it."}]
    answer = http.post("/v1/score", json={"model": "tagline", "text": "Good.", "messages": messages}).json()
    assert answer["logprob"] == server.decoder("tagline").score("Good.", prompt=messages).sum


def test_texts_to_tokens_and_back(http, server, ask):
    found = http.post("/tokenize", json={"model": "tagline", "messages": ask}).json()
    assert tuple(found["tokens"]) == server.decoder("tagline").encode(ask) and found["max_model_len"] == 256
    plain = http.post("/tokenize", json={"model": "tagline", "prompt": "Good days", "raw": True}).json()
    back = http.post("/detokenize", json={"model": "tagline", "tokens": plain["tokens"]}).json()
    assert back == {"prompt": "Good days"}


def test_an_adapter_is_a_model_of_its_own(serve):
    fixture = Path(__file__).parents[3] / "tests" / "fixtures" / "adapters"
    with decodekit.load(fixture, device="cpu") as decoder, serve({"m": decoder}) as running:
        with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
            assert [m.id for m in client.models.list()] == ["m", "m:one", "m:three"]
            for model, adapter in (("m", None), ("m:one", "one"), ("m:three", "three")):
                asked = {"prompt": [3, 4, 5], "temperature": 0, "max_tokens": 12}
                answer = client.completions.create(model=model, **asked)
                own = decoder.generate([3, 4, 5], adapter=adapter, max_new_tokens=12)
                assert answer.choices[0].text == own.text and answer.model == model
        with running.client() as http:
            scores = [
                http.post("/v1/score", json={"model": m, "text": [3, 4, 5]}).json()["logprob"]
                for m in ("m", "m:one")
            ]
            assert scores[0] != scores[1]
            assert http.get("/health").json()["models"].keys() == {"m"}
