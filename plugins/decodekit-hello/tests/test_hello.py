import numpy as np
from decodekit_hello import Contrarian

from decodekit.processors import Step
from decodekit.testing import check_logits_processor, histories

LOGITS = np.log(np.asarray([[0.5, 0.3, 0.2]], np.float32))


def kept(p):
    out = Contrarian(p).process(LOGITS, Step.dense(histories([0]), 3), ())
    return np.isfinite(out)[0].tolist()


def test_keeps_the_contract():
    check_logits_processor(Contrarian(p=0.5))


def test_the_best_goes_where_another_is_close():
    assert kept(0.5) == [False, True, True]  # 0.3 is 0.6 of 0.5


def test_the_best_stays_where_none_is_close():
    assert kept(0.7) == [True, True, True]
