"""Streams of labelled tiles, and pairs of labelled and unlabelled ones; Plan and MixedPlan: test_batches.py."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semisalt.data.plans import PairedPlan, Plan, StreamPlan
from semisalt.errors import UserError


@st.composite
def paired_plans(draw: st.DrawFn) -> list[PairedPlan]:
    """The plans of all processes of a training with unlabelled tiles."""
    world = draw(st.integers(1, 3))
    tiles, extra = draw(st.integers(2 * world, 60)), draw(st.integers(1, 90))
    batch, bare = 2 * world * draw(st.integers(1, 6)), 2 * world * draw(st.integers(1, 6))
    steps, views, seed = draw(st.integers(1, 9)), draw(st.integers(1, 3)), draw(st.integers(0, 1000))
    plan = PairedPlan(tiles, batch, seed, 0, world, steps, extra=extra, extra_batch=bare, views=views)
    return [replace(plan, rank=rank) for rank in range(world)]


@settings(deadline=None)
@given(paired_plans())
def test_every_step_has_its_tiles_of_both_kinds_labelled_ones_first(ranks: list[PairedPlan]) -> None:
    plan = ranks[0]
    for epoch in range(2):
        for steps in zip(*(rank.local_batches(epoch) for rank in ranks), strict=True):
            for tiles in steps:
                labelled = plan.views * plan.batch // plan.world
                assert len(tiles) == labelled + plan.extra_batch // plan.world
                assert (tiles[:labelled] < plan.tiles).all()
                assert (tiles[labelled:] >= plan.tiles).all()
                assert (tiles < plan.tiles + plan.extra).all()


@settings(deadline=None)
@given(paired_plans())
def test_each_stream_is_used_up_before_a_tile_comes_again(ranks: list[PairedPlan]) -> None:
    """Each view's labelled tiles, and the unlabelled ones, over three epochs and all processes."""
    plan = replace(ranks[0], rank=0, world=1)
    times = [np.zeros(plan.tiles, np.int64) for _ in range(plan.views)] + [np.zeros(plan.extra, np.int64)]
    for epoch in range(3):
        for tiles in plan.local_batches(epoch):
            *labelled, bare = np.split(tiles, [plan.batch * view for view in range(1, plan.views + 1)])
            for counts, part in zip(times, [*labelled, bare - plan.tiles], strict=True):
                np.add.at(counts, part, 1)
                assert counts.max() - counts.min() <= 1


@settings(deadline=None)
@given(paired_plans(), st.data())
def test_processes_share_a_step_and_resume_at_any(ranks: list[PairedPlan], data: st.DataObject) -> None:
    plan = ranks[0]
    alone = list(replace(plan, world=1).local_batches(1))
    for at, steps in enumerate(zip(*(rank.local_batches(1) for rank in ranks), strict=True)):
        assert Counter(np.concatenate(steps).tolist()) == Counter(alone[at].tolist())
    start = data.draw(st.integers(0, plan.steps))
    for tail, expected in zip(plan.local_batches(1, start), list(plan.local_batches(1))[start:], strict=True):
        np.testing.assert_array_equal(tail, expected)


def test_views_have_an_order_of_their_own() -> None:
    plan = PairedPlan(40, 8, 0, epoch_steps=5, extra=9, extra_batch=4, views=2)
    for tiles in plan.local_batches(0):
        assert tiles[:8].tolist() != tiles[8:16].tolist()


def test_an_epoch_has_the_length_asked_for_else_that_of_the_labelled_tiles() -> None:
    assert PairedPlan(40, 8, 0, epoch_steps=7, extra=9, extra_batch=4).steps == 7
    assert PairedPlan(40, 8, 0, extra=9, extra_batch=4).steps == Plan(40, 8, 0).steps == 5
    stream = StreamPlan(10, 4, 0, epoch_steps=5)
    assert [len(tiles) for tiles in stream.local_batches(0)] == [4] * 5
    assert Counter(np.concatenate(list(stream.local_batches(0))).tolist()) == dict.fromkeys(range(10), 2)
    # A tile that comes again within an epoch has another view.
    assert len({stream.turn(epoch, step) for epoch in range(3) for step in range(5)}) == 15


def test_what_cannot_be_shared_or_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="no unlabelled tile"):
        PairedPlan(40, 8, 0, extra=0, extra_batch=4)
    with pytest.raises(UserError, match="3 processes cannot share 8 labelled and 4 unlabelled"):
        PairedPlan(40, 8, 0, 0, 3, extra=9, extra_batch=4)
