"""Cut and damaged files end in a picture or an ImagingError: no other exception, hang or crash."""

import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from imaging.dicom_header import NEEDED
from imaging.errors import ImagingError
from imaging.reading import read_image
from tests.factories import (
    as_bytes,
    as_bytes_deflated,
    as_bytes_without_preamble,
    as_jpeg,
    as_png,
    lut_item,
    make_color,
    make_dicom,
    make_film,
    png_chunk,
    with_profile,
)
from tests.imaging.color_science import DISPLAY_P3, matrix_profile, table_profile
from tests.imaging.dcmtk import dcmtk

ENCODERS = {RLELossless: "pylibjpeg", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}


def files() -> dict[str, bytes]:
    """Small files of every kind, sound."""
    film, color = make_film(40, 37), make_color(40, 37)
    eight = make_film(40, 37, bits=8)
    gray = {"bits_stored": 12, "WindowCenter": 2000, "WindowWidth": 3000}
    result = {
        "native": as_bytes(make_dicom(film, **gray)),
        "color": as_bytes(make_dicom(color)),
        "bare": as_bytes_without_preamble(make_dicom(film, **gray)),
        "deflated": as_bytes_deflated(make_dicom(film, **gray)),
        "lut": as_bytes(make_dicom(film, VOILUTSequence=lut_item(np.arange(4096)))),
        "png": as_png(film),
        "jpeg": as_jpeg(color, orientation=6),
        "film of JPEG": as_bytes(
            make_dicom(eight, syntax=JPEGBaseline8Bit, encapsulated=[as_jpeg(eight)])
        ),
        "described jpeg": with_profile(as_jpeg(color), matrix_profile(DISPLAY_P3)),
        "described color": as_bytes(make_dicom(color, ICCProfile=table_profile(DISPLAY_P3))),
    }
    for syntax, plugin in ENCODERS.items():
        for pixels, attributes in ((film, gray), (color, {})):
            dataset = make_dicom(pixels, **attributes)
            dataset.compress(syntax, encoding_plugin=plugin)
            result[f"{syntax.keyword} {pixels.ndim}"] = as_bytes(dataset)
    return result


def damaged(data: bytes, count: int, seed: int) -> list[bytes]:
    """Copies of a file, cut somewhere or with a few bytes changed."""
    rng = np.random.default_rng(seed)
    copies = [data[: rng.integers(len(data))] for _ in range(count // 3)]
    while len(copies) < count:
        copy = np.frombuffer(data, np.uint8).copy()
        where = rng.integers(0, len(copy), rng.choice([1, 2, 8]))
        copy[where] = rng.choice([0, 255, 128, 1, 77], where.size)
        copies.append(copy.tobytes())
    return copies


def try_all(cases: list[bytes]) -> None:
    for case in cases:
        try:
            pixels = read_image(case, frame=1, max_megapixels=1).pixels
        except ImagingError:
            continue
        assert pixels.dtype == np.uint8


@pytest.mark.parametrize(("name", "data"), files().items())
@pytest.mark.timeout(240)
def test_damage_ends_in_a_picture_or_in_our_error(name, data):
    try_all([data])
    try_all(damaged(data, 120, seed=len(name)))


def test_a_png_of_damaged_chunks_ends_in_a_picture_or_in_our_error():
    rng = np.random.default_rng(0)
    sound = [
        (b"IHDR", struct.pack(">IIBBBBB", 9, 4, 8, 0, 0, 0, 0)),
        (b"eXIf", b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)),
        (b"tRNS", b"\0\7"),
        (b"IDAT", zlib.compress(bytes(40))),
        (b"IEND", b""),
    ]
    cases = []
    for _ in range(300):
        # some twice, some not, one cut, and the checksums of all are right
        chunks = [sound[place] for place in sorted(rng.integers(0, len(sound), 6))]
        cut = rng.integers(len(chunks))
        name, body = chunks[cut]
        chunks[cut] = name, body[: rng.integers(len(body) + 1)]
        packed = [png_chunk(*chunk) for chunk in sound[:1] + chunks]
        cases.append(b"".join([b"\x89PNG\r\n\x1a\n", *packed]))
    try_all(cases)


ODD_VALUES = [
    (b"ZZ", b""),
    (b"OB", b"123456"),
    (b"IS", b"7"),
    (b"IS", b"9" * 400),
    (b"FD", struct.pack("<2d", 1e300, -1)),
    (b"UI", b"1.2\\3"),
    (b"PN", b"^=^=\\^"),
    (b"AT", bytes(4)),
    (b"SQ", b"\xfe\xff\x00\xe0\x0a\0\0\0\x08\0\0\x01ZZ\x02\x0012"),
]
"""Values of every kind, some of them damaged: the item of the last has one of no known VR."""


@pytest.mark.parametrize("keyword", NEEDED)
def test_an_attribute_of_another_kind_ends_in_a_picture_or_in_our_error(keyword):
    sound = as_bytes(make_dicom(make_film(8, 8)))
    at = sound.index(b"\xe0\x7f\x10\x00OW")
    cases = []
    for vr, content in ODD_VALUES:
        size = "<H" if vr in (b"IS", b"FD", b"UI", b"PN", b"AT") else "<2xI"
        head = struct.pack("<HH", *divmod(tag_for_keyword(keyword), 1 << 16)) + vr
        cases.append(sound[:at] + head + struct.pack(size, len(content)) + content + sound[at:])
    try_all(cases)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("native", "dicom_header.UID"),
        ("deflated", "dicom_header._most_pixel_bytes"),
        ("JPEG2000Lossless 2", "dicom_stored.Codestream.parse"),
        ("JPEGLSLossless 3", "dicom_stored._as_fragment"),
        ("film of JPEG", "dicom_jpeg._header_made_anew"),
    ],
)
def test_a_mistake_of_ours_is_not_called_damage_of_the_file(name, place, monkeypatch):
    data = files()[name]
    monkeypatch.setattr(f"imaging.{place}", lambda *_: None.ours)

    with pytest.raises(AttributeError, match="ours"):
        read_image(data)


@pytest.mark.parametrize("option", ["+eb", "+ee", "+es", "+ep", "+el", "+e1"])
def test_damaged_jpeg_does_not_end_the_program(option, tmp_path):
    film = make_film(40, 37, bits=8 if option == "+eb" else 12)
    data = dcmtk("dcmcjpeg", make_dicom(film), tmp_path, option)
    (tmp_path / "sound").write_bytes(data)
    # in a process of its own: what is tested for is that the process lives
    code = (
        "import sys; from pathlib import Path; from tests.imaging.test_damage import *;"
        "try_all(damaged(Path(sys.argv[1]).read_bytes(), 200, seed=1)); print('alive')"
    )

    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "sound"],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).parents[2],
    )

    assert run.stdout == "alive\n", run.stderr[-1000:]


@pytest.mark.parametrize("name", files())
def test_a_file_cut_in_its_pixels_is_never_half_a_picture(name):
    data = files()[name]
    for kept in (0.5, 0.8, 0.95):
        with pytest.raises(ImagingError):
            read_image(data[: int(len(data) * kept)])


@pytest.mark.parametrize("name", ["png", "jpeg"])
def test_garbage_behind_the_end_is_tolerated(name):
    data = files()[name]

    np.testing.assert_array_equal(read_image(data + b"garbage").pixels, read_image(data).pixels)


def test_threads_do_not_disturb_each_other():
    sound = list(files().values())
    alone = [read_image(data).pixels for data in sound]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: read_image(data).pixels, sound * 6))

    for index, pixels in enumerate(together):
        np.testing.assert_array_equal(pixels, alone[index % len(sound)])
