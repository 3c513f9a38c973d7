"""
Slow references: what a strategy makes of one row, in plain Python, float64, from its published definition.

No array, no line of decodekit. Every function takes a `Row`, the strategy's parameters and `edge`, and
gives the row's logits, -inf for what is removed. `edge` moves every bound by so much, as a share of it:
a result that a rounding may turn is one that differs between -edge, 0 and edge.
"""

import math
from dataclasses import dataclass
from functools import cached_property

GONE = -math.inf


@dataclass(frozen=True)
class Row:
    """Logits of the candidates `ids`, and the ids before them."""

    logits: list[float]
    ids: list[int]
    prompt: list[int]
    generated: list[int]

    @cached_property
    def live(self):
        return [i for i, logit in enumerate(self.logits) if logit > GONE]

    @cached_property
    def p(self):
        return softmax(self.logits)

    def keep(self, kept):
        return [logit if i in kept else GONE for i, logit in enumerate(self.logits)]

    def where(self, holds):
        """The logits of the live candidates for which `holds(column)`, and of the best and its equals."""
        best = max(self.logits)
        return self.keep({i for i in self.live if holds(i) or self.logits[i] == best})


def softmax(logits):
    best = max(logits)
    weights = [math.exp(logit - best) for logit in logits]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def entropy(p):
    """Nats."""
    return -math.fsum(x * math.log(x) for x in p if x > 0)


def greedy(row, edge=0.0):
    best = max(row.logits)
    lowest = min(row.ids[i] for i in row.live if row.logits[i] == best)
    return row.keep({i for i in row.live if row.logits[i] == best and row.ids[i] == lowest})


def temperature(row, t, edge=0.0):
    """Ackley et al. 1985; 0 is the limit, which decodekit makes unique by the lowest id."""
    return greedy(row) if t == 0 else [logit / t for logit in row.logits]


def top_k(row, k, edge=0.0):
    """Fan et al. 2018, 5.1; equals of the k-th stay."""
    if k <= 0 or k >= len(row.logits):
        return row.logits
    kth = sorted(row.logits, reverse=True)[k - 1]
    return row.keep({i for i in row.live if row.logits[i] >= kth})


def top_p(row, p, edge=0.0):
    """Holtzman et al. 2020, 3.1: the smallest m with p(1) + ... + p(m) >= p; equals of the m-th stay."""
    if p == 1:
        return row.logits
    probability, mass = row.p, []
    for i in sorted(row.live, key=lambda i: -row.logits[i]):
        mass.append(probability[i])
        if math.fsum(mass) >= p - edge:
            break
    return row.keep({j for j in row.live if row.logits[j] >= row.logits[i]})


def min_p(row, p, edge=0.0):
    """Nguyen et al. 2025, 3."""
    bound = p * max(row.p) * (1 - edge)
    return row.where(lambda i: row.p[i] >= bound)


def typical(row, p, edge=0.0, tilt=0.0):
    """Meister et al. 2023: nearest to the expected surprise first, the shortest prefix that reaches p.

    One candidate may be as far above as another is below. `tilt` decides which of them comes first.
    """
    if p == 1:
        return row.logits
    probability = row.p
    expected = entropy(probability) + tilt
    distance = {i: abs(-math.log(probability[i]) - expected) for i in row.live}
    mass = []
    for last in sorted(row.live, key=distance.get):
        mass.append(probability[last])
        if math.fsum(mass) >= p - edge:
            break
    bound = distance[last] + (0.0 if tilt else max(abs(edge), 1e-12))
    return row.keep({i for i in row.live if distance[i] <= bound})


def epsilon(row, epsilon, edge=0.0):
    """Hewitt et al. 2022."""
    return row.where(lambda i: row.p[i] >= epsilon * (1 - edge))


def eta(row, epsilon, edge=0.0):
    """Hewitt et al. 2022: eta = min(epsilon, sqrt(epsilon) exp(-H))."""
    bound = min(epsilon, math.sqrt(epsilon) * math.exp(-entropy(row.p)))
    return row.where(lambda i: row.p[i] >= bound * (1 - edge))


