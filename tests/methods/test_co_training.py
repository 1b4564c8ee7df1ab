from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from semisalt.config import Config
from semisalt.data.batches import Batch
from semisalt.data.channels import Channels
from semisalt.inference.build import build_network
from semisalt.methods import Losses, Progress
from semisalt.methods.build import build_method
from semisalt.methods.co_training import CoTraining, deal
from semisalt.models.views import Views
from semisalt.recipe import load_config
from tests.methods.toys import SHAPE, Pointwise, moved_statistics, toy_batch
from tests.tiny import tiny_config, tiny_network

REPOSITORY = Path(__file__).resolve().parents[2]
CHANNELS = Channels(SHAPE, None, "none")
HALFWAY = Progress(0, 9, 0.15)  # of a ramp of 0.3
Array = NDArray[np.float64]


def config_of(views: int = 2, *, finish: str | None = None, **changes: float) -> Config:
    """A recipe of co-training with `changes` of its section; its loss, from the second epoch on, `finish` alone."""
    terms = {"views": views, "agreement": 0.5, "difference": 0.05, "epsilon": 0.02, "ramp": 0.3, **changes}
    sections: dict[str, object] = {"method": "co_training", "co_training": terms}
    if finish is not None:
        sections["loss"] = {"switch_epoch": 1, "finish": {finish: 1.0}}
    return tiny_config(channels={"depth": False, "ramp": "none"}, **sections)  # type: ignore[arg-type]


def toy(views: int = 2, **changes: float) -> CoTraining:
    slopes = [(1.5, 0.2), (-0.8, 0.6), (0.6, -1.0)][:views]
    return CoTraining(Views(Pointwise(CHANNELS, a, b) for a, b in slopes), CHANNELS, config_of(views, **changes))


def real(views: int = 2, *, finish: str | None = None, **changes: float) -> CoTraining:
    """Networks with batch normalisation; the same ones at each call."""
    config = config_of(views, finish=finish, **changes)
    torch.manual_seed(0)
    method = build_method(build_network(config, CHANNELS), CHANNELS, config)
    assert isinstance(method, CoTraining)
    return method


def gradients(method: CoTraining, losses: Losses) -> list[torch.Tensor]:
    """Of the total, flat, by view."""
    losses.total.backward()
    return [
        torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]) for network in method.networks
    ]


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def cross_entropy(q: Array, p: Array) -> float:
    return float(np.mean(-q * np.log(p) - (1 - q) * np.log(1 - p)))


def by_hand(batch: Batch, views: list[tuple[float, float]], epsilon: float = 0.02) -> tuple[float, float, float]:
    """Supervised, agreement and difference of pointwise views, all in numpy."""
    images, targets = batch.images.numpy() / 255, batch.targets.numpy() / 255
    labels = len(targets) // len(views)

    def speak(view: int, grey: Array) -> Array:
        a, b = views[view]
        return sigmoid(a * (grey - 0.449) / 0.226 + b)

    tiles = [np.concatenate([images[v * labels : (v + 1) * labels], images[len(targets) :]]) for v in range(len(views))]
    clean = [speak(v, tiles[v]) for v in range(len(views))]
    examples = []
    for v, (a, _) in enumerate(views):
        y = np.concatenate([targets[v * labels : (v + 1) * labels], clean[v][labels:] > 0.5])
        examples.append(np.clip(tiles[v] + epsilon * np.sign(a * (clean[v] - y)), 0, 1))
    own = [targets[v * labels : (v + 1) * labels] for v in range(len(views))]
    supervised = np.mean([cross_entropy(own[v], clean[v][:labels]) for v in range(len(views))])
    bare = np.stack([p[labels:] for p in clean])
    entropies = [cross_entropy(p, p) for p in bare]
    agreement = cross_entropy(bare.mean(axis=0), bare.mean(axis=0)) - np.mean(entropies)
    pairs = [cross_entropy(clean[i], speak(j, examples[i])) for i, j in permutations(range(len(views)), 2)]
    return float(supervised), float(agreement), float(2 * np.mean(pairs))


@pytest.mark.parametrize(("views", "epsilon"), [(2, 0.02), (3, 0.02), (2, 0.1)])
def test_a_step_as_calculated_in_numpy(views: int, epsilon: float) -> None:
    """Own labels, agreement on unlabelled tiles alone, examples against each other, padding without a voice."""
    batch = toy_batch(2 * views, 3)
    supervised, agreement, difference = by_hand(batch, [(1.5, 0.2), (-0.8, 0.6), (0.6, -1.0)][:views], epsilon)
    losses = toy(views, epsilon=epsilon).step(batch, HALFWAY)
    parts = {name: part.item() for name, part in losses.parts.items()}
    both = 2 * supervised  # of two views the sum of their losses
    expected = {"bce": supervised, "supervised": both, "agreement": agreement, "difference": difference}
    assert parts == pytest.approx(expected, rel=1e-4)
    weighed = np.exp(-5 * 0.5**2) * (0.5 * agreement + 0.05 * difference)
    assert losses.total.item() == pytest.approx(both + weighed, rel=1e-5)
    assert not any(value.requires_grad for value in (*losses.parts.values(), *losses.health.values()))


