"""What can be wrong with a model, sorted by who can act.

ModelError
├── BrokenModel      the deployment is at fault: missing file, wrong digest, card and graph disagree
├── ModelNotFound    the caller named a model that is not here
└── LabelNotFound    the caller named a label that the model does not know
"""


class ModelError(Exception):
    """Something is wrong with a model, or with what was asked of it."""


class BrokenModel(ModelError):
    """A model folder cannot be used as it is; whoever deployed it has to mend it."""


class ModelNotFound(ModelError):
    """There is no model of that name."""


class LabelNotFound(ModelError):
    """The model has no such label."""
