import asyncio
import io
import json
import math
import sys
import threading
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from rich.console import Console
from tokenizers import processors as post

import decodekit
from decodekit import console
from decodekit.bundle import Bundle
from decodekit.decoder import Decoder
from decodekit.errors import ContextError, ParameterError, PromptError
from decodekit.ops import log_softmax
from decodekit.places import CHUNK
from decodekit.score import Score, Sum, TokenScore, logprobs
from decodekit.testing import TableModel
from decodekit.tokenizer import Tokenizer

FIXTURES = Path(__file__).parent / "fixtures"
TEXT = "the cat sat on the mat. ça va, 猫 🐈!"
CONTEXT = 600  # of the fixtures


@pytest.fixture(scope="module", params=["in_place", "concatenating"])
def tiny(request):
    return decodekit.load(FIXTURES / request.param, plugins=decodekit.load_plugins(only=()))


def expected(table, ids, first=1):
    """Log-probabilities of ids[first:] under a bigram table."""
    return [float(log_softmax(table[a].astype(np.float64))[b]) for a, b in zip(ids[first - 1 :], ids[first:])]


def values(score):
    return [token.logprob for token in score.tokens]


def random_ids(count, seed=0):
    return np.random.default_rng(seed).integers(1, 256, count).tolist()


def alone(model, ids, first):
    """Log-probabilities of ids[first:], from one call over all."""
    logits, _ = model(np.asarray(ids[:-1]), model.new_cache(), last=len(ids) - first)
    logp = log_softmax(logits.astype(np.float64))
    return logp[np.arange(len(ids) - first), ids[first:]].tolist()


def test_a_text_by_itself_has_a_log_probability_for_every_token_but_the_first(decoder, tokenizer):
    score = decoder.score(TEXT)
    ids = tokenizer.encode_plain(TEXT)
    assert [token.id for token in score.tokens] == ids
    assert values(score)[0] is None
    assert values(score)[1:] == pytest.approx(expected(decoder.model.table, ids), abs=1e-9)
    assert "".join(token.text for token in score.tokens) == TEXT
    assert (score.given, score.windows) == (0, 1)


def test_sum_mean_and_perplexity_are_of_the_tokens_that_have_one(decoder):
    score = decoder.score(TEXT)
    known = [value for value in values(score) if value is not None]
    assert score.sum == pytest.approx(sum(known))
    assert score.mean == pytest.approx(sum(known) / (len(score.tokens) - 1))
    assert score.perplexity == pytest.approx(math.exp(-score.mean))


def test_a_uniform_model_has_its_vocabulary_as_perplexity(make_decoder, tokenizer):
    decoder = make_decoder(np.zeros((tokenizer.size, tokenizer.size), np.float32))
    assert decoder.score(TEXT).perplexity == pytest.approx(tokenizer.size)


def test_what_the_tokenizer_puts_before_a_text_is_given(decoder, tokenizer_file, tmp_path):
    begins = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    begins.post_processor = post.TemplateProcessing(
        single="<|user|> $A", special_tokens=[("<|user|>", begins.token_to_id("<|user|>"))]
    )
    begins.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json")
    bundle = Bundle(decoder.bundle.path, {**decoder.bundle.manifest, "chat_template": None})
    score = Decoder(decoder.model, tokenizer, bundle, decoder.plugins).score(TEXT)
    ids = [tokenizer.id("<|user|>"), *tokenizer.encode_plain(TEXT)]
    assert (score.given, len(score.tokens)) == (1, len(ids) - 1)
    assert values(score) == pytest.approx(expected(decoder.model.table, ids), abs=1e-9)


def test_an_answer_is_scored_with_its_end_behind_the_prompt_as_rendered(decoder, tokenizer):
    score = decoder.score("the mat.", prompt="the cat")
    given = decoder.encode("the cat")
    ids = (*given, *tokenizer.encode_plain("the mat."), tokenizer.id("<|end|>"))
    assert score.given == len(given)
    assert [token.id for token in score.tokens] == list(ids[len(given) :])
    assert values(score) == pytest.approx(expected(decoder.model.table, ids, len(given)), abs=1e-9)


def test_prompts_as_text_messages_and_ids_and_messages_with_an_answer_are_the_same(decoder):
    question = [{"role": "user", "content": "the cat"}]
    score = decoder.score("the mat.", prompt="the cat", top=2)
    assert decoder.score("the mat.", prompt=question, top=2) == score
    assert decoder.score("the mat.", prompt=decoder.encode("the cat"), top=2) == score
    assert decoder.score([*question, {"role": "assistant", "content": "the mat."}], top=2) == score
    answer = [token.id for token in score.tokens]
    assert decoder.score(answer, prompt="the cat", top=2) == score
    whole = decoder.score([*decoder.encode("the cat"), *answer], top=2)
    assert values(whole)[score.given :] == pytest.approx(values(score), abs=1e-9)