@pytest.mark.parametrize(("ramp", "share"), [(0.3, 1.0), (0.6, np.exp(-5 * 0.5**2))])
def test_ramp_ends_at_the_full_weights(ramp: float, share: float) -> None:
    batch = toy_batch(4, 3)
    losses = toy(ramp=ramp).step(batch, Progress(0, 20, 0.3))
    parts = {name: part.item() for name, part in losses.parts.items()}
    expected = 2 * parts["bce"] + share * (0.5 * parts["agreement"] + 0.05 * parts["difference"])
    assert losses.total.item() == pytest.approx(expected, rel=1e-5)


def test_losses_follow_the_epoch() -> None:
    method, batch = toy(), toy_batch(4, 3)
    assert "lovasz_hinge" not in method.step(batch, Progress(0, 0, 0.5)).parts
    assert "lovasz_hinge" in method.step(batch, Progress(1, 0, 0.5)).parts  # tiny_config switches there


def test_each_view_learns_from_its_own_labels() -> None:
    batch = toy_batch(4, 3)
    first = gradients(method := toy(agreement=0, difference=0), method.step(batch, HALFWAY))
    batch.targets[2:] = 255 - batch.targets[2:]
    second = gradients(method := toy(agreement=0, difference=0), method.step(batch, HALFWAY))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])


@pytest.mark.parametrize("term", ["agreement", "difference"])
def test_each_term_alone_teaches_both_networks(term: str) -> None:
    """Catches a consistency term whose gradient to a network is zero."""
    batch = toy_batch(4, 3)
    without = {"agreement": 0.0, "difference": 0.0}
    base = gradients(method := real(**without), method.step(batch, HALFWAY))
    again = gradients(method := real(**without), method.step(batch, HALFWAY))
    taught = gradients(method := real(**{**without, term: 1.0}), method.step(batch, HALFWAY))
    for one, same, other in zip(base, again, taught, strict=True):
        assert torch.equal(one, same)
        assert (other - one).norm() > 1e-3 * one.norm()


def test_what_a_view_says_of_its_own_tiles_is_a_constant_in_the_difference() -> None:
    """∂H(q, σ(z))/∂a is (σ(z) − q) · x on the other view's examples alone, in numpy."""
    views = [(1.5, 0.2), (-0.8, 0.6)]
    batch = toy_batch(4, 3)
    both = gradients(method := toy(agreement=0, difference=1), method.step(batch, Progress(0, 0, 1)))
    none = gradients(method := toy(agreement=0, difference=0), method.step(batch, Progress(0, 0, 1)))
    images, targets = batch.images.numpy() / 255, batch.targets.numpy() / 255
    for j, i in ((0, 1), (1, 0)):
        tiles = np.concatenate([images[2 * i : 2 * i + 2], images[4:]])
        q = sigmoid(views[i][0] * (tiles - 0.449) / 0.226 + views[i][1])
        y = np.concatenate([targets[2 * i : 2 * i + 2], q[2:] > 0.5])
        x = (np.clip(tiles + 0.02 * np.sign(views[i][0] * (q - y)), 0, 1) - 0.449) / 0.226
        wrong = sigmoid(views[j][0] * x + views[j][1]) - q
        expected = [np.mean(wrong * x), np.mean(wrong)]
        np.testing.assert_allclose((both[j] - none[j]).numpy(), expected, rtol=1e-3, atol=1e-6)


def test_the_attack_leaves_no_gradient_and_moves_no_statistics() -> None:
    """One pass in training mode a step and view; three, were the attack another and the examples apart."""
    method = real()
    losses = method.step(toy_batch(4, 3), HALFWAY)
    for network in method.networks:
        assert all(parameter.grad is None for parameter in network.parameters())
        assert set(moved_statistics(network)) == {1}
        assert all(module.training for module in network.modules())
    losses.total.backward()
    assert all(parameter.grad is not None for network in method.networks for parameter in network.parameters())


@pytest.mark.parametrize(
    ("finish", "epoch"),
    [("lovasz_hinge", 0), ("lovasz_hinge", 1), ("lovasz_symmetric", 1)],
    ids=["bce", "hinge", "symmetric"],
)
def test_an_all_empty_batch_still_has_a_gradient(finish: str, epoch: int) -> None:
    """Of the labelled tiles and one loss alone: other terms would hide a loss that has none."""
    batch = toy_batch(4, 3)
    batch.targets.zero_()
    method = real(agreement=0, difference=0, finish=finish)
    for gradient in gradients(method, method.step(batch, Progress(epoch, 0, 0.0))):
        assert gradient.norm() > 1e-4
        assert torch.isfinite(gradient).all()


