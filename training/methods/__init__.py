"""One file per paper: what its paper adds to a classifier's training.

    method.py          what a method is to the training loop; what several share
    care.py            CARE, and every run that names no other method
    deep_pneumonia.py  attention gate, mask-guided hard attention, contrastive regulation
    proco.py           category prototypes, adversarial proto-instances, recalibration, proto-loss
    ecl.py             hybrid proxies, BHP loss, weights that follow counts and then F1
    contrastive.py     momentum copy, queue, InfoNCE, NT-Xent, supervised contrastive loss
    pretraining.py     MoCo-v2 and SimCLR, before any of them

Each file's docstring says what is its paper's and what is ours.
"""

from training.config import TrainingRun
from training.errors import ConfigError
from training.methods.care import Care
from training.methods.deep_pneumonia import DeepPneumonia
from training.methods.ecl import ECL
from training.methods.method import Method, Processes, Step, Task
from training.methods.pretraining import MoCo, SimCLR
from training.methods.proco import ProCo

__all__ = [
    "METHODS",
    "PRETRAINING",
    "Method",
    "Processes",
    "Step",
    "Task",
    "check_method",
    "setting",
]

METHODS: dict[str, type[Method]] = {
    "care": Care,
    "deep_pneumonia": DeepPneumonia,
    "proco": ProCo,
    "ecl": ECL,
}
PRETRAINING: dict[str, type[Method]] = {"moco": MoCo, "simclr": SimCLR}
CHOICES = {
    "method": tuple(METHODS),
    "pretraining.name": ("none", *PRETRAINING),
    "deep_pneumonia.attention_form": ("bce", "mse", "dice"),
    "deep_pneumonia.regulation_form": ("ratio", "infonce"),
    "proco.space": ("query", "classifier"),
    "proco.prior": ("effective", "quarter", "none"),
}
"""Settings that are words, and the words there are."""


def check_method(run: TrainingRun) -> None:
    """See that a run's method, its settings and the rest of the run go together.

    Raises:
        ConfigError: They do not; with what was found and what was expected.
    """
    for name, expected in CHOICES.items():
        found = setting(run, name)
        if found not in expected:
            raise ConfigError(f"{name} = {found!r}: expected {', '.join(expected)}")
    for name in METHODS:
        settings = getattr(run, name, None)  # CARE's are [attention], which goes with all
        if settings is not None and name != run.method and settings != type(settings)():
            raise ConfigError(
                f"[{name}] is set, but method = {run.method!r}: it would have no effect"
            )
    for name, fine, wanted in ranges(run):
        if not fine:
            raise ConfigError(f"{name} = {setting(run, name)}: expected {wanted}")
    if run.mixup.alpha and run.method != "care":
        raise ConfigError(
            f"mixup.alpha = {run.mixup.alpha}: a mixture has neither one class nor one lesion, by "
            f"which {run.method} compares pictures; expected 0"
        )
    METHODS[run.method].check(run)


def ranges(run: TrainingRun) -> list[tuple[str, bool, str]]:
    """Settings that are numbers: name, whether it is fine, what is expected."""
    marks, proco, ecl, before = run.deep_pneumonia, run.proco, run.ecl, run.pretraining
    share, positive, weight = "0 to 1", "above 0", "at least 0"
    return [
        ("deep_pneumonia.attention", marks.attention >= 0, weight),
        ("deep_pneumonia.lesion_only", 0 <= marks.lesion_only <= 1, share),
        ("deep_pneumonia.regulation", marks.regulation >= 0, weight),
        ("deep_pneumonia.temperature", marks.temperature > 0, positive),
        ("proco.rows", proco.rows >= 1, "1 or more"),
        ("proco.momentum", 0 <= proco.momentum < 1, "0 to below 1"),
        ("proco.temperature", proco.temperature > 0, positive),
        ("proco.alpha", proco.alpha > 0, positive),
        ("proco.eta", proco.eta >= 0, weight),
        ("proco.rho", 0 <= proco.rho <= 1, share),
        ("proco.epsilon", 0 <= proco.epsilon < 1, "0 to below 1"),
        ("ecl.rows", ecl.rows >= 1, "1 or more"),
        ("ecl.temperature", ecl.temperature > 0, positive),
        ("ecl.classification", ecl.classification > 0, positive),
        ("ecl.contrast", ecl.contrast >= 0, weight),
        ("ecl.proxy_rate", ecl.proxy_rate > 0, positive),
        ("pretraining.batch", before.batch >= 2, "2 or more"),
        ("pretraining.rows", before.rows >= 1, "1 or more"),
        ("pretraining.momentum", 0 <= before.momentum < 1, "0 to below 1"),
        ("pretraining.temperature", before.temperature > 0, positive),
    ]


def setting(run: TrainingRun, name: str) -> object:
    """A setting by its name in the TOML, such as "proco.rho"."""
    found: object = run
    for part in name.split("."):
        found = getattr(found, part)
    return found
