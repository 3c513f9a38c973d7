"""
The mask, for any tokenizer and template, from the file to the batch that a model is given.

Trained ids say the completion and stop: for a pair and for every answer of a conversation, alone,
padded with the stop token or packed.
"""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
import torch
from drawn_tokenizers import ENDS, PIECES, TEXTS, saved, tokenizers_of_every_kind
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decodekit.chat import Chat, Rendered
from decodekit.tokenizer import Tokenizer
from decodekit_export.collate import IGNORED, Collate, CollatePacked, Items
from decodekit_export.data import Reading, Row, load
from decodekit_export.loss import following, loss_of_trained, only_trained
from decodekit_export.packing import Packed
from decodekit_export.pretrained import open_pretrained
from decodekit_export.window import fit

SHARED = Path(os.environ.get("DECODEKIT_SHARED", Path(__file__).parents[3] / "shared"))
STORIES = SHARED / "models" / "stories260k"
GSM8K = SHARED / "data" / "gsm8k-train.jsonl"
END = "<|end|>"


@st.composite
def templates(draw):
    """A template and what it makes of an answer's text."""
    before, between, end = draw(PIECES), draw(PIECES), draw(ENDS)
    head = draw(st.sampled_from(["", "{{ bos_token }}", "<s>"]))
    content, says = draw(st.sampled_from([("m.content", str), ("(m.content | trim)", str.strip)]))
    if draw(st.booleans()):  # what was thought is written for the last message only
        content = f"('(hm) ' if loop.last and m.role == 'assistant' else '') + {content}"
        spoken = says
        says = lambda text: "(hm) " + spoken(text)  # noqa: E731
    body = f"{{% if m.role == 'assistant' %}}{between}{{% generation %}}{{{{ {content} }}}}{end}"
    body += f"{{% endgeneration %}}{{% else %}}{before}{{{{ {content} }}}}{end}{{% endif %}}"
    turns = "{% for m in messages %}" + body + "{% endfor %}"
    return head + turns + "{% if add_generation_prompt %}" + between + "{% endif %}", says


def trained(ids, labels_or_mask):
    """Runs of trained ids."""
    runs, before = [], False
    for id, keep in zip(ids, labels_or_mask, strict=True):
        if keep:
            runs[len(runs) - before :] = [(*runs[-1], id) if before else (id,)]
        before = keep
    return runs


def check_batches(rows: list[Row], tokenizer: Tokenizer) -> None:
    """Padded with the stop token or packed, what is trained is what the rows say."""
    said = sorted(run for row in rows for run in trained(row.ids, row.mask))
    stop = tokenizer.id(END)
    packed = Packed(rows, max(len(row.ids) for row in rows) + 40)
    for batch in (Collate(stop)(list(Items(rows))), CollatePacked(stop)(list(packed))):
        labels = batch["labels"]
        assert ((labels == IGNORED) | (labels == batch["input_ids"])).all()
        kept = [trained(row, (row != IGNORED).tolist()) for row in labels]
        assert sorted(tuple(map(int, run)) for runs in kept for run in runs) == said


slow = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=80, deadline=None, suppress_health_check=slow)
@given(
    made=tokenizers_of_every_kind(),
    template=templates() | st.just((None, str)),
    pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4),
)
def test_trained_tokens_of_a_pair_say_its_completion_and_stop(made, template, pairs, tmp_path):
    tokenizer = saved(made, tmp_path)
    chat = Chat(tokenizer, template[0], tokenizer.id(END))
    pairs = [(prompt or "a", completion) for prompt, completion in pairs]
    path = tmp_path / "pairs.jsonl"
    records = [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))

    rows = load(path, chat, Reading(max_length=10_000, allow_empty=True)).rows

    for row, (prompt, completion) in zip(rows, pairs, strict=True):
        (run,) = trained(row.ids, row.mask)
        assert tokenizer.decode(run[:-1]) == completion
        assert run[-1:] == chat.end
        assert row.prompt == chat.prompt(prompt)
    check_batches(list(rows), tokenizer)


