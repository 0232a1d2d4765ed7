"""Data sets as people have them, complete and broken."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from imaging.preprocessing import Preprocessing
from tests.factories import as_bytes, as_jpeg, as_png, make_color, make_dicom, make_film
from training.config import DataSettings
from training.data import cache
from training.data.cache import PictureCache
from training.data.layouts import load_samples
from training.errors import ConfigError, DataError, unreadable

ISIC = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def manifest(tmp_path) -> Path:
    write(
        tmp_path / "labels.csv",
        "image,label,patient\n1.png,sick,p1\nmore/2.jpg,healthy,p2\n3.png,sick,p1\n",
    )
    for name in ("1.png", "3.png"):
        write(tmp_path / "images" / name, as_png(make_color(20, 30)))
    write(tmp_path / "images/more/2.jpg", as_jpeg(make_color(20, 30)))
    write(tmp_path / "boxes.csv", "image,x,y,w,h\n3.png,1,2,10,5\n3.png,20,10,10,10\n")
    return tmp_path


@pytest.fixture
def isic(tmp_path) -> Path:
    truth, metadata = ["image," + ",".join(ISIC)], ["lesion_id,image_id,dx"]
    for n, label in enumerate(ISIC):
        for k in range(2):
            name = f"ISIC_{n}{k}"
            truth.append(name + "".join(f",{float(label == other)}" for other in ISIC))
            metadata.append(f"HAM_{n},{name},x")
            picture = as_jpeg(make_color(8, 8, seed=n))
            write(tmp_path / f"ISIC2018_Task3_Training_Input/{name}.jpg", picture)
    write(tmp_path / "ISIC2018_Task3_Training_GroundTruth.csv", "\n".join(truth) + "\n")
    write(tmp_path / "HAM10000_metadata.csv", "\n".join(metadata) + "\n")
    return tmp_path


@pytest.fixture
def rsna(tmp_path) -> Path:
    write(
        tmp_path / "stage_2_detailed_class_info.csv",
        "patientId,class\na,Normal\nb,Lung Opacity\nb,Lung Opacity\n"
        "c,No Lung Opacity / Not Normal\n",
    )
    write(
        tmp_path / "stage_2_train_labels.csv",
        "patientId,x,y,width,height,Target\na,,,,,0\nb,5,6,10,20,1\nb,30,6,10.5,20,1\nc,,,,,0\n",
    )
    for name in "abc":
        film = as_bytes(make_dicom(make_film(64, 48)))
        write(tmp_path / f"stage_2_train_images/{name}.dcm", film)
    return tmp_path


def load(root: Path, layout: str = "manifest", **settings):
    return load_samples(DataSettings(layout=layout, root=str(root), **settings))


def test_a_manifest_gives_labels_groups_and_boxes(manifest):
    samples = load(manifest, group_column="patient", boxes="boxes.csv")

    assert samples.labels == ("healthy", "sick")
    assert [item.name for item in samples.samples] == ["1.png", "more/2.jpg", "3.png"]
    assert [item.label for item in samples.samples] == [1, 0, 1]
    assert [item.group for item in samples.samples] == ["p1", "p2", "p1"]
    assert all(item.path.is_file() for item in samples.samples)
    assert [len(item.boxes) for item in samples.samples] == [0, 0, 2]
    assert samples.samples[2].boxes.tolist() == [[1, 2, 11, 7], [20, 10, 30, 20]]
    assert samples.counts().tolist() == [1, 2]


def test_labels_keep_the_order_asked_for_and_pictures_stand_for_themselves(manifest):
    samples = load(manifest, labels=("sick", "healthy"))

    assert samples.labels == ("sick", "healthy")
    assert [item.label for item in samples.samples] == [0, 1, 0]
    assert len({item.group for item in samples.samples}) == 3


def test_spaces_make_no_other_label_or_patient(manifest):
    text = "image,label,patient\n1.png,sick ,p1\nmore/2.jpg, sick, p1\n3.png,healthy,p2\n"
    write(manifest / "labels.csv", text)

    samples = load(manifest, group_column="patient")

    assert samples.labels == ("healthy", "sick")
    assert [item.group for item in samples.samples] == ["p1", "p1", "p2"]


def test_columns_and_files_may_have_other_names(manifest):
    write(manifest / "list.csv", "\ufefffile,finding,note\n2.jpg,sick,,,\n")  # as Excel writes it

    samples = load(
        manifest,
        manifest="list.csv",
        images="images/more",
        image_column="file",
        label_column="finding",
    )

    assert samples.samples[0].path == manifest / "images/more/2.jpg"


def test_a_folder_per_class_is_a_data_set(tmp_path):
    for name in ("cat/1.png", "cat/deep/2.JPG", "dog/3.dcm", "dog/notes.txt"):
        write(tmp_path / "pets" / name, b"")

    samples = load(tmp_path, "folders", images="pets")

    assert samples.labels == ("cat", "dog")
    named = [(item.name, item.label) for item in samples.samples]
    assert named == [("cat/1.png", 0), ("cat/deep/2.JPG", 0), ("dog/3.dcm", 1)]


@pytest.mark.parametrize("layout", ["folders", "isic2018", "rsna"])
def test_patients_named_where_no_layout_reads_them_are_not_torn_apart_in_silence(tmp_path, layout):
    with pytest.raises(ConfigError, match=r"group_column is set, but layout = .* no effect"):
        load(tmp_path, layout, group_column="patient")


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("HAM10000_metadata.csv", "lesion_id,image_id,dx"),
        ("HAM10000_metadata", "lesion_id,image_id,dx"),
        ("ISIC2018_Task3_Training_LesionGroupings.csv", "lesion_id,image,diagnosis_confirm_type"),
    ],
)
def test_isic_2018_groups_pictures_of_the_same_lesion(isic, name, header):
    rows = (isic / "HAM10000_metadata.csv").read_text().splitlines()[1:]
    (isic / "HAM10000_metadata.csv").unlink()
    write(isic / name, "\n".join([header, *rows]))

    samples = load(isic, "isic2018", labels=tuple(label.lower() for label in ISIC))

    assert samples.counts().tolist() == [2] * 7
    assert {item.name: (item.label, item.group) for item in samples.samples} == {
        f"ISIC_{n}{k}.jpg": (n, f"HAM_{n}") for n in range(7) for k in range(2)
    }


def test_rsna_gives_one_sample_a_film_with_all_of_its_boxes(rsna):
    samples = load(rsna, "rsna")

    assert samples.labels == ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")
    assert [(item.name, item.label) for item in samples.samples] == [
        ("a.dcm", 2),
        ("b.dcm", 0),
        ("c.dcm", 1),
    ]
    assert samples.samples[1].boxes.tolist() == [[5, 6, 15, 26], [30, 6, 40.5, 26]]
    assert [item.group for item in samples.samples] == ["a", "b", "c"]
    cache = PictureCache.open(
        samples, Preprocessing(size=32, fit="pad", color="gray"), rsna / "cache"
    )
    moved = cache.placements[1].boxes_to_model(samples.samples[1].boxes)
    np.testing.assert_allclose(moved, samples.samples[1].boxes / 2 + [4, 0, 4, 0])
    assert cache.pictures[1].std() > 10


def test_an_unknown_layout_is_refused():
    with pytest.raises(ConfigError, match="'coco': expected manifest, folders, isic2018, rsna"):
        load_samples(DataSettings(layout="coco"))


MANIFEST_MISTAKES = {
    "image,label\n9.png,sick\n": r"9\.png is listed, but not in .*images",
    "image,label\n1.png,sick\n1.png,sick\n": r"1\.png is listed twice",
    "image,label\n1.png,sick\n./1.png,healthy\n": r"\./1\.png is listed twice",
    "image,finding\n1.png,sick\n": r"labels\.csv: no column label; found image, finding",
    "": r"labels\.csv: no column image, label; found",
    "image,label\n": r"labels\.csv: no rows",
    "image,label\n1.png, \n": r"labels\.csv, line 2: no label",
    "image,label\n1.png\n": r"labels\.csv, line 2: too few values",
    "image,label\n1.png,sick, very\n": r"labels\.csv, line 2: too many values; quote what has",
    'image,label\n1.png,"sick\n' + 200_000 * "x": r"labels\.csv, line \d+: field larger",
    "image,label\n1.png,sick\n3.png,\n": r"labels\.csv, line 3: no label",
    "image,label\n\n\n1.png,sick\n\n3.png,\n": r"labels\.csv, line 6: no label",
}


@pytest.mark.parametrize("text", MANIFEST_MISTAKES)
def test_a_mistake_in_a_manifest_is_named(manifest, text):
    write(manifest / "labels.csv", text)

    with pytest.raises(DataError, match=MANIFEST_MISTAKES[text]):
        load(manifest)


def test_a_picture_without_patient_is_named(manifest):
    write(manifest / "labels.csv", "image,label,patient\n1.png,sick,p1\n3.png,healthy,\n")

    with pytest.raises(DataError, match=r"labels\.csv, line 3: no patient"):
        load(manifest, group_column="patient")


@pytest.mark.parametrize("content", [None, b"image,label\n1.png,\xff\xfe\n"])
def test_a_manifest_that_cannot_be_read_is_named(manifest, content):
    (manifest / "labels.csv").unlink()
    if content:
        write(manifest / "labels.csv", content)

    with pytest.raises(DataError, match=r"labels\.csv: (No such file|not UTF-8 text)"):
        load(manifest)


def test_labels_that_do_not_match_those_asked_for_are_named(manifest):
    with pytest.raises(DataError, match="label sick is not among healthy, ill"):
        load(manifest, labels=("healthy", "ill"))
    with pytest.raises(DataError, match="no picture has the label dead"):
        load(manifest, labels=("healthy", "sick", "dead"))


def test_a_label_can_count_as_another(manifest):
    merged = load(manifest, merge={"sick": "other"})

    assert merged.labels == ("healthy", "other")
    assert merged.counts().tolist() == load(manifest).counts().tolist()
    with pytest.raises(DataError, match="merge: no picture has the label ill"):
        load(manifest, merge={"ill": "sick"})
    elsewhere = DataSettings(root=str(manifest), merge={"ill": "sick"})
    assert load_samples(elsewhere, complete=False).labels == ("healthy", "sick")
    with pytest.raises(DataError, match=r'called \'all\', a word of .* data\.merge = { all = "'):
        load(manifest, merge={"sick": "all"})


BOX_MISTAKES = {
    "image,x,y,w,h\n8.png,1,2,3,4\n": r"boxes\.csv: boxes for 8\.png, which is not listed",
    "image,x,y,w,h\n1.png,1,2,0,4\n": r"boxes\.csv, line 2: .*, w and h above 0; found 0\.0",
    "image,x,y,w,h\n1.png,1,nan,3,4\n": r"boxes\.csv, line 2: .* found 3\.0 x 4\.0 at 1\.0, nan",
    "image,x,y,w,h\n1.png,.5,.5,.4,.8\n3.png,.9,.5,.2,1\n": r"boxes\.csv: no .* expected pixels",
    "image,x,y,w,h\n1.png,1,2,3,4\n1.png,1,two,3,4\n": r"boxes\.csv, line 3: .* must be numbers",
    "image,x,y,w,h\n\n\n1.png,1,2,0,4\n": r"boxes\.csv, line 4: .*, w and h above 0",
    "image,x,y,w\n1.png,1,2,3\n": r"boxes\.csv: no column h",
    "image,x,y,w,h\n1.png,1,5,2,5,3,5,4,5\n": r"boxes\.csv, line 2: .* numbers with a point",
}


@pytest.mark.parametrize("text", BOX_MISTAKES)
def test_a_mistake_among_the_boxes_is_named(manifest, text):
    write(manifest / "boxes.csv", text)

    with pytest.raises(DataError, match=BOX_MISTAKES[text]):
        load(manifest, boxes="boxes.csv")


@pytest.mark.parametrize("box", ["-3,2,10,10", "25,2,10,10", "2,15,3,9", "300,300,5,5"])
def test_a_box_outside_its_picture_is_refused(manifest, box):
    write(manifest / "boxes.csv", f"image,x,y,w,h\n1.png,{box}\n")  # of 30 x 20 pixels
    samples = load(manifest, boxes="boxes.csv")

    with pytest.raises(DataError, match=r"1\.png: box .* leaves its picture of 30 x 20 pixels"):
        PictureCache.open(
            samples, Preprocessing(size=16, fit="pad", color="rgb"), manifest / "cache"
        )


def test_a_box_may_reach_over_the_border_by_the_rounding_of_a_pixel(manifest):
    write(manifest / "boxes.csv", "image,x,y,w,h\n1.png,-0.5,0,31,20.5\n")
    samples = load(manifest, boxes="boxes.csv")

    PictureCache.open(samples, Preprocessing(size=16, fit="pad", color="rgb"), manifest / "cache")


def test_all_damaged_pictures_are_named_at_once(manifest):
    for name in ("images/1.png", "images/3.png"):
        write(manifest / name, b"\x89PNG\r\n\x1a\nno more")

    with pytest.raises(DataError, match=r"2 pictures cannot be read: 1\.png: .*; 3\.png: "):
        PictureCache.open(
            load(manifest), Preprocessing(size=16, fit="pad", color="rgb"), manifest / "cache"
        )


def test_a_damaged_picture_is_named(manifest):
    write(manifest / "images/3.png", b"\x89PNG\r\n\x1a\nno more")

    with pytest.raises(DataError, match=r"3\.png"):
        PictureCache.open(
            load(manifest), Preprocessing(size=16, fit="pad", color="rgb"), manifest / "cache"
        )
    assert not list((manifest / "cache").iterdir())  # what was decoded for nothing takes no room


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot take room")
def test_decoded_pictures_that_find_no_room_are_an_error_and_no_crash(manifest, monkeypatch):
    asked = []

    def full(file: int, start: int, size: int) -> None:
        asked.append((start, size))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)

    with pytest.raises(OSError, match="No space left on device") as caught:
        PictureCache.open(
            load(manifest), Preprocessing(size=16, fit="pad", color="rgb"), manifest / "cache"
        )
    assert str(caught.value.filename).startswith(str(manifest / "cache"))
    assert asked == [(0, 128 + 3 * 16 * 16 * 3)]  # all of it: NumPy's header and three pictures
    assert not list((manifest / "cache").iterdir())


def test_decoded_pictures_are_kept_until_a_file_or_the_preprocessing_changes(manifest):
    samples, folder = load(manifest), manifest / "cache"

    def opened(size=16):
        return PictureCache.open(samples, Preprocessing(size=size, fit="pad", color="rgb"), folder)

    first = np.array(opened().pictures)
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = opened()
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == kept
    np.testing.assert_array_equal(again.pictures, first)
    assert opened(size=8).pictures.shape == (3, 8, 8, 3)
    write(manifest / "images/1.png", as_png(255 - make_color(20, 31)))
    changed = np.array(opened().pictures)
    assert (changed[0] != first[0]).any()
    np.testing.assert_array_equal(changed[1:], first[1:])


def test_decoded_pictures_are_not_kept_when_files_are_read_otherwise(manifest, monkeypatch):
    samples, folder = load(manifest), manifest / "cache"
    preprocessing = Preprocessing(size=16, fit="pad", color="rgb")
    PictureCache.open(samples, preprocessing, folder)
    kept = set(folder.iterdir())

    monkeypatch.setattr(cache, "READING_VERSION", cache.READING_VERSION + 1)
    PictureCache.open(samples, preprocessing, folder)

    assert len(set(folder.iterdir()) - kept) == 2


def test_two_trainings_can_fill_one_cache_at_once(manifest, monkeypatch):
    def opened() -> PictureCache:
        preprocessing = Preprocessing(size=16, fit="pad", color="rgb")
        return PictureCache.open(load(manifest), preprocessing, manifest / "cache")

    others = []

    def meanwhile(path) -> None:
        if not others:  # another one begins later and is done before
            others.append(None)
            others.append(opened())

    monkeypatch.setattr(cache, "take_room", meanwhile)
    first = opened()

    np.testing.assert_array_equal(first.pictures, others[1].pictures)
    assert first.placements == others[1].placements
    assert sorted(path.suffix for path in (manifest / "cache").iterdir()) == [".json", ".npy"]


def test_the_same_picture_under_two_names_is_found_if_lists_tear_it_apart(manifest):
    samples = load(manifest)  # 1.png and 3.png are the same
    cache = PictureCache.open(
        samples, Preprocessing(size=16, fit="pad", color="rgb"), manifest / "cache"
    )
    both, other = samples.subset({"1.png", "3.png"}), samples.subset({"more/2.jpg"})
    first, second = samples.subset({"1.png"}), samples.subset({"3.png"})

    assert cache.twins({"train": both, "test": other}) == []
    assert cache.twins({"train": first, "validation": other, "test": second}) == [
        ("1.png", "3.png")
    ]


def test_folders_take_every_kind_of_picture_that_is_read_and_nothing_hidden(tmp_path):
    names = [
        "a/1.tif",
        "a/2.TIFF",
        "a/3.bmp",
        "b/4.dicom",
        "b/._4.png",
        "b/.x/6.png",
        ".trash/5.png",
    ]
    for name in names:
        write(tmp_path / "pets" / name, "")

    samples = load(tmp_path, "folders", images="pets")

    assert [item.name for item in samples.samples] == names[:4]
    assert samples.labels == ("a", "b")


def test_a_class_whose_files_are_no_pictures_is_named(tmp_path):
    write(tmp_path / "pets" / "cat" / "1.png", "")
    write(tmp_path / "pets" / "dog" / "IM0001", "")

    with pytest.raises(DataError, match=r"dog: no picture of this class, .* found dog/IM0001"):
        load(tmp_path, "folders", images="pets")


def test_folders_without_any_picture_are_named(tmp_path):
    with pytest.raises(DataError, match="no pictures in the layout 'folders'"):
        load(tmp_path, "folders")


def test_folders_that_are_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        load(tmp_path, "folders", images="nowhere")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_isic_2018_without_metadata_is_refused(isic):
    (isic / "HAM10000_metadata.csv").unlink()

    with pytest.raises(DataError, match=r"no HAM10000_metadata\.csv, which says what pictures"):
        load(isic, "isic2018")


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("ISIC2018_Task3_Training_GroundTruth.csv", "1.0", "0.0", "ISIC_00 has 0 classes"),
        ("ISIC2018_Task3_Training_GroundTruth.csv", "1.0,0.0", "1.0,1.0", "ISIC_00 has 2 classes"),
        ("ISIC2018_Task3_Training_GroundTruth.csv", "1.0", "yes", "ISIC_00 has 0 classes"),
        ("ISIC2018_Task3_Training_GroundTruth.csv", "BKL", "QQQ", "no column BKL"),
        ("HAM10000_metadata.csv", "ISIC_31", "ISIC_99", "ISIC_31 has no lesion in the metadata"),
        ("HAM10000_metadata.csv", "image_id", "picture", "no column image_id"),
    ],
)
def test_a_mistake_in_isic_2018_is_named(isic, file, old, new, words):
    replace(isic / file, old, new)

    with pytest.raises(DataError, match=words):
        load(isic, "isic2018")


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("stage_2_detailed_class_info.csv", "b,Lung Opacity", "b,Normal", "b has two classes"),
        ("stage_2_train_labels.csv", "c,,,,,0", "d,,,,,0", "line 5: a film without class"),
        ("stage_2_train_labels.csv", "b,5,6,10", "b,5,6,-10", "line 3: .*, w and h above 0"),
        ("stage_2_train_labels.csv", "b,5,6", "b,5,", "line 3: x, y, w, h must be numbers"),
        ("stage_2_train_labels.csv", "width", "breadth", "no column width"),
        ("stage_2_detailed_class_info.csv", "a,Normal", "e,Normal", "a film without class"),
    ],
)
def test_a_mistake_in_rsna_is_named(rsna, file, old, new, words):
    replace(rsna / file, old, new)

    with pytest.raises(DataError, match=words):
        load(rsna, "rsna")


def test_a_film_of_rsna_that_is_not_there_is_named(rsna):
    (rsna / "stage_2_train_images/b.dcm").unlink()

    with pytest.raises(DataError, match=r"b\.dcm is listed, but not in .*stage_2_train_images"):
        load(rsna, "rsna")


def test_of_many_damaged_pictures_some_are_named_and_all_counted():
    problems = [f"{number}.png: damaged" for number in range(25)]

    told = str(unreadable(problems))

    assert told.startswith("25 pictures cannot be read: 0.png: damaged; 1.png: damaged; ")
    assert told.endswith("9.png: damaged; and 15 more")
