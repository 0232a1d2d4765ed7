"""Folder scoring: one row per file, errors included.

    folder.py   scan a folder, score it, write the table
    scorer.py   one file → one row; the same function whoever calls it
    workers.py  who calls it: this process, or a pool that survives a crashing decoder
    table.py    a CSV file that appears complete or not at all

Needs no web server: nothing in here imports BentoML.
"""
