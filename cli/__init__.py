"""The front door: `care VERB`.

    main.py      the app and its verbs
    serve.py     care serve
    score.py     care score
    boxes.py     care boxes make, fit, compare
    training.py  care train, export, evaluate, compare
    errors.py    what a person sees when something they can mend is wrong

Verbs import what they need when they are called: scoring never imports PyTorch, training never
imports BentoML.
"""
