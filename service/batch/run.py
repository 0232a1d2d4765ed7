"""A run over many files: sources in, a table out; stopped at any moment, it goes on from there."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from models.card import ModelCard
from models.store import load_card
from service.batch.errors import BatchError
from service.batch.evidence import CAPTURE, OVERLAY, drawn_as, endings
from service.batch.job import Job, Row, columns, digest, excused
from service.batch.journal import Journal
from service.batch.outputs import Outputs, link, link_all, names_in, publish, sync
from service.batch.places import Place, Remote, copy, place
from service.batch.record import (
    check_folders,
    read_record,
    record,
    record_path,
    recorded_job,
    recorded_labels,
)
from service.batch.scorer import KNOWN, Engine
from service.batch.sources import Ours, check, find_all
from service.batch.statistics import Counts, Statistics
from service.batch.summary import Ran, check_page, write_page
from service.batch.table import check_suffix, read_table, write_table

LINKED_AT_ONCE = 1000
"""Pictures that get their final names in one go."""

PASSES = 5
"""How often a folder that changes all the time is looked through again."""


def score_sources(
    sources: Sequence[str],
    job: Job,
    outputs: Outputs,
    engine: Engine,
    *,
    progress: bool = False,
) -> Counts:
    """Score the files of all sources and write the table.

    Until the table is complete, its folder `unfinished` holds what is done; called again with the
    same arguments, only what is left is done. A table from before is replaced when the new one is
    complete; its rows are taken over where content, model and options are the same.

    Args:
        sources: Folders, files, patterns, lists, DICOMDIRs or ZIPs; see sources.py.
        job: What to do with each file.
        outputs: What to write.
        engine: Who does it.
        progress: Whether to draw a progress bar on stderr, if that is a terminal.

    Returns:
        How many rows there are of each kind.

    Raises:
        ModelError: The model is missing or broken.
        BatchError: Another run writes this table, or a source is broken.
        OSError: A source is not there, or something cannot be written.
    """
    started = datetime.now(UTC)
    card = load_card(job.models, job.model)
    _check(sources, job, card, outputs)
    stamps = {"model_sha256": card.sha256, "options_sha256": digest(job.options(card))}
    kinds = columns(card.labels)
    unfinished = outputs.unfinished
    copies = unfinished / "journal" if isinstance(unfinished, Remote) else None
    done, known = False, copies is None  # whether all is done; whether it is known what was before
    with (
        outputs.working_folder() as folder,
        ExitStack() as afterwards,  # once the journal is closed: on NFS an open file keeps a name
        closing(Journal(folder / "journal", kinds, stamps, copies)) as journal,
    ):
        try:
            if outputs.overlays or outputs.captures:
                job = replace(job, kept=str(unfinished / "kept"))
                place(job.kept).mkdir(exist_ok=True)
            goes_on = journal.goes_on()
            if not goes_on:
                _take_over(journal, job, card, outputs, folder, stamps)
            recovered = journal.recover()
            known = True
            if recovered or goes_on:
                journal.drop(_useless(journal, job, card))
            journal.start()
            worked = _score(sources, job, outputs, engine, journal, progress=progress)
            ran = Ran(
                sources=sources,
                table=outputs.table.name,
                names=outputs.names,
                started=started,
                worked=worked,
                engine=engine,
            )
            counts = _finish(ran, job, card, outputs, folder, journal)
            done = True
        finally:
            if done or (known and not journal.has_rows()):
                journal.remove()
                afterwards.callback(outputs.remove_unfinished)
            elif known:
                journal.back_up()
    return counts


def _check(sources: Sequence[str], job: Job, card: ModelCard, outputs: Outputs) -> None:
    if outputs.table.is_dir():  # else only the renaming would fail, after hours
        raise BatchError(f"{outputs.table} is a directory")
    check_suffix(outputs.table)
    if outputs.summary:
        check_page(outputs.summary)
    check(sources)
    if unknown := not isinstance(job.draw, str) and set(job.draw) - set(card.labels):
        raise BatchError(
            f"no label {', '.join(sorted(unknown))}; {card.name} knows {', '.join(card.labels)}"
        )
    for folder in [*(path.parent for path in outputs.files), *outputs.folders]:
        folder.mkdir(parents=True, exist_ok=True)
    check_folders(outputs.table, outputs.folders)
    for folder in outputs.folders:
        if any(_same(folder, one) for one in sources):
            raise BatchError(f"{folder} is to be scored, so nothing can be written there")


def _same(folder: Place, source: str) -> bool:
    if isinstance(folder, Remote):
        return source.rstrip("/") == folder.url
    return Path(source).is_dir() and folder.samefile(source)


def _useless(journal: Journal, job: Job, card: ModelCard) -> Iterator[bytes]:
    """Names whose rows are of no use: to be tried again, or without what was drawn."""
    kept = names_in(place(job.kept)) if job.kept else None
    for name, row in journal.everything():
        drawn = _kept(row, job, card)
        if excused(row) or not (kept is None or all(map(kept, drawn))):
            yield name


def _take_over(
    journal: Journal, job: Job, card: ModelCard, outputs: Outputs, folder: Path, stamps: Row
) -> None:
    """Take over the rows of a table from before, and what was drawn for them.

    What was drawn for it by another model, with other options or under names of the other kind,
    is noted as well, to go when the new table is there.
    """
    former = _at_hand(outputs.table, folder)
    labels, drawn = _before(former, job, card, outputs)
    named = [replace(outputs, names=names) for names in (False, True)]
    for number, row in enumerate(read_table(former, columns(labels)), start=1):
        if row is None:
            continue
        there = {
            name
            for ending, has in drawn.items()
            for one in named
            if row["status"] == "ok" and has(name := one.picture(number, row, ending).name)
        }
        for name in there:
            journal.note_former(name)
        of_this_kind = labels == card.labels and all(row[name] == stamps[name] for name in stamps)
        if not of_this_kind or excused(row) or not row["sha256"]:
            continue
        pictures = [outputs.picture(number, row, ending) for ending in endings(row, job, card)]
        if all(picture.name in there for picture in pictures):
            for picture, kept in zip(pictures, _kept(row, job, card), strict=True):
                link(picture, place(job.kept) / kept)
            journal.seed(row)


def _at_hand(table: Place, folder: Path) -> Path:
    """A table from before, or a copy of it, with its record beside it; if there are any."""
    if isinstance(table, Path):
        return table
    former = folder / f"former{table.suffix}"
    for there, here in [(table, former), (record_path(table), record_path(former))]:
        if there.exists():
            copy(there, here)
    return former


def _before(
    former: Path, job: Job, card: ModelCard, outputs: Outputs
) -> tuple[tuple[str, ...], dict[str, Callable[[str], bool]]]:
    """Labels of a table from before; how names of its pictures may end, and which names there are.

    Without a record that can be read they are taken to be those of now.
    """
    labels = card.labels
    with suppress(BatchError, OSError, KeyError):
        entries = read_record(former)
        job, labels = recorded_job(entries, None), recorded_labels(entries)
    drawn: dict[str, Callable[[str], bool]] = {}
    for kind, made, folder in [
        (OVERLAY, job.overlays, outputs.overlays),
        (CAPTURE, job.captures, outputs.captures),
    ]:
        if made and folder:
            drawn |= dict.fromkeys((drawn_as(one, kind, job) for one in labels), names_in(folder))
    return labels, drawn


def _score(
    sources: Sequence[str],
    job: Job,
    outputs: Outputs,
    engine: Engine,
    journal: Journal,
    *,
    progress: bool,
) -> int:
    """Give every file its row; files that change meanwhile, again. Returns how many it scored."""
    worked = 0
    ours = Ours.at(outputs.files, [outputs.unfinished, *outputs.folders])
    for _ in range(PASSES):
        total = journal.take_stock(_listed(find_all(sources, ours), progress=progress))
        left = journal.left()
        if not left:
            break
        known = journal.knows if journal.reuses else None
        # disable=None: no bar where stderr is no terminal
        with (
            tqdm(
                total=total, initial=total - left, unit="file", disable=None if progress else True
            ) as bar,
            closing(engine(journal.to_do(), job, known)) as rows,
        ):
            for file, row in rows:
                if row["status"] == KNOWN:
                    journal.reuse(file, row["sha256"])
                else:
                    journal.put(file, row)
                    worked += 1
                bar.update()
    return worked


def _listed(found: Iterable[Any], *, progress: bool) -> Iterable[Any]:
    """The same, and the person who waits sees that something happens."""
    return tqdm(found, "listing", unit="file", leave=False, disable=None if progress else True)


def _finish(
    ran: Ran, job: Job, card: ModelCard, outputs: Outputs, folder: Path, journal: Journal
) -> Counts:
    """Let the table appear, and all that belongs to it. Can be done again from the start."""
    check_folders(outputs.table, outputs.folders)  # another run may have ended meanwhile
    kinds = columns(card.labels)
    complete, counts, statistics = folder / "table", Counts(), Statistics(card)
    drawn: list[tuple[Place, Place]] = []
    with write_table(complete, kinds, outputs.table.suffix) as write:
        for number, (file, row) in enumerate(journal.rows(), start=1):
            write(row)
            counts.add(row)
            if outputs.summary:
                statistics.add(number, file, row)
            for ending, kept in zip(endings(row, job, card), _kept(row, job, card), strict=True):
                picture = outputs.picture(number, row, ending)
                drawn.append((place(job.kept) / kept, picture))
                journal.placed(picture.name)
            if len(drawn) > LINKED_AT_ONCE:
                link_all(drawn)
                drawn.clear()
    link_all(drawn)
    described = folder / "record"
    entries = record(ran.sources, job, card, outputs.folders, counts.entries())
    described.write_text(entries, encoding="utf-8")
    page = folder / "page"
    if outputs.summary:
        write_page(page, outputs.unfinished / "drawn", counts, statistics, ran, job, card)
        outputs.summary.unlink(missing_ok=True)
    record_path(outputs.table).unlink(missing_ok=True)  # never that of another table
    publish(complete, outputs.table)
    publish(described, record_path(outputs.table))
    if outputs.summary:
        link(page, outputs.summary)
    sync(outputs.table.parent)
    for name in journal.left_over():
        outputs.former(name).unlink(missing_ok=True)
    return counts


def _kept(row: Row, job: Job, card: ModelCard) -> list[str]:
    return [f"{row['sha256']}{ending}" for ending in endings(row, job, card)]
