"""
What each sampler is, in float64, slowly and without arrays: the definition that engines are held against.

    definition(logits, params, prompt, generated) -> logits, -inf for what is removed

Written from the papers, not from any engine; decodekit's strategies are tested against what it gives.
"""

import math

INF = math.inf


def softmax(logits):
    best = max(logits)
    weights = [math.exp(x - best) for x in logits]
    return [w / math.fsum(weights) for w in weights]


def entropy(p):
    return -math.fsum(x * math.log(x) for x in p if x > 0)


def keep(logits, kept):
    return [x if k else -INF for x, k in zip(logits, kept, strict=True)]


def ranked(values):
    return sorted(range(len(values)), key=lambda i: -values[i])


def with_ties(logits, values, chosen):
    """The candidates whose value is at least the least of the chosen ones."""
    least = min(values[i] for i in chosen)
    return keep(logits, [v >= least for v in values])


def temperature(logits, params, prompt, generated):
    return [x / params["t"] for x in logits]


def dynamic_temperature(logits, params, prompt, generated):
    p = softmax(logits)
    live = sum(x > -INF for x in logits)
    share = entropy(p) / math.log(live) if live > 1 else 0.0
    t = params["low"] + (params["high"] - params["low"]) * share ** params["exponent"]
    return [x / t for x in logits]


def top_k(logits, params, prompt, generated):
    return with_ties(logits, logits, ranked(logits)[: params["k"]])


def top_p(logits, params, prompt, generated):
    p = softmax(logits)
    chosen, mass = [], 0.0
    for i in ranked(p):
        chosen.append(i)
        mass += p[i]
        if mass >= params["p"]:
            break
    return with_ties(logits, p, chosen)


def min_p(logits, params, prompt, generated):
    bound = max(logits) + math.log(params["p"])
    return keep(logits, [x >= bound for x in logits])


def typical(logits, params, prompt, generated):
    p = softmax(logits)
    near = [-abs(-math.log(x) - entropy(p)) if x > 0 else -INF for x in p]
    chosen, mass = [], 0.0
    for i in ranked(near):
        chosen.append(i)
        mass += p[i]
        if mass >= params["p"]:
            break
    return with_ties(logits, near, chosen)


def epsilon(logits, params, prompt, generated):
    return at_least(logits, params["epsilon"])


def eta(logits, params, prompt, generated):
    e = params["epsilon"]
    return at_least(logits, min(e, math.sqrt(e) * math.exp(-entropy(softmax(logits)))))


def at_least(logits, bound):
    p = softmax(logits)
    return keep(logits, [x >= bound or x == max(p) for x in p])


def top_n_sigma(logits, params, prompt, generated):
    live = [x for x in logits if x > -INF]
    mean = math.fsum(live) / len(live)
    sigma = math.sqrt(math.fsum((x - mean) ** 2 for x in live) / len(live))
    return keep(logits, [x >= max(live) - params["n"] * sigma for x in logits])


def top_h(logits, params, prompt, generated):
    p = softmax(logits)
    order = ranked(p)
    chosen = order[:1]
    for m in range(2, len(order) + 1):
        mass = math.fsum(p[i] for i in order[:m])
        if entropy([p[i] / mass for i in order[:m]]) > params["alpha"] * entropy(p):
            break
        chosen = order[:m]
    return with_ties(logits, p, chosen)


def xtc(logits, params, prompt, generated):
    """Where it happens: the chance is not part of a vector."""
    p = softmax(logits)
    qualify = [x for x in p if x >= params["threshold"]]
    return keep(logits, [x < params["threshold"] or x == min(qualify) for x in p])


def mirostat(logits, params, prompt, generated):
    """After tokens `generated` that were drawn from these same logits."""
    mu = 2 * params["tau"]
    for token in generated:
        shaped = softmax(bounded(logits, mu))
        mu -= params["eta"] * (-math.log2(shaped[token]) - params["tau"])
    return bounded(logits, mu)


def bounded(logits, mu):
    p = softmax(logits)
    return keep(logits, [x == max(p) or (x > 0 and -math.log2(x) <= mu) for x in p])


def repetition_penalty(logits, params, prompt, generated):
    history = [*prompt, *generated]
    seen = set(history if params["window"] is None else history[max(0, len(history) - params["window"]) :])
    theta = params["theta"]
    return [(x * theta if x < 0 else x / theta) if i in seen else x for i, x in enumerate(logits)]


def frequency_penalty(logits, params, prompt, generated):
    return [x - params["f"] * generated.count(i) for i, x in enumerate(logits)]


def presence_penalty(logits, params, prompt, generated):
    return [x - params["f"] * (i in generated) for i, x in enumerate(logits)]


def encoder_repetition(logits, params, prompt, generated):
    theta = params["theta"]
    return [(x / theta if x < 0 else x * theta) if i in prompt else x for i, x in enumerate(logits)]


def no_repeat_ngram(logits, params, prompt, generated):
    ids, n = [*prompt, *generated], params["n"]
    said = {tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)}
    end = ids[len(ids) - n + 1 :]
    return keep(logits, [(*end, i) not in said for i in range(len(logits))])


def dry(logits, params, prompt, generated):
    ids = [*prompt, *generated]
    out = list(logits)
    for token in range(len(logits)):
        longest = 0
        for place in (i for i in range(1, len(ids)) if ids[i] == token):
            n = 0
            while n < place and ids[place - 1 - n] == ids[len(ids) - 1 - n]:
                n += 1
            longest = max(longest, n)
        if longest >= params["allowed_length"]:
            out[token] -= params["multiplier"] * params["base"] ** (longest - params["allowed_length"])
    return out


def sequence_bias(logits, params, prompt, generated):
    ids, out = [*prompt, *generated], list(logits)
    for entry in params["sequences"]:
        *before, last = entry["tokens"]
        if before == ids[max(0, len(ids) - len(before)) :]:
            out[last] += entry["bias"]
    return out


def length_decay(logits, params, prompt, generated):
    over = max(0, len(generated) - params["start"])
    gain = params["factor"] ** over - 1
    return [x + abs(x) * gain if i in params["ends"] else x for i, x in enumerate(logits)]


def nudged(params, step):
    """The parameters a little off, where they are numbers of which a little matters."""
    return {k: v * (1 + step) if isinstance(v, float) and v != 1 else v for k, v in params.items()}


DEFINITIONS = {
    name: function
    for name, function in list(globals().items())
    if callable(function) and "generated" in function.__code__.co_varnames
}
