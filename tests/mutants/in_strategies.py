"""Bugs to plant in the built-in strategies and criteria."""

from functools import partial

from mutant import Mutant

EXACT = ("tests/exactness",)
STRATEGIES = ("tests/test_strategies.py", *EXACT)
PENALTIES = ("tests/test_penalties.py", *STRATEGIES)
TYPICAL = ("tests/test_typical.py", *EXACT)
STOPPING = ("tests/test_stopping.py",)
Planted = partial(Mutant, package="decodekit")

MUTANTS = [
    Planted(
        name="softmax over the wrong axis",
        old="return exp / xp.astype(xp.sum(exp, axis=-1, keepdims=True, dtype=xp.float64)",
        new="return exp / xp.astype(xp.sum(exp, axis=0, keepdims=True, dtype=xp.float64)",
        tests=EXACT,
    ),
    Planted(
        name="log-softmax is not normalised",
        old="return shifted - xp.astype(xp.log(total), logits.dtype)",
        new="return shifted",
        tests=TYPICAL,
    ),
    Planted(
        name="temperature multiplies", old="return logits / t", new="return logits * t", tests=STRATEGIES
    ),
    Planted(
        name="temperature 0 does nothing",
        old="        if self.t < _LIMIT:\n",
        new="        if self.t == 0:\n            return logits\n        if self.t < _LIMIT:\n",
        tests=STRATEGIES,
    ),
    Planted(
        name="greedy breaks ties by column",
        old="-> Array:\n        return greedy(logits, step.ids)",
        new="-> Array:\n        return greedy(logits, step.ids * 0 + list(range(logits.shape[-1])))",
        tests=("tests/test_sampling.py", *STRATEGIES),
    ),
    Planted(
        name="top_k drops the k-th",
        old="keep(logits, logits >= kth_largest(logits, k))",
        new="keep(logits, logits > kth_largest(logits, k))",
        tests=STRATEGIES,
    ),
    Planted(
        name="top_k keeps exactly k, ties by column",
        old="keep(logits, logits >= kth_largest(logits, k))",
        new='keep(logits, (-logits).argsort(axis=-1, kind="stable").argsort(axis=-1) < k)',
        tests=STRATEGIES,
    ),
    Planted(
        name="the pruned top_k drops ties",
        old="contenders[values >= kth_largest(values, k)]",
        new="contenders[np.argsort(-values)[:k]]",
        tests=("tests/test_ops.py", *STRATEGIES),
    ),
    Planted(
        name="the pruned top_k looks at too few",
        old="bound = kth_largest(best, k)",
        new="bound = kth_largest(best, max(1, k // 2))",
        tests=("tests/test_ops.py", *STRATEGIES),
    ),
    Planted(
        name="top_p goes on where the mass is exactly p",
        old="(mass[..., :-1] < p * mass[..., -1:])",
        new="(mass[..., :-1] <= p * mass[..., -1:])",
        tests=STRATEGIES,
    ),
    Planted(
        name="top_p counts a candidate's own mass as above it",
        old="(mass[..., :-1] < p * mass[..., -1:])",
        new="(mass[..., 1:] < p * mass[..., -1:])",
        tests=STRATEGIES,
    ),
    Planted(
        name="top_p does not normalise the mass",
        old="logits[min(int(np.searchsorted(mass, p * total)), len(logits) - 1)]",
        new="logits[min(int(np.searchsorted(mass, p)), len(logits) - 1)]",
        tests=STRATEGIES,
    ),
    Planted(
        name="the pruned top_p goes on where the mass is exactly p",
        old="logits[min(int(np.searchsorted(mass, p * total)), len(logits) - 1)]",
        new='logits[min(int(np.searchsorted(mass, p * total, side="right")), len(logits) - 1)]',
        tests=STRATEGIES,
    ),
    Planted(
        name="top_p adds the mass of the band to what is above it",
        old="float(sums[crossing - 1]) if crossing else 0.0",
        new="float(sums[crossing])",
        tests=("tests/test_ops.py", *STRATEGIES),
    ),
    Planted(
        name="min_p drops what is exactly at the bound",
        old="logits >= xp.max(logits, axis=-1, keepdims=True) + bound",
        new="logits > xp.max(logits, axis=-1, keepdims=True) + bound",
        tests=STRATEGIES,
    ),
    Planted(
        name="min_p takes a logarithm to base 2",
        old="bound = xp.log(xp.asarray(p, dtype=logits.dtype))",
        new="bound = xp.log2(xp.asarray(p, dtype=logits.dtype))",
        tests=STRATEGIES,
    ),
    Planted(
        name="min_p is absolute",
        old="logits >= xp.max(logits, axis=-1, keepdims=True) + bound",
        new="logits >= xp.log(xp.sum(xp.exp(logits), axis=-1, keepdims=True)) + bound",
        tests=STRATEGIES,
    ),
    Planted(
        name="typical has the sign of the entropy wrong",
        old="distance = xp.abs(log_p + entropy(log_p))",
        new="distance = xp.abs(log_p - entropy(log_p))",
        tests=TYPICAL,
    ),
    Planted(
        name="the entropy is in bits",
        old="terms = p * xp.where(p > 0, log_p, xp.zeros_like(log_p))",
        new="terms = p / 0.6931 * xp.where(p > 0, log_p, xp.zeros_like(log_p))",
        tests=TYPICAL,
    ),
    Planted(
        name="typical goes on where the mass is exactly p",
        old="xp.astype(mass < p, xp.int64)",
        new="xp.astype(mass <= p, xp.int64)",
        tests=TYPICAL,
    ),
    Planted(
        name="typical breaks ties by column",
        old="keep(logits, distance <= xp.take_along_axis(distance, last, axis=-1))",
        new="keep(logits, xp.argsort(order, axis=-1) <= short)",
        tests=TYPICAL,
    ),
    Planted(
        name="typical ranks from the least typical",
        old="order = xp.argsort(distance, axis=-1)",
        new="order = xp.argsort(-distance, axis=-1)",
        tests=TYPICAL,
    ),
    Planted(
        name="the repetition penalty counts every occurrence",
        old="factor=self.theta)",
        new="factor=self.theta ** np.bincount(row.ids)[row.ids[-self.window or 0 :]])",
        tests=PENALTIES,
    ),
    Planted(
        name="the repetition penalty divides negative logits",
        old="xp.where(logits < 0, logits * theta, logits / theta)",
        new="logits / theta",
        tests=PENALTIES,
    ),
    Planted(
        name="the repetition penalty sees the answer only",
        old="row.ids[-self.window :] if self.window else row.ids",
        new="row.generated[-self.window :] if self.window else row.generated",
        tests=PENALTIES,
    ),
    Planted(
        name="the window is one too long",
        old="row.ids[-self.window :] if self.window",
        new="row.ids[-self.window - 1 :] if self.window",
        tests=PENALTIES,
    ),
    Planted(
        name="the frequency penalty counts the prompt",
        old="ids = row.generated",
        new="ids = row.ids",
        tests=PENALTIES,
    ),
    Planted(
        name="the presence penalty does not see the newest token",
        old="Edits(row.generated, add=-self.f)",
        new="Edits(row.generated[:-1], add=-self.f)",
        tests=PENALTIES,
    ),
    Planted(
        name="the presence penalty counts every occurrence",
        old="Edits(row.generated, add=-self.f)",
        new="Edits(row.generated, add=-self.f * np.bincount(row.generated)[row.generated])",
        tests=PENALTIES,
    ),
    Planted(
        name="the frequency penalty rewards",
        old="return logits - f * xp.astype(counts, logits.dtype)",
        new="return logits + f * xp.astype(counts, logits.dtype)",
        tests=PENALTIES,
    ),
    Planted(
        name="a penalty is given to the row above",
        old="out[row][columns] = edit.of(",
        new="out[row - 1][columns] = edit.of(",
        tests=PENALTIES,
    ),
    Planted(
        name="logit_bias names columns",
        old="columns, found = step.places(row, edit.ids)",
        new="columns = edit.ids[edit.ids < logits.shape[-1]]; found = edit.ids < logits.shape[-1]",
        tests=STRATEGIES,
    ),
    Planted(
        name="min_new_tokens holds the end back one token too long",
        old="len(row.generated) < self.n",
        new="len(row.generated) <= self.n",
        tests=("tests/test_stopping.py", *EXACT),
    ),
    Planted(
        name="max_new_tokens goes on for one token more",
        old="len(progress.history.generated) >= self.n",
        new="len(progress.history.generated) > self.n",
        tests=STOPPING,
    ),
    Planted(
        name="of stop strings the last that ends counts",
        old="_, at, string = min(found)",
        new="_, at, string = max(found)",
        tests=STOPPING,
    ),
    Planted(
        name="a history gives the prompt as the answer",
        old="return self.ids[self.asked :]",
        new="return self.ids[: self.asked]",
        tests=PENALTIES,
    ),
]
