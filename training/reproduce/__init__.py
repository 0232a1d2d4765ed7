"""The papers' tables by one command: `care reproduce TABLE RUN.toml`.

    paper.py    the published figures
    grids.py    which cells a table has, and what each changes of the run
    trials.py   a cell with a seed; digests that say what was trained on what
    cells.py    train one, measure it, write its JSON; stage 1 is shared
    plan.py     what is to do and how long it will take
    tables.py   JSON files → Markdown
    figure.py   activation maps side by side
    command.py  a whole grid, finished over as many goes as it takes

A cell's JSON stays valid as long as its settings, lists and boxes are the same, whatever the code;
delete it to have it measured again.
"""
