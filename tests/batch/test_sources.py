"""SOURCE… → files: what is found, what it is called, and in what order it stands."""

import os
import socket
import zipfile
from pathlib import Path

import pytest

from service.batch.errors import BatchError
from service.batch.sources import Found, Ours, find_all
from tests.batch.conftest import FILES
from tests.factories import make_dicomdir


def found(*sources: Path | str, ours: Ours | None = None) -> list[Found]:
    """What the sources have, in the order of a table."""
    everything = find_all([str(source) for source in sources], ours or Ours())
    return [one for _, one in sorted(everything, key=lambda pair: (pair[0], pair[1].key))]


def names(*sources: Path | str, ours: Ours | None = None) -> list[str]:
    return [one.file.name for one in found(*sources, ours=ours)]


def test_every_file_below_a_folder_is_found_once_in_path_order(films: Path):
    assert names(films) == FILES == sorted(FILES)


def test_a_folder_sorts_where_the_paths_of_its_files_do(tmp_path: Path):
    for name in ["b/x", "b.c", "b-c", "b0", "b!", "b/é", "b/Z/1"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    assert names(tmp_path) == ["b!", "b-c", "b.c", "b/Z/1", "b/x", "b/é", "b0"]


def test_links_are_followed_but_never_in_a_circle(tmp_path: Path):
    folder = tmp_path / "folder"
    elsewhere = tmp_path / "elsewhere"
    for path in [folder / "inner" / "film", elsewhere / "linked"]:
        path.parent.mkdir(parents=True)
        path.touch()
    (folder / "inner" / "loop").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "other").symlink_to(elsewhere)
    (folder / "nowhere").symlink_to(tmp_path / "gone")

    everything = {one.file.name: one for one in found(folder)}

    assert list(everything) == ["inner/film", "itself", "nowhere", "other/linked"]
    assert everything["itself"].error
    assert everything["nowhere"].error


def test_what_is_ours_is_left_out_by_whatever_path_it_is_reached(films: Path, tmp_path: Path):
    (tmp_path / "alias").symlink_to(films)
    ours = Ours.at([films / "a.png", films / "scores.csv"], [films / "a"])
    rest = [file for file in FILES if file not in ("a.png", "a/inner.png")]

    assert names(films, ours=ours) == rest
    assert names(tmp_path / "alias", ours=ours) == rest
    with pytest.raises(FileNotFoundError):
        names(f"{films}/*.png", ours=ours)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: socket.socket(socket.AF_UNIX).bind(path)])
