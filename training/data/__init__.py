"""Pictures, labels and boxes, on their way to the network.

samples.py       Sample, and the list of all of them
layouts.py       data sets as people have them → samples
pictures.py      a sample's pixels; an error names it
tables.py        CSV files that people wrote, read strictly
splits.py        train, validation and test lists: grouped, stratified, written down
cache.py         pictures decoded and fitted once
augmentation.py  random changes that move boxes and pixels alike
samplers.py      which pictures make up each batch
dataset.py       samples → batches
"""
