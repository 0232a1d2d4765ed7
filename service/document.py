"""What the service says of itself to programs: its OpenAPI document.

FastAPI writes most of it from the endpoints. Here are the forms, which it does not read, the
errors, which come in one envelope, and what depends on the settings.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from imaging.overlay import FORMATS
from service.errors import STATUS
from service.gate import OPEN
from service.options import ReadOptions
from service.reports import ErrorReport
from service.settings import Settings

Responses = dict[int | str, dict[str, Any]]

FORM = "multipart/form-data"

FILES = ("application/dicom", "image/png", "image/jpeg", "image/tiff", "image/bmp")
"""Kinds of files that are read. A picture may be sent as any of them: its first bytes count."""

ARRIVING = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""What a request with a form may be refused with before its pictures are looked at."""

READING = (*ARRIVING, HTTPStatus.UNPROCESSABLE_ENTITY)

ASKING = (*READING, HTTPStatus.NOT_FOUND)

REFUSAL_HEADERS: dict[HTTPStatus, Any] = {
    HTTPStatus.UNAUTHORIZED: {
        "WWW-Authenticate": {"description": "How to show a key.", "schema": {"type": "string"}}
    },
    HTTPStatus.SERVICE_UNAVAILABLE: {
        "Retry-After": {
            "description": "Seconds after which to try again, where `overloaded`.",
            "schema": {"type": "integer", "minimum": 1},
        }
    },
}

KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "basic": {"type": "http", "scheme": "basic", "description": "An API key as the password."},
}


def refusals(*statuses: HTTPStatus) -> Responses:
    """The errors a call may end in, in their envelope; that of our own mistakes among them."""
    described: Responses = {}
    for status in (*statuses, HTTPStatus.INTERNAL_SERVER_ERROR):
        codes = sorted({kind.code for kind, one in STATUS.items() if one == status})
        words = f"{status.phrase}: {', '.join(codes)}" if codes else status.phrase
        described[status.value] = {"model": ErrorReport, "description": words}
        if status in REFUSAL_HEADERS:
            described[status.value]["headers"] = REFUSAL_HEADERS[status]
    return described


def pictures(headers: Mapping[str, str], *more: str) -> Responses:
    """An answer that is a picture, of one of the formats or of more kinds; with headers."""
    described = {
        name: {"description": words, "schema": {"type": "string"}}
        for name, words in headers.items()
    }
    kinds = (*(f"image/{name}" for name in FORMATS), *more)
    answer = {"description": "A picture.", "content": {kind: {} for kind in kinds}}
    return {HTTPStatus.OK.value: answer | {"headers": described}}


def form_schema(options: type[ReadOptions], *, several: bool = False) -> dict[str, Any]:
    """The form as OpenAPI's `requestBody`."""
    schema = options.model_json_schema()
    image: dict[str, Any] = {
        "type": "string",
        "format": "binary",  # of OpenAPI 3.0: what makes clients from documents still goes by it
        "contentMediaType": "application/octet-stream",
        "description": "The picture: a DICOM, PNG, JPEG, TIFF or BMP file, whatever its name.",
    }
    if several:
        # an empty one among them is answered in its item
        image = {"type": "array", "items": image, "minItems": 1}
    else:
        image["minLength"] = 1
    properties = {"image": image}
    for name, option in schema["properties"].items():
        # A field may be left out; a form has no way to send null.
        values = [one for one in option.pop("anyOf", []) if one["type"] != "null"]
        option |= values[0] if values else {}
        if option.get("default", ...) is None:
            del option["default"]
        properties[name] = option
    content = {
        "schema": schema | {"properties": properties, "required": ["image"]},
        "encoding": {"image": {"contentType": ", ".join(FILES)}},
    }
    return {"required": True, "content": {FORM: content}}


def operation_id(route: APIRoute) -> str:
    """What programs made from the document call an endpoint."""
    return "_".join(word.strip("{}") for word in route.path.strip("/").split("/"))


def document(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """The document of an app that runs with these settings."""
    written = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
    )
    several = written["paths"]["/classify_batch"]["post"]["requestBody"]["content"][FORM]
    several["schema"]["properties"]["image"]["maxItems"] = settings.max_batch
    keys = bool(settings.keys())
    if keys:
        written["components"]["securitySchemes"] = KEYS
        written["security"] = [{name: []} for name in KEYS]
    for path, operations in written["paths"].items():
        for operation in operations.values():
            if path in OPEN:
                operation["security"] = []
            elif not keys:
                del operation["responses"][str(HTTPStatus.UNAUTHORIZED.value)]
            if operation.get("parameters"):
                # FastAPI's own refusal of a parameter; ours are texts, and any text will do.
                del operation["responses"][str(HTTPStatus.UNPROCESSABLE_ENTITY.value)]
    for name in ("HTTPValidationError", "ValidationError"):  # what that refusal would look like
        del written["components"]["schemas"][name]
    return written
