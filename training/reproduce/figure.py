"""Activation maps side by side, as in the paper's figure 2. It shows patients' pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imaging.overlay import encode
from training.data.cache import PictureCache
from training.data.samples import SampleList
from training.files import complete
from training.logs import attention_tiles, caption, rare_pictures
from training.release import load_checkpoint
from training.reproduce.trials import Places, Trial
from training.stages import preprocessing_of


def write_figure(trials: Sequence[Trial], reference: SampleList, places: Places, out: Path) -> None:
    """One row a test picture, of the rarest classes and with boxes first; one column a network.

    Args:
        trials: Trained ones, with the same lists.
        reference: All pictures, with the boxes that are drawn in.
        places: Where the trials lie.
        out: The sheet, a PNG; complete or not there.
    """
    parts = trials[0].parts
    tested = reference.subset({item.name for item in parts["test"].samples})
    shown = rare_pictures(tested, parts["train"])
    pictures = PictureCache.open(reference, preprocessing_of(trials[0].run), places.cache)
    columns = [[pictures.pictures[pictures.position(item.name)] for item in shown]]
    for trial in trials:
        folder = trial.folder(places)
        _, network = load_checkpoint(trial.run, folder, trial.last, classes=len(reference.labels))
        tiles = attention_tiles(network, shown, pictures, reference.labels)
        for tile in tiles:
            caption(tile, trial.cell.title, tile.shape[0] - 4)
        columns.append(tiles)
    sheet = np.vstack([np.hstack(row) for row in zip(*columns, strict=True)])
    out.parent.mkdir(parents=True, exist_ok=True)
    with complete(out) as part:
        part.write_bytes(encode(sheet))
