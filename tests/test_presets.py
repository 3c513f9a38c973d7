"""Settings of other engines as chains: the right strategies in the right order, and no setting lost."""

import json

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from decodekit.chain import parse
from decodekit.errors import InputError, ParameterError
from decodekit.plugins import load_plugins
from decodekit.presets import chain_from, read, told
from decodekit.presets.arrangement import LLAMA_CPP
from decodekit.presets.dialects import DIALECTS, DIFFERS, OPTIONS, UNSUPPORTED
from decodekit.presets.stages import STAGES
from decodekit.processors import LogitsProcessor

PLUGINS = load_plugins()
TAVERN = {  # a file as SillyTavern writes it
    **{"temp": 1, "temperature_last": True, "top_p": 0.95, "top_k": 0, "top_a": 0, "tfs": 1, "min_p": 0.01},
    **{"epsilon_cutoff": 0, "eta_cutoff": 0, "typical_p": 1, "rep_pen": 1.1, "rep_pen_range": 0},
    **{"rep_pen_decay": 0, "rep_pen_slope": 1, "no_repeat_ngram_size": 0, "penalty_alpha": 0, "num_beams": 1},
    **{"length_penalty": 1, "min_length": 0, "encoder_rep_pen": 1, "freq_pen": 0, "presence_pen": 0},
    **{
        "skew": 0,
        "do_sample": True,
        "early_stopping": False,
        "dynatemp": False,
        "min_temp": 0,
        "max_temp": 2,
    },
    **{"dynatemp_exponent": 1, "smoothing_factor": 0, "smoothing_curve": 1, "dry_allowed_length": 2},
    **{"dry_multiplier": 0, "dry_base": 1.75, "dry_sequence_breakers": '["\\n", ":", "\\"", "*"]'},
    **{"dry_penalty_last_n": 0, "add_bos_token": True, "ban_eos_token": False, "skip_special_tokens": True},
    **{
        "mirostat_mode": 0,
        "mirostat_tau": 5,
        "mirostat_eta": 0.1,
        "guidance_scale": 1,
        "negative_prompt": "",
    },
    **{"grammar_string": "", "json_schema": None, "json_schema_allow_empty": False, "banned_tokens": ""},
    "sampler_priority": [
        *("repetition_penalty", "presence_penalty", "frequency_penalty", "dry", "temperature"),
        *("dynamic_temperature", "quadratic_sampling", "top_n_sigma", "top_k", "top_p", "typical_p"),
        *("epsilon_cutoff", "eta_cutoff", "tfs", "top_a", "min_p", "mirostat", "xtc"),
        *("encoder_repetition_penalty", "no_repeat_ngram"),
    ],
    **{"samplers": ["penalties", "dry"], "samplers_priorities": ["dry"], "sampler_order": [6, 0, 1]},
    **{"ignore_eos_token": False, "spaces_between_special_tokens": True, "speculative_ngram": False},
    **{"logit_bias": [], "xtc_threshold": 0.1, "xtc_probability": 0, "nsigma": 0, "min_keep": 0},
    "rep_pen_size": 0,
}
STRANGE = {  # setting -> a value at which its sampler does something
    **{"logit_bias": {"3": 1.5}, "guidance_scale": 2, "sequence_bias": [[[3, 4], 1.0]]},
    **{"bad_words_ids": [[3]], "begin_suppress_tokens": [3], "length_decay_start": 5},
    **{"encoder_repetition_penalty": 1.2, "repetition_penalty": 1.2, "frequency_penalty": 0.2},
    **{"presence_penalty": 0.2, "no_repeat_ngram_size": 3, "dry_multiplier": 0.8, "temperature": 0.7},
    **{
        "dynatemp_low": 0.5,
        "smoothing_factor": 0.3,
        "top_n_sigma": 1,
        "top_k": 7,
        "top_p": 0.7,
        "min_p": 0.2,
    },
    **{"typical_p": 0.7, "top_h": 0.4, "epsilon_cutoff": 3, "eta_cutoff": 3, "tfs": 0.9, "top_a": 0.2},
    **{"mirostat_tau": 4, "xtc_probability": 0.5, "skew": 0.5, "adaptive_target": 0.4},
}

