"""Settings of the methods beside CARE. [P]: published with the paper; [O]: our own choice."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepPneumoniaSettings:
    """Deep Pneumonia; its class-balanced loss is `loss.name`, its pre-training `[pretraining]`.

    All [O]: of the paper's numbers none is public. Every lesion box counts as a mark.

    Attributes:
        attention: Weight of the mask-guided hard attention loss, mu_1; 0 switches it off. The gate
            itself stays.
        attention_form: "bce", "mse" or "dice".
        lesion_free: Labels whose pictures hold no lesion: their mask is empty. Other pictures
            without a mark take no part. Name the healthy class, or, where every ill picture is
            marked, a gate that fires becomes a sign of illness.
        lesion_only: Probability with which the classifier sees a marked picture's lesion cells
            alone, while training; 0.5 is worth a trial.
        regulation: Weight of the contrastive regulation, mu_2; 0 switches it off, and with it two
            forward passes of the marked pictures.
        regulation_form: "ratio" or "infonce".
        temperature: Of "infonce".
    """

    attention: float = 0.5
    attention_form: str = "bce"
    lesion_free: tuple[str, ...] = ()
    lesion_only: float = 0.0
    regulation: float = 0.1
    regulation_form: str = "ratio"
    temperature: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ProCoSettings:
    """ProCo. PaCo is space = "classifier", instances = false, prior = "none", eta = 0.

    Attributes:
        queue: K, keys in the queue [P]; a multiple of the batch, which the authors have at 128.
        rows: Dimension of the projection: of keys, queries and prototypes [P].
        momentum: m of the key encoder [P].
        temperature: T [P].
        alpha: Weight of a positive against a prototype's; PaCo's.
        eta: Weight of the classifier's loss, `loss.name` (logit-adjusted cross-entropy) [O].
        prototypes: Whether there are category prototypes.
        space: "query", prototypes of their own beside the queries [O]; "classifier", the rows of
            the classifier with the log prior, as in PaCo.
        instances: Whether there are adversarial proto-instances; in the query space only.
        rho: Smallest share of the prototype in a proto-instance; drawn from [rho, 1] [O].
        epsilon: Size of the adversarial step [O].
        prior: Part of a prototype's weight from class counts: "effective", "quarter", "none" [O].
        online: Whether classes that are recognized surely weigh less as training goes on [O].
    """

    queue: int = 1024
    rows: int = 128
    momentum: float = 0.999
    temperature: float = 0.07
    alpha: float = 0.05
    eta: float = 1.0
    prototypes: bool = True
    space: str = "query"
    instances: bool = True
    rho: float = 0.5
    epsilon: float = 0.1
    prior: str = "effective"
    online: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ECLSettings:
    """ECL. All [P], from the authors' code.

    Attributes:
        rows: Dimension of the projection, and so of a proxy.
        temperature: T of the BHP loss.
        classification: Weight of the balance-weighted cross-entropy; they tried 0.5, 1, 2.
        contrast: Weight of the BHP loss; likewise. 0 switches it off.
        weighted: Whether the cross-entropy is balance-weighted (BWCE).
        proxy_rate: Learning rate of the proxies, which move once an epoch (SGD, momentum 0.9).
    """

    rows: int = 128
    temperature: float = 0.1
    classification: float = 2.0
    contrast: float = 1.0
    weighted: bool = True
    proxy_rate: float = 0.002
