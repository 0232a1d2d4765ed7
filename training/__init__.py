"""Makes models: CARE and its neighbours, from a folder of pictures to models/<name>/.

    config.py    TrainingRun: every setting, with its reason; runs/*.toml hold only what differs
    data/        pictures, labels and boxes; splits, cache, augmentation, samplers
    boxes/       lesion boxes made by machine
    network.py   a torchvision CNN as features + head; logits and Grad-CAM in one forward pass
    attention.py the CARE attention loss
    losses.py    what the classifier learns from
    methods/     CARE, Deep Pneumonia, ProCo, ECL, contrastive pre-training: a file per paper
    stages.py    what a run's settings come to: stages, lists, network; and if they go together
    files.py     files that are complete or not there
    fit.py       the stages at work; one loop for all methods
    bootstrap.py draws of whole patients, and intervals
    evaluate.py  per-class results with intervals, and where the attention falls
    stability.py how often small changes flip the top label
    reproduce/   the papers' tables by one command
    export.py    checkpoint → models/<name>/, after comparing ONNX with float64 PyTorch

Home of PyTorch. Imports imaging and models; never service.
"""
