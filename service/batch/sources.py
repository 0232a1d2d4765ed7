"""SOURCE… → the files to score, found one by one; memory does not grow with their number.

A source is a folder, a file, a pattern, a DICOMDIR, a list of paths (.txt) or a ZIP (.zip). Its
name says which. What a folder holds or a pattern matches is scored as it is: archives and lists
there are not opened.
All but a DICOMDIR may be in object storage as well; there a prefix is a folder.
"""

import codecs
import errno
import glob
import io
import os
import stat
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from imaging.errors import InaccessibleFile, UnreadableImage
from imaging.reading import cannot_open, check_kind
from service.batch.errors import BatchError
from service.batch.files import File, Found, identity, object_identity
from service.batch.job import text
from service.batch.objects import Unlisted, below, matching
from service.batch.patterns import ALL, Wanted, split
from service.batch.places import Place, Remote, infos, is_remote

ASKED_AT_ONCE = 1000
"""Objects of a list that are asked for side by side."""

Node = tuple[int, int]
"""Device and inode: a folder, by whatever path it is reached."""


@dataclass(frozen=True, slots=True)
class Ours:
    """What a run writes, and no run scores.

    Attributes:
        folders: Folders of ours.
        files: Names of our files, by the folder they are in.
        urls: Both, in object storage.
    """

    folders: frozenset[Node] = frozenset()
    files: dict[Node, Collection[str]] = field(default_factory=dict)
    urls: frozenset[str] = frozenset()

    @classmethod
    def at(cls, files: Collection[Place], folders: Collection[Place]) -> "Ours":
        """Those of these that are there; the folders of the files must be."""
        names: dict[Node, set[str]] = {}
        for path in files:
            if isinstance(path, Path):
                names.setdefault(_node(path.parent.stat()), set()).add(path.name)
        return cls(
            frozenset(
                _node(one.stat()) for one in folders if isinstance(one, Path) and one.is_dir()
            ),
            dict(names),
            frozenset(one.url for one in (*files, *folders) if isinstance(one, Remote)),
        )

    def has(self, url: str) -> bool:
        """Whether an object is ours."""
        return any(url == one or url.startswith(f"{one}/") for one in self.urls)


def check(sources: Sequence[str]) -> None:
    """See that sources are there.

    Raises:
        OSError: With the first that is not.
    """
    for source in sources:
        if is_remote(source):
            remote = Remote(source.rstrip("/"))
            if not remote.exists() and not glob.has_magic(source):
                raise FileNotFoundError(errno.ENOENT, "no such object, and none below it", source)
        elif os.path.lexists(source) or not glob.has_magic(source):
            os.stat(source)


def find_all(sources: Sequence[str], ours: Ours) -> Iterator[tuple[int, Found]]:
    """Find the files of all sources, each with the number of its source, in no order.

    With one source names are short: relative to a folder or a DICOMDIR, a ZIP's own. With several,
    and in a list or a pattern, they are paths as they were given, so that none occurs twice.

    Raises:
        OSError: A source is not there or cannot be read at all.
        BatchError: It is no ZIP, or no DICOMDIR.
    """
    for number, source in enumerate(sources):
        for found in _find(source, ours, alone=len(sources) == 1):
            yield number, found


def find_named(sources: Sequence[str], name: str) -> Iterator[Found]:
    """What a run over these sources calls by a name, as the table has it; where likely, first.

    Raises:
        OSError: A source is not there.
        BatchError: It is no ZIP, or no DICOMDIR.
    """
    if (folder := _base(sources)) is not None:
        path = os.path.join(folder, name)
        found = next(_objects([(path, b"")])) if is_remote(path) else _found(name, path)
        if not found.error:
            yield found
            if "\\" not in name:  # else it may be that of another, whose bytes are no UTF-8
                return
    yield from (one for _, one in find_all(sources, Ours()) if text(one.file.name) == name)


def find_moved(source: str, name: str) -> Iterator[Found]:
    """What may be called by a name elsewhere: the source itself, or a path that ends like the name.

    Raises:
        OSError: The source is not there.
        BatchError: It is no ZIP, or no DICOMDIR.
    """
    if os.path.isfile(source) and not _is_bundle(source):
        yield _found(name, source)
        return
    wanted = f"/{name}"
    for end in (wanted[place + 1 :] for place, letter in enumerate(wanted) if letter == "/"):
        if os.path.isdir(source) and not (found := _found(name, os.path.join(source, end))).error:
            yield found
    for _, one in find_all([source], Ours()):
        path = f"/{text(one.file.name)}"
        if path.endswith(wanted) or wanted.endswith(path):
            yield one


