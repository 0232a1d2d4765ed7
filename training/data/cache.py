"""Pictures decoded and fitted to the input once, then read from disk as they are."""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from imaging.cores import available_cores
from imaging.preprocessing import Placement, Preprocessing
from imaging.reading import READING_VERSION
from training.data.pictures import read_sample
from training.data.samples import SampleList, check_boxes
from training.errors import DataError, unreadable
from training.files import complete


class PictureCache:
    """All pictures of a data set as model inputs, memory-mapped.

    Attributes:
        pictures: uint8 (N, S, S, 3), in the order of the samples.
        placements: Where each picture lies on its square.
    """

    def __init__(self, pictures: np.ndarray, placements: list[Placement], names: list[str]) -> None:
        self.pictures = pictures
        self.placements = placements
        self.positions = {name: position for position, name in enumerate(names)}

    @classmethod
    def open(
        cls, samples: SampleList, preprocessing: Preprocessing, folder: Path
    ) -> "PictureCache":
        """Open the cache; fill it first where it does not exist.

        The key is made of names, sizes and times of the files, of how they are read and of the
        preprocessing, so that a changed picture is decoded anew.

        Raises:
            DataError: Pictures cannot be read; it names them.
        """
        key = hashlib.sha256(f"{READING_VERSION} {preprocessing!r}".encode())
        for item in samples.samples:
            state = item.path.stat()
            key.update(f"{item.path.resolve()} {state.st_size} {state.st_mtime_ns}\n".encode())
        stem = folder / key.hexdigest()[:16]
        pixels, places = stem.with_suffix(".npy"), stem.with_suffix(".json")
        if not places.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _fill(samples, preprocessing, pixels, places)
        placements = [Placement(*values) for values in json.loads(places.read_text())]
        for item, place in zip(samples.samples, placements, strict=True):
            check_boxes(item.name, item.boxes, place.width, place.height)
        names = [item.name for item in samples.samples]
        return cls(np.load(pixels, mmap_mode="r"), placements, names)

    def __getstate__(self) -> dict[str, object]:
        # Loader workers map the same file instead of taking a copy of all pictures along.
        state = dict(self.__dict__)
        if isinstance(self.pictures, np.memmap):
            state["pictures"] = str(self.pictures.filename)
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        if isinstance(self.pictures, str):
            self.pictures = np.load(self.pictures, mmap_mode="r")

    def position(self, name: str) -> int:
        """Where a picture stands in `pictures`."""
        return self.positions[name]

    def twins(self, parts: Mapping[str, SampleList]) -> list[tuple[str, str]]:
        """Names of pictures that are the same to a model, pixel by pixel, but in different lists.

        All pictures of the lists are read once, from the disk where they are not in memory.

        Args:
            parts: The lists, by name.

        Returns:
            Pairs: the first picture met, and one like it from another list.
        """
        known: dict[bytes, tuple[str, str]] = {}
        found = []
        for part, subset in parts.items():
            for item in subset.samples:
                pixels = self.pictures[self.position(item.name)]
                twin, where = known.setdefault(hashlib.sha256(pixels).digest(), (item.name, part))
                if where != part:
                    found.append((twin, item.name))
        return found


def take_room(path: Path) -> None:
    """Take a file's whole size on its disk; mapped pages that find no room there kill the process.

    Raises:
        OSError: There is not enough room.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from error


def _fill(samples: SampleList, preprocessing: Preprocessing, pixels: Path, places: Path) -> None:
    size = preprocessing.size
    shape = (len(samples.samples), size, size, 3)

    def fit(position: int) -> Placement | str:
        item = samples.samples[position]
        try:
            store[position], placement = preprocessing(read_sample(item))
        except DataError as error:
            return str(error)
        return placement

    with complete(pixels) as part:
        store = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        take_room(part)
        with ThreadPoolExecutor(available_cores()) as pool:
            progress = tqdm(
                total=len(samples.samples), desc="decoding", unit="picture", disable=None
            )
            placements, problems = [], []
            for fitted in pool.map(fit, range(len(samples.samples))):
                if isinstance(fitted, str):
                    problems.append(fitted)
                else:
                    placements.append(fitted)
                progress.update()
            progress.close()
        if problems:
            raise unreadable(problems)
        store.flush()
    keys = Placement.__dataclass_fields__
    text = json.dumps([[getattr(place, key) for key in keys] for place in placements])
    with complete(places) as part:
        part.write_text(text)
