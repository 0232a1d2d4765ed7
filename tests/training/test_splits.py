"""Train, validation and test lists."""

import csv
from collections import defaultdict
from math import inf, nan

import numpy as np
import pytest

from tests.training.tiny import sample, sample_list
from training.data.samples import SampleList
from training.data.splits import PARTS, fewest_folds, load_or_make_split
from training.errors import ConfigError, DataError


def many(seed: int = 0) -> SampleList:
    """600, 200 and 100 pictures of three classes; patients with 1 to 4 pictures of one class."""
    random = np.random.default_rng(seed)
    samples = []
    for label, count in enumerate((600, 200, 100)):
        patient = 0
        while sum(item.label == label for item in samples) < count:
            for _ in range(random.integers(1, 5)):
                name = f"{len(samples):04d}.png"
                samples.append(sample(name, label, group=f"patient {label}-{patient}"))
            patient += 1
    order = random.permutation(len(samples))
    return sample_list(*(samples[n] for n in order), labels=("common", "rare", "rarest"))


def split(samples=None, path=None, *, validation=0.15, test=0.15, seed=0, keep=None):
    return load_or_make_split(
        samples or many(), path, validation=validation, test=test, seed=seed, keep=keep
    )


def names(part: SampleList) -> list[str]:
    return [item.name for item in part.samples]


@pytest.mark.parametrize("seed", range(3))
def test_every_picture_is_in_one_list_and_no_patient_in_two(seed):
    samples = many()
    parts = split(samples, seed=seed)

    assert set(parts) == set(PARTS)
    together = [name for part in parts.values() for name in names(part)]
    assert sorted(together) == sorted(names(samples))
    where = defaultdict(set)
    for name, part in parts.items():
        for item in part.samples:
            where[item.group].add(name)
    assert {len(places) for places in where.values()} == {1}


@pytest.mark.parametrize(("validation", "test"), [(0.15, 0.15), (0.2, 0.2), (0.05, 0.3), (0.5, 0)])
def test_every_class_is_shared_out_in_proportion(validation, test):
    samples = many()
    parts = split(samples, validation=validation, test=test)

    shares = {"validation": validation, "test": test, "train": 1 - validation - test}
    for name, share in shares.items():
        expected = share * samples.counts()
        np.testing.assert_allclose(parts[name].counts(), expected, atol=6)  # whole patients


def test_the_seed_says_which_list():
    assert names(split(seed=1)["test"]) == names(split(seed=1)["test"])
    assert names(split(seed=1)["test"]) != names(split(seed=2)["test"])


def test_a_list_is_written_down_and_used_again_whatever_the_seed(tmp_path):
    path = tmp_path / "splits" / "mine.csv"
    first = split(path=path, seed=1)

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["image"]: row["split"] for row in rows} == {
        name: part for part, subset in first.items() for name in names(subset)
    }
    assert [row["image"] for row in rows] == sorted(names(many()))
    written = path.read_bytes()
    again = split(path=path, seed=2, validation=0.3)
    assert {part: names(subset) for part, subset in again.items()} == {
        part: names(subset) for part, subset in first.items()
    }
    assert path.read_bytes() == written


def test_pictures_can_be_set_aside(tmp_path):
    path = tmp_path / "split.csv"
    first = split(path=path)
    aside = names(first["train"])[0]
    path.write_text(path.read_text().replace(f"{aside},train", f"{aside},unused"))

    again = split(path=path)

    assert set(names(first["train"])) - set(names(again["train"])) == {aside}


@pytest.mark.parametrize("seed", range(3))
def test_keep_makes_a_class_rare_in_training_alone(seed):
    whole, fewer = split(seed=seed), split(seed=seed, keep={"rare": 31, "rarest": 7})

    assert fewer["train"].counts().tolist() == [whole["train"].counts()[0], 31, 7]
    for part in ("validation", "test"):
        assert names(fewer[part]) == names(whole[part])
    assert set(names(fewer["train"])) < set(names(whole["train"]))


def test_keep_takes_whole_patients_but_for_the_last():
    whole, fewer = split()["train"], split(keep={"rare": 31})["train"]
    sizes, kept = defaultdict(int), defaultdict(int)
    for item in whole.samples:
        sizes[item.group] += item.label == 1
    for item in fewer.samples:
        kept[item.group] += item.label == 1

    cut = [group for group, count in kept.items() if 0 < count < sizes[group]]
    assert len(cut) <= 1


def test_keep_is_drawn_by_the_seed_and_leaves_the_written_list_alone(tmp_path):
    path = tmp_path / "split.csv"
    split(path=path)
    written = path.read_bytes()

    drawn = [names(split(path=path, seed=seed, keep={"rare": 20})["train"]) for seed in (1, 1, 2)]

    assert drawn[0] == drawn[1] != drawn[2]
    assert path.read_bytes() == written
    fewer = names(split(path=path, seed=1, keep={"rare": 10})["train"])
    assert set(fewer) < set(drawn[0])  # fewer are some of the more


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ({"odd": 3}, "keep: no label 'odd'; there are common, rare, rarest"),
        ({"rare": 1000}, r"keep: rare has \d+ training pictures, 1000 wanted"),
        ({"rare": 0}, "keep: rare has .* 0 wanted"),
    ],
)
def test_keep_that_cannot_be_is_refused(keep, words):
    with pytest.raises(DataError, match=words):
        split(keep=keep)


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_three_patients_is_in_every_list(seed):
    samples = sample_list(
        *(sample(f"a{n}", 0) for n in range(80)),
        *(sample(f"b{n}", 1, group=f"p{n // 2}") for n in range(6)),
        *(sample(f"c{n}", 2) for n in range(3)),
    )

    parts = split(samples, seed=seed)

    assert [part.counts().tolist()[1:] for part in parts.values()] == [[2, 1]] * 3
    assert sum(len(part.samples) for part in parts.values()) == len(samples.samples)


