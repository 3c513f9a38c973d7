"""Bugs to plant in the draw: its noise, the columns it drops, what a step knows."""

from functools import partial

from mutant import Mutant

EXACT = ("tests/exactness",)
DRAW = ("tests/test_sampling.py", "tests/test_noise.py", "tests/exactness/test_exact_chain.py")
STRATEGIES = ("tests/test_strategies.py", *EXACT)
PENALTIES = ("tests/test_penalties.py", *STRATEGIES)
Planted = partial(Mutant, package="decodekit")

MUTANTS = [
    Planted(
        name="a chain runs from its end",
        old="in zip(self.processors, states, strict=True):\n            if processor.keeps_best",
        new="in zip(self.processors[::-1], states[::-1], strict=True):\n            if processor.keeps_best",
        tests=DRAW,
    ),
    Planted(
        name="the noise is subtracted",
        old="np.argmax(logits + noise.gumbel(keys, ids), axis=-1)",
        new="np.argmax(logits - noise.gumbel(keys, ids), axis=-1)",
        tests=DRAW,
    ),
    Planted(
        name="the noise has the wrong sign inside",
        old="return -np.log(-np.log(uniform))",
        new="return np.log(-np.log(uniform))",
        tests=DRAW,
    ),
    Planted(
        name="the draw knows no position",
        old="row.seed, row.sample, row.position), digest_size=16",
        new="row.seed, row.sample, 0), digest_size=16",
        tests=DRAW,
    ),
    Planted(
        name="the draw knows no sample",
        old="row.seed, row.sample, row.position), digest_size=16",
        new="row.seed, 0, row.position), digest_size=16",
        tests=DRAW,
    ),
    Planted(
        name="all rows share their noise",
        old='for row in rows\n    ]\n    return np.frombuffer(b"".join(digests)',
        new='for row in rows[:1] * len(rows)\n    ]\n    return np.frombuffer(b"".join(digests)',
        tests=DRAW,
    ),
    Planted(
        name="the noise belongs to columns, not ids",
        old="sample(left, noise.keys(step.rows), shaped.ids)",
        new="sample(left, noise.keys(step.rows), np.broadcast_to(np.arange(left.shape[-1]), left.shape))",
        tests=DRAW,
    ),
    Planted(
        name="the noise has 32 bits only",
        old="(high << np.uint64(20) | low >> np.uint64(12))",
        new="(high << np.uint64(20))",
        tests=DRAW,
    ),
    Planted(
        name="a coin knows no position",
        old="row.seed, row.sample, row.position), digest_size=8",
        new="row.seed, row.sample, 0), digest_size=8",
        tests=DRAW,
    ),
    Planted(
        name="coins of all purposes are one",
        old="digest_size=8, person=purpose.encode()",
        new="digest_size=8",
        tests=DRAW,
    ),
    Planted(
        name="the pruned draw bounds the wrong candidates",
        old="needed(found - float(near))",
        new="needed(found - float(near) + 8)",
        tests=DRAW,
    ),
    Planted(
        name="the pruned draw skips the near ones",
        old="    contends |= (logits >= near) & (bits >= needed(found - float(best)))\n",
        new="",
        tests=DRAW,
    ),
    Planted(
        name="dropping columns revives removed candidates",
        old="kept = np.full((len(logits), width), -np.inf, logits.dtype)",
        new="kept = np.zeros((len(logits), width), logits.dtype)",
        tests=DRAW,
    ),
    Planted(
        name="dropping columns forgets the ids",
        old="ids[row, :count] = step.ids[row, columns]",
        new="ids[row, :count] = columns",
        tests=DRAW,
    ),
    Planted(
        name="dropping columns turns their order round",
        old="columns = true_columns(alive[row], count)  #",
        new="columns = true_columns(alive[row], count)[::-1]  #",
        tests=(*DRAW, *STRATEGIES),
    ),
    Planted(
        name="a strategy that had removed the token learns of it",
        old="    if not survived.all():\n        return state\n",
        new="",
        tests=(*DRAW, "tests/test_session.py"),
    ),
    Planted(
        name="columns are taken for ids",
        old="        if self.whole:\n            there",
        new="        if True:\n            there",
        tests=PENALTIES,
    ),
    Planted(
        name="of columns that repeat an id the last counts",
        old="place[here[::-1]] = np.arange(len(here))[::-1]",
        new="place[here] = np.arange(len(here))",
        tests=PENALTIES,
    ),
    Planted(
        name="survivors forget their ids",
        old="ids = kept[None] if step.whole else step.ids[:, kept]",
        new="ids = kept[None]",
        tests=DRAW,
    ),
    Planted(
        name="of few true columns the last ones are forgotten",
        old="np.arange(whole, len(mask)))",
        new="np.arange(whole, whole))",
        tests=("tests/test_ops.py", *DRAW),
    ),
]
