"""The DICOM header: what may be decoded at all, and the facts about it.

A picture is read through `Header`, which knows only the attributes listed here: patient data are
never even parsed. `read_everything` parses them, for an answer in the file's own study.
"""

import logging
import math
import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from imaging import terms
from imaging.errors import ImageTooLarge, UnreadableImage, UnsupportedImage, foreign_errors
from imaging.image import Facts, check_pixels

# pydicom's complaints quote values, and values may be a patient's. Ours say enough.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"pydicom\.")

NEEDED = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "Modality",
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "ViewPosition",
    "ViewCodeSequence",
    "PatientOrientation",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "FloatPixelPaddingValue",
    "FloatPixelPaddingRangeLimit",
    "DoubleFloatPixelPaddingValue",
    "DoubleFloatPixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "PresentationLUTShape",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "ICCProfile",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
]
TAGS: list[BaseTag | int] = [tag for keyword in NEEDED if (tag := tag_for_keyword(keyword))]

# Modality implied by the SOP class, for files whose Modality is empty.
MODALITIES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.2": "MG",
    "1.2.840.10008.5.1.4.1.1.1.2.1": "MG",
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.3.1": "US",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.6.1": "US",
    "1.2.840.10008.5.1.4.1.1.12.1": "XA",
    "1.2.840.10008.5.1.4.1.1.20": "NM",
    "1.2.840.10008.5.1.4.1.1.77.1.1": "ES",
    "1.2.840.10008.5.1.4.1.1.77.1.2": "GM",
    "1.2.840.10008.5.1.4.1.1.77.1.4": "XC",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "SM",
    "1.2.840.10008.5.1.4.1.1.77.1.7": "DMS",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
}

# Codes of SNOMED CT and of its forerunner, whatever language their meaning is in (PS3.16 CID 4010,
# and for regions CID 4031).
LATERAL_VIEWS = {"399067008", "399173006", "399198007", "R-102CD", "R-10236", "R-10232"}
REGIONS = {
    "816094009": "CHEST",
    "51185008": "CHEST",
    "T-D3000": "CHEST",
    "39607008": "LUNG",
    "T-28000": "LUNG",
}

# Objects that hold pixels which are no picture of a patient (PS3.3 A.51, A.75, A.18.3).
NO_PICTURES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map segmentation",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
    "1.2.840.10008.5.1.4.1.1.481.2": "an RT dose",
}
NO_PICTURE_MODALITIES = {"SEG": "a segmentation", "RTDOSE": "an RT dose"}

DAMAGED = "a damaged DICOM header"

MOST_META = 1 << 11
"""Within so many bytes from its start a file names its transfer syntax."""

MOST_INFLATED = 1 << 30
"""Most bytes to inflate a deflated file to, where its picture was read before."""

# Bytes to inflate in one step: more than most headers have.
INFLATED_AT_ONCE = 1 << 20

# pydicom makes an object of a thousand bytes of an item of eight, in a thousand times the time.
MOST_READS = 1 << 19
"""Most pieces that a header is read in: one or some for each element and each item."""
MOST_ITEMS = 1 << 17
"""Most items of the functional groups of all frames, those within them included."""
FEW_ITEMS = 1 << 11
"""Most items of any other sequence."""

MOST_BYTES = 1 << 18
"""Longest attribute that is no sequence: a look-up table has half of it. Offset tables may have
more, for they stay bytes."""

