"""Which error becomes which HTTP status; the one envelope that all of them come in.

Whoever sent the request can act on a 4xx, whoever runs the service on a 5xx.
"""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from imaging.errors import (
    FrameNotFound,
    ImageTooLarge,
    ImagingError,
    UnreadableImage,
    UnsuitableImage,
    UnsupportedImage,
)
from models.errors import BrokenModel, LabelNotFound, ModelError, ModelNotFound
from service.metrics import ERRORS
from service.reports import ErrorDetail, ErrorReport


class RequestError(Exception):
    """The request cannot be answered as it was sent.

    Args:
        problem: What was found and what was expected, in words the sender can act on.

    Attributes:
        headers: What the answer's header says beside.
    """

    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class BadForm(RequestError):
    """The body is no multipart form, or its `image` is missing, empty, doubled or text."""


class BadOption(RequestError):
    """A form field is unknown, doubled or out of its range."""


class ModelRequired(RequestError):
    """No model is named, and the file does not say which one is meant."""


class UploadTooLarge(RequestError):
    """The body is larger than this service takes."""


class UploadTooSlow(RequestError):
    """The body did not arrive in time."""


class KeyRequired(RequestError):
    """The request shows no API key, or none that opens."""

    def __init__(self) -> None:
        self.headers = {"WWW-Authenticate": 'Bearer, Basic realm="CARE", charset="UTF-8"'}
        super().__init__(
            "an API key is needed, and it is not this one or none was sent: "
            "send it as Authorization: Bearer KEY"
        )


class Overloaded(RequestError):
    """More requests are here than may wait.

    Args:
        retry_after: Seconds after which it is worth trying again.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests are waiting; try again in {retry_after} seconds")
        self.headers = {"Retry-After": str(retry_after)}


class Verdict(NamedTuple):
    """What an error looks like from outside."""

    status: HTTPStatus
    code: str


VERDICTS: dict[type[Exception], Verdict] = {
    UnreadableImage: Verdict(HTTPStatus.UNPROCESSABLE_ENTITY, "unreadable"),
    UnsuitableImage: Verdict(HTTPStatus.UNPROCESSABLE_ENTITY, "not_suitable"),
    UnsupportedImage: Verdict(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported"),
    ImageTooLarge: Verdict(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large"),
    UploadTooLarge: Verdict(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large"),
    UploadTooSlow: Verdict(HTTPStatus.REQUEST_TIMEOUT, "too_slow"),
    FrameNotFound: Verdict(HTTPStatus.BAD_REQUEST, "bad_option"),
    BadOption: Verdict(HTTPStatus.BAD_REQUEST, "bad_option"),
    ModelRequired: Verdict(HTTPStatus.BAD_REQUEST, "model_required"),
    KeyRequired: Verdict(HTTPStatus.UNAUTHORIZED, "key_required"),
    Overloaded: Verdict(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded"),
    BadForm: Verdict(HTTPStatus.BAD_REQUEST, "bad_request"),
    ModelNotFound: Verdict(HTTPStatus.NOT_FOUND, "model_not_found"),
    LabelNotFound: Verdict(HTTPStatus.NOT_FOUND, "target_not_found"),
    BrokenModel: Verdict(HTTPStatus.SERVICE_UNAVAILABLE, "model_unavailable"),
}


def handle_errors(app: FastAPI) -> None:
    """Let every error of an app end in the envelope, unknown paths and wrong methods included."""
    for family in (ImagingError, ModelError, RequestError):
        app.add_exception_handler(family, _ours)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


def refusal(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that one of our errors ended."""
    status, code = next(VERDICTS[kind] for kind in type(error).__mro__ if kind in VERDICTS)
    headers = error.headers if isinstance(error, RequestError) else None
    return _envelope(request, status, code, str(error), headers)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    return refusal(request, error)


async def _routing(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    message = {
        HTTPStatus.NOT_FOUND: "there is nothing at this path; GET / is a page to try the service",
        HTTPStatus.METHOD_NOT_ALLOWED: "this path does not answer to this method",
    }.get(status, status.description)
    code = status.phrase.lower().replace(" ", "_")
    return _envelope(request, status, code, message, dict(error.headers or {}))


async def _gone(request: Request, error: Exception) -> Response:
    # Nobody is left to answer; nginx calls this 499 in its logs.
    request.state.error_code = "client_gone"
    return Response(status_code=499)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    # The front desk writes the traceback to the log; the sender learns only where to look.
    message = "something went wrong here; the log has the details under this request_id"
    return _envelope(request, HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", message)


def _envelope(
    request: Request,
    status: HTTPStatus,
    code: str,
    message: str,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    ERRORS.labels(code=code).inc()
    request.state.error_code = code
    report = ErrorReport(
        error=ErrorDetail(code=code, message=message, request_id=request.state.request_id)
    )
    return JSONResponse(report.model_dump(), status, headers)
