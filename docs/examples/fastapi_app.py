"""
An endpoint of your own, in a FastAPI application: the decoder inside, no second server.

    pip install fastapi uvicorn 'decodekit[cpu]'
    uvicorn --app-dir docs/examples fastapi_app:app

Who closes the connection ends the answer: the stream is closed, and its place is free before the next step.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

import decodekit


class Question(BaseModel):
    prompt: str = Field(max_length=2000)
    seed: int = Field(0, ge=0)


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    with decodekit.load("tagline") as app.state.decoder:
        yield


app = FastAPI(lifespan=life)


@app.post("/slogan")
async def slogan(question: Question) -> StreamingResponse:
    try:
        stream = app.state.decoder.astream(
            question.prompt, "temperature=0.8, top_p=0.9", seed=question.seed, max_new_tokens=64
        )
    except decodekit.DecodekitError as error:
        raise HTTPException(400, str(error)) from error

    async def pieces() -> AsyncIterator[str]:
        try:
            async for piece in stream:
                yield piece
        finally:
            stream.close()

    return StreamingResponse(pieces(), media_type="text/plain; charset=utf-8")
