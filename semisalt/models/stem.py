"""What enters the encoder: the first layer's stride and max-pooling, and the meaning of the input
channels."""

from dataclasses import dataclass
from functools import partial
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

Stem = Literal["stock", "no_pool", "stride1"]
STEMS: tuple[Stem, ...] = get_args(Stem)

PROBE_SIZE = 64


@dataclass(frozen=True)
class Layout:
    """What one small forward pass shows of an encoder.

    reductions and channels describe the feature maps, finest first; entries and pools name the convolutions
    that read the image and the max-poolings, in the order in which they ran.
    """

    reductions: tuple[int, ...]
    channels: tuple[int, ...]
    entries: tuple[str, ...]
    pools: tuple[str, ...]


def layout(encoder: nn.Module, in_channels: int) -> Layout:
    """Runs the encoder once on a [1, in_channels, 64, 64] image and reports its true sizes; changes nothing
    in it."""
    image = torch.zeros(1, in_channels, PROBE_SIZE, PROBE_SIZE)
    entries: list[str] = []
    pools: list[str] = []

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.MaxPool2d):
            pools.append(name)
        elif inputs[0] is image:
            entries.append(name)

    hooks = [
        module.register_forward_pre_hook(partial(note, name))
        for name, module in encoder.named_modules()
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d))
    ]
    training = encoder.training
    try:
        with torch.no_grad():
            features = encoder.eval()(image)
    finally:
        encoder.train(training)
        for hook in hooks:
            hook.remove()
    return Layout(
        reductions=tuple(PROBE_SIZE // feature.shape[2] for feature in features),
        channels=tuple(feature.shape[1] for feature in features),
        entries=tuple(entries),
        pools=tuple(pools),
    )


def change_stem(encoder: nn.Module, stem: Stem, stock: Layout) -> None:
    """Gives the encoder one octave more of resolution, in place, with every kernel as it was.

    'stock' changes nothing. 'no_pool' takes out the max-pooling after the first convolution, whose stride 2
    stays. 'stride1' sets the first convolution's stride to 1 and keeps everything else.

    Raises:
        ValueError: the stem is unknown, or the encoder has nothing that the stem would change.
    """
    if stem not in STEMS:
        raise ValueError(f"stem {stem!r} is unknown; choose one of {', '.join(STEMS)}")
    if stem == "stock":
        return
    convolutions = [cast(nn.Conv2d, encoder.get_submodule(name)) for name in stock.entries]
    strided = bool(convolutions) and all(tuple(c.stride) == (2, 2) for c in convolutions)
    possible = ["stock"] + ["no_pool"] * (strided and len(stock.pools) == 1) + ["stride1"] * strided
    if stem not in possible:
        lacks = "max-pooling after its first convolution" if stem == "no_pool" else "first convolution of stride 2"
        raise ValueError(f"stem {stem!r}: this encoder has no {lacks}; choose one of {', '.join(possible)}")
    if stem == "stride1":
        for convolution in convolutions:
            convolution.stride = (1, 1)
    else:
        parent, _, leaf = stock.pools[0].rpartition(".")
        setattr(encoder.get_submodule(parent), leaf, nn.Identity())


def grey_kernel(kernel: Tensor, in_channels: int) -> Tensor:
    """Turns a kernel for RGB into one whose first channel reads a grey image and whose other channels start
    at zero.

    k'[o, 0] = Σ_c k[o, c] and k'[o, c > 0] = 0, so the first layer answers as the pretrained one does to the
    grey image copied into R, G and B, whatever the further channels (depth, coordinates) hold.

    Shapes: [O, 3, h, w] -> [O, in_channels, h, w].
    """
    grey = kernel.new_zeros(kernel.shape[0], in_channels, *kernel.shape[2:])
    grey[:, 0] = kernel.sum(dim=1)
    return grey
