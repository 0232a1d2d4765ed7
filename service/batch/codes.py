"""Every word that `error_code` can hold: what it means, and who can do what about it.

The README and the summary page show these sentences; `python -m scripts.codes_table` writes the
former.
"""

from typing import NamedTuple


class Code(NamedTuple):
    """What is to be known of an error code.

    Attributes:
        status: Of the rows that have it.
        means: What happened.
        who: Who can act.
        act: What they can do.
        again: Whether it says more about the moment than about the file, so that the next run
            tries again.
    """

    status: str
    means: str
    who: str
    act: str
    again: bool = False


CODES = {
    "unreadable": Code(
        "error",
        "Damaged, cut short, empty, or no picture at all.",
        "whoever made or copied the file",
        "Export or copy it again. If it was never meant to be a picture, leave it.",
    ),
    "unsupported": Code(
        "error",
        "A valid file of a kind that is not read, such as a report, a segmentation, a PDF, or "
        "several frames where one is expected.",
        "whoever chose the files",
        "Leave it, export it as DICOM, PNG, JPEG, TIFF or BMP, or choose one frame with --frame.",
    ),
    "too_large": Code(
        "error",
        "More pixels or bytes than are decoded, or far more than it is packed in within its ZIP.",
        "whoever made the file",
        "Export it smaller.",
    ),
    "not_suitable": Code(
        "error",
        "A valid picture of something the model was not made for, by what its header says.",
        "whoever chose the model",
        "Choose another model, or leave such files out with --include and --exclude. --force "
        "scores them all the same; the scores then mean little.",
    ),
    "bad_option": Code(
        "error",
        "The frame that --frame asks for is not in the file.",
        "whoever started the run",
        "Ask for a frame there is.",
    ),
    "inaccessible": Code(
        "error",
        "The file could not be opened or read: gone, not permitted, no regular file, or its disk "
        "fails. Nothing is known of its content.",
        "whoever looks after the folder",
        "Put it back or permit it to be read; then the same command again.",
        again=True,
    ),
    "crashed": Code(
        "error",
        "The decoder crashed on this file, on its own too, or was ended for lack of memory.",
        "whoever made the file",
        "Export it in another transfer syntax, and tell the makers of this program.",
        again=True,
    ),
    "timeout": Code(
        "error",
        "Not scored within the time that --timeout allows.",
        "whoever started the run",
        "Allow more time; then the same command again. A file that never ends is damaged.",
        again=True,
    ),
    "out_of_memory": Code(
        "error",
        "There was not enough memory to decode the file.",
        "whoever started the run",
        "Use fewer --workers; then the same command again.",
        again=True,
    ),
    "internal_error": Code(
        "error",
        "This program made a mistake; the row says where.",
        "the makers of this program",
        "Tell them what the row says. Neither the file nor you need be at fault.",
        again=True,
    ),
    "excluded": Code(
        "skipped",
        "--include or --exclude says that such files are not scored.",
        "whoever started the run",
        "Nothing, if that was meant.",
    ),
    "forced": Code(
        "ok",
        "Scored because of --force, though the header contradicts what the model was made for.",
        "whoever reads the score",
        "Do not rely on it.",
    ),
    "not_captured": Code(
        "ok",
        "Scored, but no Secondary Capture could be made of it; the row says why.",
        "whoever made the file",
        "Nothing, if the score is enough.",
    ),
}

CIRCUMSTANCES = frozenset(name for name, code in CODES.items() if code.again)
