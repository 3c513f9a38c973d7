"""
Slow references of the strategies that look at the ids before: see `reference`.
"""

from exactness.reference import GONE


def repetition_penalty(row, theta, window=None):
    """Keskar et al. 2019, 4.1: prompt and answer, once however often."""
    seen = row.prompt + row.generated
    seen = seen if window is None else seen[max(0, len(seen) - window) :]
    return [_scaled(x, theta) if i in seen else x for x, i in zip(row.logits, row.ids)]


def encoder_repetition(row, theta):
    """transformers: the inverse, for the prompt."""
    return [_scaled(x, 1 / theta) if i in row.prompt else x for x, i in zip(row.logits, row.ids)]


def _scaled(logit, theta):
    return logit * theta if logit < 0 else logit / theta


def frequency_penalty(row, f):
    """The OpenAI API: the answer alone."""
    return [x - f * row.generated.count(i) for x, i in zip(row.logits, row.ids)]


def presence_penalty(row, f):
    """The OpenAI API: the answer alone."""
    return [x - f * (i in row.generated) for x, i in zip(row.logits, row.ids)]


def logit_bias(row, bias):
    """The OpenAI API."""
    return [x + bias.get(i, 0.0) for x, i in zip(row.logits, row.ids)]


def no_repeat_ngram(row, n):
    """Paulus et al. 2017, 2.5: no n ids a second time."""
    text = row.prompt + row.generated
    said = {tuple(text[i : i + n]) for i in range(len(text) - n + 1)}
    end = tuple(text[len(text) - n + 1 :]) if n else ()
    if n == 0 or len(end) < n - 1:
        return row.logits
    return [GONE if (*end, i) in said else x for x, i in zip(row.logits, row.ids)]


def dry(row, multiplier, base=1.75, allowed_length=2, range=0, breakers=()):
    """p-e-w 2024: the longest end of the text that occurs earlier and is followed there by v."""
    text = row.prompt + row.generated
    text = text[max(0, len(text) - range) :] if range else text
    unbroken = 0
    while unbroken < len(text) and text[-1 - unbroken] not in breakers:
        unbroken += 1
    shaped = []
    for x, v in zip(row.logits, row.ids):
        lengths = [0]
        for place, id in enumerate(text):
            length = 0
            while length < min(place, unbroken) and text[place - 1 - length] == text[-1 - length]:
                length += 1
            lengths.append(length if id == v else 0)
        longest = max(lengths)
        costs = longest >= allowed_length and v not in breakers
        shaped.append(x - multiplier * base ** (longest - allowed_length) if costs else x)
    return shaped


def sequence_bias(row, sequences):
    """transformers: the last id of a sequence, where the ids before it end the text."""
    shaped = list(row.logits)
    for sequence in sequences:
        *before, last = sequence["tokens"]
        if _ends_with(row, before):
            shaped = [x + sequence["bias"] if i == last else x for x, i in zip(shaped, row.ids)]
    return shaped


def bad_words(row, words):
    """transformers: the same with -inf."""
    banned = {word[-1] for word in words if _ends_with(row, list(word[:-1]))}
    return [GONE if i in banned else x for x, i in zip(row.logits, row.ids)]


def _ends_with(row, ids):
    text = row.prompt + row.generated
    return len(ids) <= len(text) and text[len(text) - len(ids) :] == ids


def allowed_tokens(row, ids):
    """vLLM."""
    return [x if i in ids else GONE for x, i in zip(row.logits, row.ids)]


def suppress_at_begin(row, ids):
    """transformers."""
    return [GONE if i in ids and not row.generated else x for x, i in zip(row.logits, row.ids)]


def forced_prefix(row, prefix):
    """transformers."""
    place = len(row.generated)
    if place >= len(prefix):
        return row.logits
    return [x if i == prefix[place] else GONE for x, i in zip(row.logits, row.ids)]


def min_new_tokens(row, n, ids):
    """transformers."""
    return [GONE if i in ids and len(row.generated) < n else x for x, i in zip(row.logits, row.ids)]


def length_decay(row, start, factor, ends):
    """transformers: l + |l| (factor^(n - start) - 1) for end tokens."""
    over = len(row.generated) - start
    if over <= 0:
        return row.logits
    power = min(factor**over, 1e6)
    return [x + abs(x) * (power - 1) if i in ends and x > GONE else x for x, i in zip(row.logits, row.ids)]
