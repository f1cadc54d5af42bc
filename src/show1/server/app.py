"""The HTTP application: middleware, errors, and the routes of the API and of the page."""

import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from show1.errors import InputError, MediaError, OutputError, RunError, Show1Error, reason_of
from show1.server.access import Access, Refused
from show1.server.asked import BadRequest
from show1.server.metrics import Metrics
from show1.server.routes import make_routes
from show1.server.service import Busy, Conflict, NotFound, Service
from show1.server.store import StoreError

logger = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
}


class Answer(JSONResponse):
    """JSON in pure ASCII, so that a broken character that a client sent cannot break the answer."""

    def render(self, content: Any) -> bytes:
        """The JSON text."""
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def make_app(service: Service, access: Access) -> FastAPI:
    """The application of a server.

    Args:
        service: What it does.
        access: Who may use it.
    """
    app = FastAPI(
        title="show1",
        description="Videos from text by staged, durable jobs: the videos API, with drafts and stages.",
        version="1",
        default_response_class=Answer,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    metrics = Metrics(service)
    app.include_router(make_routes(service, access, metrics))
    for name in ("", "app.js", "choices.js", "elements.js", "record.js", "style.css", "icon.svg"):
        app.add_api_route(
            f"/{name}", _file(PAGE / (name or "index.html")), include_in_schema=False, response_model=None
        )
    _add_errors(app)
    app.add_middleware(Observed, access=access, metrics=metrics)
    app.add_middleware(
        BodyLimit, most=service.limits.max_upload_mb * 1_000_000, plain=service.limits.max_body_mb * 1_000_000
    )
    return app


class Observed:
    """Checks where each request comes from, adds headers to its answer, and logs and counts it."""

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics) -> None:
        """Takes the application, who may use it, and what counts."""
        self._app, self._access, self._metrics = app, access, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, request_id, started = time.monotonic(), secrets.token_hex(8), False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                self._note(scope, request_id, message["status"], time.monotonic() - began)
            await send(message)

        try:
            self._access.check_origin(Request(scope))
            await self._app(scope, receive, sending)
        except Refused as error:
            await refusal(error)(scope, receive, sending)
        except Exception:
            logger.exception("request %s failed", request_id)
            if not started:
                answer = failure(500, "the server failed; its log says why", "server_error", "internal_error")
                await answer(scope, receive, sending)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """Logs and counts an answer."""
        route, method = getattr(scope.get("route"), "path", "other"), scope["method"]
        self._metrics.observe(method, route, status, seconds)
        fields = {"request": request_id, "method": method, "route": route, "status": status}
        level = logging.DEBUG if status < 400 else logging.INFO
        extra = {"fields": {**fields, "seconds": round(seconds, 4)}}
        logger.log(level, "%s %s %s %s", request_id, method, route, status, extra=extra)


def failure(
    status: int, message: str, kind: str, code: str | None = None, param: str | None = None, **headers: str
) -> Response:
    """An error as the API writes it.

    Args:
        status: The status code.
        message: For people.
        kind: The API's type of error.
        code: For programs.
        param: The parameter at fault.
        headers: Headers of the answer.
    """
    error = {"message": message, "type": kind, "code": code, "param": param}
    return Answer({"error": error}, status, headers={name.replace("_", "-"): text for name, text in headers.items()})


def refusal(error: Refused) -> Response:
    """The answer to a client that may not use the server."""
    kind = "authentication_error" if error.status == 401 else "permission_error"
    headers = {"WWW_Authenticate": "Bearer"} if error.status == 401 else {}
    return failure(error.status, str(error), kind, error.code, **headers)


def _add_errors(app: FastAPI) -> None:
    """Answers errors as the API does."""
    bad = "invalid_request_error"

    def handle(kind: type[Exception] | int, answer: Callable[[Any], Response]) -> None:
        async def handler(request: Request, error: Exception) -> Response:
            return answer(error)

        app.add_exception_handler(kind, handler)

    handle(Refused, refusal)
    handle(BadRequest, lambda e: failure(404 if e.code.endswith("_not_found") else 400, str(e), bad, e.code, e.param))
    handle(InputError, lambda e: failure(400, str(e), bad, "invalid_value"))
    handle(
        MediaError, lambda e: failure(400, "the file cannot be read as a video: it is damaged, or of another kind", bad)
    )
    handle(NotFound, lambda e: failure(404, "there is no such video", bad, "not_found"))
    handle(Conflict, lambda e: failure(409, str(e), bad, "conflict"))
    handle(
        RunError, lambda e: failure(409, "the files of this video are damaged, or are being written", bad, "conflict")
    )
    handle(Busy, lambda e: failure(429, str(e), "rate_limit_error", "rate_limit_exceeded", Retry_After="10"))
    handle(RequestValidationError, _invalid)
    handle(HTTPException, _http)
    handle(StoreError, _logged(503, "the store of the videos cannot be reached; try again in a moment"))
    handle(OutputError, _logged(507, "the server cannot write: perhaps its disk is full"))
    handle(SQLAlchemyError, _logged(503, "the database cannot be reached; try again in a moment"))
    handle(Show1Error, lambda e: failure(400, str(e), bad))


def _invalid(error: RequestValidationError) -> Response:
    first = error.errors()[0]
    name = str(first["loc"][-1])[:60]
    return failure(400, f"{name}: {first['msg']}", "invalid_request_error", "invalid_value", name)


def _http(error: HTTPException) -> Response:
    kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
    headers = {name.replace("-", "_"): value for name, value in (error.headers or {}).items()}
    where = "GET /openapi.json lists what there is"
    told = {
        404: (f"there is nothing at this address; {where}", "unknown_url"),
        405: (f"this address does not take this method; {where}", "method_not_allowed"),
    }
    message, code = told.get(error.status_code, (str(error.detail), None))
    return failure(error.status_code, message, kind, code, **headers)


def _logged(status: int, message: str) -> Callable[[Exception], Response]:
    def answer(error: Exception) -> Response:
        logger.warning("%s", reason_of(error))
        return failure(status, message, "server_error", "unavailable", Retry_After="10")

    return answer


def _file(path: Path) -> Callable[[], Awaitable[FileResponse]]:
    async def send() -> FileResponse:
        return FileResponse(path, headers={"Cache-Control": "no-cache"})

    return send


class BodyLimit:
    """Refuses bodies that are too large, before they fill memory or the disk."""

    def __init__(self, app: ASGIApp, most: int, plain: int) -> None:
        """Takes the application, and the limits in bytes: of forms, which may hold files, and of other bodies."""
        self._app, self._most, self._plain = app, most, plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        is_form = headers.get(b"content-type", b"").startswith(b"multipart/form-data")
        most, taken = self._most if is_form else self._plain, 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(413, f"the request is larger than {most // 1_000_000} MB")
            return message

        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > most:
            answer = failure(413, f"the request is larger than {most // 1_000_000} MB", "invalid_request_error")
            await answer(scope, receive, send)
            return
        await self._app(scope, limited, send)
