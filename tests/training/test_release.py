"""Which network becomes a model, and how its files come into its folder."""

from pathlib import Path

from training.config import ControlSettings, TrainingRun
from training.release import FILES, load_checkpoint, put_in_place
from training.run_folder import save_weights
from training.stages import network_of


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text(f"{name} of {path.name}")
    return path


def test_a_network_of_a_run_that_was_stopped_is_told_from_that_of_its_last_stage(tmp_path, caplog):
    run = TrainingRun(name="x", control=ControlSettings(second_stage=True))
    weights = network_of(run, 2).state_dict()
    save_weights(weights, tmp_path / "stage1.safetensors")
    (tmp_path / "stage1.json").touch()

    assert load_checkpoint(run, tmp_path, None, classes=2)[0] == "stage1"
    assert "stage2 is not finished, this is the network of stage1" in caplog.text

    caplog.clear()
    load_checkpoint(run, tmp_path, "stage1", classes=2)  # as asked for
    save_weights(weights, tmp_path / "stage2.safetensors")
    (tmp_path / "stage2.json").touch()
    assert load_checkpoint(run, tmp_path, None, classes=2)[0] == "stage2"
    assert not caplog.text


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
