import threading
from importlib import metadata

import numpy as np
import pytest

from decodekit import LogitsProcessor, Stop, StoppingCriterion
from decodekit.errors import ContextError, ParameterError, PromptError, UnknownNameError
from decodekit.ops import log_softmax
from decodekit.strategies.temperature import Temperature

SAMPLED = "temperature=0.9, top_p=0.95"
LIMIT = {"max_new_tokens": 30}


def test_greedy_is_the_default(make_decoder, script):
    completion = make_decoder(script("the cat!")).generate("a")
    assert completion.text == "the cat!"
    assert completion.finish_reason == "stop"
    assert [link["name"] for link in completion.recipe["chain"]] == ["greedy"]


def test_the_usage_counts_prompt_and_answer(make_decoder, script, tokenizer):
    completion = make_decoder(script("the cat!")).generate("a")
    assert completion.usage.prompt_tokens == 4  # user, a, end, assistant
    assert completion.usage.completion_tokens == len(tokenizer.encode("the cat!")) + 1
    assert completion.ids[-1] == tokenizer.id("<|end|>")


def test_a_stop_string_is_no_part_of_the_answer_wherever_tokens_begin(make_decoder, script):
    decoder = make_decoder(script("the cat!"))
    for stop, text in [("cat", "the "), ("e c", "th"), ("!", "the cat"), ("t!", "the ca"), ("the", "")]:
        completion = decoder.generate("a", stop=stop)
        assert (completion.text, completion.finish_reason, completion.stopped_by) == (
            text,
            "stop",
            repr(stop),
        )


def test_what_may_become_a_stop_string_is_held_back_and_given_out_at_the_end(make_decoder, script):
    stream = make_decoder(script("the cat!")).stream("a", stop=["cat?", "!!"])
    pieces = list(stream)
    assert "".join(pieces) == stream.completion.text == "the cat!"
    shown = ""
    for piece in pieces[:-1]:
        shown += piece
        assert not shown.endswith(("c", "ca", "!"))  # undecided until what follows "cat" is known


@pytest.mark.parametrize("stop", [(), "e", ["th", "aa", "q"]])
@pytest.mark.parametrize("seed", range(15))
def test_a_stream_concatenates_to_the_completion(decoder, seed, stop):
    stream = decoder.stream("the cat", SAMPLED, seed=seed, stop=stop, **LIMIT)
    assert "".join(stream) == stream.completion.text
    assert stream.completion == decoder.generate("the cat", SAMPLED, seed=seed, stop=stop, **LIMIT)


def test_the_same_seed_gives_the_same_tokens_alone_in_a_list_and_streamed(decoder):
    prompts = ["the cat", "a dog", "b"]
    together = decoder.generate(prompts, SAMPLED, seed=5, **LIMIT)
    alone = [decoder.generate(p, SAMPLED, seed=5, **LIMIT) for p in prompts]
    streamed = [decoder.stream(p, SAMPLED, seed=5, **LIMIT).complete() for p in prompts]
    assert together == alone == streamed


def test_the_samples_of_a_seed_differ_and_none_depends_on_n(decoder):
    four = decoder.generate("the cat", SAMPLED, seed=5, n=4, **LIMIT)
    assert len({c.ids for c in four}) == 4
    assert decoder.generate("the cat", SAMPLED, seed=5, n=2, **LIMIT) == four[:2]
    assert [c.sample for c in four] == [0, 1, 2, 3]


def test_a_seed_that_was_drawn_is_told_and_repeats(decoder):
    first = decoder.generate("the cat", SAMPLED, **LIMIT)
    assert first == decoder.generate("the cat", SAMPLED, seed=first.seed, **LIMIT)
    assert first.seed != decoder.generate("the cat", SAMPLED, **LIMIT).seed


