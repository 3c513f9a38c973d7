import numpy as np
import pytest
from decodekit_mirostat import Mirostat, surprise

from decodekit import Sampler, stream
from decodekit.errors import ParameterError
from decodekit.logprobs import Logprobs
from decodekit.processors import Step
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.testing import TableModel, check_logits_processor, histories

LOGITS = np.log(np.asarray([[0.75, 0.25]], dtype=np.float32))


def test_keeps_the_contract():
    check_logits_processor(Mirostat(tau=3.0))


def test_drops_what_is_more_surprising_than_mu_but_never_the_best():
    step = Step.dense(histories([0]), 2)
    mirostat = Mirostat()
    assert np.isfinite(mirostat.process(LOGITS, step, np.float32([[1.9]]))).tolist() == [[True, False]]
    assert np.isfinite(mirostat.process(LOGITS, step, np.float32([[2.1]]))).tolist() == [[True, True]]
    assert np.isfinite(mirostat.process(LOGITS, step, np.float32([[0.0]]))).tolist() == [[True, False]]


def test_a_surprise_of_exactly_mu_stays():
    step, edge = Step.dense(histories([0]), 2), surprise(LOGITS)[:, 1:]
    assert np.isfinite(Mirostat().process(LOGITS, step, edge)).all()
    assert not np.isfinite(Mirostat().process(LOGITS, step, np.nextafter(edge, np.float32(0)))).all()


def test_mu_falls_after_a_token_more_surprising_than_the_target():
    mirostat = Mirostat(tau=1.0, eta=0.5)
    mu = mirostat.accept(LOGITS, np.asarray([1]), mirostat.init(1))  # -log2(0.25) = 2 bits
    assert mu == pytest.approx(np.asarray([[2.0 - 0.5 * (2.0 - 1.0)]]), rel=1e-6)


def test_accept_leaves_the_old_state_alone():
    mirostat = Mirostat()
    before = mirostat.init(1)
    mirostat.accept(np.zeros((1, 4), np.float32), np.asarray([0]), before)
    assert before == 10.0


def test_the_surprise_of_a_long_text_comes_near_the_target():
    table = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) * 2
    sampler, tau = Sampler((Mirostat(tau=3.0, eta=0.1),)), 3.0
    tokens = list(stream(TableModel(table), [1], sampler, [MaxNewTokens(2000)], seed=1, logprobs=Logprobs()))
    observed = np.mean([-t.logprob / np.log(2) for t in tokens[200:]])
    plain = list(stream(TableModel(table), [1], Sampler(), [MaxNewTokens(2000)], seed=1, logprobs=Logprobs()))
    drift = np.mean([-t.logprob / np.log(2) for t in plain[200:]])
    assert abs(observed - tau) < 0.5 < abs(drift - tau)


def test_surprise_is_in_bits():
    assert surprise(LOGITS)[0, 1] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tau": -1}, r"tau must be in \(0, inf\), got -1"), ({"eta": 0}, r"eta must be in \(0, 1\], got 0")],
)
def test_parameters_have_a_domain(options, message):
    with pytest.raises(ParameterError, match=message):
        Mirostat(**options)