def test_alternatives_are_the_best_of_the_model_best_first(decoder, tokenizer):
    ids = tokenizer.encode_plain(TEXT)
    for previous, token in zip(ids, decoder.score(TEXT, top=5).tokens[1:]):
        logp = log_softmax(decoder.model.table[previous].astype(np.float64))
        order = np.argsort(-logp, kind="stable")[:5]
        assert [i for i, _ in token.top] == order.tolist()
        assert [value for _, value in token.top] == pytest.approx(logp[order].tolist())


@pytest.mark.parametrize("count", [2, CHUNK, CHUNK + 1, CHUNK + 2, 2 * CHUNK + 1, 300, CONTEXT])
def test_reading_in_chunks_gives_what_one_call_gives(tiny, count):
    ids = random_ids(count)
    assert values(tiny.score(ids))[1:] == pytest.approx(alone(tiny.model, ids, 1), abs=1e-4)
    given = count - 1
    assert values(tiny.score(ids[given:], prompt=ids[:given])) == pytest.approx(
        alone(tiny.model, ids, given), abs=1e-4
    )


def test_an_answer_that_was_generated_scores_as_it_said(tiny):
    completion = tiny.generate("Once upon", "temperature=0.9", seed=2, max_new_tokens=40, logprobs=3)
    score = tiny.score(completion.ids, prompt="Once upon", top=3)
    assert values(score) == pytest.approx([token.logprob for token in completion.tokens], abs=1e-4)
    for scored, drawn in zip(score.tokens, completion.tokens):
        assert scored.text == drawn.text
        assert [v for _, v in scored.top] == pytest.approx([v for _, v in drawn.top], abs=1e-4)
    assert score.mean == pytest.approx(completion.mean_logprob, abs=1e-4)


@pytest.mark.parametrize(("count", "stride"), [(601, None), (1500, 100), (1000, 599), (605, 1), (1801, 250)])
def test_a_text_longer_than_the_window_is_read_in_windows_that_overlap(tiny, count, stride):
    ids = random_ids(count)
    score = tiny.score(ids, stride=stride)
    by, begin, new = stride or CONTEXT // 2, 0, 1
    found: list[float] = []
    windows = 0
    while new < count:
        window = ids[begin : begin + CONTEXT]
        assert begin == 0 or new - begin >= CONTEXT - by
        found += alone(tiny.model, window, new - begin)
        begin, new, windows = begin + by, begin + len(window), windows + 1
    assert len(score.tokens) == count and score.windows == windows
    assert values(score)[1:] == pytest.approx(found, abs=1e-4)


def test_a_text_that_fits_is_one_window_whatever_the_stride(tiny):
    ids = random_ids(CONTEXT)
    assert tiny.score(ids, stride=7) == tiny.score(ids)


@dataclass(frozen=True)
class WatchedModel(TableModel):
    """Tells who called it, and how much was asked."""

    calls: list = field(default_factory=list)

    def __call__(self, tokens, cache, *, last=1):
        self.calls.append((threading.current_thread().name, len(tokens), last))
        return super().__call__(tokens, cache, last=last)


def test_the_model_is_called_on_the_engines_thread_a_chunk_at_a_time(decoder):
    model = WatchedModel(decoder.model.table)
    watched = Decoder(model, decoder.tokenizer, decoder.bundle, decoder.plugins)
    watched.score(random_ids(3 * CHUNK + 5), prompt=random_ids(CHUNK + 1))
    assert {name for name, _, _ in model.calls} == {"decodekit engine"}
    assert [tokens for _, tokens, _ in model.calls] == [CHUNK] * 4 + [5]
    assert [last for _, _, last in model.calls] == [0, *[CHUNK] * 3, 5]


def test_a_stream_goes_on_between_the_chunks_of_a_score(decoder):
    model = WatchedModel(decoder.model.table)
    watched = Decoder(model, decoder.tokenizer, decoder.bundle, decoder.plugins)
    stream = watched.stream("the cat", "temperature=1", seed=1, max_new_tokens=9000, ignore_eos=True)
    beginning = next(stream)
    score = watched.score(random_ids(20 * CHUNK))
    stream.close()
    assert score == decoder.score(random_ids(20 * CHUNK))
    assert decoder.generate("the cat", "temperature=1", seed=1, max_new_tokens=9).text.startswith(beginning)
    sizes = [tokens for _, tokens, _ in model.calls]
    chunks = [i for i, size in enumerate(sizes) if size >= CHUNK - 1]
    between = [1 in sizes[a:b] for a, b in pairwise(chunks) if 1 in sizes[b:]]
    assert len(between) >= 5 and all(between)


