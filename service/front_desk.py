"""What every request gets: an id, a log line, counts, headers that keep browsers safe."""

import logging
import random
import re
import time

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from service.log import log_unexpected
from service.metrics import count_request, request_durations

LOG = logging.getLogger("care")

SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

METHODS = ("GET", "HEAD", "POST", "OPTIONS")

HEADERS = [
    (name.lower().encode(), value.encode())
    for name, value in {
        "Cache-Control": "no-store",
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }.items()
]
"""As ASGI has them; those of an answer itself come first."""


class FrontDesk:
    """Stands before the app, as the only thing others know of it.

    It is no Starlette app on purpose: BentoML then hands it every request that it does not serve
    itself, so that wrong methods of its own paths end in our envelope too.

    Requests go through the app's `state.gate`, which the service sets when it starts: it alone
    knows the settings.

    The log line says nothing that a client wrote but a request id of harmless letters: paths are
    named by their route, and neither file names nor field values are in it.
    """

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":
            # As GET, which every page and answer is written for; the server keeps the content back.
            scope = {**scope, "method": "GET"}
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = _request_id(Headers(scope=scope))
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name for name, _ in message["headers"]}
                more = [header for header in HEADERS if header[0] not in given]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    *more,
                ]
            await send(message)

        start = time.perf_counter()
        with request_durations() as stages:
            try:
                await self.app.state.gate(scope, receive, answer)
            except Exception:
                # Already answered in the envelope; here it is said to those who can mend it.
                log_unexpected(request_id)
        seconds = time.perf_counter() - start
        route = getattr(scope.get("route"), "path", "") or "-"
        key = state.get("key", "-")
        count_request(route, status, key, seconds)
        fields = {
            "request_id": request_id,
            "method": method if method in METHODS else "other",
            "route": route,
            "status": status,
            "code": state.get("error_code", "-"),
            "model": state.get("model", "-"),
            "key": key,
            "ms": _ms(seconds),
            **{f"{stage}_ms": _ms(taken) for stage, taken in stages.items()},
        }
        LOG.info("request %s", request_id, extra={"fields": fields})


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


def _request_id(headers: Headers) -> str:
    given = headers.get("X-Request-ID", "")
    # It is no secret, only never the same twice: no need to ask the system for randomness.
    return given if SAFE_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
