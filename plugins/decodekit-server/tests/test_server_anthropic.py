"""The client of Anthropic against a real server."""

import anthropic
import pytest


@pytest.fixture
def client(server):
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


def test_a_message_is_that_of_the_chat_api(client, server, ask):
    answer = client.messages.create(
        model="tagline", messages=ask, max_tokens=40, extra_body={"temperature": 0}
    )
    own = server.decoder("tagline").generate(ask, max_new_tokens=40)
    assert answer.content[0].text == own.text and answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens == own.usage.completion_tokens


def test_a_stream_adds_up(client, ask):
    asked = {"model": "tagline", "messages": ask, "max_tokens": 40, "extra_body": {"temperature": 0}}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.stop_reason == "end_turn"


def test_stop_sequences_and_lengths_are_told(client, ask):
    text = (
        client.messages.create(model="tagline", messages=ask, max_tokens=40, extra_body={"temperature": 0})
        .content[0]
        .text
    )
    asked = {"model": "tagline", "messages": ask, "extra_body": {"temperature": 0}}
    stopped = client.messages.create(**asked, max_tokens=40, stop_sequences=[text[4:8]])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", text[4:8])
    assert client.messages.create(**asked, max_tokens=2).stop_reason == "max_tokens"


def test_tools_are_used(client, ask):
    tools = [{"name": "weather", "input_schema": {"type": "object"}}]
    asked = {
        "model": "caller",
        "messages": ask,
        "max_tokens": 60,
        "extra_body": {"temperature": 0},
        "tools": tools,
    }
    whole = client.messages.create(**asked)
    text, use = whole.content
    assert (text.text, use.name, use.input) == ("Let me look.", "weather", {"city": "Kyiv"})
    assert whole.stop_reason == "tool_use"
    with client.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["text", "tool_use"]
    assert final.content[1].input == {"city": "Kyiv"} and final.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    answered = [*ask, {"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}]
    again = client.messages.create(**{**asked, "messages": answered})
    assert again.usage.input_tokens > whole.usage.input_tokens


def test_tokens_are_counted_as_they_are_asked(client, ask):
    tools = [{"name": "weather", "input_schema": {"type": "object"}}]
    for more in ({}, {"tools": tools}):
        counted = client.messages.count_tokens(model="caller", messages=ask, **more).input_tokens
        asked = client.messages.create(model="caller", messages=ask, max_tokens=1, **more)
        assert counted == asked.usage.input_tokens


def test_errors_have_its_shape(client, ask):
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="nothing", messages=ask, max_tokens=4)
    assert caught.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="thinking: is not supported here"):
        client.messages.create(
            model="tagline", messages=ask, max_tokens=4, extra_body={"thinking": {"type": "adaptive"}}
        )


@pytest.mark.parametrize(
    ("method", "path", "fields", "status", "code"),
    [
        ("GET", "/v1/messages", {}, 405, "E_METHOD"),
        ("DELETE", "/v1/messages/count_tokens", {}, 405, "E_METHOD"),
        ("POST", "/v1/messages/none", {"json": {}}, 404, "E_NOT_FOUND"),
        ("POST", "/v1/messages", {"content": b"{"}, 400, "E_BODY"),
        ("POST", "/v1/messages", {"headers": {"host": "evil.example"}}, 403, "E_HOST"),
    ],
)
def test_an_error_before_a_handler_has_its_shape_too(http, method, path, fields, status, code):
    answer = http.request(method, path, **fields)
    content = answer.json()
    assert (answer.status_code, content["type"], content["error"]["code"]) == (status, "error", code)
    assert content["error"].keys() == {"type", "message", "code"}
    assert status != 405 or answer.headers["allow"] == "POST"
    other = http.request(method, path.replace("/v1/messages", "/v1/messages2"), **fields)
    assert other.json()["error"].keys() == {"message", "type", "param", "code"}
