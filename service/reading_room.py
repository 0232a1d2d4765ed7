"""The models at work: from the bytes of a file to an answer. No HTTP in here."""

import hashlib
import logging
from dataclasses import dataclass, replace

from imaging.image import Facts, ImageFile, MedicalImage, Window
from imaging.isolation import DecoderPool
from imaging.reading import open_image, use_one_core
from models.classifier import Classifier, Prediction
from models.errors import BrokenModel, ModelNotFound
from models.store import load_one, model_names
from service.batcher import Batcher
from service.errors import ModelRequired
from service.metrics import (
    BATCH_SIZE,
    IN_DISTRIBUTION,
    MODEL_INFO,
    MODEL_READY,
    PREDICTIONS,
    PROVIDER,
    SCORES,
    of,
    stage,
)
from service.options import ClassifyOptions, PictureOptions
from service.server.allocator import Keeper
from service.settings import Settings

LOG = logging.getLogger("care")

ANSWERS = {True: "yes", False: "no"}
"""Whether a picture is like those of the training, as it is counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One picture, read by one model.

    Attributes:
        classifier: The model asked.
        data: The file.
        file: The same, its header read.
        image: The picture that the model saw, upright.
        prediction: The model's opinion.
        sha256: Digest of the file.
        frame: Which frame was read, counted from 1.
        window: Which of the file's windows it was read with, counted from 1.
        overridden: What in the file's header contradicted the model, if that was overridden.
    """

    classifier: Classifier
    data: bytes
    file: ImageFile
    image: MedicalImage
    prediction: Prediction
    sha256: str
    frame: int
    window: int
    overridden: str | None

    def shown(self, window: Window | int | None) -> MedicalImage:
        """The picture for people: seen through another window, if one is wanted.

        Raises:
            WindowNotFound: The file's picture has none.
        """
        if not isinstance(window, Window):
            return self.image
        return self.file.read(self.frame, window)

    @property
    def unlike(self) -> bool:
        """Whether the picture is known to be unlike those the model was trained on."""
        return self.prediction.in_distribution is False

    def found(self, label: str) -> bool:
        """Whether a label's probability reaches its operating point."""
        return self.classifier.card.found(label, self.prediction.probability(label))