ARRANGED = (  # settings that are not taken as they are
    *("samplers", "sampler_priority", "temperature_last", "do_sample", "max_length", "sequence_bias"),
    *("suppress_tokens", "exponential_decay_length_penalty", "dynatemp_range", "dynamic_temperature"),
    *("mirostat_mode", "dry_sequence_breakers", "dry_penalty_last_n", "repetition_penalty_range"),
)


def chain(settings, kind="auto", **options):
    """The chain as text; and that it can be made as it is written."""
    preset = chain_from(settings, kind, plugins=PLUGINS, **options)
    parse(preset.chain, PLUGINS.logits_processors, LogitsProcessor)
    return ", ".join(preset.chain)


def test_a_generation_config_in_the_order_of_transformers():
    preset = chain_from(
        {
            **{
                "bos_token_id": 1,
                "eos_token_id": [2, 5],
                "transformers_version": "4.57.1",
                "use_cache": True,
            },
            **{"do_sample": True, "min_p": 0.05, "top_p": 0.9, "temperature": 0.6, "repetition_penalty": 1.1},
            **{"typical_p": 0.9, "top_k": 20, "max_new_tokens": 40, "min_new_tokens": 2},
            **{"stop_strings": ["END"], "no_repeat_ngram_size": 3, "num_beams": 1, "num_return_sequences": 2},
        },
        plugins=PLUGINS,
    )
    assert preset.chain == (
        *("repetition_penalty=1.1", "no_repeat_ngram=3", "temperature=0.6", "top_k=20", "top_p=0.9"),
        *("min_p=0.05", "typical=0.9"),
    )
    assert preset.options == {
        **{"max_new_tokens": 40, "min_new_tokens": 2, "stop": ["END"], "stop_token_ids": [2, 5], "n": 2}
    }
    assert preset.ignored.keys() == {"bos_token_id", "transformers_version", "use_cache"}
    assert (preset.kind, preset.assumed, preset.unsupported) == ("transformers", {}, {})


def test_transformers_takes_the_best_fifty_unless_told_otherwise():
    preset = chain_from({"eos_token_id": 2, "do_sample": True}, plugins=PLUGINS)
    assert (preset.chain, preset.assumed) == (("top_k=50",), {"top_k": 50})
    assert chain({"eos_token_id": 2, "do_sample": True, "top_k": 0}) == ""


def test_transformers_is_greedy_unless_told_to_sample():
    preset = chain_from({"eos_token_id": 2, "temperature": 0.6, "repetition_penalty": 1.2}, plugins=PLUGINS)
    assert preset.chain == ("repetition_penalty=1.2", "greedy")
    assert preset.ignored == {"temperature": "do_sample is false"}
    assert preset.assumed == {"do_sample": False}


def test_lists_of_transformers_as_strategies_take_them():
    found = chain(
        {
            **{"bad_words_ids": [[7, 8], [2]], "suppress_tokens": [4], "eos_token_id": 2, "do_sample": True},
            **{"begin_suppress_tokens": [5], "sequence_bias": [[[7, 8], -2.0]], "top_k": 0},
            "exponential_decay_length_penalty": [10, 1.05],
        }
    )
    assert found == (
        'sequence_bias=[{"tokens": [7, 8], "bias": -2.0}], bad_words=[[7, 8], [4]], '
        "length_decay.start=10, length_decay.factor=1.05, suppress_at_begin=[5]"
    )


def test_the_length_with_the_prompt_is_a_criterion():
    preset = chain_from({"eos_token_id": 2, "max_length": 4096}, plugins=PLUGINS)
    assert preset.options == {"stop_token_ids": [2], "criteria": ["max_length=4096"]}
    with pytest.raises(
        ParameterError, match="max_length=4096: max_length is not installed; it is in decodekit"
    ):
        chain_from({"eos_token_id": 2, "max_length": 4096}, plugins=load_plugins(only=()))


