import pytest
import torch

from semisalt.losses import LOSSES
from semisalt.losses.bce import bce
from semisalt.losses.lovasz import lovasz_hinge
from semisalt.losses.mix import UnknownLossError, check_names, mix

LOGITS = torch.randn((3, 8, 8), generator=torch.Generator().manual_seed(0))
TARGETS = (torch.rand((3, 8, 8), generator=torch.Generator().manual_seed(1)) > 0.5).float()


def test_weighted_sum_and_its_gradient():
    logits = LOGITS.clone().requires_grad_()
    total, parts = mix(logits, TARGETS, {"bce": 0.1, "lovasz_hinge": 0.9})
    first, second = bce(logits, TARGETS), lovasz_hinge(logits, TARGETS)
    assert total.item() == pytest.approx(0.1 * first.item() + 0.9 * second.item())
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(
        {"bce": first.item(), "lovasz_hinge": second.item()}  # the bare losses, comparable between weights
    )
    (gradient,) = torch.autograd.grad(total, logits)
    expected = torch.autograd.grad(0.1 * first + 0.9 * second, logits)[0]
    torch.testing.assert_close(gradient, expected)


def test_parts_hold_no_graph():
    # Catches logs that keep every step's graph alive.
    total, parts = mix(LOGITS.clone().requires_grad_(), TARGETS, {"bce": 1.0})
    assert total.requires_grad
    assert not any(part.requires_grad for part in parts.values())
    assert all(part.shape == () for part in parts.values())


@pytest.mark.parametrize(
    ("name", "margin", "symmetric"),
    [
        ("lovasz_hinge", "hinge", False),
        ("lovasz_elu", "elu", False),
        ("lovasz_symmetric", "hinge", True),
        ("lovasz_elu_symmetric", "elu", True),
    ],
)
def test_names_mean_what_they_say(name, margin, symmetric):
    expected = lovasz_hinge(LOGITS, TARGETS, margin=margin, symmetric=symmetric)
    assert LOSSES[name](LOGITS, TARGETS).item() == expected.item()


def test_variants_differ_from_each_other():
    values = {round(loss(LOGITS, TARGETS).item(), 6) for loss in LOSSES.values()}
    assert len(values) == len(LOSSES) == 5


@pytest.mark.parametrize(("wrong", "nearest"), [("lovas_hinge", "lovasz_hinge"), ("BCE loss", "bce"), ("", "bce")])
def test_unknown_name_names_the_nearest(wrong, nearest):
    with pytest.raises(UnknownLossError) as caught:
        mix(LOGITS, TARGETS, {"bce": 0.5, wrong: 0.5})
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, ValueError)
    assert "did you mean" in str(caught.value)
    if wrong == "lovas_hinge":
        assert f"did you mean '{nearest}'" in str(caught.value)
    assert not str(caught.value).startswith('"')


def test_known_names_pass_and_no_weights_do_not():
    check_names(LOSSES)
    with pytest.raises(ValueError, match="at least one"):
        mix(LOGITS, TARGETS, {})