class ReadingRoom:
    """Loads the models once and asks them. Safe to use from several threads.

    A broken model does not keep the others from starting: it is logged, whoever asks for it is
    told, and the service is not ready.

    Attributes:
        classifiers: The models that can be asked, by name.
        broken: What is wrong with each of the others, by name.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        use_one_core()
        self.classifiers: dict[str, Classifier] = {}
        self.broken: dict[str, BrokenModel] = {}
        self._batchers: dict[str, Batcher] = {}
        self._memory = Keeper()
        self._decoders = DecoderPool(
            settings.concurrency,
            timeout=settings.decode_timeout_s,
            max_megapixels=settings.max_megapixels,
        )
        for name in model_names(settings.models):
            try:
                self._load(name)
            except BrokenModel as problem:
                self.broken[name] = problem
                LOG.error("model %s is broken, so the service is not ready: %s", name, problem)
            MODEL_READY.labels(model=name).set(name in self.classifiers)
        if not self.classifiers and not self.broken:
            LOG.error("no models in %s, so the service is not ready", settings.models)

    @property
    def problems(self) -> list[str]:
        """Why the service is not ready; nothing where it is."""
        if not self.classifiers and not self.broken:
            return ["there are no models"]
        return [str(problem) for problem in self.broken.values()]

    @property
    def ready(self) -> bool:
        """Whether there are models, and each of them is loaded with the digest its card says."""
        return not self.problems

    def close(self) -> None:
        """End the processes that decode."""
        self._decoders.close()

    def read(self, data: bytes, options: ClassifyOptions) -> Reading:
        """Read a picture with the model that the options or its header name.

        Raises:
            ImagingError: The file is at fault.
            ModelError: There is no such model, or it is broken.
            ModelRequired: No model is named, and the header names none.
        """
        if options.model is not None:
            self.named(options.model)
        with stage("read"):
            file = self._open_file(data)
            classifier = (
                self._fitting(file.facts) if options.model is None else self.named(options.model)
            )
            overridden = classifier.card.accepts.check(file.facts, force=options.force)
            # Now: it brings into the caches what is read next.
            sha256 = hashlib.sha256(data).hexdigest()
            image = file.read(options.frame, options.window)
        with stage("infer"):
            prediction = self._ask(classifier, image)
        return Reading(
            classifier=classifier,
            data=data,
            file=file,
            image=image,
            prediction=prediction,
            sha256=sha256,
            frame=options.frame or 1,
            window=options.window or 1,
            overridden=overridden,
        )

    def look(self, data: bytes, options: PictureOptions) -> MedicalImage:
        """Read a picture for people; no model is asked.

        Raises:
            ImagingError: The file is at fault.
        """
        with stage("read"):
            return self._open_file(data).read(options.frame, options.display_window)

    def _open_file(self, data: bytes) -> ImageFile:
        file = open_image(data, max_megapixels=self._settings.max_megapixels)
        self._memory.note(file.facts.width * file.facts.height)
        return self._decoders.guard(file, data)

    def _load(self, name: str) -> None:
        """Load one model and get it ready for concurrent requests."""
        settings = self._settings
        classifier = load_one(
            settings.models,
            name,
            threads=settings.threads,
            provider=settings.provider,
            most=settings.batch,
        )
        PROVIDER.labels(model=name, provider=classifier.active).set(1)
        if classifier.active != settings.provider:
            problem = f"{name}: {settings.provider} {{}}, but ONNX Runtime uses {classifier.active}"
            if "provider" in settings.model_fields_set:
                raise BrokenModel(problem.format("was asked for"))
            LOG.warning(problem.format("could be had"))
        card = classifier.card
        MODEL_INFO.labels(model=name, version=card.version, sha256=card.sha256).set(1)
        if card.distribution_sha256:
            for answer in ANSWERS.values():
                IN_DISTRIBUTION.labels(model=name, answer=answer)  # from 0, for shares and rates
        self.classifiers[name] = classifier
        self._batchers[name] = Batcher(
            classifier.run,
            most=settings.batch,
            wait_ms=settings.batch_wait_ms,
            note=BATCH_SIZE.labels(model=name).observe,
        )
        LOG.info("model %s %s is ready, run by %s", name, card.version, classifier.active)

    def _ask(self, classifier: Classifier, image: MedicalImage) -> Prediction:
        """One model's opinion of one picture, in a run shared with concurrent requests."""
        name = classifier.card.name
        square, placement = classifier.card.preprocessing(image)
        [prediction] = classifier.predictions(self._batchers[name](square), [placement])
        ranked = prediction.ranked()
        of(PREDICTIONS, name, ranked[0][0]).inc()
        if prediction.in_distribution is not None:
            of(IN_DISTRIBUTION, name, ANSWERS[prediction.in_distribution]).inc()
        for label, probability in ranked:
            of(SCORES, name, label).observe(probability)
        return prediction

    def named(self, name: str) -> Classifier:
        """One model.

        Raises:
            ModelError: There is no such model, or it is broken.
        """
        self._open()
        if name in self.broken:
            raise BrokenModel(f"model {name!r} is not available at the moment")
        if name not in self.classifiers:
            raise ModelNotFound(f"no model {name!r}; there are {self._names()}")
        return self.classifiers[name]

    def _fitting(self, facts: Facts) -> Classifier:
        """The one model whose kind of picture the header positively names."""
        self._open()
        if not self.ready:
            # With a model missing, the one that seems to fit may not be the only one.
            raise BrokenModel("not all models are available, so name the one to ask as `model`")
        claiming = [one for one in self.classifiers.values() if one.card.accepts.claims(facts)]
        # The view does not choose a model: a lateral film is a film, and its model refuses it.
        from_any_side = replace(facts, view="")
        problems = {one: one.card.accepts.contradiction(from_any_side) for one in claiming}
        fitting = [one for one in claiming if not problems[one]]
        if len(fitting) == 1:
            return fitting[0]
        found = "; ".join(f"{one.card.name}: {problem}" for one, problem in problems.items())
        reason = f" ({found})" if found and not fitting else ""
        raise ModelRequired(
            f"the file does not say which model to ask{reason}; "
            f"name one as `model`: {self._names()}"
        )

    def _open(self) -> None:
        if not self.classifiers and not self.broken:
            raise BrokenModel("no model is available at the moment")

    def _names(self) -> str:
        return ", ".join(self.classifiers) or "none"