def test_llama_cpp_penalises_first_and_warms_last():
    preset = chain_from(
        {
            **{"temp": 0.7, "top_k": 30, "top_p": 0.9, "min_p": 0, "typ_p": 0.8, "repeat_penalty": 1.1},
            **{"repeat_last_n": 128, "frequency_penalty": 0.2, "xtc_probability": 0.5, "xtc_threshold": 0.2},
            **{"dry_multiplier": 0.8, "n_predict": 64, "seed": 7, "stop": ["\n"], "top_n_sigma": -1},
        },
        plugins=PLUGINS,
    )
    assert preset.chain == (
        *(
            "repetition_penalty.theta=1.1",
            "repetition_penalty.window=128",
            "frequency_penalty=0.2",
            "dry=0.8",
        ),
        *(
            "top_k=30",
            "typical=0.8",
            "top_p=0.9",
            "xtc.probability=0.5",
            "xtc.threshold=0.2",
            "temperature=0.7",
        ),
    )
    assert preset.options == {"max_new_tokens": 64, "seed": 7, "stop": ["\n"]}
    assert preset.differs.keys() == {"frequency_penalty"}


def test_llama_cpp_has_defaults_that_are_not_neutral():
    preset = chain_from({"repeat_penalty": 1.1, "n_predict": -1}, plugins=PLUGINS)
    assert preset.assumed == {
        **{"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repetition_penalty_range": 64}
    }
    assert preset.chain[1:] == (
        *("repetition_penalty.window=64", "top_k=40", "top_p=0.95", "min_p=0.05", "temperature=0.8"),
    )
    assert preset.options == {}


@pytest.mark.parametrize(
    ("last", "found"),
    [
        (0, ""),
        (-1, "repetition_penalty=1.1"),
        (9, "repetition_penalty.theta=1.1, repetition_penalty.window=9"),
    ],
)
def test_the_window_of_llama_cpp(last, found):
    preset = chain_from({"repeat_penalty": 1.1, "repeat_last_n": last, "samplers": "e"}, plugins=PLUGINS)
    assert ", ".join(preset.chain) == found
    assert ("repeat_penalty" in preset.ignored) == (last == 0)


@pytest.mark.parametrize("samplers", ["tk", ["temperature", "top_k"]])
def test_the_order_of_samplers_is_kept_and_the_others_are_not_applied(samplers):
    preset = chain_from(
        {"samplers": samplers, "temperature": 0.5, "top_k": 3, "top_p": 0.5, "min_p": 0}, plugins=PLUGINS
    )
    assert preset.chain == ("temperature=0.5", "top_k=3")
    assert preset.ignored == {"top_p": "it is not among the samplers that are applied"}


def test_adaptive_p_only_where_it_is_among_the_samplers():
    chosen = {"adaptive_target": 0.5, "adaptive_decay": 0.8, "samplers": ["min_p", "adaptive_p"], "min_p": 0}
    assert chain(chosen) == "adaptive_p.target=0.5, adaptive_p.decay=0.8"
    assert "adaptive" not in chain({**chosen, "samplers": "m"})


@pytest.mark.parametrize(("mode", "name"), [(1, "mirostat_v1"), (2, "mirostat")])
def test_mirostat_of_llama_cpp_leaves_all_but_the_temperature_out(mode, name):
    preset = chain_from(
        {"mirostat": mode, "mirostat_tau": 4, "temp": 0.9, "repeat_penalty": 2}, plugins=PLUGINS
    )
    assert preset.chain == ("temperature=0.9", f"{name}.tau=4", f"{name}.eta=0.1")
    assert preset.ignored.keys() == {"repeat_penalty"}


