"""The server beneath the service: what uvicorn, BentoML and the C library are made to do.

    intake.py      a connection: how a request's body comes in, in large pieces
    short_way.py   past layers of BentoML and FastAPI that do nothing for a request with a picture
    prefix.py      under a path prefix, behind a proxy
    shutdown.py    how it ends
    crew.py        the threads that work beside the event loop
    allocator.py   what the C library does with the memory of films

It builds on what these keep to themselves, for films are of 15 MB: their bytes would be copied five
times on their way, and layers that do nothing for a small picture cost as much as its decoding
(benchmarks/serving.py). So `uvicorn` and `bentoml` are pinned to a minor version, and tests of each
file tell what has moved where they are raised.
"""
