"""What docs/finetune.md shows of data, runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from drawn_tokenizers import END, byte_level, saved

from decodekit.chat import Chat
from decodekit.cli import main
from decodekit_export.data import Reading, load

PAGE = (Path(__file__).parents[2] / "docs" / "finetune.md").read_text(encoding="utf-8")
ROWS = re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)
TEMPLATE = (
    "{{ tools | tojson if tools }}{% for m in messages %}"
    "<|{{ m.role if m.role == 'assistant' else 'user' }}|>"
    "{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}<|end|>{% endfor %}"
    "{{ '<|assistant|>' if add_generation_prompt }}"
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: next(iter(json.loads(row))))
def test_a_row_of_each_shape_can_be_trained(row, tmp_path):
    tokenizer = saved(byte_level(["the cat"]), tmp_path)
    (tmp_path / "rows.jsonl").write_text(row)
    chat = Chat(tokenizer, TEMPLATE, tokenizer.id(END))
    data = load(tmp_path / "rows.jsonl", chat, Reading(max_length=999))
    assert len(data.rows) == 1 and data.counts.ignored_keys == ()


def test_the_first_check_runs(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("CHECKPOINT").symlink_to(checkpoint("Llama"))
    Path("pairs.jsonl").write_text(ROWS[0])
    command = re.search(r"\$ decodekit (data check .*)", PAGE)
    assert command and main(command[1].split()) == 0
    assert "⟦Blue.<|im_end|>⟧" in capsys.readouterr().out


def test_every_option_of_data_is_explained(capsys):
    with pytest.raises(SystemExit):
        main(["data", "check", "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help", "--debug"}
    assert options <= set(re.findall(r"--[a-z][a-z-]+", PAGE))
