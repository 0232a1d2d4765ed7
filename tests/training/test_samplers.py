"""Which pictures make up a batch, for one process and for several."""

from collections import Counter

import numpy as np
import pytest

from training.config import MixUpSettings, SamplerSettings
from training.data.samplers import SAMPLERS
from training.errors import ConfigError

# 40 of class 0, 9 of class 1, 3 of class 2; shuffled so that order tells nothing
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [40, 9, 3]))


def sampler(
    name="plain", *, labels=LABELS, seed=0, epoch=0, rank=0, world=1, mixup=None, **options
):
    made = SAMPLERS[name](
        labels,
        SamplerSettings(name=name, **options),
        seed=seed,
        rank=rank,
        world=world,
        mixup=mixup,
    )
    made.epoch = epoch
    return made


def pictures(batches) -> list[int]:
    return [draw.sample for batch in batches for draw in batch]


def test_plain_shows_every_picture_once_in_another_order_each_epoch():
    first, second = (pictures(sampler(batch=8, epoch=epoch)) for epoch in (0, 1))

    assert sorted(first) == sorted(second) == list(range(52))
    assert first != second
    assert first != sorted(first)


def test_an_epoch_of_fewer_pictures_is_cut_short():
    made = sampler(batch=8, epoch_pictures=20)

    assert len(made) == len(list(made)) == 3
    assert len(set(pictures(made))) == 20


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("pictures", [8, 20, 52, 60])
@pytest.mark.parametrize(("whole", "world"), [(False, 1), (False, 6), (True, 1)])
def test_an_epoch_is_as_long_as_it_says(name, pictures, whole, world):
    settings = SamplerSettings(name=name, batch=8, p=2, k=4, epoch_pictures=pictures)
    made = SAMPLERS[name](LABELS, settings, seed=0, world=world, whole=whole)

    assert len(made) == len(list(made)) > 0


def test_class_uniform_draws_every_class_equally_often():
    drawn = pictures(sampler("class_uniform", batch=50, epoch_pictures=6000))

    counts = np.bincount(LABELS[drawn])
    deviation = 3 * np.sqrt(6000 * (1 / 3) * (2 / 3))
    assert np.abs(counts - 2000).max() < deviation


def test_class_uniform_shows_all_pictures_of_a_class_before_one_comes_again():
    drawn = pictures(sampler("class_uniform", batch=50, epoch_pictures=600))

    for label in range(3):
        own = [index for index in drawn if LABELS[index] == label]
        members = set(np.flatnonzero(np.equal(LABELS, label)).tolist())
        for start in range(0, len(own) - len(members) + 1, len(members)):
            assert set(own[start : start + len(members)]) == members
    counts = Counter(drawn)
    for label in range(3):
        times = [counts[i] for i in np.flatnonzero(np.equal(LABELS, label))]
        assert max(times) - min(times) <= 1


@pytest.mark.parametrize("p", [0, 3])
def test_pk_takes_k_of_every_class_again_and_again_where_there_are_fewer(p):
    made = sampler("pk", p=p, k=8)
    batches = list(made)

    assert made.batch == 24
    assert len(batches) == len(made) == 3  # 52 pictures in batches of 24
    for batch in batches:
        drawn = [draw.sample for draw in batch]
        assert np.bincount(LABELS[drawn]).tolist() == [8, 8, 8]
        rare = [index for index in drawn if LABELS[index] == 2]
        assert set(rare) == set(np.flatnonzero(LABELS == 2))  # 3 of them fill 8 places
        assert len(set(index for index in drawn if LABELS[index] == 0)) == 8


def test_pk_chooses_p_classes_at_random():
    batches = list(sampler("pk", p=2, k=4, epoch_pictures=800))

    chosen = [frozenset(LABELS[[draw.sample for draw in batch]].tolist()) for batch in batches]
    assert {len(classes) for classes in chosen} == {2}
    times = Counter(chosen)
    assert len(times) == 3
    assert min(times.values()) > 15  # of 100, 33 each expected


