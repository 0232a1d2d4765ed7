"""One file per paper: what its paper adds to a classifier's training.

    contrastive.py     momentum copy, queue, InfoNCE, NT-Xent, supervised contrastive loss
    deep_pneumonia.py  attention gate, mask-guided hard attention, contrastive regulation
    proco.py           category prototypes, adversarial proto-instances, recalibration, proto-loss
    ecl.py             hybrid proxies, BHP loss, weights that follow counts and then F1

Each file's docstring says what is its paper's and what is ours.
"""
