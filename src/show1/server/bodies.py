"""Reads the bodies of requests: JSON, or a form that may hold a file."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from show1.files import parse_json
from show1.server.asked import CLIP, BadRequest, Body, form_values

FORM = "multipart/form-data"
"""The type of a body that may hold a file."""


def body_schema(*kinds: str, model: type[BaseModel], file: str | None = None) -> dict[str, Any]:
    """The part of the OpenAPI document that describes a body.

    Args:
        kinds: Its types.
        model: Its fields.
        file: The field of a form that may hold a file.
    """
    content = {kind: {"schema": model.model_json_schema()} for kind in kinds}
    if file is not None:
        content[FORM]["schema"]["properties"][file] = {"type": "string", "format": "binary"}
    return {"requestBody": {"required": True, "content": content}}


@asynccontextmanager
async def read_body(request: Request, *, file: str = CLIP) -> AsyncIterator[tuple[Body, Path | None]]:
    """The values of a body, in JSON or a form, and a file in it, which is removed at the end of the block.

    Raises:
        BadRequest: It is neither, or cannot be read.
    """
    if _kind(request) in (FORM, "application/x-www-form-urlencoded"):
        async with request.form(max_files=1, max_fields=100) as form:
            upload = form.get(file)
            if any(isinstance(value, UploadFile) and name != file for name, value in form.multi_items()):
                raise BadRequest(f"a file may only be given in {file!r}")
            fields = [(name, value) for name, value in form.multi_items() if not isinstance(value, UploadFile)]
            body = Body(form_values(fields))
            if not isinstance(upload, UploadFile):
                yield body, None
                return
            with tempfile.TemporaryDirectory(prefix="show1-upload-") as folder:
                clip = Path(folder) / "clip"
                with clip.open("wb") as written:
                    while part := await upload.read(1 << 20):
                        written.write(part)
                yield body, clip
        return
    yield Body(await read_json(request)), None


def _kind(request: Request) -> str:
    """The type of a request's body."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request, *, only: bool = False) -> dict[str, Any]:
    """The values of a body in JSON.

    Args:
        request: The request.
        only: Whether it must say that it is JSON, before it is read.

    Raises:
        BadRequest: It is no JSON object.
    """
    if only and _kind(request) != "application/json":
        raise BadRequest("the body must be JSON, with Content-Type: application/json", code="invalid_json")
    text = await request.body()
    try:
        values = parse_json(text.decode("utf-8")) if text.strip() else {}
    except ValueError as error:
        raise BadRequest("the body is no JSON, and no form", code="invalid_json") from error
    if not isinstance(values, dict):
        raise BadRequest("the body must be a JSON object, or a form", code="invalid_json")
    return values