def test_a_range_around_the_temperature():
    neutral = {"top_k": 0, "top_p": 1, "min_p": 0}
    found = chain({**neutral, "temp": 1.0, "dynatemp_range": 0.5, "dynatemp_exponent": 2})
    assert found == (
        "dynamic_temperature.low=0.5, dynamic_temperature.high=1.5, dynamic_temperature.exponent=2"
    )
    assert chain({**neutral, "temp": 0.3, "dynatemp_range": 0.5}).startswith("dynamic_temperature.low=0.0,")
    assert chain({**neutral, "temp": 0.3, "dynatemp_range": 0}) == "temperature=0.3"


def test_pairs_of_llama_cpp_are_biases():
    neutral = {"top_k": 0, "top_p": 1, "min_p": 0, "temp": 1, "n_predict": 1}
    assert chain({**neutral, "logit_bias": [[3, 1.5], [4, -100]]}) == 'logit_bias={"3": 1.5, "4": -100}'
    for wrong in ([[3, False]], [["word", 1.0]]):
        with pytest.raises(ParameterError, match=r"preset: logit_bias=.*logit_bias: bias"):
            chain({**neutral, "logit_bias": wrong})


def test_a_neutral_file_of_sillytavern_with_what_is_not():
    preset = chain_from(TAVERN, plugins=PLUGINS)
    assert preset.kind == "sillytavern"
    assert preset.chain == ("repetition_penalty=1.1", "top_p=0.95", "min_p=0.01")
    assert (preset.options, preset.assumed, preset.differs) == ({}, {}, {})
    assert {"samplers", "sampler_order"} <= preset.ignored.keys()


def test_sillytavern_with_everything_on():
    on = {
        **{"temp": 1.3, "dynatemp": True, "min_temp": 0.5, "smoothing_factor": 0.2, "skew": 0.1, "nsigma": 2},
        **{"xtc_probability": 0.5, "dry_multiplier": 0.8, "tfs": 0.9, "top_a": 0.1, "encoder_rep_pen": 1.1},
        **{"mirostat_mode": 2, "rep_pen_range": 512, "genamt": 200, "seed": -1},
    }
    preset = chain_from({**TAVERN, **on}, plugins=PLUGINS)
    names = list(dict.fromkeys(text.partition("=")[0].partition(".")[0] for text in preset.chain))
    assert names == [
        *(
            "repetition_penalty",
            "dry",
            "top_n_sigma",
            "top_p",
            "tail_free",
            "top_a",
            "min_p",
            "mirostat",
            "xtc",
        ),
        *("encoder_repetition", "skew", "dynamic_temperature", "smoothing"),
    ]
    assert "dry.range=512" in preset.chain and 'dry.breakers=["\\n", ":", "\\u0022", "*"]' in preset.chain
    assert preset.options == {"max_new_tokens": 200}
    assert preset.ignored["temp"] == "dynamic temperature is in its place"


def test_the_webui_writes_cutoffs_in_units_of_a_ten_thousandth():
    found = chain({"temperature_last": False, "epsilon_cutoff": 3, "eta_cutoff": 20})
    assert found == "epsilon=0.0003, eta=0.002"


def test_the_webui_has_a_window_of_1024_tokens_also_for_dry():
    preset = chain_from({"mirostat_mode": 0, "repetition_penalty": 1.2, "dry_multiplier": 1}, plugins=PLUGINS)
    assert preset.chain == (
        *(
            "repetition_penalty.theta=1.2",
            "repetition_penalty.window=1024",
            "dry.multiplier=1",
            "dry.range=1024",
        ),
    )
    assert chain({"repetition_penalty_range": 0, "repetition_penalty": 1.2}) == "repetition_penalty=1.2"


def test_the_order_of_the_webui_as_text_and_what_it_leaves_out():
    settings = {
        "temperature": 0.7,
        "top_k": 5,
        "min_p": 0.1,
        "frequency_penalty": 0.1,
        "xtc_probability": 0.5,
    }
    found = chain({**settings, "sampler_priority": "min_p\ntemperature, top_k"})
    assert found == "frequency_penalty=0.1, min_p=0.1, temperature=0.7, top_k=5, xtc=0.5"
    last = chain({**settings, "sampler_priority": ["temperature", "min_p"], "temperature_last": True})
    assert last == "frequency_penalty=0.1, min_p=0.1, top_k=5, xtc=0.5, temperature=0.7"


