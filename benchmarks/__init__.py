"""What is fast, against what, measured in one run: python -m benchmarks.<subject>.

report.py         all of them, and a page of what they found
measure.py        timing alternatives against each other, and saying what came out
usual.py          the alternative: what most projects write
film_to_input.py  a film's bytes → model input
maps.py           maps beside logits alone
gradcam.py        maps, against pytorch-grad-cam and captum
explain.py        a film's bytes → JSON with its overlay
serving.py        what a request costs
clients.py        more clients at once
cold_start.py     until the service may be asked
batch.py          folders: what a film costs in a run over many
cluster.py        folders on Ray
training.py       a training step, and the loader
"""
