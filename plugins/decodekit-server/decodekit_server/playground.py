"""
The playground: a page on which a person watches tokens being chosen.

Files only; what it shows it asks the same API for that every client asks. The parts that it shares
with the page of a trace come from decodekit itself.
"""

from __future__ import annotations

from os import PathLike, stat_result
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from decodekit.trace_page import FOLDER

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-cache",  # files of two versions do not fit together
}


class Files(StaticFiles):
    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Any, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        return response


async def page(_: Request) -> Response:
    return FileResponse(STATIC / "index.html", headers=HEADERS)


def routes() -> list[BaseRoute]:
    return [
        Route("/", page, methods=["GET"]),
        Mount("/static", Files(directory=STATIC)),
        Mount("/page", Files(directory=FOLDER)),
    ]
