"""Routes of the studio, and what stands around them: limits, tokens and headers.

The server listens on loopback. Bound elsewhere it wants a token; a request from another site's page is
refused by its Host and Origin, and the page itself may load and reach nothing but this server.
"""

from __future__ import annotations

import contextlib
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request as Http
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...core.version import __version__
from . import api, openapi
from .inbox import Request, packed
from .messages import Export, Simulate, Stop, Sweep
from .work import Desk, RefusedError, StoppedError

# Bytes of one request: files in base64, the scenario, and room for the rest.
BODY_LIMIT: Final = 12 * 1024 * 1024

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report is a page of its own that needs nothing else; it is shown in a frame of the studio and may do no more.
_REPORT: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "x-frame-options": "SAMEORIGIN",
}
# Reports kept to be shown, the latest ones.
_PAGES: Final = 8
_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_Kind = TypeVar("_Kind")
_COOKIE: Final = "wattline_token"
_LOCAL: Final = ("localhost", "127.0.0.1", "[::1]", "::1")


@dataclass(frozen=True)
class Settings:
    """What the server was started with: the scenario to open, the token it wants, the host names it goes by."""

    scenario: Path | None = None
    token: str | None = None
    hosts: tuple[str, ...] = field(default=_LOCAL)


def create(settings: Settings | None = None) -> Starlette:
    """Return the application."""
    given = settings or Settings()
    first = packed(given.scenario) if given.scenario else None
    desk = Desk()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        desk.close()

    static = Path(str(resources.files(__package__) / "static"))
    page = (static / "index.html").read_bytes()

    async def index(_: Http) -> Response:
        return Response(page, media_type="text/html; charset=utf-8")

    async def start(_: Http) -> Response:
        names = sorted(api.examples())
        name = given.scenario.stem if given.scenario else (_FIRST if _FIRST in names else next(iter(names), ""))
        begin = first or (packed(api.examples()[name]) if name else Request(""))
        return JSONResponse({"name": name, **_sent(begin), "examples": names, "version": __version__})

    async def example(http: Http) -> Response:
        name = http.path_params["name"]
        found = api.examples().get(name)
        if found is None:
            return _error(f"example {name!r} is not shipped; known: {', '.join(api.examples())}", 404)
        return JSONResponse({"name": name, **_sent(packed(found))})

    async def progress(http: Http) -> Response:
        return JSONResponse(desk.progress(http.path_params["task"]))

    async def stop(http: Http) -> Response:
        asked = await _read(http, Stop)
        return asked if isinstance(asked, Response) else JSONResponse({"stopped": desk.stop(asked.task)})

    async def runs(_: Http) -> Response:
        return JSONResponse({"runs": await run_in_threadpool(api.runs, 50)})

    async def devices(_: Http) -> Response:
        return JSONResponse({"devices": await run_in_threadpool(_live)})

    async def described(_: Http) -> Response:
        return JSONResponse(openapi.description())

    pages: dict[str, str] = {}

    def kept(found: dict[str, Any]) -> dict[str, Any]:
        """Keep a report's page and put its address in the answer."""
        if found.get("kind") != "report":
            return found
        name = secrets.token_urlsafe(12)
        pages[name] = found["html"]
        while len(pages) > _PAGES:
            del pages[next(iter(pages))]
        return {k: v for k, v in found.items() if k != "html"} | {"page": f"/api/reports/{name}"}

    async def report(http: Http) -> Response:
        found = pages.get(http.path_params["name"])
        if found is None:
            return _error("this report is no longer kept; plan the scenario again", 404)
        return Response(found, media_type="text/html; charset=utf-8", headers=dict(_REPORT))

    asks = [
        Route("/api/preview", _ask(desk, "quick", "preview", Request), methods=["POST"]),
        Route("/api/plan", _ask(desk, "exact", "plan", Request, kept), methods=["POST"]),
        Route("/api/whatif", _ask(desk, "exact", "whatif", Sweep), methods=["POST"]),
        Route("/api/simulate", _ask(desk, "exact", "simulate", Simulate), methods=["POST"]),
        Route("/api/export", _ask(desk, "exact", "export", Export), methods=["POST"]),
    ]
    tells = [
        Route("/", index),
        Route("/openapi.json", described),
        Route("/api/start", start),
        Route("/api/examples/{name}", example),
        Route("/api/progress/{task}", progress),
        Route("/api/stop", stop, methods=["POST"]),
        Route("/api/reports/{name}", report),
        Route("/api/runs", runs),
        Route("/api/devices", devices),
        Mount("/static", StaticFiles(directory=static)),
    ]
    out = Starlette(routes=[*asks, *tells], lifespan=lifespan)
    out.add_middleware(Guard, settings=given)
    return out


