"""The Lovász hinge against its definition, written out over Python sets."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semisalt.losses.lovasz import _falling, lovasz_hinge


def jaccard_loss(wrong, salt):
    """1 − IoU of the prediction that gets exactly the pixels `wrong` wrong: |M| / |{y = 1} ∪ M|."""
    return len(wrong) / len(salt | wrong) if wrong else 0.0


def slow_lovasz(logits, targets, penalty):
    """Lovász extension of the Jaccard loss at the penalised errors of one image, in double precision."""
    x, y = logits.flatten().double().tolist(), targets.flatten().tolist()
    errors = [1 - a * (2 * b - 1) for a, b in zip(x, y, strict=True)]
    salt = {i for i, b in enumerate(y) if b}
    total, wrong = 0.0, set()
    for pixel in sorted(range(len(errors)), key=lambda i: -errors[i]):
        gain = jaccard_loss(wrong | {pixel}, salt) - jaccard_loss(wrong, salt)
        total += penalty(errors[pixel]) * gain
        wrong.add(pixel)
    return total


PENALTIES = {"hinge": lambda e: max(e, 0.0), "elu": lambda e: e + 1 if e > 0 else math.exp(e)}


def slow_batch(logits, targets, margin, symmetric):
    images = []
    for x, y in zip(logits, targets, strict=True):
        value = slow_lovasz(x, y, PENALTIES[margin])
        if symmetric:
            value = (value + slow_lovasz(-x, 1 - y, PENALTIES[margin])) / 2
        images.append(value)
    return sum(images) / len(images)


def example(seed, shape=(4, 5, 6), dtype=torch.float64):
    """Logits and targets; the first image is empty, the second full."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=dtype) * 2
    targets = (torch.rand(shape, generator=generator) > 0.6).to(torch.uint8)
    targets[0], targets[1] = 0, 1
    return logits, targets


VARIANTS = pytest.mark.parametrize(
    ("margin", "symmetric"), [("hinge", False), ("elu", False), ("hinge", True), ("elu", True)]
)


@VARIANTS
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_definition(margin, symmetric, seed):
    # Catches one sort over the whole batch, a rising sort, and a symmetric form that forgets to flip the sign.
    logits, targets = example(seed)
    fast = lovasz_hinge(logits, targets, margin=margin, symmetric=symmetric)
    assert fast.item() == pytest.approx(slow_batch(logits, targets, margin, symmetric), rel=1e-12)


@given(st.lists(st.tuples(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]), st.booleans()), min_size=1, max_size=12))
@settings(max_examples=200)
def test_ties_do_not_matter(pixels):
    # With five values for twelve pixels most errors are equal; the extension is continuous there.
    logits = torch.tensor([[[x for x, _ in pixels]]], dtype=torch.float64)
    targets = torch.tensor([[[float(y) for _, y in pixels]]])
    slow = slow_batch(logits, targets.long(), "hinge", symmetric=True)
    assert lovasz_hinge(logits, targets, symmetric=True).item() == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_is_the_jaccard_loss_of_a_hard_prediction(scale):
    # On logits ±c the errors of wrong pixels are 1 + c, all others are 0 behind the hinge.
    generator = torch.Generator().manual_seed(0)
    prediction = torch.rand((6, 7, 7), generator=generator) > 0.5
    truth = torch.rand((6, 7, 7), generator=generator) > 0.5
    both, either = (prediction & truth).sum(dim=(1, 2)), (prediction | truth).sum(dim=(1, 2))
    logits = scale * (2.0 * prediction.double() - 1)
    expected = (1 - both / either).double().mean().item()
    assert lovasz_hinge(logits, truth).item() / (1 + scale) == pytest.approx(expected)


