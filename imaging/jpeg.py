"""Classic JPEG inside DICOM, every process and 8 to 16 bits, through GDCM."""

from dataclasses import replace
from typing import TYPE_CHECKING

import gdcm
import numpy as np

from imaging.codestream import Codestream
from imaging.errors import UnreadableImage

if TYPE_CHECKING:
    from imaging.dicom_stored import PixelFormat

gdcm.Trace.WarningOff()
gdcm.Trace.ErrorOff()
gdcm.Trace.DebugOff()


def decode_jpeg(
    source: bytes, stream: Codestream, syntax: str, form: "PixelFormat"
) -> tuple[np.ndarray, "PixelFormat"]:
    """Decode one frame.

    Returns:
        Unsigned codes, shape (H, W) or (H, W, 3), and their format.
    """
    if source.rfind(b"\xff\xd9") < 0:
        raise UnreadableImage("truncated pixel data: the JPEG has no end")
    photometric = form.photometric
    if stream.components == 3:
        if stream.component_ids.upper() == b"RGB" or stream.adobe == 0:
            photometric = "RGB"
        elif stream.jfif or stream.adobe == 1:
            photometric = "YBR_FULL"
    allocated = 8 if stream.precision <= 8 else 16
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(source)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((form.columns, form.rows, 1))
    image.SetDataElement(element)
    named = gdcm.PhotometricInterpretation.GetPIType(photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(named))
    if form.samples == 3:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    image.SetPixelFormat(
        gdcm.PixelFormat(
            form.samples, allocated, stream.precision, stream.precision - 1, int(form.signed)
        )
    )
    try:
        # GDCM's wrapper hands bytes out as text
        decoded = image.GetBuffer().encode("utf-8", "surrogateescape")
    except Exception as error:
        raise UnreadableImage("damaged pixel data (JPEG)") from error
    shape = (form.rows, form.columns, 3)[: 2 + (form.samples == 3)]
    codes = np.frombuffer(decoded, np.uint8 if allocated == 8 else np.uint16)
    if codes.size != int(np.prod(shape)):
        raise UnreadableImage("damaged pixel data (JPEG)")
    stored = min(form.stored, allocated)
    return codes.reshape(shape), replace(
        form, photometric=photometric, allocated=allocated, stored=stored, shift=0, planar=False
    )
