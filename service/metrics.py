"""What Prometheus sees. No label comes from a file, and none is what a client made up.

BentoML counts requests by their path, which is whatever clients write, so its own counts are off
(see api.py); the two that dashboards know are kept under their names, by route.
docs/operations.md says what each one means.

They are counted in the memory of the one process there is: the folder that BentoML has processes
share for them is not used (see service/__init__.py), for writing there costs each count four times
as much.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TypeVar

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

Metric = TypeVar("Metric", Counter, Gauge, Histogram)

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)

REQUESTS = Counter(
    "care_requests",
    "Requests answered, by route, HTTP status and the name of the API key.",
    ["route", "status", "key"],
)

REQUEST_SECONDS = Histogram(
    "care_request_seconds",
    "Time from a request's first byte to its answer, by route.",
    ["route"],
    buckets=SECONDS,
)

BENTOML = ("endpoint", "service_name", "service_version", "http_response_code")

BENTOML_REQUESTS = Counter(
    "bentoml_service_request", "The same under BentoML's name: endpoint is the route.", BENTOML
)

BENTOML_SECONDS = Histogram(
    "bentoml_service_request_duration_seconds", "Likewise.", BENTOML, buckets=SECONDS
)

ERRORS = Counter(
    "care_errors",
    "Requests, and pictures of a batch request, refused or failed, by error code.",
    ["code"],
)

PREDICTIONS = Counter(
    "care_predictions", "Pictures classified, by model and most probable label.", ["model", "label"]
)

SCORES = Histogram(
    "care_scores",
    "Probability of each label in each answer, by model.",
    ["model", "label"],
    buckets=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1),
)

IN_DISTRIBUTION = Counter(
    "care_in_distribution",
    "Pictures that are like the training pictures (yes) or not (no), by model.",
    ["model", "answer"],
)

STAGE_SECONDS = Histogram(
    "care_stage_seconds",
    "Time to read a picture, to run the model and to render the answer.",
    ["stage"],
    buckets=SECONDS,
)

BATCH_SIZE = Histogram(
    "care_batch_size",
    "Pictures of concurrent requests that a model was run on at once.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64),
)

WAITING = Gauge(
    "care_waiting",
    "Requests that have arrived, or are arriving, and of which no picture is worked on.",
)

WORKING = Gauge("care_working", "Pictures worked on now.")

MODEL_READY = Gauge(
    "care_model_ready",
    "1 if the model is loaded, its digest matches and the provider asked for runs it, else 0.",
    ["model"],
)

MODEL_INFO = Gauge(
    "care_model_info",
    "1 for each model that is loaded; its labels say which one it is.",
    ["model", "version", "sha256"],
)

PROVIDER = Gauge(
    "care_provider",
    "1 for what runs a model: cpu, cuda, tensorrt or tensorrt-fp16.",
    ["model", "provider"],
)

_durations: ContextVar[dict[str, float]] = ContextVar("durations")


@cache
def of(metric: Metric, *labels: object) -> Metric:
    """A metric for these labels, in its order of them; looked up once, as there are few."""
    return metric.labels(*labels)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time one stage of a request, for the histogram and for the request's log line."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - start
        of(STAGE_SECONDS, name).observe(seconds)
        durations = _durations.get({})
        durations[name] = durations.get(name, 0) + seconds


@contextmanager
def request_durations() -> Iterator[dict[str, float]]:
    """Collects how many seconds each stage takes within, in the threads it starts too."""
    token = _durations.set({})
    try:
        yield _durations.get()
    finally:
        _durations.reset(token)


def count_request(route: str, status: int, key: str, seconds: float) -> None:
    """Count one answered request."""
    of(REQUESTS, route, status, key).inc()
    of(REQUEST_SECONDS, route).observe(seconds)
    known = (route, "care", "not available", status)
    of(BENTOML_REQUESTS, *known).inc()
    of(BENTOML_SECONDS, *known).observe(seconds)


def exposition() -> tuple[bytes, str]:
    """All metrics as Prometheus reads them, and their content type."""
    return generate_latest(), CONTENT_TYPE_LATEST
