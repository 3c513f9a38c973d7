"""
A function of AWS Lambda behind a function URL. A cold start loads the model, warm calls share it.

    FROM public.ecr.aws/lambda/python:3.12
    RUN pip install 'decodekit[cpu]'
    COPY bundle /opt/bundle
    COPY lambda_handler.py ${LAMBDA_TASK_ROOT}
    ENV DECODEKIT_BUNDLE=/opt/bundle
    CMD ["lambda_handler.handler"]

It takes {"prompt": ..., "seed": ...} and answers {"text": ..., "finish_reason": ..., "seed": ...}.
"""

import base64
import json
import os
from typing import Any

import decodekit

CHAIN = "temperature=0.8, top_p=0.9"
LONGEST = 2000  # characters of a prompt
SHARE = 0.9  # of the time that is left, for decoding

decoder = decodekit.load(os.environ.get("DECODEKIT_BUNDLE", "tagline"))


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """One request. What is wrong with it is a 400 that says so."""
    try:
        prompt, seed = question(event)
        seconds = context.get_remaining_time_in_millis() / 1000 * SHARE
        answer = decoder.generate(prompt, CHAIN, seed=seed, max_new_tokens=64, max_time=seconds)
    except ValueError as error:  # decodekit's for bad input are such
        return reply(400, {"error": str(error)})
    return reply(200, {"text": answer.text, "finish_reason": answer.finish_reason, "seed": answer.seed})


def question(event: dict[str, Any]) -> tuple[str, int | None]:
    """The prompt and the seed in a request's body."""
    try:
        body = event["body"]
        asked = json.loads(base64.b64decode(body) if event.get("isBase64Encoded") else body)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("the request needs a JSON body") from error
    if not isinstance(asked, dict) or not asked.keys() <= {"prompt", "seed"}:
        raise ValueError('the body must be an object with "prompt" and, if you like, "seed"')
    prompt = asked.get("prompt")
    if not isinstance(prompt, str) or len(prompt) > LONGEST:
        raise ValueError(f"prompt must be a text of at most {LONGEST:,} characters")
    return prompt, asked.get("seed")


def reply(status: int, data: dict[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"Content-Type": "application/json"}, "body": json.dumps(data)}
