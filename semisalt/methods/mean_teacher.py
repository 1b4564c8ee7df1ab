"""Mean teacher: the student learns from labels, and to agree with the average of its own weights."""

from collections.abc import Mapping

import torch
from torch import nn

from semisalt.config import Config, TeacherConfig
from semisalt.data.batches import Batch
from semisalt.data.channels import Channels
from semisalt.losses.consistency import squared_consistency, sure, threshold_consistency
from semisalt.losses.mix import mix
from semisalt.methods import Losses, Method, Progress
from semisalt.methods.cutmix import boxes, paste
from semisalt.methods.ramp import ramp
from semisalt.models.ema import Average


class MeanTeacher(Method):
    """L = L_sup(labelled) + w · L_cons(strong view of unlabelled, teacher's word on the weak view).

    With `teacher.consistency: tiles` L_cons is L_sup itself, against the teacher's hard masks of whole tiles: of those
    on which its words on tile and mirror image agree (IoU) and an empty mask is sure (`empty_below`), with CutMix on
    both parts. It is weighed by their share.

    One pass of the student over both kinds of tile, so that they share batch statistics; one of the teacher over the
    unlabelled ones without gradients (two with `teacher.mirrored`). The teacher is what is validated and kept.

    Source: Tarvainen & Valpola 2017; weak and strong views: Sohn et al. 2020; CutMix: French et al. 2020.
    """

    def __init__(self, network: nn.Module, channels: Channels, config: Config) -> None:
        self.networks = [network]
        self.channels, self.config = channels, config
        self._student = network
        self.average = Average(network, config.teacher.decay)
        self.followers: list[nn.Module] = [self.average]

    def step(self, batch: Batch, progress: Progress) -> Losses:
        """Loss over the tiles' own pixels: padding never counts."""
        assert batch.strong is not None  # noqa: S101  # Config.strong_views asks for it
        config, count = self.config.teacher, len(batch.targets)
        images, depths = batch.images, batch.depths
        words = self.words(images[count:], depths[count:] if depths is not None else None)
        word = words.mean(dim=0)
        health = _health(word, config.confidence)
        mixing = self.config.unlabelled
        box = boxes(len(word), self.channels.shape, mixing.cutmix, mixing.cutmix_area, word.device)
        strong, word = paste(batch.strong, box), paste(word, box)
        if depths is not None and self.channels.depth_range is not None:
            depths = _with_parts(depths, count, box)
        logits = self.channels.crop(self.networks[0](self.channels(torch.cat([images[:count], strong]), depths)))
        labelled, unlabelled = logits[:count], logits[count:]
        weights = self.config.loss.at(progress.epoch)
        supervised, parts = mix(labelled, batch.salt(labelled), weights)
        if config.consistency == "tiles":
            same = agreed(words, config.agreement, config.empty_below)
            taken = same & (same.flip(0) | ~box.flatten(1).any(dim=1))  # a pasted part counts as well
            health["taken"] = taken.float().mean()
            consistency = _on_tiles(unlabelled, word, taken, weights)
        else:
            consistency = agreement(unlabelled, word, config)
        weighed = config.weight * ramp(progress.share, config.ramp) * consistency
        parts |= {"supervised": supervised.detach(), "consistency": consistency.detach()}
        return Losses(supervised + weighed, parts, health)

    @torch.no_grad()
    def words(self, images: torch.Tensor, depths: torch.Tensor | None) -> torch.Tensor:
        """The teacher's probabilities on weak views, and with `teacher.mirrored` on their mirror images, turned back.

        fp32 [1 or 2, U, H, W].
        """
        x = self.channels(images, depths)
        words = [self.channels.crop(self.average.module(x)).float().sigmoid()]
        if self.config.teacher.mirrored:
            words.append(self.channels.crop(self.average.module(x.flip(3)).flip(2)).float().sigmoid())
        return torch.stack(words)

    def after_step(self, progress: Progress) -> None:
        """The teacher follows."""
        self.average.follow(self._student, progress.step)

    def predictor(self) -> nn.Module:
        """The teacher."""
        teacher: nn.Module = self.average.module
        return teacher

    def beside(self) -> dict[str, nn.Module]:
        """The student."""
        return {"student": self._student}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The teacher."""
        state: dict[str, torch.Tensor] = self.average.module.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the teacher."""
        self.average.module.load_state_dict(state)


def agreement(logits: torch.Tensor, word: torch.Tensor, config: TeacherConfig) -> torch.Tensor:
    """The configured consistency loss."""
    if config.consistency == "mse":
        return squared_consistency(logits, word)
    return threshold_consistency(logits, word, config.confidence)


def agreed(words: torch.Tensor, least: float, empty_below: float) -> torch.Tensor:
    """Tiles of which two words [2, U, H, W] say the same: the IoU of their masks is `least` or more; bool [U].

    Two empty masks are the same where no pixel of their mean reaches `empty_below`: all empty masks agree, mistaken
    ones, too, and each that is learned from makes more.
    """
    one, other = (words > 0.5).flatten(2)
    both, either = (one & other).sum(dim=1), (one | other).sum(dim=1)
    surely = words.mean(dim=0).flatten(1).amax(dim=1) < empty_below
    same: torch.Tensor = (both >= least * either) & ((either > 0) | surely)
    return same


def _with_parts(depths: torch.Tensor, count: int, box: torch.Tensor) -> torch.Tensor:
    """Each pixel's depth [B, H, W]; of the unlabelled tiles, behind `count` labelled ones, pasted parts keep theirs."""
    each = depths[:, None, None].expand(-1, *box.shape[1:])
    return torch.cat([each[:count], paste(each[count:], box)])


def _on_tiles(
    logits: torch.Tensor, word: torch.Tensor, taken: torch.Tensor, weights: Mapping[str, float]
) -> torch.Tensor:
    """The supervised mix against the teacher's hard masks over the tiles that are `taken` [U], times their share."""
    if not taken.any():
        return logits.abs().sum() * 0  # a gradient, of zeros; −0 would stand in the log
    total, _ = mix(logits[taken], (word[taken] > 0.5).to(logits.dtype), weights)
    return total * taken.float().mean()


def _health(word: torch.Tensor, confidence: float) -> dict[str, torch.Tensor]:
    salt = word > 0.5
    return {
        "foreground": salt.float().mean(),
        "non_empty": salt.flatten(1).any(dim=1).float().mean(),
        "sure_pixels": sure(word, confidence).float().mean(),
    }
