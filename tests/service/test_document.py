"""The service does what its OpenAPI document says: schemathesis makes requests from it."""

import copy
import json
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.schemas import BaseSchema
from schemathesis.transport.serialization import Binary

from service.api import app
from service.document import FORM, document
from service.gate import OPEN
from service.settings import ApiKey, Settings
from tests import patience
from tests.server import Server
from tests.service.pictures import film, jpeg, png, square

SHOWN = square(96, 80, 20, 30)
FILM = film(SHOWN, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")
PICTURES = [FILM, FILM[:700], png(SHOWN), jpeg(SHOWN), b"hello"]
DOCUMENT = document(app, Settings())

schemathesis.openapi.format("film", st.just(Binary(FILM)))
schemathesis.openapi.format("picture", st.sampled_from(PICTURES).map(Binary))


def forms(described: dict[str, Any]) -> list[dict[str, Any]]:
    """The content of every call's form."""
    bodies = [
        operation.get("requestBody")
        for operations in described["paths"].values()
        for operation in operations.values()
    ]
    return [body["content"][FORM] for body in bodies if body]


def with_files(kind: str) -> dict[str, Any]:
    """The document, with files of a kind for schemathesis to send, which knows no pictures."""
    described = copy.deepcopy(DOCUMENT)
    for form in forms(described):
        image = form["schema"]["properties"]["image"]
        image.get("items", image)["format"] = kind
        del form["encoding"]  # or text is sent where several files may be
    return described


def narrowed() -> dict[str, Any]:
    """The document, narrowed to what the film and the models at hand allow."""
    described = with_files("film")
    for form in forms(described):
        options = form["schema"]["properties"]
        if "model" in options:
            options["model"] = {"type": "string", "enum": ["chest"]}
        options["frame"]["maximum"] = 1
        del options["window"]
        if "target" in options:
            options["target"]["items"] = {"type": "string", "enum": ["dark", "square"]}
    described["paths"]["/v2/models/{name}"]["get"]["parameters"][0]["schema"]["enum"] = ["skin"]
    return described


def requests_from(described: dict[str, Any], *modes: GenerationMode) -> BaseSchema:
    """What makes requests, the same ones each time."""
    generation = GenerationConfig(modes=list(modes), deterministic=True)
    projects = ProjectsConfig(
        default=ProjectConfig(generation=generation, request_timeout=patience.SECONDS)
    )
    return schemathesis.openapi.from_dict(described, config=SchemathesisConfig(projects=projects))


def ambiguous(body: object) -> bool:
    """Whether what is against the document is no longer so once it is a form.

    A list of one becomes the one and an empty list nothing, a number a text and 0 false, and
    whatever is sent as one of several files is a file.
    """
    if not isinstance(body, dict):
        return False
    lists = {name: value for name, value in body.items() if isinstance(value, list)}
    files = lists.get("image", [])
    return (
        not lists.keys() <= {"image", "target"}
        or not isinstance(body.get("model", ""), str)
        or str(body.get("force")) in {"0", "1"}
        or not all(isinstance(file, str | Binary) for file in files)
    )


def sent(case: Case, server: Server) -> None:
    """Send one request, and compare the answer with the document."""
    assume(not ambiguous(case.body))
    answer = case.call(base_url=server.url)
    case.validate_response(answer, excluded_checks=[CHECKS.get_one("positive_data_acceptance")])
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"code", "message", "request_id"}


anything = requests_from(
    with_files("picture"), GenerationMode.POSITIVE, GenerationMode.NEGATIVE
).parametrize()
proper = requests_from(narrowed(), GenerationMode.POSITIVE).parametrize()


@anything
@settings(max_examples=40)
def test_whatever_is_sent_is_answered_as_the_document_says(case, server):
    sent(case, server)


@pytest.mark.long
@anything
@settings(max_examples=1000)
def test_more_of_it_is_answered_as_the_document_says(case, server):
    sent(case, server)


@proper
@settings(max_examples=25)
def test_what_the_document_allows_is_answered(case, server):
    answer = case.call_and_validate(base_url=server.url)
    if case.method == case.operation.method.upper():
        assert answer.status_code == 200, answer.text


@given(path=st.text(max_size=30), method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]))
@settings(max_examples=60)
def test_whatever_is_asked_for_elsewhere_is_refused_in_the_envelope(server, path, method):
    answer = patience.request(method, f"{server.url}/nowhere/{quote(path)}")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_the_document_served_is_the_one_tested(server):
    assert patience.get(f"{server.url}/openapi.json").json() == DOCUMENT


def test_clients_made_from_the_document_know_files_by_either_spelling():
    for form in forms(DOCUMENT):
        image = form["schema"]["properties"]["image"]
        file = image.get("items", image)

        assert file["format"] == "binary"
        assert file["contentMediaType"] == "application/octet-stream"


def test_every_call_says_what_it_is_for_in_words_of_its_own():
    told = [
        operation["description"]
        for operations in DOCUMENT["paths"].values()
        for operation in operations.values()
    ]

    assert len(set(told)) == len(told)
    assert "likewise" not in json.dumps(DOCUMENT)


def test_nothing_is_described_that_no_call_sends_or_takes():
    text = json.dumps(DOCUMENT)

    assert [
        name
        for name in DOCUMENT["components"]["schemas"]
        if f'"#/components/schemas/{name}"' not in text
    ] == []


def test_every_refusal_comes_in_the_envelope():
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) < 400 or (path in OPEN and status == "503"):
                    continue
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorReport"}


def test_the_document_of_a_locked_service_asks_for_a_key_where_one_is_needed():
    keys = (ApiKey("ward", SecretStr("a" * 24)),)
    locked = document(app, Settings().model_copy(update={"api_keys": keys, "max_batch": 5}))

    assert locked["security"] == [{"bearer": []}, {"basic": []}]
    assert "security" not in DOCUMENT
    for path, operations in locked["paths"].items():
        [operation] = operations.values()
        assert ("401" in operation["responses"]) == (path not in OPEN)
        assert (operation.get("security") == []) == (path in OPEN)
    several = locked["paths"]["/classify_batch"]["post"]["requestBody"]["content"][FORM]["schema"]
    assert several["properties"]["image"]["maxItems"] == 5
