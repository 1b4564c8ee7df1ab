"""U-Net on any encoder of segmentation-models-pytorch or timm (Ronneberger et al. 2015)."""

from collections.abc import Sequence
from difflib import get_close_matches

import timm
import torch
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from segmentation_models_pytorch.encoders import get_encoder, get_encoder_names
from torch import Tensor, nn

from semisalt.errors import UserError
from semisalt.models.attention import SCSE, quicken_squeezes
from semisalt.models.depthwise import quicken_depthwise
from semisalt.models.hypercolumn import Hypercolumn
from semisalt.models.stem import PROBE_SIZE, Layout, Stem, change_stem, layout
from semisalt.models.weights import load_into, read_weights

DECODER_CHANNELS = (256, 128, 64, 32, 16)
DECODER_REDUCTIONS = (16, 8, 4, 2, 1)
SIZE_MULTIPLE = 32
HYPERCOLUMN_LEVELS = 4


class SaltUNet(nn.Module):
    """Logits of salt for every pixel; make it with `build_unet`.

    The decoder climbs from the encoder's coarsest map to full size, an octave a block; each block takes the
    deepest encoder map of its resolution as its skip connection, where there is one. scSE, where asked for,
    recalibrates the encoder's stage outputs and each decoder block's output.
    """

    def __init__(
        self,
        encoder: nn.Module,
        shape: Layout,
        *,
        decoder_channels: Sequence[int] = DECODER_CHANNELS,
        scse_encoder: bool = False,
        scse_decoder: bool = False,
        hypercolumn: bool = False,
    ) -> None:
        super().__init__()
        if len(decoder_channels) != len(DECODER_REDUCTIONS) or min(decoder_channels) < 1:
            raise ValueError(
                f"decoder_channels needs a width for each of the reductions {DECODER_REDUCTIONS}, "
                f"got {tuple(decoder_channels)}"
            )
        stages = deepest_stages(shape)
        coarsest = max(stages)
        self.encoder = encoder
        self.reductions = [r for r in DECODER_REDUCTIONS if r < coarsest]
        self.stages = [stages[coarsest], *(stages.get(r) for r in self.reductions)]
        stage_channels = [0 if stage is None else shape.channels[stage] for stage in self.stages]
        block_channels = decoder_channels[-len(self.reductions) :]
        channels = [stage_channels[0], *block_channels]
        self.blocks = nn.ModuleList(
            UnetDecoderBlock(below, skip, width)
            for below, skip, width in zip(channels, stage_channels[1:], block_channels, strict=False)
        )
        initialize_decoder(self.blocks)
        self.stage_scse = nn.ModuleList(
            SCSE(width) if scse_encoder and width else nn.Identity() for width in stage_channels
        )
        if scse_decoder:
            for block, width in zip(self.blocks, block_channels, strict=True):
                block.attention2 = SCSE(width)
        coarse_channels = channels[:-1][-HYPERCOLUMN_LEVELS:]
        self.hypercolumn = Hypercolumn(coarse_channels) if hypercolumn else None
        columns = len(coarse_channels) if hypercolumn else 0
        self.head = nn.Conv2d(channels[-1] + columns, 1, kernel_size=3, padding=1)
        initialize_head(self.head)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> float32 logits [B, H, W].

        Raises:
            ValueError: H or W is no multiple of 32.
        """
        height, width = x.shape[2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise ValueError(f"tiles of {height}×{width}: both sides must be multiples of {SIZE_MULTIPLE}")
        features = self.encoder(x)
        skips = [
            None if stage is None else scse(features[stage])
            for stage, scse in zip(self.stages, self.stage_scse, strict=True)
        ]
        levels = [skips[0]]
        for block, reduction, skip in zip(self.blocks, self.reductions, skips[1:], strict=True):
            levels.append(block(levels[-1], height // reduction, width // reduction, skip))
        finest = levels[-1]
        if self.hypercolumn is not None:
            finest = self.hypercolumn(levels[:-1][-HYPERCOLUMN_LEVELS:], finest)
        logits: Tensor = self.head(finest)
        return logits[:, 0].float()


def deepest_stages(shape: Layout) -> dict[int, int]:
    """For each reduction that the encoder offers, the index of its deepest feature map; the input is none of
    them.

    'no_pool' gives two maps of one resolution: the shallower feeds the deeper, which is the better skip.
    """
    maps = zip(shape.reductions, shape.channels, strict=True)
    stages = {reduction: index for index, (reduction, channels) in enumerate(maps) if index and channels}
    if not stages or max(stages) > SIZE_MULTIPLE or any(r & (r - 1) for r in stages):
        raise ValueError(f"the encoder's maps shrink by {shape.reductions}; powers of two up to 32 are needed")
    return stages


def make_encoder(encoder: str, in_channels: int) -> nn.Module:
    """An encoder of smp ('resnet34', …) or of timm ('tu-…'), freshly initialised, five stages deep.

    Raises:
        UserError: nobody knows the name; the nearest names are listed.
    """
    known = get_encoder_names()
    architecture = encoder.removeprefix("tu-").partition(".")[0]
    in_timm = encoder.startswith("tu-") and timm.is_model(architecture)
    tagged = in_timm and architecture != encoder.removeprefix("tu-")
    if tagged and not timm.models.is_model_pretrained(encoder.removeprefix("tu-")):
        raise UserError(f"encoder {encoder!r}: timm's {architecture} has no weights of that tag")
    if encoder not in known and not in_timm:
        names = [*known, *(f"tu-{name}" for name in timm.list_models())]
        near = ", ".join(get_close_matches(encoder, names, n=4, cutoff=0.4))
        raise UserError(f"encoder {encoder!r} is unknown; near it are: {near or 'resnet34, tu-resnet34'}")
    made: nn.Module = get_encoder(encoder, in_channels=in_channels, weights=None)
    return made


def freeze_unreached(network: SaltUNet, in_channels: int) -> None:
    """Freezes the parameters that no logit depends on, which distributed training would wait for in vain.

    smp's own EfficientNets carry the last convolution of their classifier; most encoders carry nothing.
    """
    parameters = list(network.parameters())
    network.eval()
    with torch.enable_grad():
        logits = network(torch.zeros(1, in_channels, PROBE_SIZE, PROBE_SIZE))
        gradients = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
    network.train()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def build_unet(
    encoder: str,
    *,
    in_channels: int,
    weights: str = "none",
    stem: Stem = "stock",
    decoder_channels: Sequence[int] = DECODER_CHANNELS,
    scse_encoder: bool = False,
    scse_decoder: bool = False,
    hypercolumn: bool = False,
) -> SaltUNet:
    """Makes the segmentation network, with pretrained weights where asked for.

    Args:
        encoder: a name of smp ('resnet34', 'se_resnext50_32x4d') or of timm ('tu-tf_efficientnet_lite0').
        in_channels: the image first, then depth, coordinates … . Pretrained first layers read the image alone
            at the start, as a grey picture; the kernels of the other channels start at zero.
        weights: 'none', 'imagenet' (download), 'bundled' (offline packages), or a .safetensors or .pth file
            that holds the encoder's or the whole network's state.
        stem: 'stock', 'no_pool' (no max-pooling after the first layer) or 'stride1' (first layer of stride
            1).
        decoder_channels: widths of the decoder at 1/16, 1/8, 1/4, 1/2 and full size; a changed stem has no
            block at 1/16 and leaves out the first.
        scse_encoder: scSE on the encoder's stage outputs.
        scse_decoder: scSE on the decoder blocks' outputs.
        hypercolumn: the four coarser levels, one channel each, join the finest before the last convolution.

    Raises:
        UserError: the encoder's name or the weights are unknown, missing, unreachable or do not fit.
        ValueError: the stem does not suit the encoder, or the number of decoder widths is not five.
    """
    made = make_encoder(encoder, in_channels)
    quicken_squeezes(made)
    quicken_depthwise(made)
    state = read_weights(encoder, weights)
    stock = layout(made, in_channels)
    change_stem(made, stem, stock)
    network = SaltUNet(
        made,
        layout(made, in_channels),
        decoder_channels=decoder_channels,
        scse_encoder=scse_encoder,
        scse_decoder=scse_decoder,
        hypercolumn=hypercolumn,
    )
    if state is not None:
        load_into(network, state, entries=stock.entries, source=weights)
    freeze_unreached(network, in_channels)
    return network