def test_threads_score_at_the_same_time(tiny):
    texts = [random_ids(200, seed) for seed in range(6)]
    wanted = [tiny.score(ids) for ids in texts]
    found = [None] * 6

    def work(i):
        found[i] = tiny.score(texts[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("", {}, PromptError, "text is empty; give at least one character"),
        ([], {}, PromptError, "text is empty"),
        ([5, 10**6], {}, PromptError, r"text\[1\] must be a token id in \[0, \d+\), got 1000000"),
        ("a", {"prompt": ""}, PromptError, "prompt is empty"),
        ("a", {"prompt": []}, PromptError, "prompt is empty"),
        ("a", {"prompt": [-1]}, PromptError, r"prompt\[0\] must be a token id"),
        ("a b", {"top": 21}, ParameterError, r"top must be in \[0, 20\], got 21"),
        (
            "a b",
            {"stride": 0},
            ParameterError,
            r"stride must be in \[1, 12\), got 0; so that windows overlap",
        ),
        ("a b", {"stride": 12}, ParameterError, "stride must be in"),
        ("z" * 20, {"prompt": "z"}, ContextError, "prompt of 4 tokens and text of 21 exceed .* window of 12"),
        ([{"role": "user", "content": "a"}], {}, PromptError, "must end with one of the role 'assistant'"),
        ([{"role": "assistant", "content": "a"}], {}, PromptError, "behind at least one other"),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}],
            {},
            PromptError,
            "must end with",
        ),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            {"prompt": "c"},
            ParameterError,
            "prompt must be left out where text is messages",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_way_out(make_decoder, text, options, error, message):
    with pytest.raises(error, match=message):
        make_decoder(context_length=12).score(text, **options)


def test_a_text_of_one_token_with_nothing_before_it_has_no_number(decoder):
    score = decoder.score("a")
    assert values(score) == [None] and score.total == Sum(0, 0.0)
    assert math.isnan(score.mean) and math.isnan(score.perplexity)
    assert json.dumps(score.to_json(), allow_nan=False)
    assert score.to_json()["perplexity"] is None


def test_a_perplexity_beyond_float64_is_infinite():
    score = Score((TokenScore(0, "a", -800.0),), given=1)
    assert score.perplexity == math.inf and score.to_json()["perplexity"] is None


def test_log_probabilities_are_of_float32_logits_in_float64():
    logits = np.asarray([[0.0, 88.0, 88.0], [-1e4, 0.0, 1e4]], np.float32)
    (first, _), (second, _) = logprobs(logits, np.asarray([1, 0]))
    assert first == pytest.approx(-math.log(2), abs=1e-15)
    assert second == -2e4


def test_a_prompt_has_log_probabilities_where_asked_and_the_answer_stays_as_it_is(tiny):
    options = {"seed": 3, "max_new_tokens": 8}
    prompts = ["Once upon", "A long time ago " * 12]
    plain = tiny.generate(prompts, "temperature=1", n=2, **options)
    looked = tiny.generate(prompts, "temperature=1", n=2, prompt_logprobs=2, **options)
    assert [c.tokens for c in looked] == [c.tokens for c in plain]
    for prompt, completion in zip([p for p in prompts for _ in range(2)], looked):
        assert completion.prompt_logprobs == tiny.score(tiny.encode(prompt), top=2).tokens
    assert plain[0].prompt_logprobs == () and "prompt_logprobs" not in plain[0].to_json()
    assert len(looked[0].to_json()["prompt_logprobs"]) == looked[0].usage.prompt_tokens
    asked = tiny.agenerate(prompts[0], "temperature=1", prompt_logprobs=2, **options)
    assert asyncio.run(asked) == looked[0]


def test_a_stream_has_no_log_probabilities_of_its_prompt_and_says_so(decoder):
    with pytest.raises(ParameterError, match="prompt_logprobs is for generate"):
        decoder.stream("the cat", prompt_logprobs=1)
    with pytest.raises(ParameterError, match=r"prompt_logprobs must be in \[0, 20\], got 21"):
        decoder.generate("the cat", prompt_logprobs=21)


def write(path, *rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_command_line_scores_a_file(run, tmp_path):
    text = "Wake up to better coffee.\n" * 90
    status, out, _ = run("score", "tagline", write(tmp_path / "a.txt", text), "--stride", "50", "--json")
    found = json.loads(out)
    score = decodekit.load("tagline").score(text, stride=50)
    assert status == 0 and found["windows"] == score.windows > 1
    assert found["tokens"] == len(score.tokens) - 1
    assert found["perplexity"] == pytest.approx(score.perplexity)
    status, out, err = run("score", "tagline", str(tmp_path / "a.txt"))
    assert status == 0 and "perplexity" in out and err == ""


def test_the_command_line_scores_an_answer_to_a_prompt(run, tmp_path):
    file = write(tmp_path / "a.txt", "Fresh bread daily.")
    _, out, _ = run("score", "tagline", file, "--prompt", "A slogan for a bakery.", "--json")
    score = decodekit.load("tagline").score("Fresh bread daily.", prompt="A slogan for a bakery.")
    assert json.loads(out)["logprob"] == pytest.approx(score.sum)


def test_on_a_terminal_a_bar_tells_tokens_speed_and_perplexity(run, tmp_path, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=True, width=120))
    run("score", "tagline", write(tmp_path / "a.txt", "Wake up to better coffee.\n" * 90))
    assert "719 of 719 tokens" in screen.getvalue() and "tokens/s, perplexity" in screen.getvalue()


