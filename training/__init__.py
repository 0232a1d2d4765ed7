"""Makes models: CARE and its neighbours, from a folder of pictures to models/<name>/.

    config.py        TrainingRun: every setting, with its reason; runs/*.toml hold what differs
    method_settings.py  the settings that only one method has
    errors.py        what a run or its data can be at fault with
    data/            pictures, labels and boxes; splits, cache, augmentation, samplers
    boxes/           lesion boxes made by machine
    network.py       a torchvision CNN as features + head; logits and Grad-CAM in one forward pass
    attention.py     the CARE attention loss
    losses.py        what the classifier learns from
    methods/         CARE, Deep Pneumonia, ProCo, ECL, contrastive pre-training: a file per paper
    stages.py        what a run's settings come to: stages, lists, network; if they go together
    fit.py           the stages at work; one loop for all methods
    run_folder.py    what a run leaves to go on from: settings, lists, digests, checkpoints
    logs.py          what it leaves for people: tables, curves, sheets of overlays
    markdown.py      tables of pages and reports
    files.py         files that are complete or not there
    workers.py       processes that end with the one they work for
    export.py        network → ONNX graph, after comparing it with float64 PyTorch
    calibrate.py     temperature and operating points, from the validation list
    distribution.py  how far pictures lie from the training pictures, for the model to know
    release.py       a trained run → models/<name>/: graph, card, page, licence
    card_page.py     the card as a page
    evaluate.py      what a model says of a list, and where its attention falls
    metrics.py       recall, F1, AUROC, calibration: from truth and scores to numbers
    bootstrap.py     draws of whole patients, and intervals
    figures.py       all that is known of a model on a list, with intervals
    figures_page.py  the same as Markdown
    report.py        the same as a folder, and back again
    compare.py       two models on the same pictures
    stability.py     how often small changes flip the top label
    reproduce/       the papers' tables by one command

Home of PyTorch. Imports imaging and models; never service.
"""
