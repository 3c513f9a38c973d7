# ruff: noqa: E402 (what may be absent is asked for first)
"""What is asked again, and when it is given up. A script stands in for the replicas of a deployment."""

import asyncio
import json

import pytest

ray = pytest.importorskip("ray", reason="needs Ray; make test-ray")
pytest.importorskip("ray.serve", reason="needs decodekit-ray[serve]; make test-ray")

from decodekit_ray import asking
from decodekit_ray.asking import TRIES, ask
from decodekit_ray.replica import Piece
from decodekit_ray.retelling import Question, Told
from decodekit_server.errors import ApiError
from ray.serve.exceptions import BackPressureError

QUESTION = Question("POST", "/v1/completions", (), b"{}", "", "id", 0, 0)
HEAD = (200, ())
FIRST = Piece(b"a", HEAD, (Told(0, "a", 1, False),), 1, False)
SECOND = Piece(b"b", None, (Told(0, "b", 1, True),), 2, True)
FULL = BackPressureError(9, 8)
DEAD = ray.exceptions.ActorDiedError()


def refusal(status, code):
    return Piece(json.dumps({"error": {"code": code, "message": "no"}}).encode(), (status, ()), (), 1, True)


class Deployment:
    """Each try goes by the next script: pieces, and errors to raise."""

    def __init__(self, *scripts):
        self.scripts, self.asked, self.cancelled = list(scripts), [], 0
        self.answer = self

    def remote(self, question, told, events):
        self.asked.append((list(told), events))
        return Answer(self, self.scripts.pop(0))


class Answer:
    def __init__(self, deployment, script):
        self.deployment, self.script = deployment, script

    async def __aiter__(self):
        for one in self.script:
            if isinstance(one, Exception):
                raise one
            yield one

    def cancel(self):
        self.deployment.cancelled += 1


def answered(deployment):
    async def gather():
        return b"".join([piece.data async for piece in ask(deployment, QUESTION, 5.0)])

    return asyncio.run(gather())


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(asking, "PAUSE", 0.0)


def test_who_goes_on_is_told_what_was_told():
    deployment = Deployment([FIRST, DEAD], [SECOND])
    assert answered(deployment) == b"ab"
    assert deployment.asked == [([], 0), ([FIRST.told[0]], 1)]
    assert deployment.cancelled == 2


@pytest.mark.parametrize("full", [FULL, refusal(429, "E_QUEUE_FULL"), refusal(503, "E_DRAINING")])
def test_the_rest_of_an_answer_waits_for_room(full):
    assert answered(Deployment([FIRST, DEAD], [full], [full], [SECOND])) == b"ab"


def test_a_request_that_was_not_begun_is_refused_where_there_is_no_room():
    with pytest.raises(ApiError, match="all replicas are full") as caught:
        answered(Deployment([FULL]))
    assert caught.value.status == 429
    refused = refusal(429, "E_QUEUE_FULL")
    assert answered(Deployment([refused])) == refused.data


def test_what_cannot_be_gone_on_with_is_an_error():
    with pytest.raises(ApiError) as caught:
        answered(Deployment([FIRST, DEAD], [refusal(500, "E_REPLICA")]))
    assert (caught.value.status, caught.value.code) == (500, "E_REPLICA")


def test_a_request_that_kills_replicas_is_given_up():
    deployment = Deployment(*[[DEAD]] * TRIES)
    with pytest.raises(ApiError, match="3 replicas died"):
        answered(deployment)
    assert len(deployment.asked) == TRIES