def test_what_is_no_regular_file_is_refused_by_kind_without_being_opened(
    tmp_path: Path, make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    make("strange")

    [one] = found(tmp_path)

    assert one.error
    assert one.error.code == "inaccessible"
    assert "expected a regular file" in one.error.problem


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_cannot_be_listed_is_not_passed_over(films: Path):
    (films / "B").chmod(0)

    everything = {one.file.name: one for one in found(films)}

    (films / "B").chmod(0o700)
    assert "Permission denied" in everything["B/"].error.problem  # type: ignore[union-attr]


def test_a_folder_that_fails_while_it_is_listed_is_not_passed_over(
    films: Path, monkeypatch: pytest.MonkeyPatch
):
    scandir = os.scandir

    def fails(folder: str):
        if folder.endswith("B"):
            raise OSError(5, "Input/output error")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", fails)

    everything = {one.file.name: one for one in found(films)}

    assert "Input/output error" in everything["B/"].error.problem  # type: ignore[union-attr]
    assert "a.png" in everything


def test_with_several_sources_names_are_the_paths_as_given(
    films: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(films.parent)

    assert names("films/a.png") == ["films/a.png"]
    assert names("films/B/", "films/a.png", "./films/a") == [
        "films/B/empty",
        "films/B/truncated.png",
        "films/a.png",
        "./films/a/inner.png",
    ]


def test_a_pattern_finds_what_a_shell_would(films: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(films.parent)

    assert names("films/*.png") == ["films/a.png"]
    assert names("films/**/*.png") == [
        "films/B/truncated.png",
        "films/a.png",
        "films/a/inner.png",
    ]
    assert names("films/[aB]") == [
        "films/B/empty",
        "films/B/truncated.png",
        "films/a/inner.png",
    ]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*", ["B/empty", "B/truncated.png", "a-b.jpg", "a.png", "a/inner.png", FILES[-1]]),
        ("**", FILES),
        ("**/", FILES),
        ("*/", ["B/empty", "B/truncated.png", "a/inner.png"]),
        ("**/*/*", ["B/empty", "B/truncated.png", "a/inner.png"]),
        ("**/**/inner.*", ["a/inner.png"]),
        ("**/a", ["a/inner.png"]),
        ("**/a*", ["a-b.jpg", "a.png", "a/inner.png"]),
        ("?/.//[!a]*.png", ["B/truncated.png", "a/inner.png"]),
        (".*", [".hidden/film.png"]),
        (".h*/*", [".hidden/film.png"]),
        ("[.]hidden/*", []),
        ("*/.hidden", []),
    ],
)
def test_a_pattern_is_followed_name_by_name(
    films: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, matched: list[str]
):
    monkeypatch.chdir(films)

    def shortened(pattern: str) -> list[str]:
        return [name.removeprefix(f"{films}/") for name in names(pattern)]

    for one in (pattern, f"{films}/{pattern}"):
        if matched:
            assert shortened(one) == matched
        else:
            with pytest.raises(FileNotFoundError, match="nothing matches"):
                names(one)


def test_a_pattern_follows_links_but_never_in_a_circle(films: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.png").touch()
    for name, target in [("loop", "."), ("again", "."), ("other", tmp_path / "elsewhere")]:
        (films / name).symlink_to(target)
    (films / "gone.png").symlink_to("nowhere")

    everything = {one.file.name: one for one in found(f"{films}/**/*.png")}

    assert list(everything) == [
        f"{films}/{name}"
        for name in (
            *("B/truncated.png", "a.png", "a/inner.png", "gone.png"),
            "other/linked.png",
        )
    ]
    assert everything[f"{films}/gone.png"].error


def test_a_pattern_passes_over_no_folder_that_may_match_and_cannot_be_listed(
    films: Path, monkeypatch: pytest.MonkeyPatch
):
    scandir = os.scandir

    def fails(folder: str):
        if folder.rstrip("/").endswith("B"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", fails)

    for pattern in ("**/*.png", "[AB]/*.png", "B*"):
        problems = {one.file.name: one.error for one in found(f"{films}/{pattern}")}
        assert "Permission denied" in problems[f"{films}/B/"].problem  # type: ignore[union-attr]
    assert names(f"{films}/*.png") == [f"{films}/a.png"]
    with pytest.raises(PermissionError):
        names(f"{films}/B/*.png")


def test_a_pattern_leaves_out_what_is_ours(films: Path):
    ours = Ours.at([films / "a.png", films / "scores.csv"], [films / "a", films / "B"])

    for pattern in ("**/*.*", "*", "[aB]*", "**"):
        assert {Path(name).name for name in names(f"{films}/{pattern}", ours=ours)} <= {
            *("a-b.jpg", "film.png", "notes, with a comma.txt"),
        }
    with pytest.raises(FileNotFoundError, match="nothing matches"):
        names(f"{films}/a/*", ours=ours)


def test_what_a_pattern_matches_is_not_opened_up(tmp_path: Path):
    for name in ("list.txt", "x.zip", "disc/DICOMDIR"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a line\n")

    matched = [f"{tmp_path}/{name}" for name in ("disc/DICOMDIR", "list.txt", "x.zip")]
    assert names(f"{tmp_path}/**/*") == names(f"{tmp_path}/*") == matched
    assert names(f"{tmp_path}/*.zip") == matched[2:]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(films: Path):
    (films / "a.png").rename(films / "a[1].png")

    assert names(films / "a[1].png") == [str(films / "a[1].png")]


@pytest.mark.parametrize("source", ["films/*.dcm", "gone", "gone/a.dcm"])
def test_a_source_that_is_not_there_is_an_error(
    films: Path, source: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(films.parent)

    with pytest.raises(FileNotFoundError):
        names(source)


def test_a_list_has_a_path_a_line_of_whatever_bytes(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (films / "a.png").rename(films / "\udcff.png")
    listed = tmp_path / "listed.txt"
    listed.write_bytes(
        b"\xef\xbb\xbffilms/a-b.jpg\r\n\nfilms/\xff.png\nfilms/gone.dcm\nfilms/B/empty\nfilms"
    )

    everything = found(listed)

    assert [one.file.name for one in everything] == [
        "films/a-b.jpg",
        "films/\udcff.png",
        "films/gone.dcm",
        "films/B/empty",
        "films",
    ]
    problems = [one.error.problem if one.error else "" for one in everything]
    assert [bool(problem) for problem in problems] == [False, False, True, False, True]
    assert "No such file" in problems[2]
    assert "a folder" in problems[4]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_list_may_be_utf_16_as_powershell_writes_it(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
):
    monkeypatch.chdir(tmp_path)
    (films / "a.png").rename(films / "Ċä胸\u2028.png")  # a letter with a byte like that of a \n
    listed = tmp_path / "listed.txt"
    text = "\ufefffilms/Ċä胸\u2028.png\r\n\r\nfilms/a-b.jpg\r\nfilms/\ud800.png\r\nfilms/B/empty"
    listed.write_bytes(text.encode(encoding, "surrogatepass") + b"\0")

    everything = found(listed)

    assert [one.file.name for one in everything] == [
        "films/Ċä胸\u2028.png",
        "films/a-b.jpg",
        "films/\ufffd.png",
        "films/B/empty\ufffd",
    ]
    assert [bool(one.error) for one in everything] == [False, False, True, True]


def test_a_zip_has_its_members_in_its_order(films: Path, tmp_path: Path):
    archive = tmp_path / "films.ZIP"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("z/b.png", b"old")
        file.mkdir("z/empty")
        file.writestr("a.png", b"a")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("z/b.png", b"new")

    assert names(archive) == ["a.png", "z/b.png"]
    assert names(archive, films)[:2] == [f"{archive}/a.png", f"{archive}/z/b.png"]


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and no more", b"no archive"])
def test_a_broken_zip_is_an_error_of_the_run(tmp_path: Path, content: bytes):
    (tmp_path / "x.zip").write_bytes(content)

    with pytest.raises(BatchError, match="not a ZIP archive"):
        names(tmp_path / "x.zip")


def test_a_dicomdir_has_the_files_it_refers_to(tmp_path: Path):
    make_dicomdir(tmp_path / "DICOMDIR", [("IMAGES", "B"), ("IMAGES", "A"), ("GONE",)])
    (tmp_path / "IMAGES").mkdir()
    for name in "AB":
        (tmp_path / "IMAGES" / name).touch()

    everything = found(tmp_path / "DICOMDIR")

    assert [one.file.name for one in everything] == ["IMAGES/B", "IMAGES/A", "GONE"]
    assert [bool(one.error) for one in everything] == [False, False, True]
    assert names(tmp_path / "DICOMDIR", tmp_path)[0] == f"{tmp_path}/IMAGES/B"


def test_a_dicomdir_shown_in_small_letters_refers_to_files_shown_so(tmp_path: Path):
    make_dicomdir(tmp_path / "dicomdir", [("IMAGES", "A")])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a").touch()

    [one] = found(tmp_path / "dicomdir")

    assert one.file.name == "images/a"
    assert not one.error


def test_a_dicomdir_leads_nowhere_else(tmp_path: Path):
    (tmp_path / "cd").mkdir()
    (tmp_path / "secret").touch()
    make_dicomdir(tmp_path / "cd" / "DICOMDIR", [("..", "secret"), ("/etc", "passwd")])

    assert all(one.error for one in found(tmp_path / "cd" / "DICOMDIR"))


def test_a_broken_dicomdir_is_an_error_of_the_run(tmp_path: Path):
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM and no more")

    with pytest.raises(BatchError, match="DICOMDIR"):
        names(tmp_path / "DICOMDIR")


def test_what_a_folder_holds_is_not_opened_up(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("a.png", b"")
    (tmp_path / "list.txt").write_text("a\nb\n")

    assert names(tmp_path) == ["list.txt", "x.zip"]