ITEM = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""The tag that an item begins with, little and big endian."""

PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
PIXEL_VRS = tuple(vr + b"\0\0" for vr in (b"OB", b"OW", b"OL", b"OV", b"OF", b"OD", b"UN"))
"""What follows their tag where the VR is explicit, whatever the file calls itself. As the length of
an implicit one it would be odd."""


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """The attributes we need, and where the pixels are.

    Attributes:
        dataset: The attributes of `NEEDED` that the file has.
        syntax: Transfer syntax of the pixels.
        little_endian: Byte order of the data set.
        body: The data set's bytes, inflated where the syntax is deflated.
        start: Where the value of the pixel data begins in `body`.
        length: Its length in bytes as the header says; None when encapsulated.
        keyword: "PixelData", "FloatPixelData" or "DoubleFloatPixelData"; "" where there is none.
    """

    dataset: Dataset
    syntax: UID
    little_endian: bool
    body: bytes
    start: int = 0
    length: int | None = None
    keyword: str = ""

    def integer(self, keyword: str, default: int | None = None) -> int | None:
        """Value of an attribute that is one whole number."""
        found = numbers(self.dataset, keyword)
        return int(found[0]) if found else default

    def text(self, keyword: str) -> str:
        """Value of an attribute that is a code, stripped, in upper case."""
        return text(self.dataset, keyword)

    def group(self, keyword: str, frame: int) -> Dataset:
        """The functional group of one frame, its own or shared; else the data set itself.

        Enhanced multi-frame objects keep rescale and window there (PS3.3 C.7.6.16).
        """
        for groups, index in (
            ("PerFrameFunctionalGroupsSequence", frame),
            ("SharedFunctionalGroupsSequence", 0),
        ):
            items = sequence(self.dataset, groups)
            if index < len(items) and (inner := sequence(items[index], keyword)):
                return inner[0]
        return self.dataset


def value(dataset: Dataset, keyword: str) -> Any:
    """Value of an attribute, None where it is missing or empty.

    Raises:
        UnreadableImage: pydicom cannot make sense of the bytes.
        ImageTooLarge: Of a numeric or text attribute there are very many.
    """
    length = len(packed(dataset, keyword))
    if length > MOST_BYTES and not keyword.endswith("Sequence") and "Offset" not in keyword:
        raise ImageTooLarge(f"{keyword} has {length} bytes, at most {MOST_BYTES} are read")
    with foreign_errors(f"{keyword} is damaged"):
        return dataset.get(keyword)


def packed(dataset: Dataset, keyword: str) -> bytes:
    """The bytes of an attribute that is bytes, or that no one has asked for yet; else none."""
    if keyword not in dataset:
        return b""
    element = dataset.get_item(keyword, keep_deferred=True)  # else an empty one is parsed
    return element.value if element and isinstance(element.value, bytes) else b""


def values(dataset: Dataset, keyword: str) -> list[Any]:
    """Values of an attribute that is no sequence: several, one, or none where it is missing.

    Raises:
        ImagingError: As `value`; or it is a sequence, whose items have yet to be parsed.
    """
    found = value(dataset, keyword)
    if isinstance(found, Sequence):
        raise UnreadableImage(f"{keyword} is damaged")
    # a plain list while another thread finds out the VR of a look-up table's descriptor
    if isinstance(found, MultiValue | list):
        return list(found)
    return [] if found is None or found == "" else [found]


def text(dataset: Dataset, keyword: str) -> str:
    """Value of an attribute that is a code, stripped, in upper case; the first of several."""
    found = values(dataset, keyword)
    return str(found[0] or "").strip(" \0").upper() if found else ""


def numbers(dataset: Dataset, keyword: str, *, odd: bool = False) -> list[float]:
    """All values of a numeric attribute; none where it is missing or says no number.

    Args:
        dataset: Where it is.
        keyword: Its name.
        odd: Whether infinity and NaN are answers too; NaN is also an empty value among others.

    Raises:
        UnreadableImage: Text that is no number.
    """
    try:
        result = [
            math.nan if odd and not str(one).strip() else float(one)
            for one in values(dataset, keyword)
        ]
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadableImage(f"{keyword} is no number") from error
    return result if odd or all(map(math.isfinite, result)) else []


def sequence(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence, none where it is missing.

    Raises:
        ImagingError: pydicom cannot make sense of the bytes, or there are too many items.
    """
    most = MOST_ITEMS if keyword.endswith("FunctionalGroupsSequence") else FEW_ITEMS
    if sum(map(packed(dataset, keyword).count, ITEM)) > most:
        raise ImageTooLarge(f"{keyword} has more than {most} items")
    items = value(dataset, keyword)
    return list(items) if isinstance(items, Sequence) else []


def read_everything(data: bytes) -> Dataset:
    """Parse a file up to its pixels, patient included. For no one but whoever sent the file.

    Raises:
        ImagingError: No DICOM, or a deflated file that is too large.
    """
    return _parse(data, MOST_INFLATED, tags=None).dataset


def read_header(data: bytes, most_bytes: int) -> Header:
    """Parse a file up to its pixels.

    Args:
        data: The whole file.
        most_bytes: Most bytes to inflate a deflated file to.

    Raises:
        ImagingError: No DICOM, or a deflated file that is too large.
    """
    return _parse(data, most_bytes, TAGS)


