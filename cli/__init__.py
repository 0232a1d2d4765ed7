"""The front door: `care VERB`.

    __main__.py  python -m cli
    main.py      the app and its verbs
    serve.py     care serve
    score.py     care score
    replay.py    care replay
    boxes.py     care boxes make, fit, compare
    training.py  care train, export, evaluate, compare
    reproduce.py care reproduce
    errors.py    what a person sees when something they can mend is wrong

Verbs import what they need when they are called: scoring never imports PyTorch, training never
imports BentoML.
"""