def test_the_webui_without_sampling():
    found = chain({"temperature_last": False, "do_sample": False, "top_k": 5, "repetition_penalty": 1.2})
    assert found.endswith("greedy") and "top_k" not in found


def test_breakers_with_quotes_and_brackets_survive_the_chain():
    breakers = ['"', "]", ",", "\\", "\n", '","']
    for spelt in (breakers, json.dumps(breakers), json.dumps(breakers)[1:-1]):
        preset = chain_from({"sampler_priority": [], "dry_multiplier": 1, "dry_sequence_breakers": spelt})
        (dry,) = parse(preset.chain, PLUGINS.logits_processors, LogitsProcessor)
        assert list(dry.strategy.breakers) == breakers


def test_what_cannot_be_kept_is_an_error_that_names_all_of_it():
    settings = {"repeat_penalty": 1.1, "tfs_z": 0.9, "min_keep": 3, "min_p": 1.5, "nonsense": 4}
    with pytest.raises(ParameterError) as caught:
        chain_from(settings, plugins=PLUGINS)
    message = str(caught.value)
    for part in (
        "tfs_z=0.9: llama.cpp has no such setting",
        "min_keep=3: a truncation keeps one candidate",
        r"min_p=1.5: min_p: p must be in [0, 1], got 1.5",
        "nonsense=4: no such setting is known",
        "or pass strict=False",
    ):
        assert part in message
    preset = chain_from(settings, plugins=PLUGINS, strict=False)
    assert preset.unsupported.keys() == {"tfs_z", "min_keep", "min_p", "nonsense"}
    assert "top_k=40" in preset.chain


def test_a_strategy_that_is_not_installed_is_named_with_its_package():
    bare = load_plugins(only=())
    with pytest.raises(
        ParameterError, match="xtc_probability=0.5: xtc is not installed; it is in decodekit-shap"
    ):
        chain_from({"n_predict": 5, "xtc_probability": 0.5}, plugins=bare)
    assert chain_from({"n_predict": 5, "xtc_probability": 0}, plugins=bare).unsupported == {}


@pytest.mark.parametrize("kind", DIALECTS)
def test_every_unsupported_setting_may_be_neutral_and_must_not_be_more(kind):
    for name, (nothing, _) in UNSUPPORTED.items():
        for value in (None, *nothing):
            assert name not in chain_from({name: value}, kind, plugins=PLUGINS, strict=False).unsupported
        if name not in DIALECTS[kind].ignored:
            preset = chain_from({name: "something"}, kind, plugins=PLUGINS, strict=False)
            assert name in preset.unsupported


@pytest.mark.parametrize("kind", DIALECTS)
def test_no_sampler_is_lost(kind):
    """Whatever an engine has, a value that does something is in the chain or is told of."""
    bare = chain_from({"do_sample": True}, kind, plugins=PLUGINS, strict=False)
    for stage in STAGES.values():
        if not stage.parameters:
            continue
        settings = {"do_sample": True, stage.switch: STRANGE[stage.switch]}
        if stage.switch == "mirostat_tau":
            settings["mirostat_mode"] = 1 if stage.strategy == "mirostat_v1" else 2
        if stage.switch == "dynatemp_low":
            settings |= {"dynamic_temperature": True}
        preset = chain_from(settings, kind, plugins=PLUGINS, strict=False)
        moved = [text for text in preset.chain if text.partition("=")[0].partition(".")[0] == stage.strategy]
        told_ = preset.unsupported.keys() | preset.ignored.keys()
        assert (
            (moved and preset.chain != bare.chain) or stage.switch in told_ or "dynamic_temperature" in told_
        )


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(DIALECTS)),
    drawn=st.dictionaries(
        st.sampled_from(sorted({*STRANGE, *OPTIONS, *UNSUPPORTED, *ARRANGED})),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-3, 100),
            st.floats(-2, 3),
            st.text(max_size=3),
            st.lists(st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2), max_size=3),
        ),
    ),
)
def test_any_settings_give_a_chain_that_can_be_made_or_an_error_of_ours(kind, drawn):
    try:
        preset = chain_from(drawn, kind, plugins=PLUGINS, strict=False)
    except ParameterError:
        return
    parse(preset.chain, PLUGINS.logits_processors, LogitsProcessor)


