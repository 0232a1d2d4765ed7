"""What Prometheus sees, beside BentoML's own counts. No label comes from a file or a client.

BentoML sets up the folder that its processes share for metrics before it loads a service, so
importing `prometheus_client` here is early enough.
"""

from prometheus_client import Counter, Gauge, Histogram

ERRORS = Counter("care_errors", "Requests refused or failed, by error code.", ["code"])

PREDICTIONS = Counter(
    "care_predictions", "Pictures classified, by model and most probable label.", ["model", "label"]
)

STAGE_SECONDS = Histogram(
    "care_stage_seconds",
    "Time to read a picture, to run the model and to render the answer.",
    ["stage"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)

MODEL_READY = Gauge(
    "care_model_ready",
    "1 if the model is loaded and its digest matches, else 0.",
    ["model"],
    multiprocess_mode="livemin",
)
