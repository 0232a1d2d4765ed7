"""The log: one JSON object a line."""

import json
import logging
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType

ErrorInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; what `extra={"fields": …}` holds becomes entries of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)

    def formatException(self, ei: ErrorInfo) -> str:  # noqa: N802 - logging's name
        """Where an error came from, and its kind. Its message may quote a patient's data."""
        return "\nwhile handling, or because of:\n".join(_origins(ei[1]))


def _origins(error: BaseException | None) -> Iterator[str]:
    """Of an error, what caused it and all that a group holds: frames and kind."""
    while error is not None:
        frames = "".join(traceback.format_tb(error.__traceback__))
        yield f"{frames}{type(error).__name__}"
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from _origins(one)
        error = error.__cause__ or error.__context__


def log_unexpected(request_id: str) -> None:
    """Write down an error that nobody expected, while it is handled."""
    fields = {"request_id": request_id}
    logging.getLogger("care").exception("failed unexpectedly", extra={"fields": fields})


def set_up_logs() -> None:
    """Make BentoML's handlers, which all loggers of the service end in, write JSON."""
    for handler in logging.getLogger("bentoml").handlers:
        handler.setFormatter(JsonFormatter())
        handler.filters.clear()  # they add to a record what JSON leaves out
    logging.getLogger("care").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").propagate = False  # BentoML's handler has it already
    # What is wrong with a form is told to its sender, not to the log.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