def test_text_messages_and_ids_are_the_same_prompt(decoder):
    text = decoder.generate("the cat", seed=1, **LIMIT)
    assert decoder.generate([{"role": "user", "content": "the cat"}], seed=1, **LIMIT) == text
    assert decoder.generate(list(decoder.encode("the cat")), seed=1, **LIMIT) == text


def test_log_probabilities_are_those_of_the_model_itself(decoder):
    completion = decoder.generate("the cat", SAMPLED, seed=3, logprobs=3, **LIMIT)
    before = (decoder.encode("the cat")[-1], *completion.ids)
    for token, previous in zip(completion.tokens, before, strict=False):
        expected = log_softmax(decoder.model.table[previous].astype(np.float64))
        assert token.logprob == pytest.approx(expected[token.id])
        assert [i for i, _ in token.top] == np.argsort(-expected)[:3].tolist()


def test_without_asking_there_are_no_log_probabilities(decoder):
    assert decoder.generate("the cat", **LIMIT).tokens[0].logprob is None


def test_max_new_tokens_ends_with_length(decoder):
    completion = decoder.generate("the cat", SAMPLED, seed=1, max_new_tokens=3, stop_token_ids=[])
    assert (completion.finish_reason, completion.usage.completion_tokens) == ("length", 3)


def test_stop_token_ids_join_the_end_tokens(make_decoder, script, tokenizer):
    decoder = make_decoder(script("the cat!"))
    space_cat = tokenizer.encode_plain("the cat!")[-2]
    completion = decoder.generate("a", stop_token_ids=[space_cat])
    assert completion.finish_reason == "stop" and completion.text in ("the", "the ", "the ca", "the c")
    assert decoder.generate("a", stop_token_ids=[tokenizer.id("<|user|>")]).text == "the cat!"


def test_max_time_ends_with_time(make_decoder, tokenizer):
    table = np.zeros((tokenizer.size, tokenizer.size), np.float32)
    table[:, tokenizer.id("<|end|>")] = -100.0
    completion = make_decoder(table, context_length=1_000_000).generate("a", "temperature=1", max_time=0.05)
    assert (completion.finish_reason, completion.stopped_by) == ("time", "0.05 s")


def test_a_criterion_object_and_a_criterion_by_name_both_work(make_decoder, script):
    class Second(StoppingCriterion):
        def check(self, progress):
            return Stop("second") if len(progress.history.generated) == 2 else None

    decoder = make_decoder(script("the cat!"))
    assert decoder.generate("a", criteria=[Second()]).finish_reason == "second"
    assert decoder.generate("a", criteria="max_new_tokens=1").finish_reason == "length"


def test_a_chain_of_objects_and_texts(decoder):
    by_name = decoder.generate("the cat", "temperature=0.9, top_p=0.95", seed=2, **LIMIT)
    assert decoder.generate("the cat", [Temperature(0.9), "top_p=0.95"], seed=2, **LIMIT) == by_name


def test_ids_that_pad_the_vocabulary_are_never_drawn(make_decoder, tokenizer):
    decoder = make_decoder(padding=50)
    decoder.model.table[:, tokenizer.size :] = 50.0
    completion = decoder.generate("the cat", "temperature=1", seed=0, **LIMIT)
    assert max(completion.ids) < tokenizer.size


