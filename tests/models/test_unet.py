"""The whole network: sizes, gradients, precision, compilation, distribution, refusals."""

import socket
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from semisalt.errors import UserError
from semisalt.models import SaltUNet, build_unet

NARROW = (32, 24, 16, 16, 8)


def full(encoder: str = "resnet18", stem: str = "stock", in_channels: int = 2) -> SaltUNet:
    torch.manual_seed(0)
    return build_unet(
        encoder,
        in_channels=in_channels,
        stem=stem,
        decoder_channels=NARROW,
        scse_encoder=True,
        scse_decoder=True,
        hypercolumn=True,
    )


def every_gradient(network: torch.nn.Module, loss: torch.Tensor) -> None:
    loss.backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.requires_grad]
    assert idle == []


@pytest.mark.parametrize(
    ("encoder", "stem"),
    [
        *(("resnet18", stem) for stem in ("stock", "no_pool", "stride1")),
        ("tu-tf_efficientnet_lite0", "stock"),
        ("tu-tf_efficientnet_lite0", "stride1"),
        ("se_resnext50_32x4d", "no_pool"),
        ("se_resnext50_32x4d", "stride1"),
    ],
)
def test_size_and_gradients(encoder: str, stem: str) -> None:
    network = full(encoder, stem)
    logits = network(torch.randn(2, 2, 64, 96))
    assert logits.shape == (2, 64, 96)
    every_gradient(network, logits.square().mean())


def test_skips_have_the_blocks_true_size() -> None:
    sizes: list[tuple[int, int, int, int]] = []
    for stem in ("stock", "no_pool", "stride1"):
        network = full(stem=stem)
        for block in network.blocks:
            block.register_forward_pre_hook(
                lambda _module, args: sizes.append((*args[1:3], *(args[1:3] if args[3] is None else args[3].shape[2:])))
            )
        network(torch.randn(2, 2, 64, 96))
    assert [size[:2] for size in sizes] == [
        *[(4, 6), (8, 12), (16, 24), (32, 48), (64, 96)],
        *[(8, 12), (16, 24), (32, 48), (64, 96)] * 2,
    ]
    assert all(size[:2] == size[2:] for size in sizes)


def test_every_part_adds_its_parameters() -> None:
    """A part that is asked for is there; one that is not is not."""

    def count(**parts: bool) -> int:
        return sum(
            p.numel() for p in build_unet("resnet18", in_channels=1, decoder_channels=NARROW, **parts).parameters()
        )

    def scse(widths: tuple[int, ...]) -> int:
        hidden = [w // min(16, w) for w in widths]
        return sum(w * h + h + h * w + w + w + 1 for w, h in zip(widths, hidden, strict=True))

    plain = count()
    assert count(scse_decoder=True) - plain == scse(NARROW)
    assert count(scse_encoder=True) - plain == scse((512, 256, 128, 64, 64))
    assert count(hypercolumn=True) - plain == sum(w + 1 for w in NARROW[:4]) + 4 * 9


def test_bfloat16_channels_last() -> None:
    network = full().to(memory_format=torch.channels_last)
    x = torch.randn(2, 2, 64, 64).to(memory_format=torch.channels_last)
    exact = network.eval()(x)
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(x)
    assert logits.dtype == torch.float32
    every_gradient(network, logits.square().mean())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        fresh = full().eval()(x)
    assert (fresh - exact).abs().mean() < 0.05 * exact.abs().mean() + 0.02


def test_captured_in_one_graph() -> None:
    network = full().eval()
    x = torch.randn(2, 2, 64, 64)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), network(x), rtol=1e-4, atol=1e-4)


@pytest.fixture
def one_process_group() -> Iterator[None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process_group")
@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0"])
def test_distributed_steps_wait_for_nothing(encoder: str) -> None:
    """A parameter without gradient makes the second step fail; smp's efficientnet-b0 comes with three of them."""
    network = DistributedDataParallel(full(encoder))
    for _ in range(2):
        network(torch.randn(2, 2, 32, 32)).square().mean().backward()


def test_refusals() -> None:
    network = full()
    with pytest.raises(ValueError, match=r"101×128.*multiples of 32"):
        network(torch.randn(1, 2, 101, 128))
    with pytest.raises(ValueError, match="decoder_channels"):
        build_unet("resnet18", in_channels=1, decoder_channels=(64, 32))
    with pytest.raises(UserError, match="resnet34"):
        build_unet("resnet43", in_channels=1)
    with pytest.raises(UserError, match="tu-tf_efficientnet_lite0"):
        build_unet("tu-tf_eficientnet_lite0", in_channels=1)
    with pytest.raises(UserError, match="no weights of that tag"):
        build_unet("tu-resnet18.nonsense", in_channels=1)
