"""The papers' tables by one command: `care reproduce TABLE RUN.toml`.

    paper.py       the published figures
    rows.py        what a table is made of: cells, and what each changes of the run
    grids.py       CARE's tables, and every table by its name
    comparison.py  all methods beside each other
    options.py     settings of the attention loss, one changed at a time
    ablation.py    Deep Pneumonia without each of its parts
    trials.py      a cell with a seed; digests that say what was trained on what
    cells.py       train one, measure it, write its JSON; what cells begin with is shared
    plan.py        what is to do and how long it will take
    tables.py      JSON files → Markdown
    figure.py      activation maps side by side
    command.py     a whole grid, finished over as many goes as it takes

A cell's JSON stays valid as long as its settings, lists and boxes are the same, whatever the code;
delete it to have it measured again.
"""
