import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semisalt.losses.view_agreement import view_agreement

LOGITS = st.lists(st.floats(-30, 30), min_size=2, max_size=5)


def example(views: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn((views, 3, 4, 5), generator=generator, dtype=torch.float64)


def entropy(p: np.ndarray) -> np.ndarray:
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


@pytest.mark.parametrize("views", [2, 3, 4])
def test_by_the_definition(views):
    # Catches an entropy of the salt class alone, natural logarithms mixed with others, and a sum over views.
    logits = example(views)
    p = 1 / (1 + np.exp(-logits.numpy()))
    expected = np.mean(entropy(p.mean(axis=0)) - entropy(p).mean(axis=0))
    assert view_agreement(logits).item() == pytest.approx(expected, rel=1e-12)
    assert view_agreement(logits.float()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("views", [2, 3])
def test_gradient(views):
    assert torch.autograd.gradcheck(view_agreement, example(views).requires_grad_())


@given(LOGITS)
def test_between_nothing_and_the_logarithm_of_two(values):
    logits = torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)
    found = view_agreement(logits).item()
    assert -1e-12 <= found <= math.log(2) + 1e-12
    assert view_agreement(-logits).item() == pytest.approx(found, abs=1e-12)
    assert view_agreement(logits.flip(0)).item() == pytest.approx(found, abs=1e-12)


@given(st.floats(-30, 30), st.integers(2, 4))
def test_views_of_one_mind_cost_nothing(value, views):
    assert view_agreement(torch.full((views, 1, 2, 2), value)).item() == pytest.approx(0, abs=1e-6)


def test_gradient_reaches_every_view_and_brings_them_together():
    # Catches a target side that is detached, which would leave one network untaught.
    logits = torch.tensor([2.0, -1.0]).reshape(2, 1, 1, 1).requires_grad_()
    view_agreement(logits).backward()
    first, second = logits.grad.flatten().tolist()
    assert first > 0 > second


def test_sure_views_stay_finite():
    logits = torch.tensor([500.0, -500.0]).reshape(2, 1, 1, 1).requires_grad_()
    loss = view_agreement(logits)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert torch.isfinite(logits.grad).all()


def test_half_precision_is_computed_in_single():
    logits = example(2).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = view_agreement(logits)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(view_agreement(logits.double()).item(), rel=1e-5)


def test_one_view_is_refused():
    with pytest.raises(ValueError, match="1 view"):
        view_agreement(example(1))
