"""The corners of every strategy's parameters: neutral values, ends of domains, values at exact edges."""

import itertools

SHARES = (0.0, 0.05, 0.25, 0.5, 0.9, 0.999, 1.0)
OF_LOGITS = {
    "greedy": [{}],
    "temperature": [{"t": t} for t in (0, 1e-3, 0.7, 1, 5, 1e6)],
    "top_k": [{"k": k} for k in (-1, 0, 1, 2, 3, 5, 6, 7)],
    "top_p": [{"p": p} for p in SHARES],
    "min_p": [{"p": p} for p in SHARES],
    "typical": [{"p": p} for p in SHARES],
    "epsilon": [{"epsilon": x} for x in (0.0, 0.01, 0.2, 0.25, 0.5, 1.0)],
    "eta": [{"epsilon": x} for x in (0.0, 0.01, 0.2, 0.25, 0.5, 1.0)],
    "top_a": [{"a": a} for a in (0.0, 0.1, 0.5, 1.0)],
    "tail_free": [{"z": z} for z in SHARES],
    "top_n_sigma": [{"n": n} for n in (0, 0.01, 0.5, 1, 1.5, 3, 1e6)],
    "top_h": [{"alpha": a} for a in SHARES],
    "p_less": [{}],
    "p_less_norm": [{}],
    "dynamic_temperature": [
        {"low": low, "high": high, "exponent": x}
        for low, high, x in [(1, 1, 1), (0, 2, 1), (2, 0.5, 1), (0.1, 3, 0), (0.1, 3, 2.5), (0.7, 0.7, 1)]
    ],
    "smoothing": [{"factor": f, "curve": c} for f in (0, 0.01, 0.3, 10) for c in (1, 2, 3, 6)],
    "skew": [{"s": s} for s in (-10, -1, 0, 0.5, 2)],
    "xtc": [{"probability": x, "threshold": t} for x in (0, 1) for t in (1e-3, 0.1, 0.25, 0.5, 0.51, 1)],
    "xtc_expected": [
        {"probability": x, "threshold": t} for x in (0, 0.3, 1) for t in (1e-3, 0.1, 0.25, 0.5, 0.51, 1)
    ],
}

OF_HISTORY = {
    "repetition_penalty": [
        {"theta": t, "window": w} for t in (1, 0.5, 1.3, 1e6) for w in (None, 0, 1, 2, 3, 9)
    ],
    "encoder_repetition": [{"theta": t} for t in (1, 0.5, 1.3)],
    "frequency_penalty": [{"f": f} for f in (0, 0.5, -2, 100)],
    "presence_penalty": [{"f": f} for f in (0, 0.5, -2, 100)],
    "logit_bias": [{"bias": b} for b in ({}, {0: 1.5}, {1: -100, 4: 2.0, 7: 1})],
    "no_repeat_ngram": [{"n": n} for n in (0, 1, 2, 3, 4, 6)],
    "dry": [
        {"multiplier": m, "base": b, "allowed_length": a, "range": r}
        for m, b, a, r in itertools.product((0, 0.8), (1, 1.75), (1, 2, 3), (0, 3, 4, 9))
    ],
    "sequence_bias": [
        {"sequences": []},
        {"sequences": [{"tokens": [1], "bias": 2.0}, {"tokens": [0, 1], "bias": -1.0}]},
        {"sequences": [{"tokens": [2, 1, 0, 4], "bias": 3.0}, {"tokens": [1, 0, 4], "bias": 1.5}]},
    ],
    "bad_words": [{"words": w} for w in ([], [[1]], [[0, 1], [2, 1, 0]], [[0, 0, 0, 4], [4]])],
    "allowed_tokens": [{"ids": ids} for ids in ([0], [1, 4, 8])],
    "suppress_at_begin": [{"ids": ids} for ids in ([], [1], [0, 4])],
    "forced_prefix": [{"prefix": p} for p in ([], [1], [0, 4, 1])],
    "min_new_tokens": [{"n": n, "ids": ids} for n in (0, 1, 3) for ids in ([1], [0, 4])],
    "length_decay": [
        {"start": s, "factor": f, "ends": e} for s in (0, 1, 3) for f in (1, 0.5, 1.3) for e in ([1], [0, 4])
    ],
}

OF_STATE = ("mirostat", "mirostat_v1", "adaptive_p")
