"""The trace: the tokens are those of generate, the numbers are those of the definition, the page is inert."""

import ast
import base64
import hashlib
import json
import re
import shlex
from dataclasses import dataclass, replace
from functools import cache
from math import log
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from once import Once

import decodekit
from decodekit import StoppingCriterion, noise, strict_json
from decodekit.chain import parse
from decodekit.decoder import Decoder
from decodekit.errors import ParameterError
from decodekit.history import History
from decodekit.ops import softmax
from decodekit.plugins import Plugin, Registry
from decodekit.strategies.temperature import Temperature
from decodekit.strategies.top_k import TopK
from decodekit.trace_page import compact, page

ROOT = Path(__file__).parent.parent
FIXTURES = Path(__file__).parent / "fixtures"
SCHEMA = json.loads((ROOT / "docs" / "schemas" / "trace.json").read_text())
COFFEE = "Give me a tagline for a new coffee shop."
CHAIN = "temperature=0.9, top_k=40, top_p=0.9"


CHAINS = [
    None,
    CHAIN,
    "repetition_penalty=1.3, frequency_penalty=0.3, temperature=1.2, min_p=0.02",
    [Once(), Temperature(0.9), TopK(5)],
]


@cache
def load(kind):
    return decodekit.load(FIXTURES / kind, plugins=decodekit.load_plugins(only=()))


@pytest.fixture(scope="module")
def tagline(plugins):
    return decodekit.load("tagline", plugins=plugins)


@pytest.fixture(params=["table", "in_place", "concatenating"])
def decoder(request, make_decoder):
    return make_decoder() if request.param == "table" else load(request.param)


