"""Pictures of a list, from their files; what cannot be read is named as its list names it."""

from collections.abc import Iterator
from contextlib import contextmanager

from imaging.errors import ImagingError
from imaging.image import Facts, MedicalImage
from imaging.reading import open_image, read_image
from training.data.samples import Sample
from training.errors import DataError


def read_sample(item: Sample) -> MedicalImage:
    """Read a picture.

    Raises:
        DataError: It cannot be read; the error names it.
    """
    with _named(item):
        return read_image(item.path)


def facts_of(item: Sample) -> Facts:
    """What a picture's header says of it; nothing is decoded.

    Raises:
        DataError: It cannot be read; the error names it.
    """
    with _named(item):
        return open_image(item.path).facts


@contextmanager
def _named(item: Sample) -> Iterator[None]:
    try:
        yield
    except ImagingError as error:
        raise DataError(f"{item.name}: {error}") from error
