from pathlib import Path

import numpy as np
import pytest

from semisalt.data.tiles import Survey, TileSet, fingerprint, join


def tiles(count: int = 3, masks: bool = True, depths: bool = True, seed: int = 0) -> TileSet:
    generator = np.random.default_rng(seed)
    return TileSet(
        tuple(f"t{at}" for at in range(count)),
        generator.integers(1, 256, (count, 4, 5), dtype=np.uint8),
        generator.integers(0, 2, (count, 4, 5), dtype=np.uint8) if masks else None,
        generator.random(count, dtype=np.float32) if depths else None,
    )


def test_coverage_and_blank() -> None:
    masks = np.zeros((3, 4, 5), dtype=np.uint8)
    masks[1, 0, :3] = 1
    masks[2] = 1
    images = np.zeros((3, 4, 5), dtype=np.uint8)
    images[1, 3, 4] = 1
    images[2] = 9
    part = TileSet(("a", "b", "c"), images, masks, None)
    assert part.coverage.tolist() == [0.0, 0.15, 1.0]
    assert part.blank.tolist() == [True, False, False]
    assert part.shape == (4, 5)
    assert len(part) == 3
    with pytest.raises(ValueError, match="unlabelled"):
        _ = tiles(masks=False).coverage


def test_subset_by_positions_and_by_truth() -> None:
    part = tiles(4)
    assert part.masks is not None
    assert part.depths is not None
    picked = part.subset(np.array([2, 0]))
    assert picked.ids == ("t2", "t0")
    assert picked.masks is not None
    assert picked.depths is not None
    np.testing.assert_array_equal(picked.images[0], part.images[2])
    np.testing.assert_array_equal(picked.masks[1], part.masks[0])
    assert picked.depths.tolist() == [part.depths[2], part.depths[0]]
    assert part.subset(np.array([False, True, False, True])).ids == ("t1", "t3")
    assert part.subset(np.array([], dtype=np.int64)).images.shape == (0, 4, 5)
    assert tiles(4, masks=False, depths=False).subset(np.array([1])).masks is None


def test_parts_must_belong_together() -> None:
    part = tiles()
    with pytest.raises(ValueError, match="different"):
        TileSet(("a", "a", "b"), part.images, None, None)
    with pytest.raises(ValueError, match="2 ids, but images"):
        TileSet(("a", "b"), part.images, None, None)
    with pytest.raises(ValueError, match="masks of shape"):
        TileSet(part.ids, part.images, np.zeros((3, 5, 4), dtype=np.uint8), None)
    with pytest.raises(ValueError, match="depths of shape"):
        TileSet(part.ids, part.images, None, np.zeros(2, dtype=np.float32))


def test_fingerprint_knows_no_order_but_every_value() -> None:
    part, other = tiles(), tiles(2, masks=False, seed=1)
    known = fingerprint(part, other)
    assert len(known) == 64
    assert fingerprint(part.subset(np.array([2, 0, 1])), other.subset(np.array([1, 0]))) == known
    seen = {known, fingerprint(other, part)}
    for name in ("images", "masks", "depths"):
        for at in range(3):
            changed = tiles()
            getattr(changed, name)[at : at + 1].flat[-1:] += 1
            seen.add(fingerprint(changed, other))
    seen.add(fingerprint(TileSet(("t0", "t1", "x"), part.images, part.masks, part.depths), other))
    seen.add(fingerprint(TileSet(part.ids, part.images, part.masks, None), other))
    for shape in ((3, 4, 5), (3, 5, 4)):
        seen.add(fingerprint(TileSet(part.ids, part.images.reshape(shape), None, None), other))
    seen.add(fingerprint(part, other.subset(np.array([0]))))
    assert len(seen) == 2 + 9 + 5


def test_depth_range_spans_both_sets() -> None:
    def survey(first: TileSet, second: TileSet) -> Survey:
        return Survey(first, second, "", Path(), None)

    one = TileSet(("a", "b"), np.zeros((2, 1, 1), np.uint8), None, np.array([5, 2], np.float32))
    two = TileSet(("c",), np.zeros((1, 1, 1), np.uint8), None, np.array([9], np.float32))
    none = TileSet((), np.zeros((0, 1, 1), np.uint8), None, np.zeros(0, np.float32))
    unknown = TileSet(("d",), np.zeros((1, 1, 1), np.uint8), None, None)
    assert survey(one, two).depth_range == (2.0, 9.0)
    assert survey(one, none).depth_range == (2.0, 5.0)
    assert survey(unknown, unknown).depth_range is None
    assert survey(none, none).depth_range is None


def named(part: TileSet, prefix: str, soft: bool = False) -> TileSet:
    values = np.random.default_rng(9).integers(0, 256, part.images.shape, dtype=np.uint8) if soft else None
    return TileSet(tuple(prefix + tile for tile in part.ids), part.images, part.masks, part.depths, values)


def test_targets_are_soft_labels_where_there_are_any() -> None:
    hard, soft = tiles(), named(tiles(), "s", soft=True)
    assert hard.masks is not None
    assert soft.soft is not None
    np.testing.assert_array_equal(hard.targets, np.where(hard.masks == 1, 255, 0))
    assert hard.targets.dtype == np.uint8
    np.testing.assert_array_equal(soft.targets, soft.soft)
    picked = soft.subset(np.array([2, 0]))
    np.testing.assert_array_equal(picked.targets, soft.soft[[2, 0]])
    with pytest.raises(ValueError, match="nothing to learn"):
        _ = tiles(masks=False).targets
    with pytest.raises(ValueError, match="soft labels of shape"):
        TileSet(hard.ids, hard.images, None, None, soft.soft)
    with pytest.raises(ValueError, match="soft labels of shape"):
        TileSet(hard.ids, hard.images, hard.masks, None, soft.soft[:, :3])


def test_joined_tiles_keep_their_places() -> None:
    first, second = tiles(3), named(tiles(2, seed=1), "p")
    both = join(first, second)
    assert both.ids == ("t0", "t1", "t2", "pt0", "pt1")
    for name in ("images", "masks", "depths"):
        np.testing.assert_array_equal(getattr(both, name)[:3], getattr(first, name))
        np.testing.assert_array_equal(getattr(both, name)[3:], getattr(second, name))
    assert both.soft is None
    with pytest.raises(ValueError, match="must be different"):
        join(first, first)


@pytest.mark.parametrize("soft", [(True, False), (False, True), (True, True)])
def test_hard_labels_beside_soft_ones_are_certain(soft: tuple[bool, bool]) -> None:
    first, second = named(tiles(3), "a", soft[0]), named(tiles(2, seed=1), "b", soft[1])
    both = join(first, second)
    assert first.masks is not None
    assert second.masks is not None
    np.testing.assert_array_equal(both.masks, np.concatenate([first.masks, second.masks]))
    np.testing.assert_array_equal(both.targets[:3], first.targets)
    np.testing.assert_array_equal(both.targets[3:], second.targets)


def test_what_one_part_lacks_the_whole_lacks() -> None:
    bare = named(tiles(2, masks=False), "u")
    assert join(tiles(3), bare).masks is None
    assert join(named(tiles(3), "s", soft=True), bare).soft is None
    assert join(tiles(3), named(tiles(2, depths=False), "d")).depths is None
