"""What can be wrong with a picture. The file (or the wish) is at fault, never this program.

ImagingError                code
├── UnreadableImage         unreadable     damaged, truncated, or no picture at all
│   └── InaccessibleFile    inaccessible   gone, not permitted, no regular file, or its disk fails
├── UnsupportedImage        unsupported    a valid file of a kind this project does not read
├── ImageTooLarge           too_large      more pixels than may be decoded
├── UnsuitableImage         not_suitable   a valid picture that the model was not made for
├── UnidentifiedImage       bad_option     a DICOM file that none could refer to, where one is to
├── FrameNotFound           bad_option     the frame asked for is not in the file
└── WindowNotFound          bad_option     the window asked for is not in the file
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imaging.image import Facts


class ImagingError(Exception):
    """A picture could not be used; which of its kinds is raised says why.

    Args:
        problem: What was found and what was expected, in words the sender can act on. Never a
            patient's name, ID or date.

    Attributes:
        code: A stable word for programs.
        facts: What the header said before the trouble began, where it could be read.
    """

    code: str
    facts: "Facts | None" = None

    def __init__(self, problem: str) -> None:
        if type(self) is ImagingError:
            raise TypeError("an ImagingError of no kind: nobody knows its code")
        super().__init__(problem)
        self.problem = problem


class UnreadableImage(ImagingError):
    """The bytes are damaged, truncated, or not a picture at all."""

    code = "unreadable"


class InaccessibleFile(UnreadableImage):
    """The file could not be read at all, so nothing is known of its content; it may be later."""

    code = "inaccessible"


class UnsupportedImage(ImagingError):
    """A valid file of a kind this project does not read, such as a report or a cine loop."""

    code = "unsupported"


class ImageTooLarge(ImagingError):
    """The picture has more pixels than may be decoded."""

    code = "too_large"


class UnsuitableImage(ImagingError):
    """A valid picture that the model was not made for, such as a knee sent to a chest model."""

    code = "not_suitable"


class UnidentifiedImage(ImagingError):
    """A DICOM file without the UIDs by which another could refer to it."""

    code = "bad_option"


class FrameNotFound(ImagingError):
    """The frame asked for is not in the file."""

    code = "bad_option"


class WindowNotFound(ImagingError):
    """The window asked for is not in the file, or its picture cannot be windowed."""

    code = "bad_option"


@contextmanager
def foreign_errors(problem: str) -> Iterator[None]:
    """Turn whatever a third-party decoder raises into an UnreadableImage.

    Their messages may quote a patient's data, so they stay in the cause and `problem` is ours.
    Running out of memory is no fault of the file's, and passes.
    """
    try:
        yield
    except (ImagingError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error.__context__, ImagingError):
            raise error.__context__ from None  # ours, which the library has caught on its way
        raise UnreadableImage(problem) from error
