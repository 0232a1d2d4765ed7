"""How a model's files come into its folder."""

from pathlib import Path

from training.release import FILES, put_in_place


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text(f"{name} of {path.name}")
    return path


def test_a_model_takes_the_place_of_a_former_one_and_leaves_other_files_alone(tmp_path):
    draft = folder_of(tmp_path / "draft", "card.json", "model.onnx")
    target = folder_of(tmp_path / "target", *FILES, "notes.txt")

    put_in_place(draft, target)

    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "card.json": "card.json of draft",
        "model.onnx": "model.onnx of draft",
        "notes.txt": "notes.txt of target",
    }
    assert list(draft.iterdir()) == []


def test_the_card_is_there_once_everything_else_is(tmp_path, monkeypatch):
    moved = []
    move = Path.replace

    def watched(self: Path, target: Path) -> Path:
        moved.append(self.name)
        return move(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    put_in_place(folder_of(tmp_path / "draft", *FILES), tmp_path / "target")

    assert sorted(moved) == sorted(FILES)
    assert moved[-1] == "card.json"
