"""Offers the models: an HTTP service with a page, and the scoring of folders.

    api.py           CareService: the endpoints, a few lines each
    reading_room.py  ReadingRoom: the models at work, from the bytes of a file to an answer
    options.py       what may be asked for beside a picture
    forms.py         a multipart request → bytes and checked options, in memory
    parts.py         the parts of its body
    answers.py       what a model found → what is sent back, as JSON or picture
    remarks.py       what nobody may miss who looks at an overlay
    secondary_capture.py  an overlay as a DICOM file for the same study
    reports.py       the shapes of the answers
    errors.py        which error becomes which HTTP status, in one envelope
    document.py      the OpenAPI document
    front_desk.py    what every request gets: an id, a log line, counts, safe headers
    gate.py          who gets in: API keys, and pages of other origins
    waiting_room.py  how many requests are worked on, and how many may wait
    batcher.py       pictures of concurrent requests share a run of the model
    log.py           the log, as JSON
    settings.py      what the environment may change
    metrics.py       what Prometheus sees
    server/          the server beneath: how requests come in, go past, and end
    web/             the page
    batch/           the scoring of folders

Home of BentoML. Imports `imaging` and `models`, never `training`.
"""

import os

# prometheus_client looks for it when it is imported, which metrics.py is the first to do.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
