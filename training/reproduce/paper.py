"""Published figures of CARE (Zhuang et al., MIDL 2019, PMLR 102:588-597), in percent.

On the authors' own splits of RSNA pneumonia and ISIC 2018 task 3, ResNet-50 where nothing else is
said; one figure each, without spread. The paper contradicts itself by up to a point: at alpha 0.5
table 4 has 65.21 / 80.33 where tables 1 to 3 have 65.22 / 81. The journal version (Neurocomputing
555, 2023) has tables of its own, which are not public here: none of its figures is given.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """One row: recall of the rare class and mean class accuracy (MCA), on films and on skin."""

    film_recall: float
    film_mca: float
    skin_recall: float
    skin_mca: float


TABLE1 = {
    "baseline": Published(7.41, 56.77, 47.83, 75.75),
    "CARE": Published(31.12, 63.29, 52.17, 76.16),
    "CSL": Published(11.11, 57.88, 61.91, 80.21),
    "CARE+CSL": Published(45.04, 65.23, 65.22, 81.0),
    "FL": Published(11.14, 58.41, 38.3, 72.72),
    "CARE+FL": Published(49.44, 66.72, 40.28, 74.06),
    "DA": Published(20.06, 59.64, 56.62, 54.41),
    "CARE+DA": Published(45.18, 65.97, 60.32, 56.22),
}
"""Strategies against imbalance: none, cost-sensitive, focal, augmentation; without and with."""

TABLE2 = {
    "resnet18": Published(15.16, 57.76, 58.6, 73.71),
    "resnet18+CARE": Published(25.51, 58.76, 59.31, 74.06),
    "resnet50": Published(11.11, 57.88, 61.91, 80.21),
    "resnet50+CARE": Published(45.04, 65.23, 65.22, 81.0),
    "resnet152": Published(11.37, 59.11, 61.19, 80.15),
    "resnet152+CARE": Published(31.31, 63.78, 72.19, 81.93),
    "vgg19": Published(25.93, 61.72, 52.07, 74.48),
    "vgg19+CARE": Published(41.24, 64.3, 56.52, 72.81),
}
"""Backbones, all cost-sensitive."""

TABLE3 = {
    0.7: Published(43.56, 66.34, 63.71, 80.2),
    0.9: Published(50.76, 66.27, 64.21, 80.47),
    1.0: Published(45.04, 65.23, 65.22, 81.0),
    1.1: Published(38.43, 63.14, 65.22, 80.72),
    1.3: Published(46.06, 65.14, 65.22, 80.68),
}
"""Scale of the boxes, of CARE+CSL."""

TABLE4 = {
    0.0: Published(11.11, 57.88, 61.91, 80.21),
    0.1: Published(28.77, 63.84, 55.22, 78.8),
    0.3: Published(38.34, 64.35, 65.22, 79.94),
    0.5: Published(45.04, 65.23, 65.21, 80.33),
    0.7: Published(42.58, 64.34, 65.18, 80.18),
    0.9: Published(50.67, 65.2, 65.12, 80.24),
}
"""Alpha, the share of the attention loss, of CARE+CSL."""
