"""A multipart request → the bytes of its file and its checked options, in memory.

Frameworks' own parsers spool files to the disk, turn text into whatever it looks like, and one of
them fetches a file from an address that a client names. This one knows a file and a few short
texts, and refuses the rest.
"""

import asyncio
from collections.abc import Mapping
from typing import TypeVar

from fastapi import Request
from pydantic import ValidationError

from service.errors import BadOption, UploadTooSlow
from service.options import ReadOptions
from service.parts import Parts, read_parts
from service.settings import Settings

Options = TypeVar("Options", bound=ReadOptions)


async def read_form(
    request: Request, options: type[Options], settings: Settings, *, most_files: int = 1
) -> tuple[list[bytes], Options]:
    """Read a request's files, at least one, and its options.

    Raises:
        RequestError: The form is not as it should be; see its kinds.
    """
    if request.scope["query_string"]:
        for name in options.model_fields.keys() & request.query_params.keys():
            raise BadOption(f"`{name}` is in the address, expected in the form")
    try:
        async with asyncio.timeout(settings.upload_timeout_s):
            parts = Parts(options, most_files)
            await read_parts(request, parts, settings.max_upload_mb)
    except TimeoutError:
        raise UploadTooSlow(
            f"the upload took longer than {settings.upload_timeout_s:g} seconds"
        ) from None
    return parts.files(), _checked(options, {**parts.texts, **parts.lists})


def _checked(options: type[Options], texts: Mapping[str, object]) -> Options:
    try:
        return options.model_validate(texts)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = first["msg"].removeprefix("Value error, ")
        where = f"{first['loc'][0]}: " if first["loc"] else ""
        raise BadOption(f"{where}{problem}") from None