@pytest.mark.parametrize(("margin", "term"), [("hinge", 4.0), ("elu", 5.0)])
def test_an_empty_image_has_its_largest_error_alone(margin, term):
    # Catches 0/0, an image left out of the mean, and one that loses all its gradient.
    logits = torch.tensor([[[-2.0, 3.0, 0.5]]], requires_grad=True)
    loss = lovasz_hinge(logits, torch.zeros(1, 1, 3), margin=margin)
    loss.backward()
    assert loss.item() == pytest.approx(term)
    assert logits.grad.tolist() == [[[0.0, 1.0, 0.0]]]


def test_an_empty_image_has_a_gradient_at_every_wrong_pixel_of_the_symmetric_form():
    # Half of the largest error, as above, half of the mean error of an image that is all background.
    logits = torch.tensor([[[-2.0, 3.0, 0.5]]], requires_grad=True)
    loss = lovasz_hinge(logits, torch.zeros(1, 1, 3), symmetric=True)
    loss.backward()
    assert loss.item() == pytest.approx((4.0 + (4.0 + 1.5) / 3) / 2)
    assert logits.grad.flatten().tolist() == pytest.approx([0.0, 1 / 2 + 1 / 6, 1 / 6])


@VARIANTS
def test_gradient(margin, symmetric):
    logits, targets = example(7, shape=(3, 4, 4))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: lovasz_hinge(x, targets, margin=margin, symmetric=symmetric), logits)


def test_elu_keeps_a_gradient_beyond_the_margin():
    logits = torch.tensor([[[3.0, 1.5, -2.0]]], requires_grad=True)
    targets = torch.tensor([[[1, 1, 0]]])
    (hinge,) = torch.autograd.grad(lovasz_hinge(logits, targets), logits)
    (elu,) = torch.autograd.grad(lovasz_hinge(logits, targets, margin="elu"), logits)
    assert not hinge.any()
    assert elu.all()


def test_order_of_pixels_and_images_does_not_matter():
    logits, targets = example(3)
    pixels = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    images = torch.tensor([2, 0, 3, 1])
    shuffled = [t.flatten(1)[images][:, pixels].reshape(4, 5, 6) for t in (logits, targets)]
    assert lovasz_hinge(*shuffled).item() == pytest.approx(lovasz_hinge(logits, targets).item())


def test_symmetric_treats_salt_and_background_alike():
    logits, targets = example(4)
    ours = lovasz_hinge(logits, targets, symmetric=True).item()
    assert lovasz_hinge(-logits, 1 - targets, symmetric=True).item() == pytest.approx(ours)
    assert lovasz_hinge(-logits, 1 - targets).item() != pytest.approx(lovasz_hinge(logits, targets).item())


def test_single_precision_loses_no_digits():
    # Differences of neighbouring 1 − I/U would be wrong in the fourth digit at 10,000 pixels.
    logits, targets = example(5, shape=(4, 101, 101))
    double, single = logits.requires_grad_(), logits.detach().float().requires_grad_()
    lovasz_hinge(double, targets).backward()
    lovasz_hinge(single, targets).backward()
    error = (single.grad.double() - double.grad).abs().max() / double.grad.abs().max()
    assert error < 1e-6
    small = double.grad.abs() > 0
    assert ((single.grad.double() - double.grad).abs()[small] / double.grad.abs()[small]).median() < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_single(dtype):
    logits, targets = example(6)
    half = logits.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = lovasz_hinge(half, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(slow_batch(half, targets, "hinge", symmetric=False), rel=1e-5)


def test_soft_targets_are_cut_at_one_half():
    logits, targets = example(8)
    soft = torch.where(targets > 0, 0.7, 0.5)
    assert lovasz_hinge(logits, soft).item() == lovasz_hinge(logits, targets).item()


def test_refusals():
    logits, targets = example(0)
    with pytest.raises(ValueError, match="shape"):
        lovasz_hinge(logits, targets[:2])
    with pytest.raises(ValueError, match="margin"):
        lovasz_hinge(logits, targets, margin="square")  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_sorts_as_the_cpu_does():
    errors = torch.randperm(10_201).float().reshape(1, -1)
    assert torch.equal(_falling(errors.cuda()).cpu(), _falling(errors))
