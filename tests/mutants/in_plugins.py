"""Bugs to plant in the families of strategies under plugins/."""

from functools import partial

from mutant import Mutant

EXACT = ("tests/exactness",)
Truncation = partial(
    Mutant, package="decodekit_truncation", tests=("plugins/decodekit-truncation/tests", *EXACT)
)
Shaping = partial(Mutant, package="decodekit_shaping", tests=("plugins/decodekit-shaping/tests", *EXACT))
Mirostat = partial(Mutant, package="decodekit_mirostat", tests=("plugins/decodekit-mirostat/tests", *EXACT))
Repetition = partial(
    Mutant, package="decodekit_repetition", tests=("plugins/decodekit-repetition/tests", *EXACT)
)
Bias = partial(Mutant, package="decodekit_bias", tests=("plugins/decodekit-bias/tests", *EXACT))

MUTANTS = [
    Truncation(name="no best candidate is kept", old="best | (p >= bound)", new="p >= bound"),
    Truncation(name="a bound drops its equals", old="best | (p >= bound)", new="best | (p > bound)"),
    Truncation(name="eta takes no root", old="xp.sqrt(absolute) * xp.exp", new="absolute * xp.exp"),
    Truncation(
        name="eta grows with the entropy", old="xp.exp(-entropy(log_p))", new="xp.exp(entropy(log_p))"
    ),
    Truncation(
        name="tail_free cuts one too early",
        old="[xp.zeros_like(bends[..., :1]), bends, bends[..., -1:]]",
        new="[bends, bends[..., -1:], bends[..., -1:]]",
    ),
    Truncation(
        name="tail_free does not shift",
        old="[xp.zeros_like(bends[..., :1]), bends, bends[..., -1:]]",
        new="[xp.zeros_like(bends[..., :1]), xp.zeros_like(bends[..., :1]), bends]",
    ),
    Truncation(
        name="tail_free does not normalise the bends",
        old="within = before <= z * bends[..., -1:]",
        new="within = before <= z",
    ),
    Truncation(
        name="top_a forgets the square",
        old="a * xp.max(p, axis=-1, keepdims=True) ** 2",
        new="a * xp.max(p, axis=-1, keepdims=True)",
    ),
    Truncation(
        name="top_h does not renormalise",
        old="return xp.log(mass) - xp.cumulative_sum(weighted, axis=-1, dtype=xp.float64) / mass",
        new="return -xp.cumulative_sum(weighted, axis=-1, dtype=xp.float64)",
    ),
    Truncation(
        name="sigma counts removed candidates",
        old="xp.where(live, depth - mean, xp.zeros_like(depth))",
        new="depth - mean",
    ),
    Truncation(
        name="sigma is that of a sample",
        old="xp.sum(deviation**2, axis=-1, keepdims=True) / count",
        new="xp.sum(deviation**2, axis=-1, keepdims=True) / xp.where(count > 1, count - 1, count)",
    ),
    Truncation(name="p_less takes another norm", old="sum(p**2, axis=-1", new="sum(p**3, axis=-1"),
    Truncation(
        name="p_less_norm counts removed candidates",
        old="live = xp.sum(xp.astype(logits > -xp.inf, p.dtype), axis=-1, keepdims=True)\n    others",
        new="live = xp.sum(xp.ones_like(p), axis=-1, keepdims=True)\n    others",
    ),
    Shaping(
        name="dynamic_temperature counts removed candidates",
        old="live = xp.sum(xp.astype(logits > -xp.inf, logits.dtype), axis=-1, keepdims=True)",
        new="live = xp.sum(xp.ones_like(logits), axis=-1, keepdims=True)",
    ),
    Shaping(
        name="dynamic_temperature takes the entropy of the batch",
        old="share = xp.clip(entropy(log_softmax(logits)) / largest",
        new="share = xp.clip(entropy(log_softmax(logits)).sum() / largest",
    ),
    Shaping(name="smoothing raises", old="best - factor * depth**2", new="best + factor * depth**2"),
    Shaping(
        name="smoothing bends the wrong way", old="(curve - 1) / 2 * depth", new="(1 - curve) / 2 * depth"
    ),
    Shaping(name="skew goes the other way", old="power = np.exp(s)", new="power = np.exp(-s)"),
    Shaping(name="skew does not share among equals", old=" + log_share - np.log(count)", new=" + log_share"),
    Shaping(
        name="xtc takes the least probable one too",
        old="return qualifies & (p > least)",
        new="return qualifies & (p >= least)",
    ),
    Shaping(name="xtc wants more than the threshold", old="(p >= threshold)", new="(p > threshold)"),
    Shaping(
        name="xtc tosses one coin for all rows",
        old='noise.uniform(step.rows, "xtc") <',
        new='noise.uniform(step.rows[:1], "xtc") <',
    ),
    Shaping(
        name="xtc_expected does not give the mass back",
        old="xp.log1p(-chance) - xp.log1p(chance * mass / rest)",
        new="xp.log1p(-chance) - 0 * mass / rest",
    ),
    Shaping(
        name="adaptive_p does not mirror the mean",
        old="2 * self.target - state[:, :1] / state[:, 1:]",
        new="state[:, :1] / state[:, 1:]",
    ),
    Shaping(
        name="adaptive_p lets the newest token decay",
        old="np.concat([p, np.ones_like(p)], axis=-1) + self.decay * state",
        new="self.decay * (np.concat([p, np.ones_like(p)], axis=-1) + state)",
    ),
    Shaping(
        name="adaptive_p remembers the shaped probability",
        old="p = _probability(shaped, self._goal(state))",
        new="p = np.exp(shaped)",
    ),
    Mirostat(
        name="mu goes the wrong way", old="(mu - eta * (observed - tau))", new="(mu + eta * (observed - tau))"
    ),
    Mirostat(
        name="surprise is in nats",
        old="return -log_softmax(logits) / math.log(2)",
        new="return -log_softmax(logits)",
    ),
    Mirostat(
        name="mu starts at tau",
        old="2 * self.tau, dtype=np.float32)\n\n    def process(self, logits, step, mu):\n        best",
        new="1 * self.tau, dtype=np.float32)\n\n    def process(self, logits, step, mu):\n        best",
    ),
    Mirostat(name="exactly mu is too much", old="(surprise(logits) <= mu)", new="(surprise(logits) < mu)"),
    Mirostat(
        name="no best candidate is kept", old="best | (surprise(logits) <= mu)", new="surprise(logits) <= mu"
    ),
    Mirostat(
        name="the state moves in process",
        old="        return keep(logits, best | (surprise(logits) <= mu))",
        new="        mu -= self.eta\n        return keep(logits, best | (surprise(logits) <= mu))",
    ),
    Mirostat(
        name="ranks start at two",
        old="rank = np.arange(1, len(best))",
        new="rank = np.arange(2, len(best) + 1)",
    ),
    Mirostat(
        name="the Zipf count keeps one more",
        old="int(min(np.fmax(k, 1), n))",
        new="int(min(np.fmax(k, 1) + 1, n))",
    ),
    Mirostat(
        name="the Zipf law has the whole vocabulary",
        old="live = np.count_nonzero(logits > -np.inf)",
        new="live = len(logits)",
    ),
    Repetition(
        name="no_repeat_ngram looks at one token too few",
        old="for back in range(1, n):",
        new="for back in range(1, n - 1):",
    ),
    Repetition(
        name="no_repeat_ngram looks at one token too many",
        old="for back in range(1, n):",
        new="for back in range(1, min(n + 1, len(ids))):",
    ),
    Repetition(
        name="no_repeat_ngram misses the first place",
        old="places = np.arange(n - 1, len(ids))",
        new="places = np.arange(n, len(ids))",
    ),
    Repetition(
        name="encoder_repetition sees the answer",
        old="Edits(row.prompt, factor=1 / self.theta)",
        new="Edits(row.ids, factor=1 / self.theta)",
    ),
    Repetition(
        name="encoder_repetition discourages",
        old="Edits(row.prompt, factor=1 / self.theta)",
        new="Edits(row.prompt, factor=self.theta)",
    ),
    Repetition(
        name="dry counts one token more",
        old="exponent = length - self.allowed_length",
        new="exponent = length - self.allowed_length + 1",
    ),
    Repetition(
        name="dry lets the allowed length go",
        old="if length >= self.allowed_length and not",
        new="if length > self.allowed_length and not",
    ),
    Repetition(
        name="dry reaches across a breaker",
        old="most = self._breakers.unbroken(ids, int(lengths.max()))",
        new="most = int(lengths.max())",
    ),
    Repetition(
        name="dry takes the shortest repetition",
        old="longest[id] = max(longest.get(id, 0), min(length, most))",
        new="longest[id] = min(longest.get(id, 10**9), min(length, most))",
    ),
    Repetition(
        name="dry rewards", old="add=-np.fromiter(costs.values()", new="add=np.fromiter(costs.values()"
    ),
    Bias(
        name="a sequence may stand at the beginning",
        old="end = tuple(history[max(0, len(history) - longest) :].tolist())",
        new="end = tuple(history[:longest].tolist())",
    ),
    Bias(
        name="of sequences with one end the last counts",
        old="added[last] = added.get(last, 0.0) + bias",
        new="added[last] = bias",
    ),
    Bias(
        name="a forced prefix skips its first id",
        old="[len(row.generated) :]",
        new="[len(row.generated) + 1 :]",
    ),
    Bias(
        name="length_decay begins one token early",
        old="over = len(history.generated) - self.start",
        new="over = len(history.generated) - self.start + 1",
    ),
    Bias(
        name="length_decay forgets the absolute value",
        old="np.where(np.isfinite(end), np.abs(end), np.zeros_like(end))",
        new="np.where(np.isfinite(end), end, np.zeros_like(end))",
    ),
]
