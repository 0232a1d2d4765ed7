"""Which words of a header are told: those of the standard, and no others.

Modality, body part and view are written by hand often enough, and a patient's name or date of birth
is among what people write there. A word of the standard names nobody.
"""

import re

OTHER = "OTHER"
"""Stands for what a file states in words that are not known."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# PS3.16 CID 33, and those that PS3.3 C.7.3.1.1.1 has retired.
MODALITIES = _words("""
    ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC
    HD IO IOL IVOCT IVUS KER KO LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA
    PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT
    RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC
    AS CD CF CP CS DD DF DM DS EC FA FS LP MA MS OPR ST VF
""")

# PS3.16 annex L, what films say instead, and chest, lung and skin in some other languages.
BODY_PARTS = _words("""
    ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM AXILLA BACK BLADDER BRAIN BREAST BRONCHUS BUTTOCK
    CALCANEUS CALF CAROTID CEREBELLUM CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS
    CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE CTSPINE DUODENUM EAR ELBOW ESOPHAGUS
    EXTREMITY EYE EYELID FACE FEMUR FIBULA FINGER FOOT FOREARM GALLBLADDER HAND HEAD HEADNECK HEART
    HIP HUMERUS IAC ILEUM ILIUM JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LSPINE LSSPINE LUNG
    MANDIBLE MASTOID MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE
    ORBIT OVARY PANCREAS PAROTID PATELLA PELVIS PENIS PHANTOM PHARYNX PROSTATE RADIUS RADIUSULNA
    RECTUM RIB SACRUM SCALP SCAPULA SCLERA SCROTUM SHOULDER SINUS SKIN SKULL SPINE SPLEEN SSPINE
    STERNUM STOMACH SUBMANDIBULAR TESTIS THIGH THUMB THYMUS THYROID TIBIA TIBIAFIBULA TLSPINE TMJ
    TOE TONGUE TRACHEA TSPINE ULNA URETER URETHRA UTERUS VAGINA VULVA WHOLEBODY WRIST ZYGOMA
    EXTREMITIES FEET FINGERS HANDS HIPS KNEES LUNGS RIBS SHOULDERS TEETH THORAX TOOTH
    TORAX TORACE PECHO PEITO POITRINE BRUST BRUSTKORB PULMON PULMONES PULMAO POLMONE POLMONI POUMON
    POUMONS LUNGE LUNGEN PIEL PELE PELLE PEAU HAUT
""")

# ViewPosition of PS3.3 C.8.1.1 and C.8.11.5, PS3.16 CID 4010 and 4014, and how films shorten these.
VIEWS = _words("""
    AP PA LL RL LLD RLD LLO RLO AP/PA PA/AP LAO RAO LPO RPO LATERAL LAT LEFT RIGHT L R BILATERAL
    ANTERIOR POSTERIOR ANTEROPOSTERIOR POSTEROANTERIOR FRONTAL OBLIQUE OBL AXIAL TANGENTIAL TANG
    DECUBITUS DECUB ERECT UPRIGHT STANDING SITTING SUPINE PRONE RECUMBENT LORDOTIC SUNRISE MORTISE
    SWIMMERS FLEXION EXTENSION INSPIRATION EXPIRATION SAGITTAL CORONAL TRANSVERSE INTERNAL EXTERNAL
    ROTATION OCCLUSAL PORTABLE BEDSIDE VIEW
    CC MLO ML LM LMO FB SIO ISO XCC XCCL XCCM CV AT RM TAN
""")
_VIEW_WORDS = VIEWS | BODY_PARTS

# How a patient is placed says nothing of from where the film is taken.
_NO_DIRECTION = _words("""
    ERECT UPRIGHT STANDING SITTING SUPINE PRONE RECUMBENT PORTABLE BEDSIDE INSPIRATION EXPIRATION
    VIEW
""")
_SHORTENED = {"ANTEROPOSTERIOR": "AP", "POSTEROANTERIOR": "PA"}


def told(term: str) -> str:
    """A term as messages have it."""
    return "none of the known ones" if term == OTHER else term


def modality(stated: str) -> str:
    """A stated Modality, in upper case; `OTHER` if the standard has no such."""
    return stated if not stated or stated in MODALITIES else OTHER


def body_part(stated: str) -> str:
    """The body parts in what is stated, in upper case; `OTHER` if no word of it is known.

    What has neither letters nor digits, of any language, states nothing.
    """
    words = [word for word in re.findall("[A-Z]+", stated) if word in BODY_PARTS]
    return " ".join(dict.fromkeys(words)) or (OTHER if any(map(str.isalnum, stated)) else "")


def view(stated: str) -> str:
    """A stated ViewPosition, in upper case; `OTHER` if a word of it is not known."""
    return stated if not stated or is_view(stated) else OTHER


def is_view(stated: str) -> bool:
    """Whether every word of a ViewPosition is known."""
    return all(word in _VIEW_WORDS for word in re.split("[ _-]+", stated))


def directions(view: str) -> set[str]:
    """The words of a view that are not how the patient is placed: AP of "AP ERECT"."""
    words = set(re.split("[ _/-]+", view)) - _NO_DIRECTION - {""}
    return {_SHORTENED.get(word, word) for word in words}
