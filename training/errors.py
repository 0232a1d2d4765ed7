"""What can be wrong with a training run, sorted by who can act.

TrainingError
├── ConfigError   the run's settings: whoever wrote the TOML or the options
├── DataError     the data set is incomplete or contradicts itself: whoever prepared it
└── ExportError   the exported graph does not do what the network does
"""

from collections.abc import Sequence

MOST_TOLD = 10
"""Pictures that an error names."""


class TrainingError(Exception):
    """Something is wrong with a run, and somebody can mend it."""


class ConfigError(TrainingError):
    """A run's settings are wrong."""


class DataError(TrainingError):
    """A data set is incomplete or contradicts itself."""


class ExportError(TrainingError):
    """The exported graph does not do what the network does; no model was written."""


def unreadable(problems: Sequence[str]) -> DataError:
    """One error for all pictures that cannot be read: nobody mends them one run at a time.

    Args:
        problems: Name and reason of each, at least one.
    """
    if len(problems) == 1:
        return DataError(problems[0])
    told = "; ".join(problems[:MOST_TOLD])
    more = f"; and {len(problems) - MOST_TOLD} more" * (len(problems) > MOST_TOLD)
    return DataError(f"{len(problems)} pictures cannot be read: {told}{more}")
