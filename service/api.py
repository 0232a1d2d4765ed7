"""CareService: the endpoints, a few lines each. `bentoml serve service.api:CareService`.

BentoML gives the processes, the health checks, the metrics and the packaging. The endpoints are a
FastAPI app mounted into it, because BentoML's own parser would write a picture to the disk under
the name it comes with; see forms.py for how it is read instead.
"""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import anyio
import bentoml
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from models.card import NOTICE
from service.answers import (
    batch_item,
    classification,
    explanation,
    model_entry,
    model_metadata,
    picture_alone,
)
from service.document import (
    ARRIVING,
    ASKING,
    READING,
    document,
    form_schema,
    operation_id,
    pictures,
    refusals,
)
from service.errors import OURS, BadForm, defect, handle_errors, refusal
from service.forms import Options, read_form
from service.front_desk import FrontDesk
from service.gate import gate
from service.log import log_unexpected, set_up_logs
from service.metrics import exposition
from service.options import ClassifyOptions, ExplainOptions, PictureOptions
from service.reading_room import Reading, ReadingRoom
from service.reports import (
    OVERLAY_HEADERS,
    WINDOW_HEADERS,
    BatchItem,
    BatchReport,
    ClassifyReport,
    ExplainReport,
    ExplanationsReport,
    LayersReport,
    LiveReport,
    ModelMetadata,
    ModelsReport,
    ReadyReport,
)
from service.server.intake import check_present, use_intake
from service.server.prefix import Prefix
from service.server.short_way import Fork, Forms
from service.server.shutdown import refuse_when_ending
from service.settings import Settings
from service.waiting_room import Place, WaitingRoom

WEB = Path(__file__).parent / "web"

app = FastAPI(
    title="CARE",
    description=f"Image diagnosis with the reason shown. {NOTICE}",
    docs_url=None,  # these pages load scripts from elsewhere, and no request leaves this host
    redoc_url=None,
    redirect_slashes=False,
    telemetry={"tracing": False, "metrics": False, "logs": False},  # ours are in metrics.py
    generate_unique_id_function=operation_id,
)
handle_errors(app)
FRONT_DESK = FrontDesk(app)
app.mount("/web", StaticFiles(directory=WEB), name="web")


@bentoml.service(
    name="care",
    http={"port": 3000},
    # Paths are what clients make of them; the front desk logs and counts routes instead.
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    # A span for every 64 KB of an upload costs more than the decoding of a film.
    tracing={"excluded_urls": [".*"]},
)
@bentoml.asgi_app(FRONT_DESK)
class CareService:
    """Image diagnosis with the reason shown."""

    def __init__(self) -> None:
        set_up_logs()
        self.settings = Settings()
        self.room = ReadingRoom(self.settings)
        self.waiting_room = WaitingRoom(self.settings.concurrency, self.settings.queue)
        app.state.service = self
        app.state.gate = gate(Forms(app), self.settings)
        written = document(app, self.settings)
        app.openapi = lambda: written  # type: ignore[method-assign]

    def __is_ready__(self) -> bool:
        if problems := self.room.problems:
            # What BentoML would answer of its own does not say why.
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(problems))
        return True

    @bentoml.on_shutdown
    def close(self) -> None:
        """End the threads that work and the processes that decode."""
        self.waiting_room.close()
        self.room.close()

    async def answer(
        self,
        request: Request,
        options: type[ClassifyOptions],
        render: Callable[[Reading, Any, str], Response],
    ) -> Response:
        """Read a request's form, then its picture, and render the answer.

        Decoding, the model and rendering run beside the event loop, so that health checks and
        other uploads go on meanwhile.
        """

        def work(data: bytes, chosen: ClassifyOptions) -> Response:
            reading = self.room.read(data, chosen)
            request.state.model = reading.classifier.card.name
            return render(reading, chosen, request.state.request_id)

        return await self._answer(request, options, work)

    async def show(self, request: Request) -> Response:
        """Read a request's form, then its picture, and send that back."""

        def work(data: bytes, chosen: PictureOptions) -> Response:
            return picture_alone(self.room.look(data, chosen), chosen)

        return await self._answer(request, PictureOptions, work)

    async def _answer(
        self,
        request: Request,
        options: type[Options],
        work: Callable[[bytes, Options], Response],
    ) -> Response:
        with self.waiting_room.place() as place:
            [data], chosen = await read_form(request, options, self.settings)

            def work_if_awaited() -> Response:
                check_present(request)
                return work(data, chosen)

            return await place.work(work_if_awaited)

    async def answer_each(self, request: Request) -> BatchReport:
        """Read a request's pictures beside each other; a bad one costs none but itself."""
        with self.waiting_room.place() as place:
            files, chosen = await read_form(
                request, ClassifyOptions, self.settings, most_files=self.settings.max_batch
            )
            return await self._each(request, place, files, chosen)

    async def _each(
        self, request: Request, place: Place, files: list[bytes], chosen: ClassifyOptions
    ) -> BatchReport:
        request_id = request.state.request_id
        items: list[BatchItem] = [BatchItem(status=0)] * len(files)

        def work(index: int) -> None:
            try:
                check_present(request)
                if not files[index]:
                    raise BadForm("`image` is empty")
                reading = self.room.read(files[index], chosen)
            except ClientDisconnect:
                return
            except OURS as error:
                status, report = refusal(error, request_id)
                items[index] = BatchItem(status=status, error=report.error)
            except Exception:
                log_unexpected(request_id)
                status, report = defect(request_id)
                items[index] = BatchItem(status=status, error=report.error)
            else:
                request.state.model = reading.classifier.card.name
                items[index] = batch_item(reading, request_id)

        async with anyio.create_task_group() as tasks:
            for index in range(len(files)):
                tasks.start_soon(place.work, partial(work, index))
        check_present(request)
        return BatchReport(items=items, request_id=request_id)


