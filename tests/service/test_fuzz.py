"""A short run of tests/fuzz.py; `python -m tests.fuzz` is the long one."""

from tests.fuzz import run, samples
from tests.models_factory import square_model


def test_no_mutated_picture_brings_a_500(serve_here, tmp_path, monkeypatch):
    square_model(tmp_path)
    monkeypatch.delenv("CARE_DATA", raising=False)
    client = serve_here(tmp_path, max_megapixels=1, decode_timeout_s=20)

    seen, failed = run(client, cases=300, seed=1, known=samples())

    assert failed == []
    assert {"ok", "unreadable", "unsupported", "model_required"} <= set(seen)