ROWS = [
    {"text": "Wake up to better coffee.", "id": 7},
    {"prompt": "A slogan for a bakery.", "completion": "Fresh bread daily."},
    {"prompt": [{"role": "user", "content": "A slogan for a bakery."}], "completion": "Fresh bread daily."},
]


def test_the_command_line_scores_rows_and_adds_them_up(run, tmp_path):
    file = write(tmp_path / "rows.jsonl", ROWS[0], "\n", *ROWS[1:])
    status, out, _ = run("score", "tagline", file, "--jsonl", "--json")
    found = json.loads(out)
    assert status == 0
    assert [row["place"] for row in found["rows"]] == [f"{file}:{line}" for line in (1, 3, 4)]
    assert found["rows"][1] == {**found["rows"][2], "place": f"{file}:3"}
    assert found["tokens"] == sum(row["tokens"] for row in found["rows"])
    assert found["logprob"] == pytest.approx(sum(row["logprob"] for row in found["rows"]))
    assert found["perplexity"] == pytest.approx(math.exp(-found["logprob"] / found["tokens"]))
    assert "3 rows" in run("score", "tagline", file, "--jsonl")[1]


def test_the_command_line_reads_standard_input(run, tmp_path, monkeypatch):
    file = write(tmp_path / "rows.jsonl", *ROWS)
    expected = json.loads(run("score", "tagline", file, "--jsonl", "--json")[1])["logprob"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(file).read_bytes())))
    found = json.loads(run("score", "tagline", "-", "--jsonl", "--json")[1])
    assert found["logprob"] == expected and found["rows"][0]["place"] == "-:1"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("not json\n", "not JSON (Expecting value"),
        ("[1, 2]\n", "an object is expected, got list"),
        ('{"text": NaN}\n', "NaN is no JSON number; write null or a number"),
        ('{"text": "a", "text": "b"}\n', "'text' is there twice"),
        ('{"text": "\\ud800"}\n', "surrogates not allowed"),
        ("[" * 100_000 + "\n", "not JSON"),
        ({"txt": "a"}, "a string or messages; got 'txt'"),
        ({}, "got nothing"),
        ({"text": 5}, "either a string text"),
        ({"text": "a", "prompt": "b"}, "either a string text"),
        ({"text": "a", "prompt": "b", "completion": "c"}, "either a string text"),
        ({"completion": "c"}, "either a string text"),
        ({"prompt": "b", "completion": ""}, "text is empty"),
        ({"prompt": 5, "completion": "c"}, "got 'prompt', 'completion'"),
        ({"prompt": ["b"], "completion": "c"}, "got 'prompt', 'completion'"),
        ({"prompt": "", "completion": "c"}, "prompt is empty"),
        ({"prompt": [{"role": "user"}], "completion": "c"}, "messages[0].content must be a string"),
        ({"prompt": "b", "completion": "c" * 5000}, "exceed the context window"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_nothing_is_scored(run, tmp_path, row, message):
    file = write(tmp_path / "rows.jsonl", ROWS[0], row)
    status, out, err = run("score", "tagline", file, "--jsonl")
    assert (status, out) == (2, "")
    assert err.startswith(f"error[E_INPUT]: {file}:2: ") and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.txt"], "nowhere.txt: cannot be read (No such file or directory)"),
        (["latin.txt"], "latin.txt: not UTF-8 at byte 1"),
        (["empty.txt"], "text is empty"),
        (["one.txt"], "no token has anything before it"),
        (["rows.jsonl", "--jsonl", "--prompt", "a"], "--prompt and --jsonl exclude each other"),
        (["rows.jsonl", "--stride", "0"], "stride must be in [1, 256)"),
        (["latin.txt", "--jsonl"], "latin.txt:1: not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_scored_is_one_line_and_status_2(run, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    Path("latin.txt").write_bytes("né".encode("latin-1"))
    Path("empty.txt").touch()
    write(Path("one.txt"), "x")
    write(Path("rows.jsonl"), *ROWS)
    status, out, err = run("score", "tagline", *words)
    assert (status, out) == (2, "") and message in err and err.count("\n") == 1
