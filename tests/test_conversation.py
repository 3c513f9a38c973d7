"""Conversations: answers follow what a model is asked with, end by a stop token; nothing else is trained."""

import json

import pytest

from decodekit.chat import Chat
from decodekit.errors import PromptError, TemplateError

PLAIN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# The thought of an answer is written where that answer is the last message, and nowhere else.
THINKS = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.thinking and loop.last %}({{ m.thinking }}){% endif %}{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CALLS = (
    "{% if tools %}<|user|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for m in messages %}<|{{ 'user' if m.role == 'tool' else m.role }}|>{{ m.content }}"
    "{% for call in m.tool_calls or [] %}[{{ call.function.name }} {{ call.function.arguments | tojson }}]"
    "{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "mat", "parameters": {}}}]


@pytest.fixture
def chat(tokenizer):
    def make(template=PLAIN, stop="<|end|>"):
        return Chat(tokenizer, template, tokenizer.id(stop))

    return make


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **others):
    return {"role": "assistant", "content": content, **others}


def call(name, arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.fixture
def answers(tokenizer):
    """What each row trains: texts between tokens that are not trained, special tokens spelled."""

    def of(rows):
        said = []
        for row in rows:
            said.append([])
            before = False
            for id, trained in zip(row.ids, row.mask, strict=True):
                if trained:
                    said[-1][len(said[-1]) - before :] = [(said[-1][-1] if before else ()) + (id,)]
                before = trained
        return [[tokenizer.decode(ids[:-1]) + "|" + tokenizer.token(ids[-1]) for ids in row] for row in said]

    return of


def test_every_answer_is_trained_in_one_row(chat, answers):
    rows = chat().conversation([user("a"), assistant("the cat"), user("b"), assistant("sat")])
    assert answers(rows) == [["the cat|<|end|>", "sat|<|end|>"]]


def test_an_answer_follows_exactly_the_prompt_of_what_came_before(chat):
    messages = [
        {"role": "system", "content": "c"},
        user("a"),
        assistant("the cat"),
        user("b"),
        assistant("d"),
    ]
    (row,) = chat().conversation(messages)
    for at in (2, 4):
        asked = chat().prompt(messages[:at])
        assert row.ids[: len(asked)] == asked
        assert not row.mask[len(asked) - 1] and row.mask[len(asked)]


def test_one_turn_is_a_pair(chat):
    for text in ("the cat", " <|end|> \n", "ça <|user|>va\ue000", ""):
        assert chat().conversation([user("a"), assistant(text)]) == [chat().pair("a", text)]


def test_where_the_template_rewrites_the_past_each_answer_has_a_row(chat, answers):
    messages = [user("a"), assistant("b", thinking="hm"), user("c"), assistant("d", thinking="so")]
    rows = chat(THINKS).conversation(messages)
    assert answers(rows) == [["(hm)b|<|end|>"], ["(so)d|<|end|>"]]
    assert rows[1].ids[: len(rows[1].ids) - sum(rows[1].mask)] == chat(THINKS).prompt(messages[:3])


def test_where_only_the_first_past_is_rewritten_the_rest_share_a_row(chat, answers):
    messages = [
        user("a"),
        assistant("b", thinking="hm"),
        user("c"),
        assistant("d"),
        user("e"),
        assistant("f"),
    ]
    assert answers(chat(THINKS).conversation(messages)) == [["(hm)b|<|end|>"], ["d|<|end|>", "f|<|end|>"]]


def test_a_call_is_trained_and_its_result_is_not(chat, answers):
    messages = [
        user("a"),
        {"role": "assistant", "content": None, "tool_calls": [call("mat", '{"x": "ça"}')]},
        {"role": "tool", "content": "b"},
        assistant("c"),
    ]
    rows = chat(CALLS).conversation(messages, TOOLS)
    assert answers(rows) == [['[mat {"x": "ça"}]|<|end|>', "c|<|end|>"]]
    assert chat(CALLS).prompt([user("a")], TOOLS) == rows[0].ids[: rows[0].mask.index(True)]


def test_special_token_text_in_a_call_and_in_a_tool_stays_text(chat, tokenizer):
    messages = [user("a"), assistant("", tool_calls=[call("mat", {"<|end|>": ["<|user|>"]})])]
    (row,) = chat(CALLS).conversation(messages, [{"name": "<|assistant|>"}])
    special = [tokenizer.token(id) for id in row.ids if id in tokenizer.special_ids]
    assert special == ["<|user|>", "<|end|>", "<|user|>", "<|end|>", "<|assistant|>", "<|end|>"]
    assert '{"<|end|>": ["<|user|>"]}' in tokenizer.decode(row.ids)


def test_marks_for_other_trainers_change_nothing(chat):
    marked = PLAIN.replace(
        "{{ m.content }}<|end|>",
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|end|>{% endgeneration %}"
        "{% else %}{{ m.content }}<|end|>{% endif %}",
    )
    messages = [user("a"), assistant("b"), user("c"), assistant("d")]
    assert chat(marked).conversation(messages) == chat().conversation(messages)


def test_an_answer_of_weight_0_is_read_and_not_trained(chat, answers):
    messages = [user("a"), assistant("b", weight=0), user("c"), assistant("d", weight=1)]
    (row,) = chat().conversation(messages)
    assert answers([row]) == [["d|<|end|>"]]
    assert row.ids == chat().conversation([user("a"), assistant("b"), user("c"), assistant("d")])[0].ids


def test_a_template_without_an_end_of_turn_gets_the_stop_token_behind_every_answer(chat, answers):
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    rows = chat(template).conversation([user("a"), assistant("b"), user("c"), assistant("d")])
    assert answers(rows) == [["b|<|end|>"], ["d|<|end|>"]]  # no prompt goes on behind a stop token


def test_a_call_may_end_by_another_stop_token_than_a_text(tokenizer, answers):
    template = PLAIN.replace("<|end|>", "{{ '<|user|>' if m.tool_calls else '<|end|>' }}").replace(
        "{{ m.content }}", "{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}"
    )
    messages = [user("a"), assistant("", tool_calls=[{"name": "b", "arguments": {}}])]
    with pytest.raises(
        TemplateError, match="ends with .* and no stop token of the model; name it in generation"
    ):
        Chat(tokenizer, template, tokenizer.id("<|end|>")).conversation(messages)
    chat = Chat(tokenizer, template, tokenizer.id("<|user|>"))
    assert answers(chat.conversation(messages)) == [['[{"name": "b", "arguments": {}}]|<|user|>']]


@pytest.mark.parametrize(
    ("template", "messages", "tools", "error", "message"),
    [
        (PLAIN, [user("a")], None, PromptError, "the last message must be an answer to train"),
        (
            PLAIN,
            [user("a"), assistant("b"), user("c")],
            None,
            PromptError,
            "the last message must be an answer",
        ),
        (
            PLAIN,
            [user("a"), assistant("b", weight=2)],
            None,
            PromptError,
            "messages.1..weight must be 0 or 1, got 2",
        ),
        (PLAIN, [user("a"), assistant("b")], TOOLS, TemplateError, "it has no place for tools; remove them"),
        (
            PLAIN,
            [user("a"), assistant("b", tool_calls=[call("mat", {})])],
            None,
            TemplateError,
            "makes nothing of messages.1..tool_calls; remove it",
        ),
        (
            PLAIN,
            [user("a"), assistant("b", reasoning_content="hm")],
            None,
            TemplateError,
            "makes nothing of messages.1..reasoning_content",
        ),
        (
            PLAIN,
            [user("a"), assistant("b", tool_calls="c")],
            None,
            PromptError,
            "tool_calls must be a list of calls",
        ),
        (
            CALLS,
            [user("a"), assistant("b", tool_calls=[{}])],
            None,
            PromptError,
            "must be calls of a named function",
        ),
        (
            CALLS,
            [user("a"), assistant("b", tool_calls=[call("mat", "{")])],
            None,
            PromptError,
            "the arguments of 'mat' are no JSON",
        ),
        (
            PLAIN + "{% if add_generation_prompt %}<think>{% endif %}",
            [user("a"), assistant("b")],
            None,
            TemplateError,
            "the prompt of messages.1. is not how the template begins that message; give rows of prompt and",
        ),
        (
            PLAIN.replace("{{ m.content }}", "{{ m.content }}<|end|>{{ m.content }}"),
            [user("a"), assistant("b")],
            None,
            TemplateError,
            "messages.1. goes on behind a stop token",
        ),
        (PLAIN, ["a"], None, PromptError, "messages.0. must be a message with role and content, got 'a'"),
    ],
)
def test_what_could_be_trained_wrongly_is_refused(chat, template, messages, tools, error, message):
    with pytest.raises(error, match=message):
        chat(template).conversation(messages, tools)


def test_messages_nested_too_deeply_are_refused(chat):
    deep = json.loads("[" * 900 + "]" * 900)
    for _ in range(500):
        deep = [deep]
    with pytest.raises(PromptError, match="nested too deeply"):
        chat(CALLS).conversation([user("a"), assistant("", tool_calls=[call("mat", {"x": deep})])])


def test_a_conversation_without_a_template_is_refused(tokenizer):
    with pytest.raises(PromptError, match="messages need a chat template"):
        Chat(tokenizer, None, None).conversation([user("a"), assistant("b")])
