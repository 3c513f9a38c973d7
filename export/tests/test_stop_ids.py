from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.errors import CheckpointError
from decodekit_export.stop_ids import stop_ids

END, IM_END = 2, 4  # </s> and <|im_end|>


@pytest.fixture
def folder(checkpoint, tmp_path: Path) -> Path:
    """A checkpoint in which nothing names a stop token."""
    made = Path(shutil.copytree(checkpoint("Llama"), tmp_path / "llama"))
    (made / "tokenizer_config.json").write_text("{}")
    (made / "generation_config.json").write_text('{"bos_token_id": 1}')
    return made


def write(folder: Path, name: str, **content) -> None:
    (folder / name).write_text(json.dumps(content))


def stops(folder: Path, **options) -> list[int]:
    return stop_ids(open_checkpoint(folder), 300, **options)


def test_the_tokenizer_names_one(folder):
    write(folder, "tokenizer_config.json", eos_token="</s>")
    assert stops(folder) == [END]
    write(folder, "tokenizer_config.json", eos_token={"content": "</s>", "special": True})
    assert stops(folder) == [END]


def test_the_special_tokens_name_one(folder):
    write(folder, "special_tokens_map.json", eos_token={"content": "</s>"})
    assert stops(folder) == [END]


@pytest.mark.parametrize("eos", [7, [7], [7, 9]])
def test_the_generation_configuration_names_one_or_several(folder, eos):
    write(folder, "generation_config.json", eos_token_id=eos)
    assert stops(folder) == ([eos] if isinstance(eos, int) else eos)


def test_without_a_generation_configuration_the_model_s_own_counts(folder):
    (folder / "generation_config.json").unlink()
    assert stops(folder) == [2]  # of config.json


def test_the_template_shows_one(folder):
    write(
        folder,
        "tokenizer_config.json",
        chat_template="{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}",
    )
    assert stops(folder) == [IM_END]


def test_a_template_without_an_end_of_turn_adds_none(folder):
    write(
        folder,
        "tokenizer_config.json",
        eos_token="</s>",
        chat_template="{% for m in messages %}{{ m.content }}\n{% endfor %}",
    )
    assert stops(folder) == [END]


def test_a_template_that_fails_is_told_and_adds_none(folder):
    write(folder, "tokenizer_config.json", eos_token="</s>", chat_template="{{ raise_exception('no') }}")
    with pytest.warns(UserWarning, match=r"no end of turn read off the chat template: .*no"):
        assert stops(folder) == [END]


def test_all_are_joined(folder, checkpoint):
    shutil.copy(checkpoint("Llama") / "tokenizer_config.json", folder)
    write(folder, "generation_config.json", eos_token_id=[9, 2])
    assert stops(folder) == [2, IM_END, 9]


def test_none_at_all_is_an_error_unless_allowed(folder):
    with pytest.raises(CheckpointError, match=r"no token that ends a text; .*--allow-no-eos"):
        stops(folder)
    assert stops(folder, allow_no_eos=True) == []


def test_an_id_outside_the_vocabulary_is_refused(folder):
    write(folder, "generation_config.json", eos_token_id=300)
    with pytest.raises(CheckpointError, match=r"stop id 300 is outside the vocabulary of 300"):
        stops(folder)


@pytest.mark.parametrize("eos", ["2", 2.5, True, [None]])
def test_an_id_that_is_no_number_is_refused(folder, eos):
    write(folder, "generation_config.json", eos_token_id=eos)
    with pytest.raises(CheckpointError, match=r"eos_token_id must be an int or a list of them"):
        stops(folder)
