"""The whole run on the embedded model: n answers, streamed, speculated, replayed, from the command line."""

import json

import pytest
from decodekit_grammar import JsonSchema
from jsonschema import Draft202012Validator

import decodekit
from decodekit import cli
from decodekit.errors import ParameterError
from decodekit.plugins import load_plugins
from decodekit.record import Record
from decodekit.replay import replay
from decodekit.verify import verify

PROMPT = "Give me a tagline for a new coffee shop."
SCHEMA = {
    "type": "object",
    "properties": {
        "tagline": {"type": "string", "minLength": 3, "maxLength": 40},
        "tone": {"enum": ["warm", "bold"]},
        "score": {"type": "integer", "minimum": 0, "maximum": 10},
    },
    "required": ["tagline", "tone", "score"],
    "additionalProperties": False,
}
CHAIN = f"json_schema={json.dumps(SCHEMA)}, temperature=0.8, top_p=0.95"


@pytest.fixture(scope="module")
def decoder():
    with decodekit.load("tagline", plugins=load_plugins(only={"grammar"})) as decoder:
        yield decoder


@pytest.fixture(scope="module")
def four(decoder):
    return decoder.generate(PROMPT, CHAIN, n=4, seed=5)


def test_every_answer_is_valid(four):
    for completion in four:
        assert completion.finish_reason == "stop"
        Draft202012Validator(SCHEMA).validate(json.loads(completion.text))
    assert len({completion.text for completion in four}) == 4


def test_an_answer_does_not_depend_on_the_others(decoder, four):
    alone = decoder.generate(PROMPT, CHAIN, seed=5, sample=2)
    assert alone.text == four[2].text


def test_a_stream_gives_the_same_tokens(decoder, four):
    stream = decoder.stream(PROMPT, CHAIN, seed=5)
    assert "".join(stream) == four[0].text


@pytest.mark.parametrize("sample", range(3))
def test_speculation_gives_the_same_tokens(decoder, four, sample):
    fast = decoder.generate(PROMPT, CHAIN, seed=5, sample=sample, speculate="lookup")
    assert fast.text == four[sample].text


def test_beside_requests_with_other_grammars(decoder, four):
    prompts = [PROMPT] * 3
    assert [c.text for c in decoder.generate(prompts, CHAIN, seed=5)] == [four[0].text] * 3
    digits = decoder.generate(prompts, ["regex=[0-9]{4}", "temperature=1"], seed=1)
    assert all(len(c.text) == 4 and c.text.isdigit() for c in digits)


def test_without_a_chain_behind_it_the_best_allowed_token_is_not_taken_but_drawn(decoder):
    assert decoder.generate(PROMPT, 'choice=["yes", "no"]', seed=1).text in ("yes", "no")
    greedy = {decoder.generate(PROMPT, 'choice=["yes", "no"], greedy', seed=seed).text for seed in range(4)}
    assert len(greedy) == 1


def test_beams_stay_inside(decoder):
    for beam in decoder.beam(PROMPT, 'choice=["yes", "no", "yes, please"]', beams=3):
        assert beam.text in ("yes", "no", "yes, please")


def test_a_record_holds_the_schema_and_is_verified(decoder, four):
    record = Record.from_json(four[1].recipe)
    assert record.chain[0].options["schema"] == SCHEMA
    assert replay(decoder, record).holds
    assert verify(decoder, record).holds


def test_a_session_is_held_to_the_grammar(decoder):
    session = decoder.session(PROMPT, "regex=no[a-z]*", seed=1)
    session.append("no")
    session.sample()
    session.rewind(len(session.ids) - 1)
    while not session.sample().stop:
        pass
    assert session.text.startswith("no") and (session.text.isalpha() and session.text.islower())


def test_a_bad_schema_is_refused_before_anything_runs(decoder):
    with pytest.raises(ParameterError, match="uniqueItems cannot be enforced"):
        decoder.generate(PROMPT, JsonSchema({"uniqueItems": True}))
    with pytest.raises(ParameterError, match="regex: pattern: unclosed group"):
        decoder.generate(PROMPT, "regex=a(")


def test_from_the_command_line(capsys, monkeypatch):
    monkeypatch.setenv("DECODEKIT_PLUGINS", "grammar")
    tools = '[{"name": "lookup", "parameters": {"type": "object", "additionalProperties": false}}]'
    words = ["generate", "tagline", PROMPT, "-p", f"tool_call={tools}", "-p", "greedy"]
    assert cli.main(words) == 0
    call = json.loads(capsys.readouterr().out)
    assert call == {"name": "lookup", "arguments": {}}
    assert cli.main([*words[:3], "-p", "regex=3"]) == 2
    assert "error[E_PARAMETER]: regex: pattern must be a text, got 3" in capsys.readouterr().err
