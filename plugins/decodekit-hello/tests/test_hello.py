import numpy as np
from decodekit_hello import Boost

from decodekit.processors import Step
from decodekit.testing import check_logits_processor, histories


def test_keeps_the_contract():
    check_logits_processor(Boost(id=7))


def test_only_the_named_token_gains():
    logits = np.zeros((1, 3), np.float32)
    step = Step(histories([0]), np.asarray([[9, 7, 8]]))  # columns are candidates, not token ids
    assert Boost(id=7, nats=2.0).process(logits, step, ()).tolist() == [[0.0, 2.0, 0.0]]