def _base(sources: Sequence[str]) -> str | None:
    """What the names of files are paths below of; None where they are not."""
    if len(sources) > 1:
        return ""
    [source] = sources
    if is_remote(source):
        return source if Remote(source.rstrip("/")).is_prefix() else None
    if os.path.isdir(source):
        return source
    if source.lower().endswith(".zip"):
        return None
    return os.path.dirname(source) if os.path.basename(source).upper() == "DICOMDIR" else ""


def _is_bundle(source: str) -> bool:
    path = Path(source)
    return path.suffix.lower() in (".zip", ".txt") or path.name.upper() == "DICOMDIR"


def _find(source: str, ours: Ours, *, alone: bool) -> Iterator[Found]:
    if is_remote(source):
        yield from _remote(source, ours, alone=alone)
        return
    if not os.path.lexists(source) and glob.has_magic(source):
        yield from _pattern(source, ours)
        return
    status = os.stat(source)
    path = Path(source)
    if stat.S_ISDIR(status.st_mode):
        yield from _named(source, "" if alone else os.path.join(source, ""), ours)
    elif not stat.S_ISREG(status.st_mode):
        yield _found(source, source)
    elif path.suffix.lower() == ".zip":
        yield from _zip(source, source, identity(status), "" if alone else source + "/")
    elif path.suffix.lower() == ".txt":
        with open(source, "rb") as listed:
            yield from _list(listed)
    elif path.name.upper() == "DICOMDIR":
        yield from _dicomdir(path, alone=alone)
    else:
        yield _found(source, source)


def _pattern(pattern: str, ours: Ours) -> Iterator[Found]:
    folder, wanted = split(pattern, hidden=False)
    nothing = True
    for found in _named(folder or ".", folder, ours, wanted):
        nothing = False
        yield found
    if nothing:
        raise FileNotFoundError(errno.ENOENT, "nothing matches", pattern)


def _named(folder: str, name: str, ours: Ours, wanted: Wanted = ALL) -> Iterator[Found]:
    os.scandir(folder).close()  # who names a folder that cannot be listed, wants to know
    yield from _folder(folder, name, (), ours, wanted)


def _folder(
    folder: str, name: str, above: tuple[Node, ...], ours: Ours, wanted: Wanted
) -> Iterator[Found]:
    """What is wanted below a folder; links are followed, but not in a circle."""
    try:
        here = _node(os.stat(folder))
        if here in above or here in ours.folders:
            return
        entries = os.scandir(folder)
    except OSError as error:
        yield _unlisted(name, folder, error)
        return
    with entries:
        while True:
            try:
                entry = next(entries, None)
            except OSError as error:
                yield _unlisted(name, folder, error)
                return
            if entry is None:
                return
            left = wanted.below(entry.name)
            if left and _is_folder(entry):
                yield from _folder(entry.path, f"{name}{entry.name}/", (*above, here), ours, left)
            elif left.met and entry.name not in ours.files.get(here, ()):
                yield _found(name + entry.name, entry.path)


def _unlisted(name: str, folder: str, error: OSError) -> Found:
    problem = InaccessibleFile(f"a folder that cannot be listed: {error.strerror or 'I/O error'}")
    return Found(os.fsencode(name), File(name, folder), error=problem)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself: its row will say why
        return False


