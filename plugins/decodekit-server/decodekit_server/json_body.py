"""A body: JSON, read strictly, no deeper and no larger than agreed."""

from __future__ import annotations

from typing import Any

from decodekit import strict_json
from decodekit_server.errors import ApiError
from decodekit_server.limits import MAX_DEPTH, MAX_VALUES


def parse(body: bytes, content_type: str) -> dict[str, Any]:
    """The object in a body. ApiError 400 for anything else."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise _refused(f"content-type must be application/json, got {content_type!r:.80}")
    try:
        text = body.decode("utf-8")
        value = strict_json.loads(text)
    except UnicodeDecodeError as exc:
        raise _refused(f"not UTF-8 at byte {exc.start}") from exc
    except RecursionError as exc:
        raise _refused(f"nested more than {MAX_DEPTH} deep") from exc
    except ValueError as exc:
        raise _refused(f"not JSON ({exc})") from exc
    if not isinstance(value, dict):
        raise _refused(f"must be an object, got {value!r:.40}")
    _check_size(value)
    return value


def _check_size(value: Any) -> None:
    """Refuse what is deep or has many parts. Level by level, since it may be deeper than the stack."""
    level, values = [value], 0
    for _ in range(MAX_DEPTH):
        level = [child for container in level for child in _children(container)]
        values += len(level)
        if values > MAX_VALUES:
            raise _refused(f"more than {MAX_VALUES:,} values")
        if not level:
            return
    raise _refused(f"nested more than {MAX_DEPTH} deep")


def _children(container: Any) -> list[Any]:
    children = list(container.values()) if isinstance(container, dict) else container
    return [child for child in children if isinstance(child, dict | list)]


def _refused(why: str) -> ApiError:
    return ApiError(400, "E_BODY", f"body: {why}")
