"""Fragile files are decoded elsewhere; what goes wrong there costs one picture."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom.uid import RLELossless

from imaging.errors import ImageTooLarge, UnreadableImage
from imaging.image import ImageFile, Window
from imaging.isolation import DecoderPool
from imaging.reading import open_image
from tests.factories import (
    as_bytes,
    as_jpeg,
    as_png,
    as_progressive_jpeg,
    endless_jpeg,
    make_dicom,
    make_film,
)

ROOT = Path(__file__).parents[2]

NOISY = """
import os
import imaging.reading as reading
def open_image(*given, open_image=reading.open_image, **more):
    for stream in (1, 2):
        os.write(stream, b"Canary^Patient")
    return open_image(*given, **more)
reading.open_image = open_image
"""
"""What a process runs before all else, so that every picture has words printed."""


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool(1, timeout=120)
    yield pool
    pool.close()


@pytest.fixture
def workers() -> Callable[[], list[psutil.Process]]:
    """The processes started since the test began."""
    before = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in before]


def compressed() -> bytes:
    dataset = make_dicom(make_film(64, 48), bits_stored=12)
    dataset.compress(RLELossless)
    return as_bytes(dataset)


def small() -> bytes:
    return as_progressive_jpeg(make_film(64, 64, bits=8))


@pytest.fixture(scope="session")
def endless() -> bytes:
    return endless_jpeg()


@pytest.mark.parametrize("make", [compressed, small])
def test_a_fragile_file_is_decoded_elsewhere_to_the_same_pixels(pool, workers, make):
    data = make()
    file = open_image(data)

    assert file.fragile
    here, there = file.read(), pool.guard(file, data).read()
    np.testing.assert_array_equal(there.pixels, here.pixels)
    assert there.voi == here.voi
    assert len(workers()) == 1


@pytest.mark.parametrize(
    "data", [as_bytes(make_dicom(make_film())), as_png(make_film()), as_jpeg(make_film(bits=8))]
)
def test_uncompressed_films_and_plain_photos_stay_here(pool, data):
    file = open_image(data)

    assert pool.guard(file, data) is file


def test_what_a_worker_finds_wrong_is_told_in_the_same_words(pool):
    data = compressed()[:-900]
    file = open_image(data)
    with pytest.raises(UnreadableImage) as here:
        file.read()

    with pytest.raises(UnreadableImage) as elsewhere:
        pool.guard(file, data).read()

    assert str(elsewhere.value) == str(here.value)


def test_a_worker_takes_pictures_as_large_as_its_pool_and_no_larger():
    data = compressed()
    narrow = DecoderPool(1, timeout=120, max_megapixels=0.001)

    with pytest.raises(ImageTooLarge):
        narrow.guard(open_image(data), data).read()

    narrow.close()


@pytest.mark.filterwarnings("ignore")
def test_each_frame_is_decoded_elsewhere_through_the_window_asked_for(pool):
    frames = np.stack([make_film(64, 48, seed=seed) for seed in range(2)])
    dataset = make_dicom(frames, frames=2, bits_stored=12)
    dataset.compress(RLELossless)
    file = open_image(data := as_bytes(dataset))

    for asked in ((1, None), (2, None), (2, Window(900, 500))):
        there = pool.guard(file, data).read(*asked)
        np.testing.assert_array_equal(there.pixels, file.read(*asked).pixels)


def test_a_decoder_that_does_not_end_is_given_up(workers, endless):
    pool = DecoderPool(1, timeout=0.3)
    start = time.monotonic()

    with pytest.raises(UnreadableImage, match="took too long"):
        pool.guard(open_image(endless), endless).read()

    assert time.monotonic() - start < 60  # most of it to start
    assert workers() == []
    pool.close()


def test_a_decoder_that_crashes_costs_one_picture(pool, workers, endless):
    good = compressed()
    pool.guard(open_image(good), good).read()
    [worker] = workers()
    idle = worker.cpu_times().user
    found = []

    def decode(file: ImageFile) -> None:
        try:
            file.read()
        except UnreadableImage as error:
            found.append(str(error))

    thread = threading.Thread(target=decode, args=[pool.guard(open_image(endless), endless)])
    thread.start()
    while worker.cpu_times().user < idle + 0.1:
        time.sleep(0.02)
    worker.send_signal(signal.SIGSEGV)
    thread.join()

    assert found == ["the decoder crashed on this file"]
    assert pool.guard(open_image(good), good).read().pixels.shape == (64, 48)


def test_what_decoders_print_is_no_answer_and_is_seen_nowhere(
    pool, tmp_path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / "sitecustomize.py").write_text(NOISY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    file = open_image(data := compressed())

    there = pool.guard(file, data).read()

    np.testing.assert_array_equal(there.pixels, file.read().pixels)
    assert capfd.readouterr() == ("", "")


def test_a_worker_leaves_no_core_file_and_hears_of_no_signal_to_those_around_it(pool, workers):
    data = compressed()
    pool.guard(open_image(data), data).read()
    [worker] = workers()

    assert worker.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert os.getsid(worker.pid) == worker.pid


def test_workers_do_not_end_with_a_signal_meant_for_the_service(pool, workers):
    data = compressed()
    pool.guard(open_image(data), data).read()
    [worker] = workers()
    worker.send_signal(signal.SIGTERM)

    assert pool.guard(open_image(data), data).read().pixels.shape == (64, 48)
    assert workers() == [worker]
