"""EpochPlan: which rank sees which image when, and with which augmentation."""

import re
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melfast.data.augment import IDENTITY, Augment
from melfast.data.manifest import read_manifest
from melfast.data.plan import EpochPlan, Rank, Rows, evaluation_plan, reaches_out, size_before_warp, training_plan
from melfast.data.preprocess import Preprocess
from melfast.data.sampler import Sampler
from melfast.io.errors import InputError
from melfast.skin.tone import TONE_GROUPS

NO_CHANGE = Augment(hflip=0, vflip=0, rotation_deg=0, translation=0, scale=0)
MANY = 4000  # records for what is only true on average


def benign(count: int) -> Rows:
    return Rows(np.zeros(count, np.int64), np.full(count, -1, np.int16))


def plan_of(augment: Augment, rows: Rows | None = None, **changes: Any) -> EpochPlan:
    rows = rows or benign(MANY)
    options = {"preprocess": Preprocess(64, 64), "batch_size": 8, "seed": 3, "epoch": 0} | changes
    return training_plan(rows, augment=augment, **options)


def only(**parts: float) -> Augment:
    return Augment(**{"hflip": 0, "vflip": 0, "rotation_deg": 0, "translation": 0, "scale": 0} | parts)


# By hand.


def test_without_augmentation_the_affine_is_the_identity() -> None:
    plan = plan_of(NO_CHANGE)
    assert plan.affine.dtype == np.float32
    assert np.array_equal(plan.affine, np.broadcast_to(IDENTITY, (MANY, 2, 3)))


@pytest.mark.parametrize(
    ("augment", "wanted"),
    [
        (only(hflip=1), [[-1, 0, 0], [0, 1, 0]]),
        (only(vflip=1), [[1, 0, 0], [0, -1, 0]]),
        (only(hflip=1, vflip=1), [[-1, 0, 0], [0, -1, 0]]),
    ],
)
def test_flips_mirror_one_axis(augment: Augment, wanted: list[list[int]]) -> None:
    assert np.array_equal(plan_of(augment).affine[17], wanted)


def test_every_image_once_in_whole_batches() -> None:
    plan = plan_of(NO_CHANGE, benign(10), batch_size=3)
    assert plan.num_batches == 3
    assert plan.bounds.tolist() == [0, 3, 6, 9]
    assert plan.index.dtype == np.int64
    assert len(set(plan.index.tolist())) == 9
    assert set(plan.index.tolist()) < set(range(10))


def test_evaluation_deals_whole_batches_to_ranks() -> None:
    first = evaluation_plan(10, batch_size=3, share=Rank(0, 2))
    second = evaluation_plan(10, batch_size=3, share=Rank(1, 2))
    assert [first.index[s].tolist() for s in first.batches()] == [[0, 1, 2], [6, 7, 8]]
    assert [second.index[s].tolist() for s in second.batches()] == [[3, 4, 5], [9]]
    assert np.array_equal(second.affine, np.broadcast_to(IDENTITY, (4, 2, 3)))


def test_batches_from_the_middle() -> None:
    plan = evaluation_plan(10, batch_size=4)
    assert list(plan.batches()) == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert list(plan.batches(start=2)) == [slice(8, 10)]
    assert list(plan.batches(start=3)) == []


# Against homogeneous float64 matrices in pixels.


