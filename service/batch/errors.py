"""What can be wrong with a run over many files; what is wrong with one of them is its row."""

GOES_ON = "what is done is kept, and the same command goes on from there"


class BatchError(Exception):
    """The run cannot start or go on as it was asked for. One line says what to do."""
