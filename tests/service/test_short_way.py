"""Requests with a picture take a shorter way; what is said to them is what the app would say."""

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from models.errors import ModelNotFound
from service.errors import BadForm, Overloaded, handle_errors
from service.front_desk import FrontDesk
from service.server.short_way import FORMS, Fork, Forms

ENDINGS = {
    "good": None,
    "of the sender": BadForm("there is no `image`"),
    "of the model": ModelNotFound("no model"),
    "of the load": Overloaded(3),
    "of the connection": ClientDisconnect(),
    "of ours": ZeroDivisionError("patient Doe"),
}


def ends(ending: Exception | None) -> FastAPI:
    """An app whose every answer ends so."""
    app = FastAPI()
    handle_errors(app)

    @app.post("/classify")
    @app.post("/other")
    async def classify(request: Request) -> Response:
        await request.body()
        if ending:
            raise ending
        return PlainTextResponse("seen", headers={"X-Care-Model": "m"})

    return app


def told(app: FastAPI, gate: object, method: str, path: str) -> tuple:
    app.state.gate = gate
    client = TestClient(FrontDesk(app))
    answer = client.request(method, path, content=b"x", headers={"X-Request-ID": "one"})
    return answer.status_code, answer.headers, answer.content


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/classify"), ("GET", "/classify"), ("POST", "/other")]
)
def test_both_ways_end_alike(ending, method, path):
    app = ends(ending)

    assert told(app, Forms(app), method, path) == told(app, app, method, path)


@pytest.mark.parametrize("way", ["short", "long"])
def test_either_way_the_log_knows_route_and_defect(way, caplog):
    caplog.set_level("INFO", "care")
    app = ends(ENDINGS["of ours"])

    status, _, body = told(app, Forms(app) if way == "short" else app, "POST", "/classify")

    assert status == 500
    assert b"Doe" not in body
    failed, line = caplog.records
    assert failed.exc_info[0] is ZeroDivisionError
    assert (line.fields["route"], line.fields["status"]) == ("/classify", 500)


def test_probes_are_taken_to_bentoml_and_all_else_to_the_front_desk():
    taken = []

    def answers(name: str):
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            taken.append((name, scope["method"], scope["path"]))
            await PlainTextResponse("")(scope, receive, send)

        return app

    client = TestClient(Fork(answers("BentoML"), answers("desk")))
    probes = [("GET", "/healthz"), ("GET", "/livez"), ("GET", "/readyz"), ("POST", "/livez")]
    others = [("POST", "/classify"), ("GET", "/classify"), ("GET", "/livez/"), ("GET", "/schema")]
    for method, path in probes + others:
        client.request(method, path)

    assert taken == [
        *(("BentoML", *probe) for probe in probes),
        *(("desk", *other) for other in others),
    ]


def test_every_form_has_its_endpoint():
    from service.api import app

    assert {route.path for route in app.routes if "POST" in getattr(route, "methods", ())} >= FORMS
