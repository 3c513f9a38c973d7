import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decodekit.chat import Chat
from decodekit.errors import PromptError, TemplateError

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def chat(tokenizer):
    return Chat(tokenizer, TEMPLATE, tokenizer.id("<|end|>"))


@pytest.fixture(scope="module")
def raw(tokenizer):
    return Chat(tokenizer, None, tokenizer.id("<|end|>"))


def spelled(tokenizer, ids):
    return [tokenizer.token(i) for i in ids]


def test_a_text_prompt_is_one_user_message(chat):
    assert chat.prompt("the cat") == chat.prompt([{"role": "user", "content": "the cat"}])


def test_the_prompt_ends_where_the_answer_begins(chat, tokenizer):
    assert spelled(tokenizer, chat.prompt("a"))[0] == "<|user|>"
    assert spelled(tokenizer, chat.prompt("a"))[-2:] == ["<|end|>", "<|assistant|>"]


@settings(max_examples=100, deadline=None)
@given(prompt=TEXT, completion=TEXT)
def test_trained_are_the_completion_and_its_stop_token_and_nothing_else(
    chat, raw, tokenizer, prompt, completion
):
    for renderer in (chat, raw):
        row = renderer.pair(prompt, completion)
        trained = [i for i, m in zip(row.ids, row.mask, strict=True) if m]
        assert tokenizer.decode(trained[:-1]) == completion
        assert trained[-1] == tokenizer.id("<|end|>")
        assert row.ids[: -len(trained)] == renderer.prompt(prompt)
        assert row.mask == (False,) * (len(row.ids) - len(trained)) + (True,) * len(trained)


@settings(max_examples=50, deadline=None)
@given(before=TEXT, after=TEXT)
def test_special_token_text_in_a_message_stays_text(chat, tokenizer, before, after):
    ids = chat.prompt(before + "<|end|>" + after)
    assert ids.count(tokenizer.id("<|end|>")) == 1
    assert tokenizer.decode(ids) == before + "<|end|>" + after


def test_a_private_character_in_a_message_stays_itself(chat, tokenizer):
    assert tokenizer.decode(chat.prompt("\ue000<|user|>\ue001")) == "\ue000<|user|>\ue001"


def test_without_a_template_a_prompt_is_the_text(raw, tokenizer):
    assert raw.prompt("the cat") == tuple(tokenizer.encode("the cat"))
    with pytest.raises(PromptError, match="messages need a chat template"):
        raw.prompt([{"role": "user", "content": "a"}])


def test_the_template_names_the_end_of_a_turn(tokenizer):
    template = TEMPLATE.replace("<|end|>", "<|user|>")
    assert Chat(tokenizer, template, tokenizer.id("<|end|>")).end == (tokenizer.id("<|user|>"),)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages is empty"),
        ([{"role": "user"}], r"messages\[0\].content must be a string, got None"),
        ([{"role": "user", "content": "a"}, {"content": "b"}], r"messages\[1\].role must be a string"),
    ],
)
def test_messages_are_checked_with_their_place(chat, messages, message):
    with pytest.raises(PromptError, match=message):
        chat.prompt(messages)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% for a in range(10 ** 9) %}x{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
        "{% include 'other' %}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ nobody.there }}",
    ],
)
def test_a_template_can_neither_escape_nor_run_on(tokenizer, template):
    with pytest.raises(TemplateError, match="chat template: "):
        Chat(tokenizer, template, None).prompt("a")


def test_a_template_that_does_not_parse_is_refused_at_once(tokenizer):
    with pytest.raises(TemplateError, match="chat template: "):
        Chat(tokenizer, "{% for %}", None)


def test_what_a_template_writes_as_json_is_as_it_asks_for(tokenizer):
    template = "{{ {'b': 'é<', 'a': 1} | tojson(separators=(',', ':'), sort_keys=true) }}"
    assert tokenizer.decode(Chat(tokenizer, template, None).prompt("x")) == '{"a":1,"b":"é<"}'
