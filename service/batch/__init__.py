"""Scoring of many files: one row each, errors included; stopped at any moment, it goes on.

    run.py        sources in, a table out: what is done, in what order it stands, what is written
    sources.py    folders, patterns, lists, DICOMDIRs, ZIPs → files
    patterns.py   what a pattern matches, from folder to folder
    objects.py    what object storage has below a prefix
    places.py     paths and URLs: the file system and object storage, spoken to alike
    files.py      one file: its name, its place, its bytes
    job.py        what to do with each file, and the columns of the table
    selection.py  which files are scored at all
    scorer.py     files → rows; the same function whoever calls it
    decoded.py    a file between its decoding and the model
    evidence.py   overlays and Secondary Captures
    local.py      the engine that calls it: this process, or a pool
    workers.py    the pool: processes that a crashing or hanging decoder cannot stop
    worker.py     what one of them runs
    ray_engine.py the engine of several machines
    ray_tasks.py  what each of them does
    journal.py    what is done so far, on disk
    parts.py      copies of the journal in object storage
    outputs.py    what a run writes, and under which names
    table.py      CSV, Parquet, JSON lines
    record.py     how a table was made, beside it
    statistics.py what a table comes to, in memory that does not grow with it
    summary.py    the same as a page for people; page/ has its template and style
    replay.py     a row of a table, worked out once more
    codes.py      what each error code means, and who can act
    errors.py     BatchError: the run is at fault, and no file

Needs no web server: nothing in here imports BentoML.
"""
