"""What the environment may change."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from imaging.cores import available_cores
from models.classifier import Provider, best_batch, best_provider
from models.store import shipped_models

KEY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")
SHORTEST_KEY = 16

PATH_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")
"""Of letters that need no escaping in an address or a page."""


class ApiKey(NamedTuple):
    """Who may ask, and how they show it.

    Attributes:
        name: Appears in logs and metrics.
        secret: Appears nowhere.
    """

    name: str
    secret: SecretStr


def _api_keys(entries: Iterable[str]) -> tuple[ApiKey, ...]:
    """Read `name:key` entries. No message repeats a key.

    Raises:
        ValueError: One of them is malformed.
    """
    found = []
    for entry in filter(None, map(str.strip, entries)):
        name, colon, secret = (part.strip() for part in entry.partition(":"))
        if not colon or not KEY_NAME.fullmatch(name):
            raise ValueError("expected name:key, the name of letters, digits, '_', '.' and '-'")
        if len(secret) < SHORTEST_KEY:
            raise ValueError(f"the key of {name} is shorter than {SHORTEST_KEY} characters")
        found.append(ApiKey(name, SecretStr(secret)))
    return tuple(found)


class Settings(BaseSettings):
    """Each entry is an environment variable with CARE_ in front, such as CARE_MAX_UPLOAD_MB."""

    model_config = SettingsConfigDict(env_prefix="CARE_", frozen=True, hide_input_in_errors=True)

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
    decode_timeout_s: float = Field(
        default=30,
        gt=0,
        description="Seconds that decoding may take where a process of its own does it: "
        "compressed DICOM, TIFFs, JPEGs of several scans, and colors that are not sRGB.",
    )
    concurrency: int = Field(
        default_factory=available_cores,
        ge=1,
        description="Pictures worked on at once; others wait.",
    )
    queue: int = Field(
        default=32,
        ge=0,
        description="Requests that may wait, or still be arriving, beside those worked on; beyond "
        "that the answer is 503 with Retry-After.",
    )
    threads: int = Field(default=1, ge=1, description="Cores that one picture may use.")
    provider: Provider = Field(
        default_factory=lambda: best_provider(),
        description="What runs the models: cpu, cuda, tensorrt or tensorrt-fp16. If it is set and "
        "cannot be had, the service is not ready; if it is not set, the CPU stands in for a GPU.",
    )
    batch: int = Field(
        default_factory=lambda data: best_batch(data["provider"]),
        ge=1,
        description="Pictures of concurrent requests that the model may be run on at once; 1 runs "
        "each by itself, which is best on a CPU.",
    )
    batch_wait_ms: float = Field(
        default=2, ge=0, description="How long a picture waits for others to share its run."
    )
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = Field(
        default=(),
        description="Who may ask, as `name:key` with commas between; empty lets everyone in.",
    )
    api_keys_file: Path | None = Field(
        default=None, description="A file with more of them, one `name:key` a line."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Web pages of which other origins may ask, such as "
        "`https://viewer.example.org`, with commas between.",
    )

    root_path: str = Field(
        default="",
        description="Path under which a reverse proxy offers the service, such as `/care`, whether "
        "it passes that on or takes it off.",
    )

    @field_validator("root_path")
    @classmethod
    def _prefix(cls, path: str) -> str:
        path = path.rstrip("/")
        if not PATH_PREFIX.fullmatch(path) or {".", ".."} & set(path.split("/")):
            raise ValueError("expected a path such as /care")
        return path

    @field_validator("api_keys", mode="before")
    @classmethod
    def _keys(cls, text: object) -> object:
        return _api_keys(text.split(",")) if isinstance(text, str) else text

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, text: object) -> object:
        if isinstance(text, str):
            return tuple(origin.strip() for origin in text.split(",") if origin.strip())
        return text

    def keys(self) -> tuple[ApiKey, ...]:
        """All keys that open, those of the file included.

        Raises:
            OSError: The file cannot be read. Without it nobody knows who may ask.
            ValueError: A line of it is no key.
        """
        if self.api_keys_file is None:
            return self.api_keys
        lines = self.api_keys_file.read_text(encoding="utf-8").splitlines()
        found = _api_keys(line for line in lines if not line.lstrip().startswith("#"))
        if not found:
            # An empty file is more likely a slip than a wish to let everyone in.
            raise ValueError("the file of API keys holds none")
        return self.api_keys + found