@pytest.mark.parametrize("aspect", [1.0, 4 / 3, 0.5])
def test_affine_is_rotation_zoom_and_shift_in_pixels(aspect: float) -> None:
    """In pixels the matrix is a similarity: circles stay circles, at any aspect."""
    augment = only(rotation_deg=30, scale=0.2, translation=0.1)
    affine = plan_of(augment, preprocess=Preprocess(60, round(60 * aspect))).affine.astype(np.float64)
    width, height = 120.0 * aspect, 120.0
    to_pixels = np.diag([width / 2, height / 2])
    linear = to_pixels @ affine[:, :, :2] @ np.linalg.inv(to_pixels)
    zoom = 1 / np.sqrt(np.linalg.det(linear))
    similarity = linear * zoom[:, None, None]
    np.testing.assert_allclose(
        similarity @ similarity.transpose(0, 2, 1), np.broadcast_to(np.eye(2), (MANY, 2, 2)), atol=1e-6
    )
    angle_deg = np.rad2deg(np.arctan2(similarity[:, 1, 0], similarity[:, 0, 0]))
    shift = affine[:, :, 2] / 2  # -1..1 over the side: half of it is a fraction of the side
    for found, low, high in [
        (angle_deg, -30, 30),
        (zoom, 0.8, 1.2),
        (shift[:, 0], -0.1, 0.1),
        (shift[:, 1], -0.1, 0.1),
    ]:
        span = high - low
        assert low - 1e-6 * span <= found.min() < low + 0.01 * span
        assert high - 0.01 * span < found.max() <= high + 1e-6 * span
        assert abs(found.mean() - (low + high) / 2) < 0.03 * span  # 3 % is > 6 sigma of the mean


