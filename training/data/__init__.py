"""Pictures, labels and boxes, on their way to the network.

samples.py       Sample, and the list of all of them
manifest.py      a manifest CSV → samples; boxes CSV → boxes
splits.py        train, validation and test lists: grouped, stratified, written down
cache.py         pictures decoded and fitted once
augmentation.py  random changes that move boxes and pixels alike
dataset.py       samples → batches
"""