def test_a_decoder_is_shared_by_threads(decoder):
    expected = [decoder.generate("the cat", SAMPLED, seed=s, **LIMIT) for s in range(8)]
    found = [None] * 8

    def work(seed):
        found[seed] = decoder.generate("the cat", SAMPLED, seed=seed, **LIMIT)

    threads = [threading.Thread(target=work, args=(s,)) for s in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_a_completion_is_plain_data(decoder):
    data = decoder.generate("the cat", SAMPLED, seed=3, logprobs=2, max_new_tokens=2).to_json()
    assert data["usage"]["prompt_tokens"] == len(decoder.encode("the cat"))
    assert data["recipe"]["seed"] == 3 and data["recipe"]["chain"] == [
        {"name": "temperature", "options": {"t": 0.9}, "from": f"decodekit {metadata.version('decodekit')}"},
        {"name": "top_p", "options": {"p": 0.95}, "from": f"decodekit {metadata.version('decodekit')}"},
    ]
    assert len(data["tokens"][0]["top"]) == 2


def test_a_strategy_that_fails_ends_its_own_request_only(decoder):
    class Fails(LogitsProcessor):
        def process(self, logits, step, state):
            raise RuntimeError("table lost")

    with pytest.raises(Exception, match="RuntimeError\\('table lost'\\)"):
        decoder.generate("the cat", [Fails()])
    assert decoder.generate("the cat", **LIMIT).tokens


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompt": ""}, PromptError, "prompt is empty; give at least one character"),
        ({"prompt": []}, PromptError, "prompt is empty; give at least one token id"),
        ({"prompt": [1, 10**6]}, PromptError, r"prompt\[1\] must be a token id in \[0, \d+\), got 1000000"),
        (
            {"prompt": "word " * 60_000},
            ContextError,
            r"of which the first [\d,]+ are [\d,]+ tokens, exceeds the context window",
        ),
        ({"prompt": 5}, PromptError, "a prompt is text, messages, token ids, or a list of these, got 5"),
        ({"prompt": {"a": 1}}, PromptError, "a prompt is text, messages, token ids, or a list of these, got"),
        ({"prompt": [-1]}, PromptError, r"prompt\[0\] must be a token id"),
        ({"prompt": [{"role": "user"}]}, PromptError, r"messages\[0\].content must be a string"),
        ({"chain": "topp=1"}, UnknownNameError, "did you mean 'top_p'"),
        ({"chain": 'logit_bias={"99999": 1}'}, ParameterError, r"logit_bias: token ids are in \[0, \d+\)"),
        ({"max_new_tokens": 0}, ParameterError, r"max_new_tokens: n must be in \[1, inf\), got 0"),
        ({"max_new_tokens": 1.5}, ParameterError, "max_new_tokens: n must be a whole number"),
        ({"seed": -1}, ParameterError, r"seed must be in \[0, 18446744073709551616\), got -1"),
        ({"seed": 2**64}, ParameterError, "seed must be in"),
        ({"seed": "1"}, ParameterError, "seed must be a whole number"),
        ({"n": 0}, ParameterError, r"n must be in \[1, 128\], got 0"),
        ({"logprobs": 21}, ParameterError, r"logprobs must be in \[0, 20\], got 21"),
        ({"stop": [""]}, ParameterError, "stop: need one or more non-empty strings"),
        ({"stop": ["x"] * 500_000}, ParameterError, "stop: at most 16 strings"),
        ({"stop_token_ids": [10**6]}, ParameterError, "end_tokens: token ids are in"),
        ({"max_time": 0}, ParameterError, "max_time: seconds must be in"),
        ({"criteria": "nothing=1"}, UnknownNameError, "no stopping criterion named 'nothing'"),
    ],
)
def test_what_cannot_be_decoded_is_refused_with_the_way_out(decoder, options, error, message):
    with pytest.raises(error, match=message):
        decoder.generate(**{"prompt": "the cat", "max_new_tokens": 2} | options)


def test_a_prompt_longer_than_the_window_is_refused_with_the_numbers(make_decoder):
    decoder = make_decoder(context_length=12)
    with pytest.raises(
        ContextError, match=r"prompt of 43 tokens .* context window of 12; shorten the prompt"
    ):
        decoder.generate("z" * 40)
    with pytest.raises(
        ContextError, match=r"max_new_tokens 9 exceed the context window of 12; at most 8 new"
    ):
        decoder.generate("z", max_new_tokens=9)
    assert decoder.generate("z", max_new_tokens=8).usage.completion_tokens <= 8
    assert decoder.generate("z").usage.completion_tokens <= 8