def top_a(row, a, edge=0.0):
    """BlinkDL 2021."""
    return row.where(lambda i: row.p[i] >= a * max(row.p) ** 2 * (1 - edge))


def tail_free(row, z, edge=0.0):
    """Bricken 2019: weights |second difference| of the ranked; the first stays, the last goes."""
    ranked = sorted(row.live, key=lambda i: -row.logits[i])
    p = [row.p[i] for i in ranked]
    bends = [abs(p[i] - 2 * p[i + 1] + p[i + 2]) for i in range(len(p) - 2)]
    bends = [bend if bend > 1e-15 else 0.0 for bend in bends]  # equals, to float64
    if z == 1 or math.fsum(bends) == 0:
        return row.logits
    count = 1 + sum(math.fsum(bends[: i + 1]) <= z * math.fsum(bends) * (1 + edge) for i in range(len(bends)))
    return row.keep({i for i in row.live if row.logits[i] >= row.logits[ranked[count - 1]]})


def top_n_sigma(row, n, edge=0.0):
    """Tang et al. 2024; the population's deviation, of live candidates."""
    if n == 0:
        return row.logits
    live = [row.logits[i] for i in row.live]
    mean = math.fsum(live) / len(live)
    sigma = math.sqrt(math.fsum((logit - mean) ** 2 for logit in live) / len(live))
    return row.where(lambda i: row.logits[i] >= max(live) - n * sigma * (1 + edge))


def top_h(row, alpha, edge=0.0):
    """Potraghloo et al. 2025: the longest prefix whose renormalised entropy is at most alpha H."""
    if alpha == 1:
        return row.logits
    ranked = sorted(row.live, key=lambda i: -row.logits[i])
    bound, last = alpha * entropy(row.p), ranked[0]
    for m in range(1, len(ranked) + 1):
        if entropy(softmax([row.logits[i] for i in ranked[:m]])) <= bound + edge:
            last = ranked[m - 1]
    return row.keep({i for i in row.live if row.logits[i] >= row.logits[last]})


def p_less(row, edge=0.0):
    """Tan et al. 2025."""
    return row.where(lambda i: row.p[i] >= math.fsum(x * x for x in row.p) * (1 - edge))


def p_less_norm(row, edge=0.0):
    """Tan et al. 2025, over the live candidates."""
    live = len(row.live)
    bound = (live * math.fsum(x * x for x in row.p) - 1) / (live - 1) if live > 1 else 0.0
    return row.where(lambda i: row.p[i] >= bound - edge)


def mirostat(row, mu, edge=0.0):
    """Basu et al. 2021, algorithm 2, the truncation."""
    return row.where(lambda i: -math.log2(row.p[i]) <= mu + edge)


def mirostat_v1(row, mu, m, edge=0.0):
    """Basu et al. 2021, algorithm 1, the truncation."""
    live = len(row.live)
    if live < 2:
        return row.logits
    best = sorted((row.logits[i] for i in row.live), reverse=True)[:m]
    t = [math.log((i + 2) / (i + 1)) for i in range(len(best) - 1)]
    b = [best[i] - best[i + 1] for i in range(len(best) - 1)]
    s = math.fsum(x * y for x, y in zip(t, b)) / math.fsum(x * x for x in t)
    if s == 0:
        return row.logits if live * 2**mu > 0 and mu >= 0 else top_k(row, 1)
    e = s - 1
    scale = 1 / math.log(live) if e == 0 else e / (1 - live**-e)
    k = (scale * 2**mu) ** (1 / s) if math.log(scale) / s + mu * math.log(2) / s < 700 else live
    return top_k(row, max(1, int(min(k * (1 + edge), live))))


def mirostat_moved(shaped, column, mu, tau, eta):
    """mu after a token: down by eta times what its surprise, renormalised, was above tau."""
    return mu - eta * (-math.log2(softmax(shaped)[column]) - tau)
