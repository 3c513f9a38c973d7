"""
Asking: one request, asked of replicas until one has answered it.

A replica that dies is no news to a client: what it was asked is asked of another, from where it
stopped. That is safe for everything the server does, since an answer depends on the bundle, the
request and its seed alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator

from decodekit_server.errors import ApiError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from decodekit_ray.cluster import line, ray
from decodekit_ray.replica import Piece
from decodekit_ray.retelling import Question, Told

log = logging.getLogger("ray.serve")

TRIES = 3  # replicas that may die of one request before it is given up
PAUSE = 0.5  # seconds until a full deployment is asked again for the rest of an answer


async def ask(engine: DeploymentHandle, question: Question, seconds: float) -> AsyncGenerator[Piece]:
    """The pieces of an answer, each once. ApiError where nobody can give them.

    seconds  in which the rest of an answer that was begun must find room
    """
    events, died, until = 0, 0, time.monotonic() + seconds
    told: list[Told] = []
    while True:
        answer = engine.answer.remote(question, told, events)
        try:
            async for piece in answer:
                if events and piece.head and piece.head[0] != 200:
                    raise _refused(piece)
                told += piece.told
                events += piece.events
                yield piece
                if piece.last:
                    return
        except ray.exceptions.RayActorError as exc:
            died += 1
            log.warning("a replica died answering %s, %d events sent: %s", question.id, events, line(exc))
            if died == TRIES:
                raise ApiError(
                    503, "E_REPLICA", f"{died} replicas died answering this; it was given up"
                ) from exc
        except (BackPressureError, ApiError) as exc:
            error = _full() if isinstance(exc, BackPressureError) else exc
            if not events or error.status not in (429, 503) or time.monotonic() > until:
                raise error from None
            await asyncio.sleep(PAUSE)
        except DeploymentUnavailableError as exc:
            raise ApiError(503, "E_REPLICA", "no replica of this model can be started") from exc
        finally:
            answer.cancel()


def _refused(piece: Piece) -> ApiError:
    """What a replica says that cannot go on with a stream."""
    assert piece.head is not None
    error = json.loads(piece.data)["error"]
    return ApiError(piece.head[0], error["code"], error["message"])


def _full() -> ApiError:
    return ApiError(429, "E_QUEUE_FULL", "all replicas are full and so is the queue; ask again later")