_FIRST: Final = "llama-70b-training"


def _sent(request: Request) -> dict[str, Any]:
    return {"scenario": request.scenario, "files": request.files}


def _ask(
    desk: Desk, lane: str, what: str, kind: type[Request],
    kept: Callable[[dict[str, Any]], dict[str, Any]] = lambda found: found,
) -> Callable[[Http], Awaitable[Response]]:  # fmt: skip
    """Return the endpoint that reads a request of `kind`, asks `api.what` in a lane and answers with what is `kept`."""

    async def endpoint(http: Http) -> Response:
        asked = await _read(http, kind)
        if isinstance(asked, Response):
            return asked
        names = [name for name in kind.__struct_fields__ if name not in Request.__struct_fields__]
        more = {name: getattr(asked, name) for name in names}
        plain = Request(asked.scenario, asked.set, asked.files, asked.task)
        try:
            found = await run_in_threadpool(desk.ask, lane, what, plain, more)
        except StoppedError as error:
            return _error(str(error), 409, code=130)
        except RefusedError as error:
            return _error(str(error), 422, code=error.code, line=error.line)
        if what == "export":
            disposition = f'attachment; filename="{found["name"]}"'
            return Response(found["content"], media_type=found["type"], headers={"content-disposition": disposition})
        return Response(_json(kept(found)), media_type="application/json")

    return endpoint


def _json(found: Any) -> bytes:
    """Return JSON, numbers of numpy included; what is not a number there is null."""
    return msgspec.json.encode(found, enc_hook=lambda value: value.tolist())


async def _read(http: Http, kind: type[_Kind]) -> _Kind | Response:
    """Read a JSON body strictly: size, type, fields."""
    if http.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return _error("a request must be application/json", 415)
    body = b""
    async for chunk in http.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            return _error(f"a request may have {BODY_LIMIT // 2**20} MiB, got more", 413)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _error(f"the request is not understood: {error}", 400)


def _error(message: str, status: int, *, code: int = 2, line: int | None = None) -> Response:
    return JSONResponse({"error": message, "exit_code": code, "line": line}, status_code=status)


_view: Any = None


def _live() -> list[dict[str, Any]]:
    """Return every device as `wattline top` shows it."""
    global _view
    from ...measure.monitor import default
    from ..cli.top import View

    if _view is None:
        _view = View(default())
    return [dict(row) for row in _view.rows()]


class Guard:
    """Who may ask, and the headers of every answer."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}  # a report's page states its own rules
                mine = [(k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in own]
                message = {**message, "headers": [*message["headers"], *mine]}
            await send(message)

        refusal = self._refusal(Http(scope))
        await (refusal or self.app)(scope, receive, answer)

    def _refusal(self, http: Http) -> Response | None:
        host = http.headers.get("host", "")
        name = re.sub(r":\d+$", "", host)
        if "*" not in self.settings.hosts and name not in self.settings.hosts:
            return _error(f"this server does not go by the name {name!r}", 421)
        origin = http.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return _error("requests from pages of other sites are refused", 403)
        return self._token(http)

    def _token(self, http: Http) -> Response | None:
        token = self.settings.token
        if token is None:
            return None
        given = http.query_params.get("token")
        if given is not None and hmac.compare_digest(given.encode(), token.encode()):
            # The token moves from the address into a cookie, so that it is in no link that is passed on.
            out = RedirectResponse(http.url.path or "/", status_code=303)
            out.set_cookie(_COOKIE, token, httponly=True, samesite="strict", path="/")
            return out
        if hmac.compare_digest(_stated(http.headers, http.cookies).encode(), token.encode()):
            return None
        return _error("a token is needed: open the address that was printed when the server started", 401)


def _stated(headers: Headers, cookies: Mapping[str, str]) -> str:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return value if scheme.lower() == "bearer" else cookies.get(_COOKIE, "")
