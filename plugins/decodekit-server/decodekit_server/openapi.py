"""The OpenAPI document of this server, made of the parameters that it checks requests against."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from typing import Any

from pydantic.json_schema import models_json_schema

from decodekit_server.params import Params

REF = "#/components/schemas/{model}"
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}


def document(
    names: Iterable[str],
    posts: Iterable[tuple[str, type[Params], str]],
    gets: Iterable[tuple[str, str, str]],
) -> dict[str, Any]:
    """For the models of these names, and routes.

    posts  that take JSON: path, parameters, about
    gets   the others: path, media type, about
    """
    posts, model_name = list(posts), {"type": "string", "enum": list(names)}
    models = {params: None for _, params, _ in posts}
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=REF)
    for params in models:
        schemas["$defs"][params.__name__]["properties"]["model"] = model_name
    paths: dict[str, Any] = {}
    for path, params, about in posts:
        body = {"schema": {"$ref": REF.format(model=params.__name__)}}
        paths[path] = {
            "post": {
                "summary": about,
                "requestBody": {"required": True, "content": {"application/json": body}},
                "responses": _responses("application/json"),
            }
        }
    for path, media, about in gets:
        paths[path] = {"get": {"summary": about, "responses": _responses(media)}}
        if "{model}" in path:
            place = {"name": "model", "in": "path", "required": True, "schema": model_name}
            paths[path]["get"]["parameters"] = [place]
    return {
        "openapi": "3.1.0",
        "info": {"title": "decodekit", "version": metadata.version("decodekit-server")},
        "paths": paths,
        "components": {
            "schemas": {**schemas["$defs"], "Error": ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _responses(media: str) -> dict[str, Any]:
    error = {"content": {"application/json": {"schema": {"$ref": REF.format(model="Error")}}}}
    return {
        "200": {"description": "the answer, or its events where it is streamed", "content": {media: {}}},
        "4XX": {"description": "what is wrong with the request"} | error,
        "5XX": {"description": "what is wrong with the server"} | error,
    }
