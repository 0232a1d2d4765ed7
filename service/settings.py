"""What the environment may change."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.store import shipped_models


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """Each entry is an environment variable with CARE_ in front, such as CARE_MAX_UPLOAD_MB."""

    model_config = SettingsConfigDict(env_prefix="CARE_", frozen=True)

    models: Path = Field(
        default_factory=shipped_models,
        description="Folder of the models to offer: NAME/card.json and NAME/model.onnx.",
    )
    max_upload_mb: float = Field(
        default=64, gt=0, description="Largest request body, in megabytes of 1,000,000 bytes."
    )
    upload_timeout_s: float = Field(
        default=120, gt=0, description="Seconds within which a request must have arrived."
    )
    max_megapixels: float = Field(
        default=100, gt=0, description="Largest picture that is decoded, in millions of pixels."
    )
    max_batch: int = Field(
        default=32, ge=1, description="Most pictures in one request to /classify_batch."
    )
    concurrency: int = Field(
        default_factory=_cores, ge=1, description="Pictures worked on at once; others wait."
    )
    threads: int = Field(default=1, ge=1, description="Cores that one picture may use.")
