"""Short ways past layers that do nothing for a request.

Around an app that is mounted in it BentoML has a tracer, a clock, a context and two routers, and
FastAPI has a stack of its own for dependencies and models. Of a small picture's answer they cost
as much as its decoding. The clock, besides, is not stopped by an answer: it keeps two kilobytes of
every request until the time is over, and with them the pages they lie in. Front desk, gate,
endpoints and errors are the same on either way.
"""

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import EXPECTED, answer_to

PROBES = frozenset({"/healthz", "/livez", "/readyz"})
"""Paths that BentoML answers."""

FORMS = frozenset({"/classify", "/explain", "/picture"})
"""Paths whose endpoints take a request and give its response, with nothing to do in between."""


def is_form(scope: Scope) -> bool:
    """Whether a request goes past FastAPI's own stack."""
    return scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in FORMS


class Fork:
    """Stands before everything: probes go to BentoML, all other requests to the front desk."""

    def __init__(self, app: ASGIApp, front_desk: ASGIApp) -> None:
        self.app = app
        self._front_desk = front_desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        to_bentoml = scope["type"] != "http" or scope["path"] in PROBES
        await (self.app if to_bentoml else self._front_desk)(scope, receive, send)


class Forms:
    """Stands behind the gate: answers forms by their endpoints, and leaves all else to the app."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._routes = {route.path: route for route in app.routes if isinstance(route, APIRoute)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Exception: What nobody expected, once it has been answered.
        """
        if not is_form(scope):
            await self.app(scope, receive, send)
            return
        scope["route"] = route = self._routes[scope["path"]]
        request = Request(scope, receive)
        try:
            response = await route.endpoint(request)
        except Exception as error:
            response = await answer_to(request, error)
            await response(scope, receive, send)
            if not isinstance(error, EXPECTED):
                raise
        else:
            await response(scope, receive, send)
