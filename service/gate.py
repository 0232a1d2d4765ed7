"""Who gets in: API keys, and web pages of other origins."""

import base64
import binascii
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import KeyRequired, refused
from service.reports import OVERLAY_HEADERS
from service.settings import ApiKey, Settings

OPEN = {"/livez", "/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}
"""Paths that ask for no key: a kubelet and a Prometheus have none, and learn no picture."""

PAGE = ("/", "/web/")
"""The page, which asks for a key in words, and the folder of what it loads: alike for everyone."""

EXPOSED = ["Retry-After", "X-Request-ID", *OVERLAY_HEADERS]
"""What scripts of other origins may read of an answer's headers."""


def gate(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The app behind the keys and origins of the settings; itself where they name none."""
    if keys := settings.keys():
        app = Keys(app, keys)
    if settings.cors_origins:
        # In front of the keys: browsers ask without one whether they may ask.
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-Request-ID"],
            expose_headers=EXPOSED,
        )
    return app


class Keys:
    """Lets a request in if it shows one of the keys, and notes the key's name.

    A key comes as `Authorization: Bearer KEY`, or as the password of Basic, whatever the user's
    name.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[ApiKey]) -> None:
        self.app = app
        self._keys = [(key.name, key.secret.get_secret_value().encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or _is_open(scope["path"]):
            await self.app(scope, receive, send)
            return
        name = self._name(_shown(Headers(scope=scope).get("Authorization", "")))
        if name is None:
            answer = refused(Request(scope), KeyRequired())
            await answer(scope, receive, send)
            return
        scope["state"]["key"] = name
        await self.app(scope, receive, send)

    def _name(self, shown: bytes) -> str | None:
        found = None
        for name, secret in self._keys:  # all of them: time tells nothing about which one is near
            if hmac.compare_digest(shown, secret):
                found = name
        return found


def _is_open(path: str) -> bool:
    page, loaded = PAGE
    return path in OPEN or path == page or path.startswith(loaded)


def _shown(authorization: str) -> bytes:
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip(" \t")  # no more: NBSP is the last byte of an à
    if scheme.lower() == "bearer":
        return credentials.encode("latin-1")  # as the header's bytes were read
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(credentials, validate=True)
        except (binascii.Error, ValueError):
            return b""
        return decoded.partition(b":")[2]
    return b""
