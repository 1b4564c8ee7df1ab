"""The Lovász hinge: a convex surrogate of the Jaccard loss 1 − IoU, for each image by itself.

Source: Berman, Triki and Blaschko, "The Lovász-Softmax loss", CVPR 2018 (the Lovász extension: Lovász 1983).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, autocast

from semisalt.losses.bce import at_least_fp32

Margin = Literal["hinge", "elu"]


def lovasz_hinge(logits: Tensor, targets: Tensor, *, margin: Margin = "hinge", symmetric: bool = False) -> Tensor:
    """Mean over images of Σᵢ φ(eᵢ) · gᵢ with the errors eᵢ = 1 − xᵢ·(2yᵢ − 1).

    gᵢ is what pixel i adds to the Jaccard loss when the pixels are got wrong one after another in order of
    falling error. φ is max(e, 0) for margin 'hinge' and elu(e) + 1 for 'elu', which keeps a gradient on
    pixels beyond the margin. Symmetric: (L(x, y) + L(−x, 1 − y)) / 2, which treats salt and background alike.
    On an image without salt the definition leaves one term, that of its largest error.

    `logits` and `targets` `[B, H, W]`; a target over .5 is salt. Returns a scalar, computed in fp32 (double
    for double logits) even under autocast. Raises ValueError for shapes that differ or an unknown margin.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} differ in shape")
    with autocast(logits.device.type, enabled=False):
        x, salt = at_least_fp32(logits).flatten(1), targets.flatten(1) > 0.5
        errors = 1 + x * (1 - 2 * salt.to(x.dtype))
        with torch.no_grad():
            weights = _jaccard_gradient(errors, salt, symmetric)
        return (_penalty(errors, margin) * weights).sum(dim=1).mean()


def _penalty(errors: Tensor, margin: Margin) -> Tensor:
    if margin == "hinge":
        return F.relu(errors)
    if margin == "elu":
        return F.elu(errors) + 1
    raise ValueError(f"margin must be 'hinge' or 'elu', not {margin!r}")


def _jaccard_gradient(errors: Tensor, salt: Tensor, symmetric: bool) -> Tensor:
    """g of every pixel, at the pixel's own place, so that the backward pass is one product. `[B, P]`.

    −x and 1 − y have the same errors as x and y: the symmetric loss needs no second sort.
    """
    order = _falling(errors)
    sorted_salt = salt.gather(1, order)
    gradient = _sorted_gradient(sorted_salt, errors.dtype)
    if symmetric:
        gradient = (gradient + _sorted_gradient(~sorted_salt, errors.dtype)) / 2
    return torch.empty_like(gradient).scatter_(1, order, gradient)


def _sorted_gradient(salt: Tensor, dtype: torch.dtype) -> Tensor:
    """Differences of the Jaccard loss along the sorted pixels `[B, P]`.

    With S pixels of salt in all, of which h went wrong before, and f false ones before, the loss stands at
    1 − (S − h)/(S + f). A further salt pixel adds 1/(S + f), a further false (S − h)/((S + f)(S + f + 1)).
    These forms, unlike differences of neighbours, lose no digits to cancellation.
    """
    places = torch.arange(salt.shape[1], device=salt.device, dtype=torch.int32)
    seen = salt.cumsum(dim=1, dtype=torch.int32)  # h on background; a salt pixel counts itself too
    total = seen[:, -1:]
    union = (total + places - seen + salt).to(dtype)
    more = union + 1
    gradient = torch.where(salt, more, (total - seen).to(dtype)).div_(more.mul_(union))
    # The same at the first place, with S cancelled, since an image without salt would divide 0 by 0 there.
    gradient[:, 0] = 1 / (total[:, 0] + ~salt[:, 0]).to(dtype)
    return gradient


def _falling(errors: Tensor) -> Tensor:
    """Indices that sort each row in falling order, `[B, P]`."""
    if errors.device.type == "cpu":  # numpy sorts with AVX, some six times faster than torch on CPU
        return torch.from_numpy(np.argsort(-errors.numpy(), axis=1))
    return errors.argsort(dim=1, descending=True)
