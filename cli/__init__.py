"""The front door: `care VERB`.

    main.py      the app and its verbs
    serve.py     care serve
    score.py     care score
    training.py  care boxes, train, export, evaluate
    errors.py    what a person sees when something they can mend is wrong

Verbs import what they need when they are called: scoring never imports PyTorch, training never
imports BentoML.
"""