def test_depths_go_with_their_tiles() -> None:
    """Each pass gets the depths of the tiles it sees: own first, then those of the other view's examples."""
    channels = Channels(SHAPE, (0.0, 1000.0), "none")
    batch = toy_batch(4, 3)
    assert batch.depths is not None
    seen: list[list[float]] = []

    class Noting(Pointwise):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append((1000 * x[:, 1, 0, 0]).tolist())
            return super().forward(x)

    config = tiny_config(method="co_training")
    CoTraining(Views(Noting(channels, 1.0, 0.0) for _ in range(2)), channels, config).step(batch, HALFWAY)
    depths = batch.depths.tolist()
    first, second = depths[:2] + depths[4:], depths[2:]
    assert seen[0] == pytest.approx(first + second, rel=1e-4)
    assert seen[1] == pytest.approx(second + first, rel=1e-4)


def test_tiles_are_dealt_to_the_views() -> None:
    batch = toy_batch(6, 2)
    dealt = deal(batch, 3)
    assert [tiles.indices.tolist() for tiles in dealt] == [[0, 1, 6, 7], [2, 3, 6, 7], [4, 5, 6, 7]]
    for view, tiles in enumerate(dealt):
        assert torch.equal(tiles.images, batch.images[tiles.indices])
        assert torch.equal(tiles.targets, batch.targets[2 * view : 2 * view + 2])


def test_wrapped_networks_are_used_and_the_plain_ones_predict() -> None:
    method, batch = toy(), toy_batch(4, 3)
    plain = list(method.networks)
    calls: list[tuple[int, bool, int]] = []

    class Wrapper(nn.Module):
        def __init__(self, view: int) -> None:
            super().__init__()
            self.view, self.module = view, plain[view]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append((self.view, self.training, len(x)))
            logits: torch.Tensor = self.module(x)
            return logits

    method.networks = [Wrapper(0), Wrapper(1)]
    method.step(batch, HALFWAY)
    assert calls == [(0, False, 5), (1, False, 5), (0, True, 10), (1, True, 10)]
    predictor = method.predictor()
    assert isinstance(predictor, Views)
    assert list(predictor) == plain
    assert method.beside() == {"view0": plain[0], "view1": plain[1]}
    assert method.followers == []
    assert method.state_dict() == {}
    method.load_state_dict({})


def test_health_tells_what_the_views_see() -> None:
    """Of the view that sees least in the unlabelled tiles; disagreement by pixel."""
    method, batch = toy(), toy_batch(4, 3)
    batch.images[4] = 114  # near the mean: both views decide by their b, which is above 0
    losses = method.step(batch, HALFWAY)
    z = [a * (batch.images[4:].numpy() / 255 - 0.449) / 0.226 + b for a, b in ((1.5, 0.2), (-0.8, 0.6))]
    expected = {
        "foreground": min((one > 0).mean() for one in z),
        "non_empty": min((one > 0).any(axis=(1, 2)).mean() for one in z),
        "disagreement": ((z[0] > 0) != (z[1] > 0)).mean(),
    }
    found = {name: losses.health[name].item() for name in expected}
    assert found == pytest.approx(expected, abs=1e-5)
    assert 0 < expected["disagreement"] < 1


def test_one_collapsed_view_is_seen() -> None:
    """A mean over the views would still hold half of the salt."""
    one_blind = CoTraining(Views(Pointwise(CHANNELS, 0.01, b) for b in (5.0, -5.0)), CHANNELS, config_of())
    health = one_blind.step(toy_batch(4, 3), HALFWAY).health
    assert health["foreground"] == health["non_empty"] == 0
    assert health["disagreement"] == 1


def test_half_precision_trains() -> None:
    method, batch = real(), toy_batch(4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = method.step(batch, Progress(0, 9, 1.0))
    full = real().step(batch, Progress(0, 9, 1.0))
    assert losses.total.dtype == torch.float32
    assert losses.total.item() == pytest.approx(full.total.item(), rel=0.05)
    assert all(gradient.isfinite().all() and gradient.norm() > 0 for gradient in gradients(method, losses))


def test_views_begin_apart() -> None:
    first, second = (torch.cat([p.flatten() for p in network.parameters()]) for network in real().networks)
    assert not torch.equal(first, second)


def test_views_with_the_same_pretrained_encoder_have_decoders_of_their_own() -> None:
    """As the recipe has it: of complete twins neither would teach the other anything."""
    config = load_config(REPOSITORY / "configs" / "cotrain.yaml")
    views = build_network(config, CHANNELS)
    assert isinstance(views, Views)
    first, second = (view.state_dict() for view in views)
    apart = {name for name, tensor in first.items() if not torch.equal(tensor, second[name])}
    assert not any(name.startswith("encoder.") for name in apart)
    convolutions = {name for name, tensor in first.items() if not name.startswith("encoder.") and tensor.ndim == 4}
    assert len(convolutions) > 10
    assert convolutions <= apart


def test_the_configuration_names_the_method() -> None:
    assert isinstance(real(), CoTraining)
    assert not isinstance(build_method(tiny_network(), CHANNELS, tiny_config()), CoTraining)
