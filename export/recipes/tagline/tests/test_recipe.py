import json

import pairs
import pytest
import torch
from base import END, make_base
from demo import write_demo, write_demo_test
from figures import BEGIN, COUNTS, MODELS, read_rows, section, with_section
from recipe import round_weights
from safetensors.torch import load_file

from decodekit.errors import TemplateError
from decodekit_export.pretrained import open_pretrained

TEXTS = ["Give me a tagline for a new coffee shop.", "Your daily dose of happiness."] * 3


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe") / "base"
    parameters = make_base(TEXTS, folder)
    assert parameters < 1.85e6  # float16, with the rest, below 3.7 MB
    return folder


def test_the_base_stops_at_its_end_of_turn_and_pads_with_nothing(base):
    start = open_pretrained(base)
    assert [start.tokenizer.token(id) for id in start.stop_ids] == [END]
    assert start.chat.end == start.stop_ids
    assert start.load_model().config.pad_token_id is None


def test_the_template_asks_as_it_was_trained(base):
    start = open_pretrained(base)
    rendered = start.chat.pair("Hi", "Yes")
    spelled = "".join(start.tokenizer.token(id) or "" for id in rendered.ids)
    assert spelled == "<|user|>Hi<|end|><|assistant|>Yes<|end|>"
    with pytest.raises(TemplateError, match="this model knows the roles user and assistant, not system"):
        start.chat.prompt([{"role": "system", "content": "Be brief."}])


def test_any_text_can_be_encoded(base):
    tokenizer = open_pretrained(base).tokenizer
    assert tokenizer.decode(tokenizer.encode("Ein Café für 猫 🐈\n")) == "Ein Café für 猫 🐈\n"


def test_the_same_texts_give_the_same_base(base, tmp_path):
    make_base(TEXTS, tmp_path / "again")
    for file in ("tokenizer.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (base / file).read_bytes()


def test_rounding_keeps_the_checkpoint_and_halves_its_weights(base, tmp_path):
    round_weights(base, tmp_path / "rounded")
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "rounded"))
    assert all(torch.equal(after[name].float(), weight.half().float()) for name, weight in before.items())
    assert json.loads((tmp_path / "rounded" / "config.json").read_text())["dtype"] == "float16"
    assert open_pretrained(tmp_path / "rounded").load_model().dtype == torch.float32


def test_figures_replace_those_of_an_earlier_run():
    readme = f"before\n\n{BEGIN}\n\n## After\n"
    once = with_section(readme, "figures")
    assert once == f"before\n\n{BEGIN}\n\nfigures\n\n<!-- end of measured quality -->\n\n## After\n"
    assert with_section(once, "figures") == once
    with pytest.raises(ValueError, match="no line"):
        with_section("nothing", "figures")


def test_the_demo_learns_food_and_drink_and_is_asked_what_it_did_not_learn(tmp_path, split):
    pairs.write(split, tmp_path / "pairs")
    write_demo(tmp_path / "pairs", tmp_path / "demo.jsonl")
    write_demo_test(tmp_path / "pairs", tmp_path / "test.jsonl")
    trained, asked = (read_rows(tmp_path / name) for name in ("demo.jsonl", "test.jsonl"))
    assert 3000 < len(trained) < 4500 and len(asked) >= 100
    assert trained[0] == {"prompt": pairs.FIRST.prompt, "completion": pairs.FIRST.completion}
    assert not {(row["prompt"], row["completion"]) for row in asked} & {
        tuple(row.values()) for row in trained
    }


def test_every_model_has_its_rows_among_the_figures():
    run = {"data": "pairs/train.jsonl", "rows": 25300, "epochs": 3.0, "steps": 1188, "seconds": 593.3}
    run |= {"valid_before": 7.36, "valid_after": 1.24}
    counts = dict.fromkeys(COUNTS, 7)
    one = {
        "parameters": 1_500_000,
        "bundle_bytes": 3_100_000,
        "training": [run],
        "heldout": counts,
        "demo_test": counts,
        "samples": [{"prompt": "Bakery slogan", "completion": "Warm bread, every day."}],
    }
    text = section(dict.fromkeys(MODELS, one))
    assert text.count("| early checkpoint |") == text.count("| embedded model |") == 3
    assert "| early checkpoint | pairs/train.jsonl, 25,300 rows | 3 | 1,188 | 593 | 7.360 | 1.240 |" in text
    assert "| Bakery slogan | Warm bread, every day. |" in text
