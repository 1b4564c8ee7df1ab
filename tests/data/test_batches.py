import os
import signal
from collections import deque
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semisalt.config import AugmentConfig
from semisalt.data.augment import geometry_of, random_view, sample_seed
from semisalt.data.batches import Batch, batches
from semisalt.data.plans import MixedPlan, PairedPlan, Plan
from semisalt.data.tiles import TileSet
from semisalt.errors import UserError
from tests.tiny import tiny_tiles

AUGMENT = AugmentConfig()


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    """The plans of all processes of a training."""
    world = draw(st.integers(1, 4))
    tiles = draw(st.integers(2 * world, 300))
    batch = draw(st.integers(2 * world, 64))
    seed = draw(st.integers(0, 1000))
    return [Plan(tiles, batch, seed, rank, world) for rank in range(world)]


@given(plans(), st.integers(0, 500))
def test_every_tile_once_an_epoch(ranks: list[Plan], epoch: int) -> None:
    plan = ranks[0]
    dealt = [list(rank.local_batches(epoch)) for rank in ranks]
    assert all(len(steps) == plan.steps for steps in dealt)
    assert sorted(int(tile) for steps in dealt for part in steps for tile in part) == list(range(plan.tiles))
    # No process has a step of fewer than two tiles, which batch normalisation could not use.
    assert min(len(part) for steps in dealt for part in steps) >= 2
    sizes = [sum(len(steps[at]) for steps in dealt) for at in range(plan.steps)]
    assert max(sizes) - min(sizes) <= 1
    # Batches have the size asked for, as nearly as whole steps allow.
    assert max(sizes) <= plan.batch or plan.steps == plan.tiles // (2 * plan.world)


@given(plans(), st.integers(0, 9))
def test_shares_weigh_every_tile_alike(ranks: list[Plan], epoch: int) -> None:
    """The mean over processes of share · local mean is the mean over the step's tiles."""
    losses = np.random.default_rng(epoch).normal(size=ranks[0].tiles)
    dealt = [list(rank.local_batches(epoch)) for rank in ranks]
    for step in range(ranks[0].steps):
        parts = [steps[step] for steps in dealt]
        whole = losses[np.concatenate(parts)].mean()
        shared = [plan.share(len(part), step) * losses[part].mean() for plan, part in zip(ranks, parts, strict=True)]
        assert np.mean(shared) == pytest.approx(whole, rel=1e-12, abs=1e-12)


@given(plans(), st.data())
def test_order_depends_on_seed_and_epoch(ranks: list[Plan], data: st.DataObject) -> None:
    plan = ranks[-1]
    start = data.draw(st.integers(0, plan.steps))
    whole = list(plan.local_batches(3))
    for tail, expected in zip(plan.local_batches(3, start), whole[start:], strict=True):
        np.testing.assert_array_equal(tail, expected)
    if plan.tiles > 12 and plan.world == 1:
        other = Plan(plan.tiles, plan.batch, plan.seed + 1)
        assert not np.array_equal(np.concatenate(whole), np.concatenate(list(plan.local_batches(4))))
        assert not np.array_equal(np.concatenate(whole), np.concatenate(list(other.local_batches(3))))


@pytest.mark.parametrize(("tiles", "batch", "world"), [(1, 8, 1), (7, 8, 4), (100, 3, 2), (0, 8, 1)])
def test_too_few_tiles_a_step_are_refused(tiles: int, batch: int, world: int) -> None:
    with pytest.raises(UserError, match="too few"):
        Plan(tiles, batch, 0, 0, world)


def as_bytes(batch: Batch) -> tuple[bytes, ...]:
    assert batch.depths is not None
    return tuple(part.numpy().tobytes() for part in (batch.images, batch.targets, batch.depths, batch.indices))


@pytest.fixture(scope="module")
def tiles() -> TileSet:
    return tiny_tiles(22)


def test_batches_hold_the_views_of_their_tiles(tiles: TileSet) -> None:
    plan = Plan(22, 5, seed=4)
    view = random_view(AUGMENT)
    stream = batches(tiles, plan, AUGMENT, epochs=2)
    assert tiles.masks is not None
    assert tiles.depths is not None
    seen = list(stream)
    assert len(seen) == 2 * plan.steps
    for at, batch in enumerate(seen):
        epoch = at // plan.steps
        for row, index in enumerate(batch.indices.tolist()):
            image, mask = view(tiles.images[index], tiles.masks[index], sample_seed(4, epoch, index))
            np.testing.assert_array_equal(batch.images[row].numpy(), image)
            np.testing.assert_array_equal(batch.targets[row].numpy(), mask * 255)
            assert batch.depths is not None
            assert batch.depths[row].item() == tiles.depths[index]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_batches(tiles: TileSet, workers: int) -> None:
    plan = Plan(22, 5, seed=4)
    alone = [as_bytes(batch) for batch in batches(tiles, plan, AUGMENT, epochs=3)]
    helped = [as_bytes(batch) for batch in batches(tiles, plan, AUGMENT, epochs=3, workers=workers)]
    assert helped == alone


