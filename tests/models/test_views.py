import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from semisalt.models.views import Views, mean_logit


class Shifted(nn.Module):
    """Logits = the first channel + a shift."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0] + self.shift


@pytest.mark.parametrize("shifts", [(0.5,), (-1.0, 2.0), (-1.0, 0.0, 3.0)])
def test_probability_is_the_mean_of_the_views(shifts: tuple[float, ...]) -> None:
    x = torch.randn((3, 2, 4, 5), generator=torch.Generator().manual_seed(0))
    found = Views(Shifted(shift) for shift in shifts)(x)
    z = x[:, 0].double().numpy()
    p = np.mean([1 / (1 + np.exp(-z - shift)) for shift in shifts], axis=0)
    assert found.shape == (3, 4, 5)
    np.testing.assert_allclose(found.detach().numpy(), np.log(p) - np.log(1 - p), atol=1e-5)


@given(st.lists(st.floats(-300, 300), min_size=1, max_size=4))
def test_logit_lies_between_the_views_and_mirrors_with_them(logits: list[float]) -> None:
    values = torch.tensor(logits)
    found = mean_logit(values)
    assert values.min() - 1e-3 <= found <= values.max() + 1e-3
    assert mean_logit(-values).item() == pytest.approx(-found.item(), abs=1e-4)


def test_sure_views_lose_no_digits() -> None:
    # Catches log(p) − log(1 − p) of a rounded p, which is infinite from 17 on.
    assert mean_logit(torch.tensor([[40.0], [40.0]])).item() == pytest.approx(40)
    # p̄ = 1 − σ(−40)/2 − σ(−60)/2, whose logit is 40 + log 2.
    assert mean_logit(torch.tensor([[40.0], [60.0]])).item() == pytest.approx(40 + np.log(2), rel=1e-6)
    assert mean_logit(torch.tensor([[500.0], [-500.0]])).item() == pytest.approx(0, abs=1e-4)


def test_half_precision_is_answered_in_single() -> None:
    assert mean_logit(torch.zeros((2, 3), dtype=torch.bfloat16)).dtype == torch.float32


def test_state_holds_every_view_in_its_order() -> None:
    views, others = Views([Shifted(1.0), Shifted(2.0)]), Views([Shifted(0.0), Shifted(0.0)])
    others.load_state_dict(views.state_dict())
    assert [shift.item() for shift in others.parameters()] == [1.0, 2.0]
    assert len(views) == 2
