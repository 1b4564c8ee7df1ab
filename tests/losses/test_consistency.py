import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semisalt.losses.consistency import squared_consistency, sure, threshold_consistency

SHAPE = (3, 5, 4)


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.rand(SHAPE, generator=generator, dtype=torch.float64)


@given(st.integers(0, 50))
def test_squared_error_of_both_classes(seed: int) -> None:
    logits, q = pair(seed)
    p = 1 / (1 + np.exp(-logits.detach().numpy()))
    two_classes = np.stack([(p - q.numpy()) ** 2, ((1 - p) - (1 - q.numpy())) ** 2]).sum(axis=0)
    assert squared_consistency(logits, q).item() == pytest.approx(two_classes.mean(), rel=1e-9)


@given(st.integers(0, 50), st.floats(0.5, 0.99))
def test_bce_where_the_teacher_is_sure_over_all_pixels(seed: int, confidence: float) -> None:
    logits, q = pair(seed)
    total = 0.0
    for x, value in zip(logits.detach().flatten().tolist(), q.flatten().tolist(), strict=True):
        if max(value, 1 - value) >= confidence:
            total += np.log1p(np.exp(-x)) if value > 0.5 else np.log1p(np.exp(x))
    assert threshold_consistency(logits, q, confidence).item() == pytest.approx(total / q.numel(), rel=1e-9)


@pytest.mark.parametrize("loss", [squared_consistency, lambda x, q: threshold_consistency(x, q, 0.7)])
def test_the_student_has_a_gradient_and_the_teacher_has_none(loss: object) -> None:
    logits, q = pair()
    q.requires_grad_()
    loss(logits, q).backward()  # type: ignore[operator]
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
    assert q.grad is None


def test_unsure_pixels_carry_neither_loss_nor_gradient() -> None:
    """They are ignored: called background, their gradient would push towards it."""
    logits, q = pair()
    threshold_consistency(logits, q, 0.8).backward()
    assert logits.grad is not None
    unsure = ~sure(q, 0.8)
    assert 0 < unsure.sum() < unsure.numel()
    assert torch.equal(logits.grad[unsure], torch.zeros(int(unsure.sum()), dtype=torch.float64))
    assert (logits.grad[~unsure] != 0).all()
    assert threshold_consistency(logits, torch.full_like(q, 0.6), 0.8).item() == 0


def test_right_formulas_have_right_gradients() -> None:
    logits, q = pair()
    assert torch.autograd.gradcheck(lambda x: squared_consistency(x, q), logits)
    assert torch.autograd.gradcheck(lambda x: threshold_consistency(x, q, 0.7), logits)


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_computed_in_fp32_under_autocast(confidence: float) -> None:
    logits, q = pair()
    half = logits.detach().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert squared_consistency(half, q.float()).dtype == torch.float32
        assert threshold_consistency(half, q.float(), confidence).dtype == torch.float32


def test_an_all_empty_word_still_has_a_gradient() -> None:
    logits, _ = pair()
    empty = torch.zeros(SHAPE, dtype=torch.float64)
    for loss in (squared_consistency(logits, empty), threshold_consistency(logits, empty, 0.95)):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert (gradient > 0).all()
