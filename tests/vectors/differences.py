"""Where an engine means to do something else than the definition: what, and how to tell that it is this."""

import math

TIES = "ties"
REMOVED = "removed"
PROMPT = "prompt"
ENTROPY = "entropy"

TEXTS = {
    TIES: "Of candidates that are equal at the edge it keeps some, by the order of its sort; the definition "
    "keeps all, so that no order of the vocabulary shows in the text.",
    REMOVED: "Candidates at -inf that are still in its list count: as members in ln N, or as 0 * ln 0 in the "
    "entropy, which then is not a number. The definition counts what is left.",
    PROMPT: "It counts tokens of the prompt too. The definition counts the answer, as the OpenAI API does.",
    ENTROPY: "It adds -p ln p over the 100 best as they are. The definition follows the paper: the entropy "
    "of what is kept, renormalised, over all candidates. Of equals at the edge it keeps some.",
}
MEANT = {
    ("top_k", "llama.cpp"): [TIES],
    ("top_p", "transformers"): [TIES],
    ("top_p", "llama.cpp"): [TIES],
    ("typical", "llama.cpp"): [REMOVED, TIES],
    ("xtc", "llama.cpp"): [TIES],
    ("dynamic_temperature", "llama.cpp"): [REMOVED],
    ("frequency_penalty", "llama.cpp"): [PROMPT],
    ("presence_penalty", "llama.cpp"): [PROMPT],
    ("top_h", "transformers"): [ENTROPY],
}


def differs(definition, engine):
    """Whether other candidates are left, or the same with other probabilities."""
    if definition["kept"] != engine["kept"]:
        return True
    pairs = zip(definition["probabilities"], engine["probabilities"], strict=True)
    return max(abs(a - b) for a, b in pairs) > 1e-6


def reason(sampler, engine, case, logits):
    """Which of the meant differences a case shows; None: none of them."""
    for one in MEANT.get((sampler, engine), ()):
        if HOLDS[one](case, case[engine], logits):
            return one
    return None


def _ties(case, result, logits):
    """It keeps a part of what the definition keeps, and what it drops is equal to something it keeps."""
    kept = {logits[i] for i in result["kept"]}
    dropped = [logits[i] for i in case["definition"]["kept"] if i not in result["kept"]]
    return set(result["kept"]) < set(case["definition"]["kept"]) and kept.issuperset(dropped)


def _removed(case, result, logits):
    return -math.inf in logits


def _prompt(case, result, logits):
    return bool(case["prompt"])


def _entropy(case, result, logits):
    """What is left are the most probable ones, however many."""
    best = sorted(logits, reverse=True)[: len(result["kept"])]
    return sorted((logits[i] for i in result["kept"]), reverse=True) == best


HOLDS = {TIES: _ties, REMOVED: _removed, PROMPT: _prompt, ENTROPY: _entropy}