@pytest.fixture
def four(make_decoder, tokenizer):
    """After every token: a, b, c, d with probabilities 1/2, 1/4, 1/8, 1/8, and nothing else."""
    ids = [tokenizer.encode_plain(letter)[0] for letter in "abcd"]
    table = np.full((tokenizer.size, tokenizer.size), -np.inf, np.float32)
    table[:, ids] = np.log([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    return make_decoder(table), ids


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@pytest.mark.parametrize(
    "options", [{}, {"ignore_eos": True, "min_new_tokens": 4}, {"stop": ["e", "a"], "sample": 3}]
)
def test_the_tokens_are_those_of_generate(decoder, chain, options):
    for prompt, seed in (("the cat", 0), ([5, 6, 7] * 40, 7)):
        options = {"max_new_tokens": 12, "seed": seed} | options
        [completion] = decoder.generate([prompt], chain, **options)
        trace = decoder.trace(prompt, chain, **options)
        assert trace.ids == completion.ids
        assert (trace.text, trace.finish_reason, trace.stopped_by) == (
            completion.text,
            completion.finish_reason,
            completion.stopped_by,
        )
        assert [s.text for s in trace.steps] == [t.text for t in completion.tokens]
        assert [s.stop for s in trace.steps] == [t.stop for t in completion.tokens]
        scores = [np.float32(step.draw.logits[0]) for step in trace.steps]
        assert scores == [np.float32(token.score) for token in completion.tokens]
        assert (trace.seed, trace.sample, trace.prompt) == (
            completion.seed,
            completion.sample,
            decoder.encode(prompt),
        )


def test_a_seed_that_was_drawn_is_told(decoder):
    trace = decoder.trace("the cat", CHAIN, max_new_tokens=5)
    assert decoder.trace("the cat", CHAIN, max_new_tokens=5, seed=trace.seed).steps == trace.steps


def test_by_hand(four):
    """top_k=2 leaves 2/3 and 1/3, whose entropy is log2(3) - 2/3 bits."""
    decoder, (a, b, c, d) = four
    step, *_ = decoder.trace("x", "top_k=2, temperature=0.5", seed=0, max_new_tokens=1).steps
    top_k, temperature = step.stages
    assert step.ids == (a, b, c, d)
    assert step.logits == pytest.approx([log(1 / 2), log(1 / 4), log(1 / 8), log(1 / 8)], rel=1e-6)
    assert (step.norm, step.entropy) == pytest.approx((0, 1.75), abs=1e-6)
    assert top_k.logits == (*step.logits[:2], None, None)
    assert top_k.norm == pytest.approx(log(3 / 4), rel=1e-6)
    assert top_k.entropy == pytest.approx(np.log2(3) - 2 / 3, rel=1e-6)
    assert (top_k.alive, top_k.changed, top_k.removed.count) == (2, 0, 2)
    assert (top_k.mass, top_k.removed.mass) == pytest.approx((3 / 4, 1 / 4), rel=1e-6)
    assert top_k.removed.ids == (c, d)
    assert top_k.removed.probabilities == pytest.approx((1 / 8, 1 / 8), rel=1e-6)
    assert temperature.logits[:2] == pytest.approx([2 * log(1 / 2), 2 * log(1 / 4)], rel=1e-6)
    assert (temperature.alive, temperature.changed, temperature.removed.count) == (2, 2, 0)
    assert temperature.mass == pytest.approx(3 / 4, rel=1e-6)
    place = {a: (1, 1 / 2, 4 / 5), b: (2, 1 / 4, 1 / 5)}[step.id]
    assert (step.rank, step.probability, step.final_probability) == pytest.approx(place, rel=1e-6)


def test_the_best_of_the_model_of_the_chain_and_the_token_are_listed(four):
    """The bias makes the last candidate the best one."""
    decoder, (a, b, c, d) = four
    chain = f'logit_bias.bias={{"{d}": 3}}, temperature=1'
    for top, listed in ((1, {a: (a, d), b: (a, b, d), c: (a, c, d), d: (a, d)}), (2, {c: (a, b, c, d)})):
        steps = decoder.trace("x", chain, seed=0, max_new_tokens=100, top=top).steps
        assert {step.id for step in steps} == {a, b, c, d}
        assert all(step.ids == listed.get(step.id, (a, b, d)) for step in steps)


def test_the_draw_shows_the_keyed_noise(four):
    decoder, ids = four
    prompt = decoder.encode("x")
    drawn = prompt
    for step in decoder.trace("x", "temperature=1", seed=9, sample=2, max_new_tokens=20).steps:
        history = History(np.asarray(drawn), len(prompt), 9, 2)
        gumbel = noise.gumbel(noise.keys((history,)), np.asarray([ids]))[0]
        scores = dict(zip(ids, np.asarray(np.log([1 / 2, 1 / 4, 1 / 8, 1 / 8]), np.float32) + gumbel))
        order = sorted(ids, key=lambda id: -scores[id])
        assert step.draw.ids == tuple(order) and step.id == order[0]
        assert np.add(step.draw.logits, step.draw.noise) == pytest.approx([scores[id] for id in order])
        assert step.draw.margin == pytest.approx(scores[order[0]] - scores[order[1]])
        drawn = (*drawn, step.id)


def test_nothing_is_drawn_where_one_candidate_is_left(four):
    decoder, (a, *_) = four
    for chain in (None, "top_k=1", "temperature=1, top_p=0.2"):
        (step,) = decoder.trace("x", chain, seed=1, max_new_tokens=1).steps
        assert step.draw.ids == (a,) and step.draw.noise is None and step.draw.margin is None
        assert step.final_probability == 1 and step.stages[-1].entropy == 0


@settings(max_examples=25, deadline=None)
@given(
    st.floats(0.3, 3),
    st.integers(1, 60),
    st.floats(0.01, 1),
    st.floats(0, 0.5),
    st.integers(1, 30),
    st.integers(0, 2**32),
)
def test_the_numbers_are_those_of_the_stages(t, k, p, m, top, seed):
    """A reference of plain loops over what a session shows at the same place."""
    decoder = load("in_place")
    chain = [f"temperature={t}", f"top_k={k}", f"top_p={p}", f"min_p={m}"]
    (step,) = decoder.trace("the cat", chain, seed=seed, max_new_tokens=1, top=top).steps
    session = decoder.session("the cat", chain, seed=seed)
    model = dict(enumerate(softmax(session.logits().astype(float))))
    before, logits = model, dict(enumerate(session.logits()))
    for traced, stage in zip(step.stages, session.stages(), strict=True):
        alive = np.isfinite(stage.logits)
        after = dict(zip(stage.ids[alive].tolist(), softmax(stage.logits[alive].astype(float))))
        died = sorted((id for id in before if id not in after), key=lambda id: (-before[id], id))
        assert traced.alive == len(after) and traced.removed.count == len(died)
        assert traced.removed.ids == tuple(died[:top])
        assert traced.removed.probabilities == pytest.approx([before[id] for id in died[:top]], rel=1e-5)
        assert traced.removed.mass == pytest.approx(sum(before[id] for id in died), abs=1e-9)
        assert traced.mass == pytest.approx(sum(model[id] for id in after), rel=1e-9)
        assert traced.entropy == pytest.approx(-sum(q * np.log2(q) for q in after.values()), abs=1e-9)
        for id, logit in zip(step.ids, traced.logits, strict=True):
            assert (logit is None) == (id not in after)
            assert logit is None or np.exp(logit - traced.norm) == pytest.approx(after[id], rel=1e-6)
        behind = dict(zip(stage.ids[alive], stage.logits[alive]))
        assert traced.changed == sum(logit != logits[id] for id, logit in behind.items())
        before, logits = after, behind
    assert step.probability == pytest.approx(model[step.id]) and step.id == session.sample().id
    assert step.rank == 1 + sum(q > model[step.id] for q in model.values())
    best = {id for d in (model, before) for id in sorted(d, key=lambda id: (-d[id], id))[:top]}
    assert set(step.ids) == best | {step.id}
    assert [model[id] for id in step.ids] == sorted((model[id] for id in step.ids), reverse=True)


def test_only_the_last_step_has_the_verdict(make_decoder, script, tokenizer):
    trace = make_decoder(script("the cat!")).trace("a")
    assert [step.stop for step in trace.steps[:-1]] == [None] * (len(trace.steps) - 1)
    assert trace.steps[-1].stop.reason == trace.finish_reason == "stop"
    assert trace.tokens[trace.ids[-1]] == "<|end|>" and trace.text == "the cat!"


def test_what_comes_before_every_chain_is_a_stage_too(make_decoder, tokenizer):
    trace = make_decoder(padding=9).trace("a", "top_k=5", min_new_tokens=2, max_new_tokens=4, seed=1)
    assert [entry.name for entry in trace.chain] == ["known_tokens", "min_new_tokens", "top_k"]
    assert {len(step.stages) for step in trace.steps} == {3}
    known, early, _ = trace.steps[0].stages
    assert (known.removed.count, early.removed.count) == (9, 1)
    assert trace.vocabulary == tokenizer.size + 9


def test_tokens_that_are_no_text_are_spelled(make_decoder, script, tokenizer):
    trace = make_decoder(script("猫が")).trace("a", max_new_tokens=6)
    spelled = "".join(trace.tokens[id] for id in trace.ids[:-1])
    assert spelled == "<0xE7><0x8C><0xAB><0xE3><0x81><0x8C>"
    assert [step.text for step in trace.steps if step.text] == ["猫", "が"]


def test_it_stays_small_whatever_the_vocabulary_is(tagline):
    for top in (1, 20):
        trace = tagline.trace(COFFEE, CHAIN, seed=4, top=top)
        for step in trace.steps:
            assert len(step.ids) <= 2 * top + 1 and len(step.draw.ids) <= 5
            assert all(len(stage.removed.ids) <= top for stage in step.stages)
    assert len(compact(trace.to_json())) / len(trace.steps) < 3200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top must be in [1, 1000], got 0"),
        ({"top": True}, "top must be a whole number in [1, 1000], got True"),
        ({"logprobs": 2}, "logprobs is for generate"),
        ({"speculate": "lookup"}, "speculate must be 'off'"),
        ({"prompt_logprobs": 1}, "prompt_logprobs is for generate"),
        ({"n": 2}, "no option named 'n'"),
    ],
)
def test_what_cannot_be_honoured_is_refused(decoder, options, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        decoder.trace("a", **options)


# data


def traces(tagline, make_decoder):
    yield tagline.trace(COFFEE, CHAIN, seed=4)
    yield tagline.trace([5, 6], [Once()], seed=4, max_new_tokens=3, stop="zzz", top=2)
    yield make_decoder(padding=5).trace("a", None, min_new_tokens=2, max_new_tokens=3, top=400)


def test_the_data_is_as_the_schema_says(tagline, make_decoder, four):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for trace in (*traces(tagline, make_decoder), four[0].trace("x", "top_p=0.7", seed=1, max_new_tokens=2)):
        data = strict_json.loads(json.dumps(trace.to_json(), allow_nan=False))
        validator.validate(data)
        mentioned = set(map(str, trace.prompt)) | {str(i) for step in trace.steps for i in step.mentioned()}
        assert data["tokens"].keys() == mentioned


def places(schema, data, path=()):
    """Every object in the data, as a path."""
    if isinstance(data, dict):
        yield path
        for key, value in data.items():
            yield from places(schema, value, (*path, key))
    elif isinstance(data, list) and data:
        yield from places(schema, data[0], (*path, 0))


def test_the_schema_refuses_what_is_left_out_or_added(tagline):
    data = tagline.trace(COFFEE, CHAIN, seed=4).to_json()
    validator = jsonschema.Draft202012Validator(SCHEMA)
    free = {"made_by", "options", "tokens"}  # maps with keys of their own
    for path in places(SCHEMA, data):
        if free & set(path):
            continue
        for change in ("left out", "added"):
            spoilt = json.loads(json.dumps(data))
            target = spoilt
            for key in path:
                target = target[key]
            if change == "added":
                target["more"] = 1
            else:
                del target[next(iter(target))]
            assert not validator.is_valid(spoilt), (path, change)


def test_numbers_have_six_digits(tagline):
    trace = tagline.trace(COFFEE, CHAIN, seed=4)
    for step, data in zip(trace.steps, trace.to_json()["steps"]):
        told = [data["probability"], data["norm"], *data["logits"], *data["draw"]["logits"]]
        exact = [step.probability, step.norm, *step.logits, *step.draw.logits]
        assert told == pytest.approx(exact, rel=5e-6, abs=0) and told != exact
        assert all(float(f"{number:.6g}") == number for number in told)


# recipes

NASTY = 'What\'s "new"?\n$HOME `ls` \\ 100% é 猫'


@pytest.mark.parametrize(
    ("prompt", "chain", "options"),
    [
        (COFFEE, CHAIN, {"seed": 4}),
        (NASTY, [Temperature(1.1), TopK(12)], {"seed": 1, "max_new_tokens": 6, "min_new_tokens": 3}),
        (COFFEE, None, {"seed": 1, "stop": ["y c", "'"], "ignore_eos": True, "max_new_tokens": 9}),
        (COFFEE, 'logit_bias.bias={"53": 5}, temperature=1', {"seed": 2, "stop_token_ids": [16, 14]}),
        (COFFEE, "temperature=2", {"seed": 3, "criteria": ["max_new_tokens=5"], "max_time": 1e6}),
    ],
)
def test_a_recipe_gives_the_same_answer(tagline, run, capsys, prompt, chain, options):
    trace = tagline.trace(prompt, chain, **options)
    exec(trace.recipe.python, {})
    assert capsys.readouterr().out == trace.text + "\n"
    program, *words = shlex.split(trace.recipe.command)
    status, out, _ = run(*words)
    assert (program, status, out) == ("decodekit", 0, trace.text + "\n")


def test_a_recipe_of_a_sample_or_of_ids_is_in_python_only(tagline, capsys):
    for prompt, options in ((list(tagline.encode(COFFEE)), {}), (COFFEE, {"sample": 2}), ("-x", {})):
        trace = tagline.trace(prompt, CHAIN, seed=4, **options)
        assert trace.recipe.command is None
        exec(trace.recipe.python, {})
        assert capsys.readouterr().out == trace.text + "\n"


def test_a_recipe_says_nothing_of_what_was_not_asked_for(tagline):
    trace = tagline.trace(COFFEE, seed=4, max_new_tokens=2, stop=[], stop_token_ids=[], tools=[])
    assert trace.recipe == tagline.trace(COFFEE, seed=4, max_new_tokens=2).recipe


@pytest.mark.parametrize("chain", [[Once()], [Temperature(0.5), Temperature(0.5)]], ids=repr)
def test_what_cannot_be_written_down_has_no_recipe(tagline, chain):
    recipe = tagline.trace(COFFEE, chain, seed=4, max_new_tokens=2).recipe
    assert (recipe.python, recipe.command) == (None, None)


@dataclass(frozen=True)
class First(StoppingCriterion):
    text: str

    def check(self, progress):
        return None


class Second(First):
    pass


def test_a_text_with_quotes_and_commas_is_written_so_that_it_reads_back(tagline):
    own = {f.__name__.lower(): (f, Plugin("own", "own 1.0", "ok")) for f in (First, Second)}
    registry = Registry("stopping criterion", own)
    decoder = Decoder(
        tagline.model, tagline.tokenizer, tagline.bundle, replace(tagline.plugins, stopping_criteria=registry)
    )
    for text in ("a, b", '", second="c', '", third="c', '\\", "'):
        trace = decoder.trace(COFFEE, None, seed=4, max_new_tokens=2, criteria=[First(text)])
        assert trace.recipe.python is not None
        (written,) = re.search(r"criteria=(\[.*\])", trace.recipe.python).groups()
        (link,) = parse(ast.literal_eval(written), registry, StoppingCriterion)
        assert link.strategy == First(text)


# the page


def parts(html):
    """Style, policy, data and script of a page."""
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    policy = re.findall(r'http-equiv="Content-Security-Policy"\s+content="(.*?)"', html, re.DOTALL)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)
    assert (len(style), len(policy), len(scripts)) == (1, 1, 2)
    return style[0], policy[0], *scripts


