"""Files are complete or not there."""

import errno
import stat

import pytest

from training.files import complete


def test_a_file_appears_once_it_is_complete(tmp_path):
    target = tmp_path / "table.csv"
    with complete(target) as part:
        part.write_text("half")
        assert not target.exists()
        part.write_text("all of it")

    assert {path: path.read_text() for path in tmp_path.iterdir()} == {target: "all of it"}


def test_what_fails_leaves_nothing_but_what_was_there(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")

    def write() -> None:
        with complete(target) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()

    assert {path: path.read_text() for path in tmp_path.iterdir()} == {target: "old"}


def test_several_can_write_the_same_file_at_once_and_the_last_stays(tmp_path):
    target = tmp_path / "table.csv"
    with complete(target) as slow:
        slow.write_text("slow")
        with complete(target) as fast:
            fast.write_text("fast")
        assert target.read_text() == "fast"

    assert {path: path.read_text() for path in tmp_path.iterdir()} == {target: "slow"}


def test_a_file_can_be_read_by_whom_the_user_lets_read_new_ones(tmp_path):
    usual, target = tmp_path / "usual", tmp_path / "table.csv"
    usual.touch()
    with complete(target) as part:
        part.write_text("all of it")

    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_of_two_files_the_last_named_is_put_in_its_place_first(tmp_path):
    card, graph = tmp_path / "card", tmp_path / "graph"

    def write() -> None:
        with complete(card) as told, complete(graph):  # the graph is never written
            told.write_text("a card")

    with pytest.raises(FileNotFoundError):
        write()

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_with_the_file_that_found_no_room(tmp_path):
    def write() -> None:
        with complete(tmp_path / "table.csv"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*table\.csv'"):
        write()