@app.post(
    "/classify",
    response_model=ClassifyReport,
    responses=refusals(*ASKING),
    openapi_extra={"requestBody": form_schema(ClassifyOptions)},
)
async def classify(request: Request) -> Response:
    """What a model thinks of a picture."""
    return await _service().answer(request, ClassifyOptions, classification)


@app.post(
    "/classify_batch",
    responses=refusals(*ARRIVING),
    openapi_extra={"requestBody": form_schema(ClassifyOptions, several=True)},
)
async def classify_batch(request: Request) -> BatchReport:
    """What a model thinks of each of several pictures."""
    return await _service().answer_each(request)


@app.post(
    "/explain",
    response_model=ExplainReport | ExplanationsReport | LayersReport,
    responses=refusals(*ASKING) | pictures(OVERLAY_HEADERS, "application/dicom"),
    openapi_extra={"requestBody": form_schema(ExplainOptions)},
)
async def explain(request: Request) -> Response:
    """Where in a picture a model sees the evidence for a label."""
    return await _service().answer(request, ExplainOptions, explanation)


@app.post(
    "/picture",
    response_class=Response,
    responses=refusals(*READING) | pictures(WINDOW_HEADERS),
    openapi_extra={"requestBody": form_schema(PictureOptions)},
)
async def picture(request: Request) -> Response:
    """A picture as people are shown it: upright, through a window; no model is asked."""
    return await _service().show(request)


@app.get("/models", responses=refusals(HTTPStatus.UNAUTHORIZED))
async def models() -> ModelsReport:
    """The models on offer."""
    classifiers = _service().room.classifiers.values()
    return ModelsReport(models=[model_entry(classifier.card) for classifier in classifiers])


@app.get("/v2/health/live", responses=refusals())
async def live() -> LiveReport:
    """Whether the service runs, as KServe's open inference protocol asks it."""
    return LiveReport(live=True)


@app.get("/v2/health/ready", responses=refusals() | {503: {"model": ReadyReport}})
async def ready(response: Response) -> ReadyReport:
    """Whether all models can be asked, as KServe's open inference protocol asks it."""
    is_ready = _service().room.ready
    response.status_code = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return ReadyReport(ready=is_ready)


@app.get(
    "/v2/models/{name}",
    responses=refusals(
        HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE
    ),
)
async def metadata(name: str) -> ModelMetadata:
    """What goes into a model and what comes out, as KServe's open inference protocol asks it."""
    return model_metadata(_service().room.named(name))


@app.get("/", include_in_schema=False)
async def page() -> HTMLResponse:
    """A page to try the service with."""
    text = (WEB / "index.html").read_text(encoding="utf-8")
    if prefix := _service().settings.root_path:
        # Relative addresses would miss it where a proxy shows the page without a slash at the end.
        text = text.replace('"web/', f'"{prefix}/web/')
    return HTMLResponse(text)


@app.get(
    "/metrics",
    response_class=Response,
    responses=refusals() | {200: {"content": {"text/plain": {}}}},
)
def metrics() -> Response:
    """What Prometheus sees."""
    content, kind = exposition()
    return Response(content, media_type=kind)


@app.get(
    "/livez",
    response_class=PlainTextResponse,
    description="Whether the service runs, as a kubelet asks it.",
)
@app.get(
    "/healthz",
    response_class=PlainTextResponse,
    description="Whether the service runs, by an older name.",
)
@app.get(
    "/readyz",
    response_class=PlainTextResponse,
    description="Whether all models can be asked, as a kubelet asks it.",
    responses={503: {"description": "What is missing.", "content": {"text/plain": {}}}},
)
async def probe() -> Response:
    """Answered by BentoML. Listed here for the OpenAPI document, and to refuse other methods."""
    raise RuntimeError("BentoML answers this path before it gets here")


def _service() -> Any:
    return app.state.service


def _entrance(bento: ASGIApp) -> ASGIApp:
    """What stands before BentoML's app."""
    return Prefix(Fork(bento, FRONT_DESK), prefix=lambda: _service().settings.root_path)


use_intake(before=_entrance)
refuse_when_ending()