@pytest.mark.parametrize("mixup", [None, MixUpSettings(alpha=0.3)])
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_all_processes_are_the_batches_of_one(name, world, mixup):
    options = {"batch": 12, "k": 4, "mixup": mixup}
    alone = list(sampler(name, **options))
    shares = [list(sampler(name, rank=rank, world=world, **options)) for rank in range(world)]

    assert {len(share) for share in shares} == {len(alone)}
    for step, batch in enumerate(alone):
        together = [None] * len(batch)
        for rank in range(world):
            together[rank::world] = shares[rank][step]
        assert together == batch


def test_a_last_batch_too_small_to_share_is_left_out_by_all():
    shares = [list(sampler(batch=17, rank=rank, world=2)) for rank in range(2)]  # 52 = 3 * 17 + 1

    assert [len(share) for share in shares] == [3, 3]
    assert len(list(sampler(batch=17))) == 4


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_seed_and_an_epoch_say_everything(name):
    mixup = MixUpSettings(alpha=0.2)

    def drawn(seed, epoch):
        return list(sampler(name, seed=seed, epoch=epoch, batch=8, k=3, mixup=mixup))

    assert drawn(4, 2) == drawn(4, 2)
    assert drawn(4, 2) != drawn(4, 3)
    assert drawn(4, 2) != drawn(5, 2)


def test_a_resumed_epoch_is_that_of_an_undisturbed_run():
    undisturbed = sampler("class_uniform", batch=8)
    for epoch in range(3):
        undisturbed.epoch = epoch
        last = list(undisturbed)

    assert list(sampler("class_uniform", batch=8, epoch=2)) == last


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_two_turns_share_a_nonce(name):
    turns = [
        draw.nonce
        for epoch in range(3)
        for batch in sampler(name, batch=8, k=3, epoch=epoch)
        for draw in batch
    ]
    assert len(set(turns)) == len(turns)


def test_without_mixing_there_are_no_partners():
    draws = [draw for batch in sampler(batch=8) for draw in batch]

    assert {draw.partner for draw in draws} == {None}
    assert {draw.share for draw in draws} == {1.0}


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_mixup_draws_shares_from_a_symmetric_beta_and_partners_from_the_same_pictures(alpha):
    labels = np.zeros(4000, int)
    draws = [d for b in sampler(labels=labels, mixup=MixUpSettings(alpha=alpha)) for d in b]

    shares = np.array([draw.share for draw in draws])
    assert sorted(draw.partner for draw in draws) == list(range(4000))
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)  # of Beta(a, a)


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_balanced_mixup_mixes_a_little_of_a_class_drawn_uniformly_into_each_picture(alpha):
    labels = np.repeat([0, 1, 2], [5000, 900, 100])
    mixup = MixUpSettings(alpha=alpha, balanced=True)
    draws = [draw for batch in sampler(labels=labels, mixup=mixup) for draw in batch]

    own = np.array([draw.share for draw in draws])
    partners = np.bincount(labels[[draw.partner for draw in draws]])
    assert np.abs(partners - 2000).max() < 3 * np.sqrt(6000 * 2 / 9)
    assert sorted(draw.sample for draw in draws) == list(range(6000))
    assert (1 - own).mean() == pytest.approx(alpha / (alpha + 1), rel=0.1)  # of Beta(a, 1)
    # its distribution function is x^a
    for x in (0.1, 0.5, 0.9):
        assert (1 - own <= x).mean() == pytest.approx(x**alpha, abs=0.03)


def test_more_classes_per_batch_than_there_are_is_refused():
    sampler = SAMPLERS["pk"](np.array([0, 0, 1]), SamplerSettings(name="pk", p=3, k=2), seed=0)
    with pytest.raises(ConfigError, match="there are 2 classes"):
        list(sampler)


def test_a_plain_epoch_longer_than_the_list_goes_round_again():
    settings = SamplerSettings(name="plain", batch=4, epoch_pictures=25)
    sampler = SAMPLERS["plain"](np.zeros(10, int), settings, seed=0)
    drawn = [draw.sample for batch in sampler for draw in batch]
    assert len(list(sampler)) == len(sampler)
    assert sorted(drawn[:10]) == sorted(drawn[10:20]) == list(range(10))
    assert len(drawn) == 25