def _parse(data: bytes, most_bytes: int, tags: list[BaseTag | int] | None) -> Header:
    stream: _Metered
    body, little = data, True
    if found := _meta_of_deflated(data):
        meta, end = found
        syntax = ExplicitVRLittleEndian
        stream = inflated = _Inflated(data[end:], most_bytes)
        with foreign_errors(DAMAGED):
            dataset = read_dataset(inflated, False, True, stop_when=_at_pixels, specific_tags=tags)
            dataset.set_original_encoding(False, True)
            dataset.file_meta = meta
        inflated.reach(inflated.tell() + 12 + _most_pixel_bytes(dataset))
        body = inflated.getvalue()
    else:
        stream = _Metered(data)
        with foreign_errors(DAMAGED):
            dataset = dcmread(stream, force=True, stop_before_pixels=True, specific_tags=tags)
            named = str(dataset.file_meta.get("TransferSyntaxUID") or "")
        implicit, little = (bool(way) for way in dataset.original_encoding)
        syntax = UID(named) if named else _guessed_syntax(implicit, little)
    order = "<" if little else ">"
    at = stream.tell()
    if at + 8 > len(body):
        return Header(dataset, syntax, little, body)
    group, element = struct.unpack_from(order + "HH", body, at)
    tag = group << 16 | element
    if tag not in PIXEL_TAGS:
        return Header(dataset, syntax, little, body)
    start = at + (12 if body[at + 4 : at + 8] in PIXEL_VRS else 8)
    if start > len(body):
        raise UnreadableImage(DAMAGED)
    (length,) = struct.unpack_from(order + "I", body, start - 4)
    return Header(
        dataset,
        syntax,
        little,
        body,
        start,
        None if length == 0xFFFFFFFF else length,
        {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}.get(tag, "PixelData"),
    )


