"""What can be wrong with a training run, sorted by who can act.

TrainingError
├── ConfigError   the run's settings: whoever wrote the TOML or the options
├── DataError     the data set is incomplete or contradicts itself: whoever prepared it
└── ExportError   the exported graph does not do what the network does
"""


class TrainingError(Exception):
    """Something is wrong with a run, and somebody can mend it."""


class ConfigError(TrainingError):
    """A run's settings are wrong."""


class DataError(TrainingError):
    """A data set is incomplete or contradicts itself."""


class ExportError(TrainingError):
    """The exported graph does not do what the network does; no model was written."""
