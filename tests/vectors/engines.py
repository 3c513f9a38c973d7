"""
The engines: each sampler of `definitions` as others have it, on logits that are given.

    engine(logits, params, prompt, generated) -> {id: logit} of what is left, or None: it has no such sampler

transformers' processors are called as they are. llama.cpp's samplers are called through its C interface, by
llama-cpp-python, on a candidate array made by hand; no model is needed.
"""

import ctypes
from importlib import metadata

import llama_cpp
import torch
from transformers.generation import logits_process as hf

VERSIONS = {
    "transformers": metadata.version("transformers"),
    "llama.cpp": f"llama-cpp-python {metadata.version('llama-cpp-python')}",
}
SEED = 1

TRANSFORMERS = {
    "temperature": lambda p, asked: hf.TemperatureLogitsWarper(p["t"]),
    "top_k": lambda p, asked: hf.TopKLogitsWarper(p["k"]),
    "top_p": lambda p, asked: hf.TopPLogitsWarper(p["p"]),
    "min_p": lambda p, asked: hf.MinPLogitsWarper(p["p"]),
    "typical": lambda p, asked: hf.TypicalLogitsWarper(p["p"]),
    "epsilon": lambda p, asked: hf.EpsilonLogitsWarper(p["epsilon"]),
    "eta": lambda p, asked: hf.EtaLogitsWarper(p["epsilon"]),
    "top_h": lambda p, asked: hf.TopHLogitsWarper(p["alpha"]),
    "repetition_penalty": lambda p, asked: (
        hf.RepetitionPenaltyLogitsProcessor(p["theta"]) if p["window"] is None else None
    ),
    "encoder_repetition": lambda p, asked: hf.EncoderRepetitionPenaltyLogitsProcessor(
        p["theta"], torch.tensor([asked])
    ),
    "no_repeat_ngram": lambda p, asked: hf.NoRepeatNGramLogitsProcessor(p["n"]),
    "sequence_bias": lambda p, asked: hf.SequenceBiasLogitsProcessor(
        [[one["tokens"], one["bias"]] for one in p["sequences"]]
    ),
    "length_decay": lambda p, asked: hf.ExponentialDecayLengthPenalty(
        (p["start"], p["factor"]), p["ends"], len(asked)
    ),
}
LLAMA = {
    "temperature": lambda c, p: c.llama_sampler_init_temp(p["t"]),
    "dynamic_temperature": lambda c, p: c.llama_sampler_init_temp_ext(
        (p["low"] + p["high"]) / 2, (p["high"] - p["low"]) / 2, p["exponent"]
    ),
    "top_k": lambda c, p: c.llama_sampler_init_top_k(p["k"]),
    "top_p": lambda c, p: c.llama_sampler_init_top_p(p["p"], 0),
    "min_p": lambda c, p: c.llama_sampler_init_min_p(p["p"], 0),
    "typical": lambda c, p: c.llama_sampler_init_typical(p["p"], 0),
    "top_n_sigma": lambda c, p: c.llama_sampler_init_top_n_sigma(p["n"]),
    "xtc": lambda c, p: c.llama_sampler_init_xtc(1.0, p["threshold"], 0, SEED),
    "repetition_penalty": lambda c, p: c.llama_sampler_init_penalties(*_last(p), p["theta"], 0.0, 0.0),
    "frequency_penalty": lambda c, p: c.llama_sampler_init_penalties(*_last(p), 1.0, p["f"], 0.0),
    "presence_penalty": lambda c, p: c.llama_sampler_init_penalties(*_last(p), 1.0, 0.0, p["f"]),
    "dry": lambda c, p: c.llama_sampler_init_dry(
        None, p["multiplier"], p["base"], p["allowed_length"], 1024, None, 0
    ),
}


def transformers(name, logits, params, prompt, generated):
    processor = TRANSFORMERS[name](params, prompt) if name in TRANSFORMERS else None
    if processor is None:
        return None
    scores = processor(torch.tensor([[*prompt, *generated]], dtype=torch.long), torch.tensor([logits]))
    return {i: x for i, x in enumerate(scores[0].tolist()) if x != float("-inf")}


def llama(name, logits, params, prompt, generated):
    if name not in LLAMA:
        return None
    sampler = LLAMA[name](llama_cpp.llama_cpp, params)
    for token in (*prompt, *generated):
        llama_cpp.llama_sampler_accept(sampler, token)
    left, _ = _apply(sampler, logits)
    llama_cpp.llama_sampler_free(sampler)
    return left


def llama_mirostat(logits, params, steps):
    """What is left at each of some steps on the same logits, and the token it drew there."""
    sampler = llama_cpp.llama_sampler_init_mirostat_v2(SEED, params["tau"], params["eta"])
    found = [_apply(sampler, logits) for _ in range(steps)]
    llama_cpp.llama_sampler_free(sampler)
    return found


def llama_chain(settings, logits, history):
    """What llama.cpp's default chain leaves, but for the samplers that need a vocabulary or a coin."""
    c = llama_cpp.llama_cpp
    last = 1024 if settings["repeat_last_n"] == -1 else settings["repeat_last_n"]
    samplers = (
        c.llama_sampler_init_penalties(1024, last, settings["repeat_penalty"], 0.0, 0.0),
        c.llama_sampler_init_top_n_sigma(settings["top_n_sigma"]),
        c.llama_sampler_init_top_k(settings["top_k"]),
        c.llama_sampler_init_typical(settings["typ_p"], 0),
        c.llama_sampler_init_top_p(settings["top_p"], 0),
        c.llama_sampler_init_min_p(settings["min_p"], 0),
        c.llama_sampler_init_temp_ext(settings["temperature"], settings["dynatemp_range"], 1.0),
    )
    chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
    for sampler in samplers:
        c.llama_sampler_chain_add(chain, sampler)
    for token in history:
        c.llama_sampler_accept(chain, token)
    left, _ = _apply(chain, logits)
    c.llama_sampler_free(chain)
    return left


def _last(params):
    """The size of a vocabulary, which is more than any has here, and how many tokens count."""
    return 1024, 1024 if params.get("window") is None else params["window"]


def _apply(sampler, logits):
    data = (llama_cpp.llama_token_data * len(logits))(*[(i, x, 0.0) for i, x in enumerate(logits)])
    array = llama_cpp.llama_token_data_array(data, len(logits), -1, False)
    llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
    found = [array.data[i] for i in range(array.size)]  # not `data`: a sampler may move the pointer
    left = {one.id: one.logit for one in found if one.logit != float("-inf")}
    return left, found[array.selected].id if array.selected >= 0 else None
