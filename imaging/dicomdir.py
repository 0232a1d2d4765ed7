"""DICOMDIR: which files a medium holds (PS3.10 8, PS3.3 F)."""

from pathlib import Path

from pydicom import dcmread
from pydicom.sequence import Sequence

from imaging.dicom_header import values
from imaging.errors import UnreadableImage, foreign_errors

DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR: Media Storage Directory."""


def referenced_files(path: Path) -> list[tuple[str, ...]]:
    """Files that a DICOMDIR refers to, in its order, each as the parts of its path beside it.

    Nothing says that they exist, and a hostile one may lead anywhere.

    Raises:
        OSError: It cannot be read.
        UnreadableImage: It is no DICOMDIR, or a damaged one.
    """
    with path.open("rb") as stream, foreign_errors("a damaged DICOMDIR"):
        dataset = dcmread(stream, force=True)
        kind = dataset.file_meta.get("MediaStorageSOPClassUID")
        records = dataset.get("DirectoryRecordSequence")
    if kind != DIRECTORY:
        raise UnreadableImage("no DICOMDIR")
    if not isinstance(records, Sequence):
        return []
    found = [values(record, "ReferencedFileID") for record in records]
    return [tuple(map(str, parts)) for parts in found if parts]
