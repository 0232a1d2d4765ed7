from pathlib import Path

from service.batch.folder import scan
from tests.batch.conftest import FILES


def test_every_file_is_found_once_in_path_order(films: Path):
    assert list(scan(films)) == FILES == sorted(FILES)


def test_a_folder_sorts_where_the_paths_of_its_files_do(tmp_path: Path):
    for name in ["b/x", "b.c", "b-c", "b0", "b!", "b/é", "b/Z/1"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    assert list(scan(tmp_path)) == ["b!", "b-c", "b.c", "b/Z/1", "b/x", "b/é", "b0"]


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

    assert list(scan(folder)) == ["inner/film", "itself", "nowhere", "other/linked"]


def test_what_is_left_out_is_left_out_whole(films: Path):
    found = list(scan(films, leave_out={"a", "B/empty"}))

    assert found == [file for file in FILES if file not in ("B/empty", "a/inner.png")]
