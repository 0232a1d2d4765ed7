"""What every request gets: an id, one line in the log, headers that keep browsers safe."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("care")

SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class FrontDesk:
    """Stands before the app, as the only thing BentoML knows of it.

    It is no Starlette app on purpose: BentoML gives such a mount every path it does not serve
    itself, so that unknown paths and wrong methods end in our envelope too.

    The log line says nothing that a client wrote but a request id of harmless letters: paths are
    named by their route, and neither file names nor field values are in it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = _request_id(Headers(scope=scope))
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        start = time.perf_counter()
        try:
            await self.app(scope, receive, answer)
        except Exception:
            # Already answered in the envelope; here it is said to those who can mend it.
            LOG.exception("request_id=%s failed unexpectedly", request_id)
        LOG.info(
            "request_id=%s method=%s route=%s status=%d code=%s model=%s ms=%.0f",
            request_id,
            scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other",
            getattr(scope.get("route"), "path", "") or "-",
            status,
            state.get("error_code", "-"),
            state.get("model", "-"),
            1000 * (time.perf_counter() - start),
        )


def _request_id(headers: Headers) -> str:
    given = headers.get("X-Request-ID", "")
    return given if SAFE_ID.fullmatch(given) else uuid.uuid4().hex
