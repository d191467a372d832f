"""The server's addresses: what comes in over HTTP, and what goes out.

    POST /v1/chat/completions   GET /v1/models   GET /health
    GET /   GET /tools   POST /tools    the page, the tools that it offers, and a call of one of them

Nobody but programs on this machine reaches it unless it is told to listen to others, and web pages of other sites do
not reach it at all: it wants JSON, which a browser sends elsewhere only with leave, and a known name in `Host`.
"""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Sequence
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from minifc.calling.tools import Tool, run
from minifc.serving.answering import Answer, Answering
from minifc.serving.requests import ApiError, read_request
from minifc.text.calls import Call

MOST_BYTES = 4 * 2**20  # of a request
# The page loads nothing from anywhere, and speaks to this server alone.
CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_app(
    answering: Answering, key: str | None = None, hosts: Sequence[str] = ("*",), tools: Sequence[Tool] = ()
) -> Starlette:
    """key: what each request must bring as `Authorization: Bearer KEY`. hosts: the names in `Host` that are taken.
    tools: what the page can run here. Other clients bring and run their own.
    """

    async def complete(request: Request) -> Response:
        _require_key(request, key)
        body = await _read_json(request)
        asked = read_request(body, answering.model)
        answer = answering.begin(asked, await run_in_threadpool(answering.row, asked))
        if asked.stream:
            return StreamingResponse(
                _events(answer), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
            )
        return JSONResponse(await _unless_gone(request, answer))

    async def models(request: Request) -> Response:
        _require_key(request, key)
        return JSONResponse({"object": "list", "data": [_described(answering)]})

    async def model(request: Request) -> Response:
        _require_key(request, key)
        name = request.path_params["name"]
        if name != answering.model:
            raise ApiError(
                f"there is no model {name!r} here; there is {answering.model!r}", "model", 404, "model_not_found"
            )
        return JSONResponse(_described(answering))

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": answering.model, **answering.engine.load})

    async def page(request: Request) -> Response:
        text = (files(__package__) / "page.html").read_text(encoding="utf-8")
        return HTMLResponse(text, headers={"Content-Security-Policy": CONTENT_POLICY})

    async def list_tools(request: Request) -> Response:
        _require_key(request, key)
        return JSONResponse({"model": answering.model, "tools": [tool.schema for tool in tools]})

    async def run_tool(request: Request) -> Response:
        _require_key(request, key)
        body = await _read_json(request)
        name, given = (body.get("name"), body.get("arguments")) if isinstance(body, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(given, dict):
            raise ApiError('the body must be {"name": ..., "arguments": {...}}')
        return JSONResponse({"result": await run_in_threadpool(run, tools, Call(name, given))})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/health", health),
            Route("/", page),
            Route("/tools", list_tools),
            Route("/tools", run_tool, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _own_error},
    )


def _described(answering: Answering) -> dict[str, Any]:
    return {
        "id": answering.model,
        "object": "model",
        "created": 0,
        "owned_by": "minifc",
        "context_length": answering.loaded.model.config.max_position_embeddings,
    }


def _require_key(request: Request, key: str | None) -> None:
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if key is not None and not hmac.compare_digest(given.encode(), key.encode()):
        raise ApiError(
            "the key is missing or wrong: send Authorization: Bearer KEY", status=401, code="invalid_api_key"
        )


async def _read_json(request: Request) -> Any:
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise ApiError("the body must be JSON: send Content-Type: application/json", status=415)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise ApiError(f"the request is larger than {MOST_BYTES // 2**20} MB", status=413)
    try:
        return await run_in_threadpool(json.loads, bytes(body))
    except (ValueError, RecursionError) as error:
        raise ApiError(f"the body is not JSON: {error}") from None


async def _unless_gone(request: Request, answer: Answer) -> dict[str, Any]:
    """The whole answer; a client that hangs up ends it."""
    writing = asyncio.create_task(answer.whole())
    hearing = asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait((writing, hearing), return_when=asyncio.FIRST_COMPLETED)
        if not writing.done():
            raise ApiError("the client has gone", status=499)
        return writing.result()
    finally:
        hearing.cancel()
        writing.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _events(answer: Answer) -> AsyncIterator[str]:
    """Server-sent events, each with a chunk of the answer."""
    try:
        async for chunk in answer.chunks():
            yield f"data: {json.dumps(chunk)}\n\n"
    except ApiError as error:
        yield f"data: {json.dumps(error.body)}\n\n"
    yield "data: [DONE]\n\n"


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    headers = {"Retry-After": "1"} if error.status == 429 else {}
    return JSONResponse(error.body, error.status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """An address or a method that there is not."""
    assert isinstance(error, HTTPException)
    what = "no such address" if error.status_code == 404 else error.detail
    body = ApiError(f"{request.method} {request.url.path}: {what}", status=error.status_code).body
    return JSONResponse(body, error.status_code, error.headers)


async def _own_error(request: Request, error: Exception) -> Response:
    return JSONResponse(ApiError(f"{type(error).__name__}: {error}", status=500).body, 500)