def _meta_of_deflated(data: bytes) -> tuple[FileMetaDataset, int] | None:
    """The file meta information and where it ends, if what follows is deflated; else None."""
    if DeflatedExplicitVRLittleEndian.encode() not in data[:MOST_META]:
        return None  # at once: to read it twice would take a quarter of the time of all files
    stream = _Metered(data)
    stream.seek(132 if data[128:132] == b"DICM" else 0)
    with foreign_errors(DAMAGED):
        meta = FileMetaDataset(
            read_dataset(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
        )
        deflated = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    return (meta, stream.tell()) if deflated else None


def _guessed_syntax(implicit: bool, little: bool) -> UID:
    """Transfer syntax of a file that does not say, from how its header is written."""
    if not little:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def _at_pixels(tag: int, _vr: str | None, _length: int) -> bool:
    return tag in PIXEL_TAGS


class _Metered(BytesIO):
    """A file that is read in no more than `MOST_READS` pieces."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(data)
        self._left = MOST_READS

    def read(self, size: int | None = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ImageTooLarge("a DICOM header of too many elements")
        if size is None or size < 0:  # all the rest: pydicom would inflate it, without end
            raise UnreadableImage(DAMAGED)
        return super().read(size)


class _Inflated(_Metered):
    """A deflated stream, inflated only as far as it is asked for: a small file may hold much."""

    def __init__(self, packed: bytes, most_bytes: int) -> None:
        super().__init__()
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._packed = packed
        self._most = most_bytes

    def read(self, size: int | None = -1) -> bytes:
        self.reach(self.tell() + (size or 0))
        return super().read(size)

    def reach(self, end: int) -> None:
        """Inflate up to a position, or to the end of the stream."""
        at, have = self.tell(), self.seek(0, SEEK_END)
        # whether bytes are left says nothing: the last may be padding, or be within zlib already
        while have < end and not self._inflater.eof:
            if have >= self._most:
                raise ImageTooLarge(f"inflates to more than {self._most >> 20} MB")
            step = max(INFLATED_AT_ONCE, min(end, self._most) - have)
            try:
                inflated = self._inflater.decompress(self._packed, step)
            except zlib.error as error:
                raise UnreadableImage(DAMAGED) from error
            if not inflated:
                break
            have += self.write(inflated)
            self._packed = self._inflater.unconsumed_tail
        self.seek(at)


def _most_pixel_bytes(dataset: Dataset) -> int:
    """How many bytes of pixel data a header speaks of, at most."""
    factors = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames")
    bits = math.prod(int((numbers(dataset, keyword) or [1])[0]) for keyword in factors)
    return bits // 8 + 1


def check(header: Header, max_megapixels: float) -> None:
    """Refuse what can't be one still picture.

    Raises:
        UnsupportedImage: A valid object that is no picture.
        ImageTooLarge: More pixels in a frame than allowed.
        UnreadableImage: A picture whose description contradicts itself.
    """
    uid = _sop_class(header)
    what = NO_PICTURES.get(uid) or NO_PICTURE_MODALITIES.get(header.text("Modality"))
    if what:
        raise UnsupportedImage(f"{what}, expected a picture")
    if not header.keyword:
        name = UID(uid).name
        named = f" ({name})" if name != uid else ""
        raise UnsupportedImage(f"a DICOM file without pixel data{named}, expected a picture")
    rows, columns = header.integer("Rows"), header.integer("Columns")
    if not rows or not columns or rows < 0 or columns < 0:
        raise UnreadableImage(f"a picture of {columns or 0}x{rows or 0} pixels")
    check_pixels(columns, rows, max_megapixels)


def facts(header: Header) -> Facts:
    """What the header says about the picture, in no words but those of the standard."""
    sop_class = _sop_class(header)
    modality = terms.modality(header.text("Modality")) or MODALITIES.get(sop_class, "")
    return Facts(
        kind="dicom",
        width=header.integer("Columns") or 0,
        height=header.integer("Rows") or 0,
        frames=max(1, header.integer("NumberOfFrames") or 1),
        modality=modality,
        body_part=_body_part(header),
        view=terms.view(header.text("ViewPosition")) or _implied_view(header, modality),
        sop_class=sop_class,
        sop_instance=_valid_uid(header.dataset, "SOPInstanceUID"),
        series=_valid_uid(header.dataset, "SeriesInstanceUID"),
        study=_valid_uid(header.dataset, "StudyInstanceUID"),
        syntax=header.syntax.name if header.syntax.is_transfer_syntax else "",
    )


def _valid_uid(dataset: Dataset, keyword: str) -> str:
    """A UID, if it is one: anything else may be a name, or meant to be run by who reads a table."""
    found = value(dataset, keyword)
    valid = isinstance(found, UID) and found.is_valid and re.match(r"[012]\.", found)
    return str(found) if valid else ""


def _sop_class(header: Header) -> str:
    """SOP class, from the file's meta header where the data set does not say (as in a DICOMDIR)."""
    return _valid_uid(header.dataset, "SOPClassUID") or _valid_uid(
        header.dataset.file_meta, "MediaStorageSOPClassUID"
    )


def _body_part(header: Header) -> str:
    """BodyPartExamined; or what a code says, where that is no code string (PS3.5 6.2)."""
    stated = header.text("BodyPartExamined")
    if not re.search("[A-Z]", stated):
        stated = _coded_region(header) or stated
    return terms.body_part(stated)


def _coded_region(header: Header) -> str:
    """The body part as a code, by which digital radiographs often say it."""
    for item in sequence(header.dataset, "AnatomicRegionSequence"):
        known = REGIONS.get(text(item, "CodeValue"))
        if region := known or text(item, "CodeMeaning"):
            return region
    return ""


def _implied_view(header: Header, modality: str) -> str:
    """LATERAL, where a projection radiograph says so without a ViewPosition; else nothing."""
    if modality not in ("CR", "DX"):
        return ""
    for item in sequence(header.dataset, "ViewCodeSequence"):
        meaning = text(item, "CodeMeaning")
        # a decubitus film is taken from the front, with the patient on the side
        named = re.search(r"\bLATERAL\b", meaning) and not re.search("OBLIQUE|DECUBITUS", meaning)
        if named or text(item, "CodeValue") in LATERAL_VIEWS:
            return "LATERAL"
    # Directions of the rows and of the columns (PS3.3 C.7.6.1.1.1): seen from the side, one runs
    # from front to back and the other along the body.
    orientation = values(header.dataset, "PatientOrientation")
    if len(orientation) == 2:
        letters = {str(direction).strip().upper()[:1] for direction in orientation}
        if letters & {"A", "P"} and letters & {"H", "F"}:
            return "LATERAL"
    return ""
