"""Deep co-training: networks that agree on unlabelled tiles, and resist each other's adversarial examples."""

from collections.abc import Sequence
from itertools import permutations

import torch
from torch import nn

from semisalt.config import Config
from semisalt.data.batches import Batch
from semisalt.data.channels import Channels
from semisalt.losses.mix import mix
from semisalt.losses.view_agreement import view_agreement
from semisalt.losses.view_difference import view_difference
from semisalt.methods import Losses, Method, Progress
from semisalt.methods.adversarial import fgsm
from semisalt.methods.ramp import ramp
from semisalt.models.views import Views

Fooled = dict[tuple[int, int], torch.Tensor]


class CoTraining(Method):
    """L = L_sup(labelled) + w · (agreement · L_cot(unlabelled) + difference · L_dif(all)).

    L_sup is twice the mean of the views' losses: of two views the paper's sum, of more of that size, as L_dif is.

    Each view has labelled tiles of its own; all see the same unlabelled ones, in their weak view: what sets the views
    apart is the adversarial examples, which take the strong view's place, and the paper's augmentation is plain. Among
    the unlabelled tiles are the fold's labelled ones, without their labels, as they are for the mean teacher. L_dif
    is over each view's own labelled tiles and the unlabelled ones: where it is attacked is where it was taught.

    Of N labelled and unlabelled tiles a view is attacked once on N (a pass forward, one back to the input) and trained
    once on N and on the other views' (V − 1) · N examples: with two views, some five supervised steps on N tiles. Tiles
    and examples go through a view together, in training mode (as in the paper), so that they share batch statistics,
    and the running ones, by which the view will predict and be attacked, are those of all that taught it.

    Source: Qiao et al., "Deep Co-Training for Semi-Supervised Image Recognition", ECCV 2018; for segmentation: Peng et
    al., "Deep co-training for semi-supervised image segmentation", Pattern Recognition 2020.
    """

    def __init__(self, network: Views, channels: Channels, config: Config) -> None:
        self.networks: list[nn.Module] = list(network)
        self.followers: list[nn.Module] = []
        self.channels, self.config = channels, config
        self._views = network

    def step(self, batch: Batch, progress: Progress) -> Losses:
        """Loss over the tiles' own pixels: padding never counts."""
        config = self.config.co_training
        own = deal(batch, len(self.networks))
        clean, fooled = self._look(own)
        supervised, parts = self._supervised(clean, own, progress)
        bare = torch.stack([logits[len(tiles.targets) :] for logits, tiles in zip(clean, own, strict=True)])
        agreement, difference = view_agreement(bare), view_difference(clean, fooled)
        weight = ramp(progress.share, config.ramp)
        weighed = weight * (config.agreement * agreement + config.difference * difference)
        parts |= {"supervised": supervised, "agreement": agreement, "difference": difference}
        parts = {name: part.detach() for name, part in parts.items()}
        return Losses(supervised + weighed, parts, _health(bare.detach()))

    def predictor(self) -> nn.Module:
        """The views' mean."""
        return self._views

    def beside(self) -> dict[str, nn.Module]:
        """Each view alone."""
        return {f"view{at}": view for at, view in enumerate(self._views)}

    def _look(self, own: Sequence[Batch]) -> tuple[list[torch.Tensor], Fooled]:
        """Each view's logits [N, H, W] on its tiles; by (i, j), those of view j on the examples against view i."""
        # All examples first: a view's attack and its training must find the same weights and statistics.
        examples = [
            fgsm(network, self.channels, tiles, self.config.co_training.epsilon)
            for network, tiles in zip(self.networks, own, strict=True)
        ]
        clean: list[torch.Tensor] = []
        fooled: Fooled = {}
        for view, network in enumerate(self.networks):
            others = [i for i, j in permutations(range(len(own)), 2) if j == view]
            seen = [own[view].images.float(), *(examples[i] for i in others)]
            known = [own[i].depths for i in (view, *others)]
            depths = torch.cat([part for part in known if part is not None]) if known[0] is not None else None
            logits = self.channels.crop(network(self.channels(torch.cat(seen), depths)))
            mine, *rest = torch.split(logits, [len(part) for part in seen])
            clean.append(mine)
            fooled |= {(i, view): part for i, part in zip(others, rest, strict=True)}
        return clean, fooled

    def _supervised(
        self, clean: Sequence[torch.Tensor], own: Sequence[Batch], progress: Progress
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Twice the mean over the views of the configured mix, each on its own labelled tiles; and its parts' means."""
        weights = self.config.loss.at(progress.epoch)
        pairs = [
            mix(logits[: len(tiles.targets)], tiles.salt(logits), weights)
            for logits, tiles in zip(clean, own, strict=True)
        ]
        totals, parts = zip(*pairs, strict=True)
        mean = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        return 2 * torch.stack(totals).mean(), mean


def deal(batch: Batch, views: int) -> list[Batch]:
    """Each view's own tiles: of a PairedPlan's batch its share of the labelled tiles, and all unlabelled ones."""
    labelled = torch.arange(len(batch.targets), device=batch.images.device).chunk(views)
    bare = torch.arange(len(batch.targets), len(batch.images), device=batch.images.device)
    places = [torch.cat([mine, bare]) for mine in labelled]
    return [
        Batch(
            batch.images[at],
            batch.targets[mine],
            batch.depths[at] if batch.depths is not None else None,
            batch.indices[at],
        )
        for mine, at in zip(labelled, places, strict=True)
    ]


def _health(bare: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of the views' logits [V, U, H, W] on unlabelled tiles: what they see, and where they are of two minds.

    `foreground` and `non_empty` are those of the view that sees least: a mean would hide one that sees nothing.
    """
    each = bare > 0
    return {
        "foreground": each.float().mean(dim=(1, 2, 3)).min(),
        "non_empty": each.flatten(2).any(dim=2).float().mean(dim=1).min(),
        "disagreement": (each.any(dim=0) & ~each.all(dim=0)).float().mean(),
    }