def _list(file: BinaryIO) -> Iterator[Found]:
    """The paths in a text, one a line, of whatever bytes; relative to the current folder."""
    objects: list[tuple[str, bytes]] = []
    for number, line in enumerate(_lines(file)):
        if path := os.fsdecode(line.rstrip(b"\r\n")):
            if is_remote(path):
                objects.append((path, number.to_bytes(8)))
            else:
                yield _found(path, path, key=number.to_bytes(8))
        if len(objects) == ASKED_AT_ONCE:
            yield from _objects(objects)
            objects.clear()
    yield from _objects(objects)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines of a text without its byte order mark; UTF-16, as PowerShell writes it, as UTF-8."""
    start = file.read(3)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        file.seek(0)
        with io.TextIOWrapper(file, "utf-16", errors="replace", newline="\n") as decoded:
            yield from (line.encode() for line in decoded)
    else:
        file.seek(len(start) if start == codecs.BOM_UTF8 else 0)
        yield from file


def _remote(source: str, ours: Ours, *, alone: bool) -> Iterator[Found]:
    """The same in object storage."""
    url = source.rstrip("/")
    info = Remote(url).info()
    if info.is_file and url.lower().endswith(".zip"):
        with Remote(url).open() as archive:
            yield from _zip(url, archive, object_identity(info), "" if alone else url + "/")
    elif info.is_file and url.lower().endswith(".txt"):
        with Remote(url).open() as listed:
            yield from _list(listed)
    elif info.is_file and Path(url).name.upper() == "DICOMDIR":
        raise BatchError(f"{url}: a DICOMDIR is not read from object storage; name its folder")
    elif info.is_file:
        yield Found(os.fsencode(url), File(url, url), object_identity(info))
    else:
        folder = bool(info.type)
        start = len(url) + 1 if folder and alone else 0
        nothing = True
        for path, one in below(url) if folder else matching(url):
            nothing = False
            name, file = os.fsencode(path[start:]), File(path[start:], path)
            if isinstance(one, Unlisted):
                yield Found(name, file, error=InaccessibleFile(one.why))
            elif not ours.has(path):
                yield Found(name, file, object_identity(one))
        if nothing and not folder:
            raise FileNotFoundError(errno.ENOENT, "nothing matches", source)


def _objects(listed: Sequence[tuple[str, bytes]]) -> Iterator[Found]:
    """Objects that a list names, with the keys they shall have."""
    try:
        there = list(infos([url for url, _ in listed]))
    except OSError:  # for one of them; which one, only asking for each can tell
        if len(listed) == 1:
            [(url, key)] = listed
            yield Found(key, File(url, url))  # reading it will say why
            return
        for one in listed:
            yield from _objects([one])
        return
    for (url, key), info in zip(listed, there, strict=True):
        if info.is_file:
            yield Found(key, File(url, url), object_identity(info))
        else:
            what = (
                "a folder, expected an object" if info.type else "cannot be opened: no such object"
            )
            yield Found(key, File(url, url), error=InaccessibleFile(what))


def _zip(source: str, opened: str | BinaryIO, whole: str, prefix: str) -> Iterator[Found]:
    """The files of a ZIP; of two with the same name the last, as unpacking it would leave."""
    try:
        archive = zipfile.ZipFile(opened)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise BatchError(f"{source}: not a ZIP archive, or a damaged one") from error
    with closing(archive):
        for number, info in enumerate(archive.infolist()):
            if info.is_dir() or archive.getinfo(info.filename) is not info:
                continue
            file = File(prefix + info.filename, source, info.filename)
            own = f"{whole}/{info.CRC}-{info.file_size}-{info.header_offset}" if whole else ""
            yield Found(number.to_bytes(8), file, own)


def _dicomdir(path: Path, *, alone: bool) -> Iterator[Found]:
    from imaging.dicomdir import referenced_files

    try:
        referenced = referenced_files(path)
    except UnreadableImage as error:
        raise BatchError(f"{path}: {error.problem}") from error
    for number, parts in enumerate(referenced):
        key = number.to_bytes(8)
        # some systems show the names on a disc in small letters
        below = "/".join(part.lower() if path.name.islower() else part for part in parts)
        name = below if alone else os.path.join(path.parent, below)
        if any(part in ("", "..") or "/" in part for part in parts):
            leads = InaccessibleFile("the DICOMDIR leads out of its folder")
            yield Found(key, File(name, ""), error=leads)
        else:
            yield _found(name, os.path.join(path.parent, below), key=key)


def _found(name: str, path: str, *, key: bytes | None = None) -> Found:
    key, file = os.fsencode(name) if key is None else key, File(name, path)
    try:
        status = os.stat(path)
        check_kind(status.st_mode)
    except InaccessibleFile as error:
        return Found(key, file, error=error)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in a path
        wrong = error if isinstance(error, OSError) else OSError(errno.EINVAL, "no path")
        return Found(key, file, error=cannot_open(wrong))
    return Found(key, file, identity(status))


def _node(status: os.stat_result) -> Node:
    return status.st_dev, status.st_ino