def test_the_page_holds_the_data_and_needs_nothing_else(tagline):
    trace = tagline.trace(COFFEE, CHAIN, seed=4)
    html = trace.to_html()
    style, policy, data, script = parts(html)
    assert strict_json.loads(data) == json.loads(json.dumps(trace.to_json()))
    assert not re.search(r"(src|href)=\"(?!#|data:)|@import|url\(|fetch\(|XMLHttpRequest|import\(", html)
    assert "default-src 'none'" in policy
    for kind, text in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize(
    "hostile",
    [
        "</script><script>alert(1)</script>",
        "<!--<script>",
        "{{TRACE}}",
        "{{STYLE}}",
        "\u2028\u2029\0",
        "]]>&lt;",
    ],
)
def test_hostile_text_stays_data(tagline, hostile):
    trace = tagline.trace(COFFEE, CHAIN, seed=4, max_new_tokens=3)
    tokens = dict.fromkeys(trace.tokens, hostile)
    trace = replace(trace, tokens=tokens, text=hostile, bundle=hostile, stopped_by=hostile)
    _, _, data, _ = parts(trace.to_html())
    assert not set("<>&\u2028\u2029") & set(data)
    assert strict_json.loads(data) == json.loads(json.dumps(trace.to_json()))


def test_the_page_takes_plain_data():
    assert parts(page({"a": [1, None, "é"]}))[2] == '{"a":[1,null,"é"]}'


