"""An overlay as a DICOM file: a Secondary Capture in the study of the file that was sent.

It carries the patient and study modules of that file and goes to nobody but whoever sent it. What
highdicom has to say about their values may quote them, so it is not listened to.
"""

import io
import logging
import uuid
import warnings
from collections.abc import Sequence

import highdicom
import numpy as np
from highdicom.sr.coding import CodedConcept

from imaging.dicom_header import read_everything
from imaging.errors import UnidentifiedImage, foreign_errors
from imaging.image import Facts
from models.card import NOTICE, ModelCard

logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"highdicom\.")

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
UTF_8 = "ISO_IR 192"
MAKER = "CARE"
SERIES_NUMBER = 9000
"""Beyond the series that scanners number."""

PROCESSING = CodedConcept("109102", "DCM", "Processing Equipment")

NAMESPACE = uuid.UUID("6f1c2e1e-52f4-5d0b-9d0c-8f4f6f1d7c11")
"""Of the UIDs made here; drawn once."""

NAMED = ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID")
"""Without these there is nothing to refer to."""

SIDES = ("Laterality", "ImageLaterality")

UNPAIRED = frozenset(
    """
    ABDOMEN ABDOMENPELVIS BACK BLADDER BRAIN CHEST CHESTABDOMEN COCCYX COLON CSPINE ESOPHAGUS FACE
    HEAD HEADNECK HEART JAW LSPINE LSSPINE MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NOSE PELVIS
    SCALP SKULL SPINE SSPINE STERNUM STOMACH TLSPINE TRACHEA TSPINE WHOLEBODY
    """.split()  # noqa: SIM905 - else a word a line
)
"""Body parts that have no side, of those that pictures show; in the words of PS3.16 annex L."""

FROM_SOURCE = (
    "BodyPartExamined",
    *SIDES,
    "PatientOrientation",
    "BurnedInAnnotation",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
"""What stays true of the picture when something is drawn on it."""

WHEN_MADE = (
    "InstanceCreationDate",
    "InstanceCreationTime",
    "ContributionDateTime",
    "ContentDate",
    "ContentTime",
    "DateOfSecondaryCapture",
    "TimeOfSecondaryCapture",
)
"""Left out, so that the same request gives the same file."""


def secondary_capture(
    data: bytes,
    picture: np.ndarray,
    targets: Sequence[str],
    *,
    card: ModelCard,
    facts: Facts,
    frame: int,
    look: str,
) -> bytes:
    """A DICOM file of an overlay.

    Its UIDs follow from the source's instance, the model's digest, targets and look: asked again,
    an archive receives nothing new. Overlays of one film by one model share a series.

    Args:
        data: The DICOM file that was explained.
        picture: RGB uint8, (H, W, 3).
        targets: The labels explained.
        card: The model's.
        facts: The file's.
        frame: Which of its frames was explained, counted from 1.
        look: All else that the picture follows from, as `ExplainOptions.look` says it.

    Raises:
        UnidentifiedImage: The file names no study, instance or SOP class.
        UnreadableImage: What it says of patient or study makes no sense.
    """
    source = read_everything(data)
    nonsense = "patient or study of the DICOM header make no sense"
    with foreign_errors(nonsense):
        named = [str(source.get(keyword) or "") for keyword in NAMED]
    if not all(named):
        raise UnidentifiedImage(f"a capture refers to a file with {', '.join(NAMED)}")
    instance, sop_class, _ = named
    capture = _drawn(picture, targets, card, instance, look)
    with foreign_errors(nonsense):
        source.SOPClassUID = capture.SOPClassUID  # highdicom does not know retired ones
        capture.copy_patient_and_study_information(source)
        _decode_items(capture)
        capture.SourceImageSequence = highdicom.ReferencedImageSequence([source])
        [reference] = capture.SourceImageSequence
        reference.ReferencedSOPClassUID = sop_class
        if facts.frames > 1:
            reference.ReferencedFrameNumber = frame
        capture.SpecificCharacterSet = UTF_8
        capture.PatientOrientation = []
        sided = str(source.get("BodyPartExamined", "")) not in UNPAIRED
        if sided and not any(source.get(keyword) for keyword in SIDES):
            capture.Laterality = ""  # unknown, and asked for wherever there may be two
        for keyword in FROM_SOURCE:
            if source.get(keyword):
                capture[keyword] = source[keyword]
        for part in (capture, *capture.ContributingEquipmentSequence):
            for keyword in WHEN_MADE:
                part.pop(keyword, None)
        file = io.BytesIO()
        capture.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _drawn(
    picture: np.ndarray, targets: Sequence[str], card: ModelCard, instance: str, look: str
) -> highdicom.sc.SCImage:
    """The overlay as a Secondary Capture that says nothing of the patient yet."""
    name, version = _long_string(card.name), _long_string(card.version)
    capture = highdicom.sc.SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # the source's own is copied later
        study_instance_uid=_uid(instance),  # so is this
        series_instance_uid=_uid(instance, card.sha256),
        series_number=SERIES_NUMBER,
        series_description=_long_string(f"{MAKER} {card.name}"),
        sop_instance_uid=_uid(instance, card.sha256, *targets, look),
        instance_number=1 + card.labels.index(targets[0]),
        manufacturer=MAKER,
        manufacturer_model_name=name,
        software_versions=version,
        specific_character_set=UTF_8,
        transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        contributing_equipment=[
            highdicom.ContributingEquipment(
                manufacturer=MAKER,
                purpose_of_reference=PROCESSING,
                manufacturer_model_name=name,
                software_versions=version,
                device_serial_number=card.sha256,
                contribution_description=NOTICE,
            )
        ],
    )
    capture.DerivationDescription = f"Grad-CAM of {', '.join(targets)} by {card.name}"[:1024]
    return capture


def _long_string(text: str) -> str:
    """As DICOM's LO takes it: of 64 characters, the backslash parts values (PS3.5 6.2)."""
    return text.replace("\\", "/")[:64]


def _decode_items(capture: highdicom.sc.SCImage) -> None:
    """Decode what was copied in sequences, while it is known in which characters.

    Items inherit the character set around them (PS3.5 7.5.3), and pydicom writes their bytes as
    they came.
    """
    for element in capture:
        if element.VR == "SQ":
            for item in element.value:
                item.decode()


def _uid(*parts: str) -> str:
    """A UID that is a function of these (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(NAMESPACE, chr(0).join(parts)).int}"
