"""What can be wrong with a model, sorted by who can act.

ModelError           code
├── BrokenModel      model_unavailable  the deployment is at fault: missing file, wrong digest,
│                                       card and graph disagree
├── ModelNotFound    model_not_found    the caller named a model that is not here
└── LabelNotFound    target_not_found   the caller named a label that the model does not know
"""


class ModelError(Exception):
    """Something is wrong with a model, or with what was asked of it; see its kinds.

    Attributes:
        code: A stable word for programs.
    """

    code: str


class BrokenModel(ModelError):
    """A model folder cannot be used as it is; whoever deployed it has to mend it."""

    code = "model_unavailable"


class ModelNotFound(ModelError):
    """There is no model of that name."""

    code = "model_not_found"


class LabelNotFound(ModelError):
    """The model has no such label."""

    code = "target_not_found"