@pytest.mark.parametrize(("epoch", "step"), [(0, 3), (1, 0), (1, 2), (1, 4), (2, 0)])
@pytest.mark.parametrize("workers", [0, 1])
def test_starting_within_gives_the_same_tail(tiles: TileSet, epoch: int, step: int, workers: int) -> None:
    plan = Plan(22, 5, seed=4)
    whole = [as_bytes(batch) for batch in batches(tiles, plan, AUGMENT, epochs=2)]
    assert plan.steps == 5
    tail = [
        as_bytes(batch) for batch in batches(tiles, plan, AUGMENT, epochs=2, epoch=epoch, step=step, workers=workers)
    ]
    assert tail == whole[epoch * 5 + step :]


def test_tiles_without_depths_and_without_masks(tiles: TileSet) -> None:
    plan = Plan(22, 5, seed=4)
    shallow = TileSet(tiles.ids, tiles.images, tiles.masks, None)
    assert next(batches(shallow, plan, AUGMENT, epochs=1)).depths is None
    with pytest.raises(ValueError, match="nothing to learn"):
        batches(TileSet(tiles.ids, tiles.images, None, None), plan, AUGMENT, epochs=1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_dies_is_an_error_not_a_hang(tiles: TileSet) -> None:
    stream = batches(tiles, Plan(22, 5, seed=4), AUGMENT, epochs=200, workers=1)
    next(stream)
    (worker,) = stream._workers  # type: ignore[attr-defined]
    assert os.getpgid(worker.pid) != os.getpgid(0)  # a signal to this group does not reach it
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises((RuntimeError, EOFError, OSError)):  # what the loader was reading decides
        deque(islice(stream, 1000), maxlen=0)


def test_batch_moves_whole() -> None:
    batch = Batch(torch.zeros(2, 4, 4), torch.ones(2, 4, 4), torch.ones(2), torch.arange(2))
    moved = batch.to(torch.device("meta"))
    assert moved.depths is not None
    parts = (moved.images, moved.targets, moved.depths, moved.indices)
    assert {part.device.type for part in parts} == {"meta"}
    assert batch.to(torch.device("cpu")) is batch
    assert Batch(batch.images, batch.targets, None, batch.indices).to(torch.device("meta")).depths is None


@st.composite
def mixed_plans(draw: st.DrawFn) -> list[MixedPlan]:
    """The plans of all processes of a training with pseudo-labels."""
    world = draw(st.integers(1, 3))
    tiles, extra = draw(st.integers(2 * world, 60)), draw(st.integers(1, 90))
    batch = draw(st.integers(2 * world, 24))
    share = st.sampled_from([0.0, 1.0, 0.5, 1 / 3, 0.25]) | st.floats(0, 1)
    shares = tuple(draw(st.lists(share, min_size=1, max_size=4)))
    seed = draw(st.integers(0, 1000))
    return [MixedPlan(tiles, batch, seed, rank, world, extra=extra, shares=shares) for rank in range(world)]


def whole_training(plan: MixedPlan) -> list[list[int]]:
    """The tiles of every step of all epochs, of one process alone."""
    alone = replace(plan, rank=0, world=1)
    return [step.tolist() for epoch in range(len(plan.shares)) for step in alone.local_batches(epoch)]


@settings(deadline=None)
@given(mixed_plans())
def test_mixed_steps_are_full_and_as_many_as_without(ranks: list[MixedPlan]) -> None:
    plan = ranks[0]
    assert plan.steps == Plan(plan.tiles, plan.batch, 0, 0, plan.world).steps
    for epoch in range(len(plan.shares)):
        dealt = [list(rank.local_batches(epoch)) for rank in ranks]
        alone = list(replace(plan, rank=0, world=1).local_batches(epoch))
        assert all(len(steps) == plan.steps for steps in dealt)
        for at in range(plan.steps):
            parts = [steps[at] for steps in dealt]
            assert sum(map(len, parts)) == plan.batch
            assert min(map(len, parts)) >= 2
            # Two processes together have what one has, where that one has as many steps.
            if plan.steps == replace(plan, rank=0, world=1).steps:
                assert np.concatenate(parts).tolist() == alone[at].tolist()
            weights = [rank.share(len(part), at) for rank, part in zip(ranks, parts, strict=True)]
            assert [w * plan.batch / plan.world for w in weights] == pytest.approx([len(part) for part in parts])


@settings(deadline=None)
@given(mixed_plans())
def test_a_pool_is_used_up_before_a_tile_comes_again(ranks: list[MixedPlan]) -> None:
    """After every step of the training no tile of a pool has come twice more than another."""
    plan = replace(ranks[0], world=1)
    times = np.zeros(plan.tiles + plan.extra, np.int64)
    for step in whole_training(plan):
        np.add.at(times, step, 1)
        for pool in (times[: plan.tiles], times[plan.tiles :]):
            assert pool.max() - pool.min() <= 1
    assert times.sum() == len(plan.shares) * plan.steps * plan.batch


@settings(deadline=None)
@given(mixed_plans(), st.data())
def test_a_mixed_training_resumes_at_any_step(ranks: list[MixedPlan], data: st.DataObject) -> None:
    plan = ranks[-1]
    epoch = data.draw(st.integers(0, len(plan.shares) - 1))
    start = data.draw(st.integers(0, plan.steps))
    whole = list(plan.local_batches(epoch))
    for tail, expected in zip(plan.local_batches(epoch, start), whole[start:], strict=True):
        np.testing.assert_array_equal(tail, expected)


@settings(deadline=None)
@given(mixed_plans())
def test_each_epoch_has_its_share_of_pseudo_labelled_tiles(ranks: list[MixedPlan]) -> None:
    plan = replace(ranks[0], world=1)
    for epoch, share in enumerate(plan.shares):
        steps = [(step >= plan.tiles).sum() for step in plan.local_batches(epoch)]
        assert abs(sum(steps) - plan.steps * plan.batch * share) <= 1
        assert max(abs(count - plan.batch * share) for count in steps) <= 1 + 1e-6
        if share in (0, 1):
            assert set(steps) == {int(share) * plan.batch}


def test_the_share_is_exact_over_the_whole_training() -> None:
    """Eight epochs of one step of 8 tiles, a third of them pseudo-labelled: 21 of 64, not 8 · 2."""
    plan = MixedPlan(8, 8, seed=0, extra=50, shares=(1 / 3,) * 8)
    pseudo = sum(tile >= 8 for step in whole_training(plan) for tile in step)
    assert pseudo == 64 // 3


def test_mixed_epochs_differ_and_depend_on_the_seed() -> None:
    plan = MixedPlan(40, 8, seed=0, extra=50, shares=(0.5, 0.5))
    epochs = [[step.tolist() for step in plan.local_batches(epoch)] for epoch in range(2)]
    assert epochs[0] != epochs[1]
    assert [step.tolist() for step in replace(plan, seed=1).local_batches(0)] != epochs[0]
    # Both kinds are spread over the batch, or the first of two processes would learn from real tiles only.
    halves = [[tile >= 40 for tile in step[:4]] for step in epochs[0]]
    assert 0 < np.mean(halves) < 1


def test_no_pseudo_labelled_tile_is_refused() -> None:
    with pytest.raises(UserError, match="no pseudo-labelled tile"):
        MixedPlan(40, 8, 0, extra=0, shares=(0.5,))
    with pytest.raises(UserError, match="too few"):
        MixedPlan(1, 8, 0, extra=9, shares=(0.5,))


def test_soft_labels_reach_the_batch(tiles: TileSet) -> None:
    """Without augmentation a target is the label's byte itself."""
    plain = AugmentConfig(flip=0, affine=0, light=0, blur=0)
    soft = np.random.default_rng(0).integers(0, 256, tiles.images.shape, dtype=np.uint8)
    mixed = TileSet(tiles.ids, tiles.images, (soft > 127).astype(np.uint8), tiles.depths, soft)
    for batch in batches(mixed, MixedPlan(10, 5, 0, extra=12, shares=(0.5,)), plain, epochs=1):
        np.testing.assert_array_equal(batch.targets.numpy(), soft[batch.indices.numpy()])


def test_unlabelled_tiles_have_a_weak_and_a_strong_view_on_one_geometry(tiles: TileSet) -> None:
    """Labelled ones come first, as ever; the weak view is the tile moved, the strong one has other grey levels."""
    bare = TileSet(tuple(f"b{at}" for at in range(9)), tiles.images[:9][::-1].copy(), None, tiles.depths[:9] + 5)  # type: ignore[index]
    plan = PairedPlan(22, 4, 3, epoch_steps=6, extra=9, extra_batch=3)
    strong = AugmentConfig(flip=0, affine=0, light=1, brightness=0.3, contrast=0.3, blur=0, noise=0)
    weak_view, strong_view = random_view(geometry_of(AUGMENT)), random_view(strong)
    view = random_view(AUGMENT)
    for step, batch in enumerate(batches(tiles, plan, AUGMENT, strong, bare=bare, epochs=1)):
        assert batch.images.shape == (7, 32, 32)
        assert batch.targets.shape == (4, 32, 32)
        assert batch.strong is not None
        assert batch.strong.shape == (3, 32, 32)
        assert batch.depths is not None
        for row, index in enumerate(batch.indices.tolist()):
            before = batch.indices[:row].tolist().count(index)  # an end of the pool and a beginning meet in a batch
            seed = sample_seed(3, plan.turn(0, step) + (before << 32), index)
            if row < 4:
                image, mask = view(tiles.images[index], tiles.targets[index], seed)
                np.testing.assert_array_equal(batch.images[row].numpy(), image)
                np.testing.assert_array_equal(batch.targets[row].numpy(), mask)
                continue
            source = bare.images[index - 22]
            weak, _ = weak_view(source, source, seed)
            np.testing.assert_array_equal(batch.images[row].numpy(), weak)
            np.testing.assert_array_equal(batch.strong[row - 4].numpy(), strong_view(weak, weak, seed ^ 1)[0])
            assert batch.depths[row].item() == bare.depths[index - 22]  # type: ignore[index]


def test_strong_views_are_made_where_they_are_asked_for(tiles: TileSet) -> None:
    """Without them everything else is the same."""
    plan, bare = PairedPlan(22, 4, 3, epoch_steps=6, extra=22, extra_batch=3), replace(tiles, masks=None)
    both = batches(tiles, plan, AUGMENT, AugmentConfig(), bare=bare, epochs=1)
    for alone, beside in zip(batches(tiles, plan, AUGMENT, bare=bare, epochs=1), both, strict=True):
        assert alone.strong is None
        assert beside.strong is not None
        assert torch.equal(alone.images, beside.images)
        assert torch.equal(alone.targets, beside.targets)


def test_a_tile_that_comes_often_never_comes_alike(tiles: TileSet) -> None:
    """Four labelled tiles in two views' batches of eight: each of the sixteen is a picture of its own."""
    few, bare = tiles.subset(np.arange(4)), TileSet(("b0", "b1"), tiles.images[4:6], None, None)
    plan = PairedPlan(4, 8, 3, epoch_steps=3, extra=2, extra_batch=4, views=2)
    noisy = AugmentConfig(noise=1.0)
    for batch in batches(few, plan, noisy, noisy, bare=bare, epochs=1):
        assert np.bincount(batch.indices.numpy()).tolist() == [4, 4, 4, 4, 2, 2]
        assert len({image.numpy().tobytes() for image in batch.images[:16]}) == 16
        assert batch.strong is not None
        assert len({image.numpy().tobytes() for image in batch.strong}) == 4


def test_brightness_and_contrast_alone_keep_the_order_of_grey_levels(tiles: TileSet) -> None:
    """Independent of the view's own code: light is monotone, so a strong view on another geometry would show."""
    plan = PairedPlan(22, 4, 3, epoch_steps=6, extra=22, extra_batch=8)
    bare = TileSet(tuple(f"b{at}" for at in range(22)), tiles.images // 2 + 30, None, tiles.depths)
    strong = AugmentConfig(flip=0, affine=0, light=1, brightness=0.1, contrast=0.1, blur=0, noise=0)
    changed = 0
    for batch in batches(tiles, plan, AUGMENT, strong, bare=bare, epochs=1):
        assert batch.strong is not None
        for weak, other in zip(batch.images[4:], batch.strong, strict=True):
            order = weak.flatten().argsort(stable=True)
            assert (other.flatten()[order].int().diff() >= 0).all()
            changed += int(not torch.equal(weak, other))
    assert changed > 40


def test_paired_batches_do_not_depend_on_workers(tiles: TileSet) -> None:
    plan = PairedPlan(22, 4, 3, epoch_steps=3, extra=22, extra_batch=4)
    bare = replace(tiles, masks=None)

    def seen(workers: int) -> list[bytes]:
        stream = batches(tiles, plan, AUGMENT, AUGMENT, bare=bare, epochs=2, workers=workers)
        return [batch.strong.numpy().tobytes() for batch in stream if batch.strong is not None]

    assert len(seen(0)) == 6
    assert seen(2) == seen(0)