# files and the command


def test_a_trace_is_saved_by_its_suffix(tagline, tmp_path):
    trace = tagline.trace(COFFEE, CHAIN, seed=4, max_new_tokens=3)
    assert trace.save(tmp_path / "a.json") == (tmp_path / "a.json").stat().st_size
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads(json.dumps(trace.to_json()))
    trace.save(str(tmp_path / "a.html"))
    assert (tmp_path / "a.html").read_text() == trace.to_html()


def test_the_command_prints_a_line_for_each_token(run):
    status, out, err = run(
        "trace", "tagline", COFFEE, "-p", "temperature=0.9", "-p", "top_k=40", "--seed", "4"
    )
    _, answer, _ = run("generate", "tagline", COFFEE, "-p", "temperature=0.9, top_k=40", "--seed", "4")
    lines = out.splitlines()
    assert status == 0 and lines[0] + "\n" == answer
    assert "temperature, top_k" in lines[1] and "'<|end|>'" in lines[-1] and "1,536 → 40" in lines[-1]
    assert "stop (token 0), seed 4" in err


def test_the_command_writes_what_generate_gives(run, tmp_path, monkeypatch):
    import io
    import sys

    options = ["-p", CHAIN, "--seed", "4", "--stop", "can", "--max-new-tokens", "9"]
    answer = json.loads(run("generate", "tagline", COFFEE, *options, "--json")[1])
    monkeypatch.setattr(sys, "stdin", io.StringIO(COFFEE + "\n"))
    status, out, err = run(
        "trace", "tagline", "-", *options, "--json", "--top", "3", "--out", str(tmp_path / "a.html")
    )
    data = json.loads(out)
    assert status == 0 and data["top"] == 3
    assert [step["id"] for step in data["steps"]] == [token["id"] for token in answer["tokens"]]
    assert (data["text"], data["finish_reason"]) == (answer["text"], answer["finish_reason"])
    assert strict_json.loads(parts((tmp_path / "a.html").read_text())[2]) == data
    assert f"a.html: {len(data['steps'])} tokens" in " ".join(err.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "trace.pdf"], "trace.pdf: a trace is a file that ends in .html or .json; rename it"),
        (["--out", "nowhere/a.html"], "nowhere/a.html: no folder nowhere; make it first"),
        (["--top", "0"], "top must be in [1, 1000], got 0"),
        (["-p", "topp=0.9"], "did you mean 'top_p'?"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, words, message):
    status, out, err = run("trace", "tagline", COFFEE, *words)
    assert (status, out) == (2, "") and message in err and err.count("\n") == 1


def test_the_snippets_of_its_page_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "trace.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile("\n".join(snippets), "trace.md", "exec"), {})
    assert capsys.readouterr().out and (tmp_path / "trace.html").stat().st_size > 20_000