@pytest.mark.parametrize("share", [0.15, 0.2])
@pytest.mark.parametrize("rare", [[3, 3], [4] * 5, [3] * 39])
def test_many_classes_of_few_patients_are_in_every_list(rare, share):
    samples = sample_list(
        *(
            sample(f"{label}-{n}", label)
            for label, count in enumerate([300, *rare])
            for n in range(count)
        ),
        labels=[f"class {label}" for label in range(1 + len(rare))],
    )

    parts = split(samples, validation=share, test=share)

    assert min(part.counts().min() for part in parts.values()) == 1
    for name in ("validation", "test"):
        assert abs(parts[name].counts()[0] - share * 300) <= 5


def test_a_list_that_is_filled_up_keeps_patients_together():
    shared = [sample(f"s{n}", n % 3, group=f"p{n // 3}") for n in range(9)]  # one of each class
    common = [sample(f"a{n}", 0) for n in range(80)]

    parts = split(sample_list(*shared, *common))

    assert [part.counts().tolist()[1:] for part in parts.values()] == [[1, 1]] * 3
    for part in parts.values():
        assert len({item.group for item in part.samples if item.name.startswith("s")}) == 1


def test_a_list_that_leaves_a_class_out_is_not_left_behind(tmp_path):
    pictures = [sample(f"a{n}", 0) for n in range(40)]
    path = tmp_path / "split.csv"
    with pytest.raises(DataError, match="no picture of 'b'"):
        split(sample_list(*pictures, *(sample(f"b{n}", 1, group="p") for n in range(6))), path)

    assert not list(tmp_path.iterdir())
    split(sample_list(*pictures, *(sample(f"b{n}", 1) for n in range(6))), path)
    assert path.exists()


def test_a_class_with_one_patient_is_named():
    samples = sample_list(
        *(sample(f"a{n}", 0) for n in range(40)),
        *(sample(f"b{n}", 1, group="only one") for n in range(10)),
    )

    with pytest.raises(DataError, match=r"no picture of 'b'; it has 1 group\(s\)"):
        split(samples)


def test_fewer_pictures_than_parts_are_told_what_shares_need_fewer():
    samples = sample_list(*(sample(f"{label}{n}", label) for label in (0, 1) for n in range(12)))

    with pytest.raises(DataError, match=r"cannot split 24 .* need 20 parts.* 0\.2 need 5"):
        split(samples)
    assert split(samples, validation=0.2, test=0.2)["train"].counts().min() > 0


def test_fewer_patients_than_lists_are_refused():
    samples = sample_list(*(sample(f"a{n}", 0, group=f"p{n % 2}") for n in range(9)))

    with pytest.raises(DataError, match=r"cannot split 9 pictures|no picture of 'a'"):
        split(samples)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0.png,train", "0.png,training", "split 'training'; expected train, validation, test"),
        ("0.png,train\n", "", "1 pictures are not listed, 0.png first"),
        ("0.png,train", "0.png,train\nx.png,test", r"lists x\.png, which the data set does not"),
        ("1.png,train", "1.png,test", "group p0 is in test and train"),
        ("0.png,train", "0.png,train\n0.png,train", r"0\.png is listed twice"),
        ("image,split", "picture,split", "no column image"),
        ("4.png,test\n5.png,test", "4.png,train\n5.png,train", "test: no picture of 'a'"),
    ],
)
def test_a_mistake_in_a_list_is_named(tmp_path, old, new, words):
    samples = sample_list(*(sample(f"{n}.png", 0, group=f"p{n // 2}") for n in range(6)))
    path = tmp_path / "split.csv"
    text = "image,split\n0.png,train\n1.png,train\n2.png,validation\n3.png,validation\n"
    path.write_text(text + "4.png,test\n5.png,test\n")
    assert names(split(samples, path)["test"]) == ["4.png", "5.png"]

    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))

    with pytest.raises(DataError, match=r"split\.csv: .*" + words):
        split(samples, path)


@pytest.mark.parametrize(
    ("validation", "test", "folds"),
    [(0.15, 0.15, 20), (0.2, 0.2, 5), (0.25, 0.25, 4), (0.1, 0.2, 10), (0.5, 0, 2), (0.3, 0.3, 10)],
)
def test_as_few_folds_as_make_both_shares_whole(validation, test, folds):
    assert fewest_folds(validation, test) == folds


@pytest.mark.parametrize(
    ("validation", "test"),
    [(0.33, 0.1), (0.0, 0.2), (0.5, 0.5), (0.2, -0.2), (1.2, 0), (nan, 0.2), (0.2, nan), (inf, 0)],
)
def test_impossible_shares_are_refused(validation, test):
    with pytest.raises(ConfigError, match=r"expected multiples of 0\.05"):
        fewest_folds(validation, test)
