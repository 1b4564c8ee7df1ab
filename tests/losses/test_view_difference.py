from itertools import permutations

import numpy as np
import pytest
import torch

from semisalt.losses.view_difference import view_difference


def example(views: int) -> tuple[list[torch.Tensor], dict[tuple[int, int], torch.Tensor]]:
    """Logits of the views on tiles, and on each other's examples; double."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> torch.Tensor:
        return torch.randn((2, 3, 4), generator=generator, dtype=torch.float64)

    return [draw() for _ in range(views)], {pair: draw() for pair in permutations(range(views), 2)}


def cross_entropy(q: np.ndarray, p: np.ndarray) -> float:
    return float(np.mean(-q * np.log(p) - (1 - q) * np.log(1 - p)))


def sigmoid(x: torch.Tensor) -> np.ndarray:
    return 1 / (1 + np.exp(-x.numpy()))


def test_two_views_as_the_paper_writes_it():
    # Catches targets and predictions the wrong way round: H is not symmetric, and each view has other tiles.
    (x1, x2), fooled = example(2)
    expected = cross_entropy(sigmoid(x1), sigmoid(fooled[0, 1])) + cross_entropy(sigmoid(x2), sigmoid(fooled[1, 0]))
    assert view_difference([x1, x2], fooled).item() == pytest.approx(expected, rel=1e-12)


def test_three_views_resist_the_examples_against_each_other():
    clean, fooled = example(3)
    each = [cross_entropy(sigmoid(clean[i]), sigmoid(logits)) for (i, _), logits in fooled.items()]
    assert len(each) == 6
    assert view_difference(clean, fooled).item() == pytest.approx(2 * sum(each) / 6, rel=1e-12)


@pytest.mark.parametrize("views", [2, 3, 5])
def test_its_size_does_not_depend_on_the_number_of_views(views):
    x = example(2)[0][0]
    found = view_difference([x] * views, dict.fromkeys(permutations(range(views), 2), x))
    assert found.item() == pytest.approx(2 * cross_entropy(sigmoid(x), sigmoid(x)), rel=1e-12)


def test_targets_are_constants_and_every_attacked_view_learns():
    clean, fooled = example(3)
    tensors = [logits.requires_grad_() for logits in (*clean, *fooled.values())]
    view_difference(clean, fooled).backward()
    assert all(logits.grad is None for logits in tensors[:3])
    assert all(logits.grad.abs().min() > 0 for logits in tensors[3:])


def test_gradient():
    clean, fooled = example(2)

    def loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return view_difference(clean, {(0, 1): first, (1, 0): second})

    assert torch.autograd.gradcheck(loss, [fooled[pair].requires_grad_() for pair in ((0, 1), (1, 0))])


def test_half_precision_is_computed_in_single():
    clean, fooled = example(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = view_difference([x.bfloat16() for x in clean], {pair: x.bfloat16() for pair, x in fooled.items()})
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(view_difference(clean, fooled).item(), rel=1e-2)


def test_refusals():
    clean, fooled = example(3)
    with pytest.raises(ValueError, match="1 view"):
        view_difference(clean[:1], {})
    with pytest.raises(ValueError, match=r"\(0, 1\)"):
        view_difference(clean, {pair: logits for pair, logits in fooled.items() if pair != (0, 1)})
    with pytest.raises(ValueError, match=r"\(0, 1\)"):
        view_difference(clean[:2], fooled)
    with pytest.raises(ValueError, match="size"):
        view_difference(clean[:2], {(0, 1): fooled[0, 1][:1], (1, 0): fooled[1, 0]})