@pytest.mark.parametrize("kind", DIALECTS)
def test_a_setting_given_twice_under_two_names_must_agree(kind):
    for alias, name in DIALECTS[kind].aliases.items():
        with pytest.raises(ParameterError, match=f"{name} and {alias} are one setting"):
            chain_from({name: 1, alias: 2}, kind, plugins=PLUGINS)


def test_who_wrote_the_settings_is_told_by_names_of_one_engine_only():
    for kind, dialect in DIALECTS.items():
        for mark in dialect.marks:
            assert told([mark, "top_p"]) == kind
    with pytest.raises(
        ParameterError, match="apply them in different orders; give kind, one of sillytavern, text"
    ):
        chain_from({"temperature": 0.7, "top_p": 0.9})
    assert chain({"temperature": 0.7, "top_p": 0.9}, "text-generation-webui") == "temperature=0.7, top_p=0.9"


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ([1], "auto", "settings must be an object of named values, got"),
        ({1: 2}, "auto", "settings must be an object of named values, got"),
        ({}, "vllm", "kind must be one of auto, sillytavern, .*, got 'vllm'"),
        ({"samplers": 3}, "auto", "samplers must be a list of names, got 3"),
        ({"samplers": ["top_q"]}, "auto", "samplers holds 'top_q'; known are penalties, dry"),
        ({"mirostat": 3}, "auto", "mirostat must be 0, 1 or 2, got 3"),
        ({"bad_words_ids": 3}, "auto", "bad_words_ids must be a list, got 3"),
        ({"exponential_decay_length_penalty": [1]}, "auto", "must be a list of 2, got"),
        ({"dynatemp_range": "wide"}, "auto", "dynatemp_range must be a number"),
        (
            {"temperature_last": 1, "dry_sequence_breakers": "a"},
            "auto",
            "dry_sequence_breakers must be texts in",
        ),
        ({"n_predict": "many"}, "auto", "max_new_tokens: n must be a whole number"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(settings, kind, message):
    with pytest.raises(ParameterError, match=message):
        chain_from(settings, kind, plugins=PLUGINS)


def test_a_file(tmp_path):
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": 2, "do_sample": True, "temperature": 0.5}))
    assert read(path, plugins=PLUGINS).chain == ("temperature=0.5", "top_k=50")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"temperature: 0.7\n", "not a preset in JSON"),
        (b'{"temperature": NaN}', "not a preset in JSON: NaN"),
        (b"\xff", "not a preset in JSON"),
        (b"[" * 100_000, "not a preset in JSON"),
        (b" " * 2_000_000, "more than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_preset(tmp_path, content, message):
    path = tmp_path / "preset.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(path, plugins=PLUGINS)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read(tmp_path / "none.json", plugins=PLUGINS)


def test_the_tables_hold_together():
    for kind, dialect in DIALECTS.items():
        assert set(dialect.order) | dialect.also <= set(STAGES)
        assert len(set(dialect.order)) == len(dialect.order)
        assert not dialect.ignored.keys() & (UNSUPPORTED.keys() | OPTIONS.keys()), kind
        assert DIFFERS[kind].keys() <= {stage.switch for stage in STAGES.values() if stage.parameters}
    assert {one for stages in LLAMA_CPP.values() for one in stages} <= set(STAGES)
    for stage in STAGES.values():
        registered = PLUGINS.logits_processors
        distribution = registered.plugin(stage.strategy).distribution
        assert distribution.partition(" ")[0] == stage.package
        assert all(f"{parameter}:" in registered.parameters(stage.strategy) for parameter in stage.parameters)
