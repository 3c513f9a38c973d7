"""Generating: what happens between a question of a text API and the answer to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from decodekit_server.answers import Answers
from decodekit_server.api.writing import Api, Event, extras
from decodekit_server.endpoint import Answer
from decodekit_server.errors import ApiError
from decodekit_server.metrics import Metrics
from decodekit_server.models import Models
from decodekit_server.params import Params
from decodekit_server.preparing import Job, Preparing
from decodekit_server.telemetry import Telemetry


@dataclass
class Desk:
    """What all endpoints of a server share.

    telemetry  is told of requests and answers
    draining   the server ends: what runs goes on, nothing is begun
    """

    models: Models
    preparing: Preparing
    metrics: Metrics
    telemetry: Telemetry
    draining: bool = False

    def check_open(self) -> None:
        if self.draining:
            raise ApiError(503, "E_DRAINING", "the server is ending; ask another, or later")


@dataclass(frozen=True)
class Generating:
    """Answers the questions of one text API."""

    desk: Desk
    api: Api

    async def __call__(self, params: Params, tenant: str) -> Answer:
        self.desk.check_open()
        ask = self.api.ask(params)
        served = self.desk.models.find(ask.model)
        job = await self.desk.preparing.prepare(ask, served, tenant)
        answers = Answers(job, self.desk.metrics)
        if ask.stream:
            return self._events(params, job, answers)
        with self.desk.telemetry.answer(answers):
            try:
                async for _ in answers:
                    pass
            finally:
                answers.cancel()
        more = extras(job, params, answers.choices, answers.trace)
        return self.api.writer(params, job).whole(answers.choices, more)

    async def _events(self, params: Params, job: Job, answers: Answers) -> AsyncIterator[Event]:
        writer = self.api.writer(params, job)
        with self.desk.telemetry.answer(answers):
            try:
                begun = False
                async for update in answers:
                    if not begun:
                        for event in writer.begin():
                            yield event
                        begun = True
                    for event in writer.update(update):
                        yield event
            finally:
                answers.cancel()
        more: dict[str, Any] = extras(job, params, answers.choices, answers.trace)
        for event in writer.end(more):
            yield event
