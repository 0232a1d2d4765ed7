"""Which error becomes which HTTP status; the one envelope that all of them come in.

Whoever sent the request can act on a 4xx, whoever runs the service on a 5xx.
"""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from imaging.errors import (
    FrameNotFound,
    ImageTooLarge,
    ImagingError,
    UnidentifiedImage,
    UnreadableImage,
    UnsuitableImage,
    UnsupportedImage,
    WindowNotFound,
)
from models.errors import BrokenModel, LabelNotFound, ModelError, ModelNotFound
from service.metrics import ERRORS
from service.reports import ErrorDetail, ErrorReport


class RequestError(Exception):
    """The request cannot be answered as it was sent; see its kinds.

    Args:
        problem: What was found and what was expected, in words the sender can act on.

    Attributes:
        code: A stable word for programs.
        headers: What the answer's header says beside.
    """

    code: str
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class BadForm(RequestError):
    """The body is no multipart form, or its `image` is missing, empty, doubled or text."""

    code = "bad_request"


class BadOption(RequestError):
    """A form field is unknown, doubled or out of its range."""

    code = "bad_option"


class ModelRequired(RequestError):
    """No model is named, and the file does not say which one is meant."""

    code = "model_required"


class EncodedBody(RequestError):
    """The body or a part of it is compressed, or encoded in another way."""

    code = "unsupported"
    headers: Mapping[str, str] = MappingProxyType({"Accept-Encoding": "identity"})


class UploadTooLarge(RequestError):
    """The body is larger than this service takes."""

    code = "too_large"


class UploadTooSlow(RequestError):
    """The body did not arrive in time."""

    code = "too_slow"


class KeyRequired(RequestError):
    """The request shows no API key, or none that opens."""

    code = "key_required"

    def __init__(self) -> None:
        # Not Basic, though that opens too: browsers would ask for it themselves, over the page.
        self.headers = {"WWW-Authenticate": 'Bearer realm="CARE"'}
        super().__init__(
            "an API key is needed, and it is not this one or none was sent: "
            "send it as Authorization: Bearer KEY"
        )


class Overloaded(RequestError):
    """More requests are here than may wait.

    Args:
        retry_after: Seconds after which it is worth trying again.
    """

    code = "overloaded"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests are waiting; try again in {retry_after} seconds")
        self.headers = {"Retry-After": str(retry_after)}


STATUS: dict[type[ImagingError | ModelError | RequestError], HTTPStatus] = {
    UnreadableImage: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnsuitableImage: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnsupportedImage: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    EncodedBody: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ImageTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UploadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UploadTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    UnidentifiedImage: HTTPStatus.BAD_REQUEST,
    FrameNotFound: HTTPStatus.BAD_REQUEST,
    WindowNotFound: HTTPStatus.BAD_REQUEST,
    BadOption: HTTPStatus.BAD_REQUEST,
    ModelRequired: HTTPStatus.BAD_REQUEST,
    KeyRequired: HTTPStatus.UNAUTHORIZED,
    Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    BadForm: HTTPStatus.BAD_REQUEST,
    ModelNotFound: HTTPStatus.NOT_FOUND,
    LabelNotFound: HTTPStatus.NOT_FOUND,
    BrokenModel: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""What an error looks like from outside, beside its code; its kinds look alike."""

DEFECT = "internal_error"
"""Code of any other error."""

ROUTING = {
    HTTPStatus.NOT_FOUND: "there is nothing at this path; GET / is a page to try the service",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path does not answer to this method",
}
"""What is said where no endpoint answers."""


def _code(status: HTTPStatus) -> str:
    return status.phrase.lower().replace(" ", "_")


for _known in (DEFECT, *map(_code, ROUTING), *(kind.code for kind in STATUS)):
    ERRORS.labels(code=_known)  # from 0: of a series that begins with 1 a rate never sees the first


OURS = (ImagingError, ModelError, RequestError)
"""What a file, a model or a request can be at fault with."""

Ours = ImagingError | ModelError | RequestError


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OURS)
    return refused(request, error)


def refused(request: Request, error: Ours) -> JSONResponse:
    """The answer to a request that one of `OURS` ended."""
    status, report = refusal(error, request.state.request_id)
    headers = error.headers if isinstance(error, RequestError) else None
    return _answer(request, status, report, headers)


def refusal(error: Ours, request_id: str) -> tuple[HTTPStatus, ErrorReport]:
    """Status and envelope of one of `OURS`, counted."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return status, _envelope(error.code, str(error), request_id)


async def _routing(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    message = ROUTING.get(status, status.description)
    report = _envelope(_code(status), message, request.state.request_id)
    return _answer(request, status, report, dict(error.headers or {}))


async def _gone(request: Request, error: Exception) -> Response:
    # Nobody is left to answer; nginx calls this 499 in its logs.
    request.state.error_code = "client_gone"
    return Response(status_code=499)


def defect(request_id: str) -> tuple[HTTPStatus, ErrorReport]:
    """Status and envelope of any other error, counted: the sender learns only where to look."""
    message = "something went wrong here; the log has the details under this request_id"
    return HTTPStatus.INTERNAL_SERVER_ERROR, _envelope(DEFECT, message, request_id)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    # The front desk writes the traceback to the log.
    return _answer(request, *defect(request.state.request_id))


EXPECTED = (*OURS, HTTPException, ClientDisconnect)
"""Errors that say who can act; any other is a defect."""

HANDLERS = {**dict.fromkeys(OURS, _ours), HTTPException: _routing, ClientDisconnect: _gone}
HANDLERS[Exception] = _unexpected


def handle_errors(app: FastAPI) -> None:
    """Let every error of an app end in the envelope, unknown paths and wrong methods included."""
    for family, handler in HANDLERS.items():
        app.add_exception_handler(family, handler)


async def answer_to(request: Request, error: Exception) -> Response:
    """The answer to a request that an error ended, as the app would give it."""
    handler = next(HANDLERS[kind] for kind in type(error).__mro__ if kind in HANDLERS)
    return await handler(request, error)


def _envelope(code: str, message: str, request_id: str) -> ErrorReport:
    ERRORS.labels(code=code).inc()
    return ErrorReport(error=ErrorDetail(code=code, message=message, request_id=request_id))


def _answer(
    request: Request,
    status: HTTPStatus,
    report: ErrorReport,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    request.state.error_code = report.error.code
    return JSONResponse(report.model_dump(), status, headers)