def test_flip_is_done_before_the_rotation() -> None:
    plain = plan_of(only(rotation_deg=40, translation=0.2)).affine
    flipped = plan_of(only(rotation_deg=40, translation=0.2, hflip=1)).affine
    mirror = np.diag([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(flipped, plain @ mirror, atol=1e-6)


def test_flip_probability() -> None:
    flipped = plan_of(only(hflip=0.25)).affine[:, 0, 0] < 0
    assert abs(flipped.mean() - 0.25) < 0.04  # > 5 sigma


# Randomness: the same again, and otherwise another.


def test_same_arguments_same_plan_and_others_differ() -> None:
    first, again = plan_of(Augment()), plan_of(Augment())
    assert np.array_equal(first.index, again.index)
    assert np.array_equal(first.affine, again.affine)
    for changes in ({"epoch": 1}, {"seed": 4}, {"seed": 0, "epoch": 3}):
        other = plan_of(Augment(), **changes)
        assert (first.index == other.index).mean() < 0.01
        assert (first.affine == other.affine).mean() < 0.01


def test_switching_one_part_off_leaves_the_others() -> None:
    full, no_shift = plan_of(Augment()), plan_of(Augment(translation=0))
    assert np.array_equal(full.index, no_shift.index)
    assert np.array_equal(full.affine[:, :, :2], no_shift.affine[:, :, :2])
    assert not no_shift.affine[:, :, 2].any()


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_see_the_batches_of_one_process(world_size: int) -> None:
    whole = plan_of(Augment(), benign(103), seed=1, epoch=2)
    ranks = [
        plan_of(Augment(), benign(103), batch_size=8 // world_size, seed=1, epoch=2, share=Rank(rank, world_size))
        for rank in range(world_size)
    ]
    assert {plan.num_batches for plan in [whole, *ranks]} == {103 // 8}
    for pieces in zip(whole.batches(), *(plan.batches() for plan in ranks), strict=True):
        dealt = list(zip(ranks, pieces[1:], strict=True))
        assert np.array_equal(whole.index[pieces[0]], np.concatenate([p.index[s] for p, s in dealt]))
        assert np.array_equal(whole.affine[pieces[0]], np.concatenate([p.affine[s] for p, s in dealt]))


def test_another_epoch_uses_what_one_left_out() -> None:
    seen = set()
    for epoch in range(20):
        seen |= set(plan_of(NO_CHANGE, benign(10), batch_size=7, seed=0, epoch=epoch).index.tolist())
    assert seen == set(range(10))


@pytest.mark.parametrize("num_images", [0, 1, 7, 8, 9, 100])
@pytest.mark.parametrize("world_size", [1, 2, 3, 16])
def test_evaluation_sees_each_image_once(num_images: int, world_size: int) -> None:
    plans = [evaluation_plan(num_images, batch_size=4, share=Rank(rank, world_size)) for rank in range(world_size)]
    assert sorted(np.concatenate([plan.index for plan in plans]).tolist()) == list(range(num_images))
    for plan in plans:
        assert plan.bounds[0] == 0
        assert plan.bounds[-1] == len(plan.index) == len(plan.affine)
        assert all(0 < last - first <= 4 for first, last in pairwise(plan.bounds))


# Bad input.


def test_batch_larger_than_the_data() -> None:
    message = "batch of 12 images (6 x 2 processes) is larger than the epoch of 11 training images: `batch_size`"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        plan_of(Augment(), benign(11), batch_size=6, share=Rank(0, 2))
    assert plan_of(Augment(), benign(12), batch_size=6, share=Rank(0, 2)).num_batches == 1


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"hflip": 1.5}, "Augment: hflip must be <= 1, got 1.5"),
        ({"vflip": -0.1}, "Augment: vflip must be >= 0, got -0.1"),
        ({"rotation_deg": 181.0}, "Augment: rotation_deg must be <= 180, got 181.0"),
        ({"translation": -1.0}, "Augment: translation must be >= 0, got -1.0"),
        ({"scale": 1.0}, "Augment: scale must be <= 0.9, got 1.0"),
        ({"scale": float("nan")}, "Augment: scale must be a finite number, got nan"),
    ],
)
def test_strength_out_of_range(parts: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        Augment(**parts)


# Other parts of an epoch than geometry.

EVERYTHING = Augment(
    crop=0.3,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    hue=0.05,
    erase=0.5,
    mask=0.3,
    skin_former={"very light": 0.2, "light": 0.4},
)
FIELDS = ("index", "affine", "group", "target_ita", "gains", "jitter", "masked", "erase")


def toned(count: int = 400) -> Rows:
    """A quarter malignant; four tone groups in turn, each with its ITA."""
    ita = np.array([60.0, 45.0, 35.0, 20.0])[np.arange(count) % 4]
    lab = np.stack([50 + 16 * np.tan(np.deg2rad(ita)), np.full(count, 10.0), np.full(count, 16.0)])
    scale = TONE_GROUPS["four"]
    return Rows(
        (np.arange(count) % 16 < 4).astype(np.int64),
        np.arange(count, dtype=np.int16) % 4,
        scale.names,
        lab.T,
        np.ones(count, bool),
        scale,
    )


def test_the_skin_former_knows_groups_that_no_image_has() -> None:
    """A config for many data sets names groups that one of them lacks."""
    rows = toned()
    few = replace(rows, groups=np.zeros(400, np.int16), group_names=rows.scale.names[:1])
    plan = plan_of(Augment(skin_former={"very light": 1.0, "tan": 1.0}), few, batch_size=100)
    assert not np.isnan(plan.target_ita).any()


def test_skin_of_an_unknown_group_is_left_alone() -> None:
    rows = replace(toned(), groups=np.where(np.arange(400) < 200, -1, 0).astype(np.int16))
    plan = plan_of(Augment(skin_former={"very light": 1.0}), rows, batch_size=100)
    assert (np.isnan(plan.target_ita) == (plan.index < 200)).all()


def test_the_published_epoch_has_five_variants_of_each_malignant_image() -> None:
    rows = toned()
    plan = plan_of(Augment(geometry="published"), rows, batch_size=10)
    counts = np.bincount(plan.index, minlength=400)
    assert len(plan.index) == 300 + 5 * 100
    assert (counts == np.where(rows.targets == 1, 5, 1)).all()
    benign_rows = rows.targets[plan.index] == 0
    assert (plan.affine[benign_rows] == IDENTITY).all()
    assert (plan.affine[~benign_rows] == IDENTITY).all(axis=(1, 2)).sum() == 100


def test_published_turns_are_turns_in_pixels() -> None:
    """At 64 x 128 a turn by 90 degrees keeps circles round, as every variant does."""
    plan = plan_of(Augment(geometry="published"), toned(), batch_size=10, preprocess=Preprocess(64, 128))
    to_pixels = np.diag([64.0, 32.0])
    linear = to_pixels @ plan.affine[:, :, :2].astype(np.float64) @ np.linalg.inv(to_pixels)
    zoom_sq = np.abs(np.linalg.det(linear))[:, None, None]
    np.testing.assert_allclose(linear @ linear.transpose(0, 2, 1), zoom_sq * np.eye(2), atol=1e-5)


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("geometry", ["random", "published"])
@pytest.mark.parametrize("name", ["shuffle", "balanced_batch", "undersample", "oversample", "group_balanced"])
def test_any_number_of_ranks_gives_the_same_records(name: Any, geometry: Any, world_size: int) -> None:
    augment = replace(EVERYTHING, geometry=geometry)
    whole = plan_of(augment, toned(), sampler=Sampler(name), batch_size=16)
    ranks = [
        plan_of(augment, toned(), sampler=Sampler(name), batch_size=16 // world_size, share=Rank(rank, world_size))
        for rank in range(world_size)
    ]
    for field in FIELDS:
        pieces = [getattr(plan, field).reshape(whole.num_batches, -1) for plan in ranks]
        together = np.concatenate(pieces, axis=1).reshape(getattr(whole, field).shape)
        assert together.tobytes() == getattr(whole, field).tobytes(), field


def test_each_part_is_drawn_by_itself() -> None:
    """Switching one off changes nothing about the others."""
    rows = toned()
    full = plan_of(EVERYTHING, rows)
    off: dict[str, dict[str, Any]] = {
        "jitter": {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0},
        "erase": {"erase": 0},
        "masked": {"mask": 0},
        "target_ita": {"skin_former": {}},
    }
    for name, change in off.items():
        less = plan_of(replace(EVERYTHING, **change), rows)
        assert getattr(less, name) is None
        for field in set(FIELDS) - {name, "gains", "group"}:
            assert getattr(less, field).tobytes() == getattr(full, field).tobytes(), (name, field)


def test_skin_is_moved_as_often_as_asked_and_the_group_goes_with_it() -> None:
    rows = toned(4000)
    plan = plan_of(EVERYTHING, rows)
    assert plan.target_ita is not None
    moved = ~np.isnan(plan.target_ita)
    before = rows.groups[plan.index]
    for group, chance in enumerate((0.2, 0.4, 0, 0)):
        assert abs(moved[before == group].mean() - chance) < 0.07  # > 4 sigma
    targets = plan.target_ita[moved]
    assert -10 <= targets.min() < -9
    assert 27 < targets.max() <= 28
    assert (plan.group[~moved] == before[~moved]).all()
    # 8 bits a channel move the angle by less than a degree.
    sure = np.abs(targets - 28) > 1
    assert (plan.group[moved][sure] == 3).all()
    assert [plan.is_moved(r) for r in range(20)] == moved[:20].tolist()
    assert [plan.needs_mask(r) for r in range(20)] == (moved | plan.masked)[:20].tolist()


def test_a_masked_model_masks_every_record() -> None:
    for plan in (
        plan_of(NO_CHANGE, toned(), preprocess=Preprocess(64, 64, masked=True)),
        evaluation_plan(5, batch_size=2, masked=True),
    ):
        assert plan.masked is not None
        assert plan.masked.all()
    assert evaluation_plan(5, batch_size=2).masked is None


def test_the_rows_are_not_looped_over() -> None:
    """The same number of calls for 33,126 rows as for 400, with everything on."""

    def calls(count: int) -> int:
        rows, counted = toned(count), 0

        def count_call(frame: object, event: str, argument: object) -> None:
            nonlocal counted
            counted += event in ("call", "c_call")

        sys.setprofile(count_call)
        try:
            plan_of(EVERYTHING, rows, sampler=Sampler("group_balanced"), batch_size=64)
        finally:
            sys.setprofile(None)
        return counted

    calls(400)  # what is done once, is done
    assert abs(calls(33_126) - calls(400)) < 50


@pytest.mark.parametrize(
    ("rows", "augment", "message"),
    [
        (
            {},
            {"skin_former": {"pale": 0.5}},
            "augment.skin_former names 'pale'; the tone groups are 'very light', 'light', 'intermediate', 'tan'",
        ),
        (
            {"scale": None},
            {"skin_former": {"light": 0.5}},
            "augment.skin_former needs groups of melfast's tone table: melfast prepare ita",
        ),
        (
            {"skin_lab": None},
            {"skin_former": {"light": 0.5}},
            "augment.skin_former needs skin_l, skin_a and skin_b; 100 of 100 images to be moved have "
            "none: melfast prepare ita",
        ),
        (
            {"skin_lab": np.where(np.arange(3) == 1, np.nan, toned().skin_lab)},
            {"skin_former": {"light": 0.5}},
            "augment.skin_former needs skin_l, skin_a and skin_b; 100 of 100 images to be moved have "
            "none: melfast prepare ita",
        ),
        (
            {"has_mask": None},
            {"skin_former": {"light": 0.5}},
            "augment.skin_former needs lesion masks; 100 of 100 images have no mask_path: melfast prepare masks",
        ),
        (
            {"has_mask": np.arange(400) > 2},
            {"mask": 0.1},
            "augment.mask needs lesion masks; 3 of 400 images have no mask_path: melfast prepare masks",
        ),
    ],
)
def test_rows_that_lack_what_is_asked_for(rows: dict[str, Any], augment: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        plan_of(Augment(**augment), replace(toned(), **rows))


def test_rows_of_a_manifest(tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text("image_name,path,target,mask_path\na,a.jpg,1,a.png\nb,b.jpg,0,\n")
    rows = Rows.of(read_manifest(table))
    assert rows.targets.tolist() == [1, 0]
    assert rows.has_mask.tolist() == [True, False]
    assert rows.groups.tolist() == [-1, -1]
    with pytest.raises(InputError, match=r"^augment.mask needs lesion masks; 1 of 2 images have"):
        plan_of(Augment(mask=1.0), rows, batch_size=1)


def test_a_plan_of_nothing() -> None:
    plan = EpochPlan(np.zeros(0, np.int64), np.zeros((0, 2, 3), np.float32))
    assert plan.num_batches == 0
    assert list(plan.batches()) == []
    assert plan.groups_of(slice(0, 2)) is None


def test_groups_of_some_records() -> None:
    plan = plan_of(NO_CHANGE, toned(), batch_size=4)
    some = plan.groups_of(np.array([3, 1]))
    assert some.tolist() == toned().groups[plan.index[[3, 1]]].tolist()


@pytest.mark.parametrize(
    ("affine", "outside"),
    [
        ([[1, 0, 0], [0, 1, 0]], False),
        ([[-1, 0, 0], [0, 1, 0]], False),
        ([[0, 1, 0], [1, 0, 0]], False),
        ([[0.7, -0.3, 0], [0.3, 0.7, 0]], False),
        ([[0.7, -0.301, 0], [0.3, 0.7, 0]], True),
        ([[0.9, 0.3, 0], [0, 0.5, 0]], True),
        ([[0.6, 0, 0], [0.6, 0.1, 0]], False),
        ([[1, 0, 0.001], [0, 1, 0]], True),
        ([[1, 0, 0], [0, 1, -0.001]], True),
        ([[0.5, 0, 0.4], [0, 0.5, 0.4]], False),
        ([[1 + 1e-7, 0, 0], [0, 1, 0]], False),  # float32's
        ([[1.0001, 0, 0], [0, 1, 0]], True),
    ],
)
def test_what_reaches_out_of_the_image(affine: list[list[float]], outside: bool) -> None:
    """By hand: a corner of the output is at +-1 along both axes."""
    assert reaches_out(np.array([affine], np.float32)).tolist() == [outside]
    inside = [[0.5, 0, 0], [0, 0.5, 0]]
    several = reaches_out(np.array([[affine, inside]] * 3, np.float32))
    assert several.tolist() == [[outside, False]] * 3


# Of the working size.


def test_an_image_is_resized_larger_only_for_a_zoom_that_shows() -> None:
    for shrunk, wanted in ((1.2, 100), (1.0, 100), (0.81, 100), (0.4, 200), (0.01, 400)):
        affine = np.array([[shrunk, 0, 0], [0, shrunk, 0]], np.float32)
        assert size_before_warp(affine, 100, 50) == (wanted, wanted // 2)
        turned = affine.copy()  # by an angle of 3 : 4 : 5
        turned[:, :2] = affine[:, :2] @ np.array([[0.8, -0.6], [0.6, 0.8]])
        assert size_before_warp(turned, 100, 50) == (wanted, wanted // 2)
