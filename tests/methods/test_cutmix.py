import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semisalt.methods.cutmix import boxes, paste

CPU = torch.device("cpu")


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 99), st.floats(0.02, 0.4), st.floats(0.0, 0.6))
def test_each_tile_has_one_box_of_its_size(height: int, width: int, seed: int, least: float, more: float) -> None:
    torch.manual_seed(seed)
    made = boxes(5, (height, width), 1.0, (least, least + more), CPU)
    assert made.shape == (5, height, width)
    for box in made:
        rows, columns = box.any(dim=1).nonzero().flatten(), box.any(dim=0).nonzero().flatten()
        assert len(rows)
        # A rectangle: as many pixels as its rows times its columns, and these without a gap.
        assert box.sum() == len(rows) * len(columns)
        assert rows[-1] - rows[0] + 1 == len(rows)
        assert columns[-1] - columns[0] + 1 == len(columns)


def test_areas_lie_within_the_range_and_boxes_everywhere() -> None:
    torch.manual_seed(0)
    made = boxes(4000, (101, 101), 1.0, (0.02, 0.4), CPU)
    shares = made.float().mean(dim=(1, 2))
    assert shares.min() > 0.015
    assert shares.max() < 0.41
    assert shares.mean().item() == pytest.approx(0.21, abs=0.01)
    # No corner is out of reach, and left and right are alike.
    often = made.float().mean(dim=0)
    assert often.min() > 0
    assert often[:, :50].mean().item() == pytest.approx(often[:, 51:].mean().item(), rel=0.05)


def test_probability_is_that_of_a_box() -> None:
    torch.manual_seed(1)
    made = boxes(4000, (20, 20), 0.3, (0.1, 0.2), CPU)
    assert made.flatten(1).any(dim=1).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not boxes(50, (20, 20), 0.0, (0.1, 0.2), CPU).any()


def test_a_box_takes_image_and_target_from_the_same_partner() -> None:
    torch.manual_seed(2)
    images = torch.arange(6)[:, None, None].expand(6, 9, 7).contiguous()
    box = boxes(6, (9, 7), 0.7, (0.2, 0.5), CPU)
    pasted, targets = paste(images, box), paste(images.float() / 10, box)
    assert torch.equal(pasted, torch.where(box, 5 - images, images))
    assert torch.allclose(targets, pasted / 10)


def test_boxes_follow_the_generator_that_a_checkpoint_keeps() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = boxes(4, (9, 9), 0.5, (0.1, 0.3), CPU)
    torch.set_rng_state(state)
    assert torch.equal(boxes(4, (9, 9), 0.5, (0.1, 0.3), CPU), first)
