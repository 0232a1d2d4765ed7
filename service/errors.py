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
    WindowNotFound,
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


class EncodedBody(RequestError):
    """The body is compressed, or encoded in another way."""

    headers: Mapping[str, str] = MappingProxyType({"Accept-Encoding": "identity"})


class UploadTooLarge(RequestError):
    """The body is larger than this service takes."""


class UploadTooSlow(RequestError):
    """The body did not arrive in time."""


class KeyRequired(RequestError):
    """The request shows no API key, or none that opens."""

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
    EncodedBody: Verdict(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported"),
    ImageTooLarge: Verdict(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large"),
    UploadTooLarge: Verdict(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large"),
    UploadTooSlow: Verdict(HTTPStatus.REQUEST_TIMEOUT, "too_slow"),
    FrameNotFound: Verdict(HTTPStatus.BAD_REQUEST, "bad_option"),
    WindowNotFound: Verdict(HTTPStatus.BAD_REQUEST, "bad_option"),
    BadOption: Verdict(HTTPStatus.BAD_REQUEST, "bad_option"),
    ModelRequired: Verdict(HTTPStatus.BAD_REQUEST, "model_required"),
    KeyRequired: Verdict(HTTPStatus.UNAUTHORIZED, "key_required"),
    Overloaded: Verdict(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded"),
    BadForm: Verdict(HTTPStatus.BAD_REQUEST, "bad_request"),
    ModelNotFound: Verdict(HTTPStatus.NOT_FOUND, "model_not_found"),
    LabelNotFound: Verdict(HTTPStatus.NOT_FOUND, "target_not_found"),
    BrokenModel: Verdict(HTTPStatus.SERVICE_UNAVAILABLE, "model_unavailable"),
}


DEFECT = Verdict(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error")
"""What any other error looks like."""

ROUTING = {
    HTTPStatus.NOT_FOUND: "there is nothing at this path; GET / is a page to try the service",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path does not answer to this method",
}
"""What is said where no endpoint answers."""


def _code(status: HTTPStatus) -> str:
    return status.phrase.lower().replace(" ", "_")


for _known in (DEFECT.code, *map(_code, ROUTING), *(verdict.code for verdict in VERDICTS.values())):
    ERRORS.labels(code=_known)  # from 0: of a series that begins with 1 a rate never sees the first


OURS = (ImagingError, ModelError, RequestError)
"""What a file, a model or a request can be at fault with."""


async def _ours(request: Request, error: Exception) -> JSONResponse:
    return refused(request, error)


def refused(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that one of `OURS` ended."""
    status, report = refusal(error, request.state.request_id)
    headers = error.headers if isinstance(error, RequestError) else None
    return _answer(request, status, report, headers)


def refusal(error: Exception, request_id: str) -> tuple[HTTPStatus, ErrorReport]:
    """Status and envelope of one of `OURS`, counted."""
    status, code = next(VERDICTS[kind] for kind in type(error).__mro__ if kind in VERDICTS)
    return status, _envelope(code, str(error), request_id)


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
    return DEFECT.status, _envelope(DEFECT.code, message, request_id)


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
