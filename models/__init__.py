"""What training hands to the service.

    card.py        ModelCard: the contract, as card.json beside model.onnx
    classifier.py  Classifier: ONNX session + card → Prediction
    heatmap.py     a class's map over the picture, scaled for people
    segmenter.py   Segmenter: an ONNX model that says where the lesion is
    distribution.py  how far a picture lies from the training pictures
    store.py       which models are here; load one
    errors.py      ModelError and its kinds
    <name>/        model.onnx, card.json, README.md, LICENSE

Home of ONNX Runtime. Imports imaging, nothing else of this project.
"""

import os

# Before it is imported: its builds of 1.29 and later report to their makers which models run where.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