@settings(max_examples=80, deadline=None, suppress_health_check=slow)
@given(
    made=tokenizers_of_every_kind(),
    template=templates(),
    talks=st.lists(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_trained_tokens_of_a_conversation_say_its_answers_and_stop(made, template, talks, tmp_path):
    tokenizer = saved(made, tmp_path)
    source, says = template
    chat = Chat(tokenizer, source, tokenizer.id(END))
    path = tmp_path / "talks.jsonl"
    with path.open("w") as file:
        for talk in talks:
            messages = [
                {"role": role, "content": text or "a"}
                for turn in talk
                for role, text in zip(("user", "assistant"), turn, strict=True)
            ]
            file.write(json.dumps({"messages": messages}) + "\n")

    rows = load(path, chat, Reading(max_length=10_000, allow_empty=True)).rows

    for line, talk in enumerate(talks, start=1):
        runs = [run for row in rows if row.line == line for run in trained(row.ids, row.mask)]
        assert [tokenizer.decode(run[:-1]) for run in runs] == [says(answer or "a") for _, answer in talk]
        assert {run[-1:] for run in runs} == {chat.end}
    check_batches(list(rows), tokenizer)


@settings(max_examples=60, deadline=None)
@given(
    answers=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=8),
    length=st.integers(10, 30),
)
def test_no_answer_is_lost_or_cut_where_a_long_conversation_is_divided(answers, length):
    mask = tuple(kept for asked, said in answers for kept in (False,) * asked + (True,) * said)
    row = Rendered(tuple(range(len(mask))), mask)
    parts = fit(row, length, "left_prompt")
    assert all(len(part.ids) <= length and not part.mask[0] and part.mask[-1] for part in parts)
    assert [run for part in parts for run in trained(part.ids, part.mask)] == trained(row.ids, row.mask)
    for part in parts:
        assert all(b == a + 1 for a, b in pairwise(part.ids))  # one piece of the row
        turn = trained(part.ids, part.mask)[0]
        before = [run[-1] for run in trained(row.ids, row.mask) if run[-1] < turn[0]]
        begins = before[-1] + 1 if before else 0
        assert part.ids[0] <= begins or part.ids[-1] - begins >= length  # its own turn is whole, if it can be


@pytest.fixture(scope="module")
def by_hand():
    """A real model, and the loss of 32 real rows: token by token, without our tokenizer, in float64."""
    if not (STORIES.is_dir() and GSM8K.is_file()):
        pytest.skip("no models/stories260k and data/gsm8k-train.jsonl under DECODEKIT_SHARED or in ../shared")
    start = open_pretrained(STORIES)
    model = start.load_model().eval()
    encode = tokenizers.Tokenizer.from_file(str(STORIES / "tokenizer.json")).encode
    total, trained_tokens, rows = 0.0, 0, 0
    for line in GSM8K.read_text().splitlines():
        record = json.loads(line)
        asked = [1, *encode(record["question"], add_special_tokens=False).ids]
        said = [*encode(record["answer"], add_special_tokens=False).ids, 2]
        if len(asked) + len(said) > 512:
            continue
        with torch.no_grad():
            logits = model(torch.tensor([asked + said])).logits[0].double()
        for place, token in enumerate(said, start=len(asked)):
            total += (torch.logsumexp(logits[place - 1], 0) - logits[place - 1, token]).item()
        trained_tokens += len(said)
        rows += 1
        if rows == 32:
            return start, model, total / trained_tokens
    raise AssertionError


@pytest.mark.parametrize("packed", [False, True])
def test_the_loss_of_real_rows_is_that_of_a_computation_by_hand(by_hand, packed):
    start, model, expected = by_hand
    columns = {"prompt": "question", "completion": "answer"}
    reading = Reading(max_length=512, columns=columns, limit=60, window="drop")
    rows = load(GSM8K, start.chat, reading).rows[:32]
    assert len(rows) == 32
    collate, items = (CollatePacked(2), Packed(rows, 512)) if packed else (Collate(2), Items(rows))
    total, count = 0.0, 0
    for first in range(0, len(items), 4):  # few at a time, since a float32 holds seven digits of a sum
        batch = collate(list(items[first : first + 4]))
        batch.pop("lines")
        next_ids = following(batch.pop("labels"))
        with torch.no_grad(), only_trained(model, next_ids):
            total += loss_of_trained(model(**batch), next_ids, num_items_in_batch=1).item()
        count += int((next_ids != IGNORED).sum())
    assert total / count == pytest.approx(expected, abs=1e-6)
