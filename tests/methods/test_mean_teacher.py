from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from semisalt.config import Config, LossConfig
from semisalt.data.batches import Batch
from semisalt.data.channels import Channels
from semisalt.inference.build import build_network
from semisalt.losses.mix import mix
from semisalt.methods import Progress
from semisalt.methods import mean_teacher as module
from semisalt.methods.build import build_method
from semisalt.methods.mean_teacher import MeanTeacher, agreed
from tests.methods.toys import SHAPE, Pointwise, moved_statistics, toy_batch
from tests.tiny import tiny_config

CHANNELS = Channels(SHAPE, None, "none")
HALFWAY = Progress(0, 9, 0.15)  # of a ramp of 0.3


def config_of(*, cutmix: float = 0.0, finish: str | None = None, **changes: float | str | bool) -> Config:
    """A recipe of mean teacher with `changes` of its section; its loss, from the second epoch on, `finish` alone."""
    teacher = {"ramp": 0.3, "mirrored": False, "weight": 2.0, "consistency": "mse", **changes}
    sections: dict[str, object] = {"method": "mean_teacher", "teacher": teacher, "unlabelled": {"cutmix": cutmix}}
    if finish is not None:
        sections["loss"] = {"switch_epoch": 1, "finish": {finish: 1.0}}
    return tiny_config(channels={"depth": False, "ramp": "none"}, **sections)  # type: ignore[arg-type]


def toy(a: float = 1.5, b: float = 0.2, *, cutmix: float = 0.0, **changes: float | str | bool) -> MeanTeacher:
    """A pointwise student whose teacher has other weights, a = −0.7 and b = 0.4."""
    method = MeanTeacher(Pointwise(CHANNELS, a, b), CHANNELS, config_of(cutmix=cutmix, **changes))
    method.average.module.load_state_dict({"a": torch.tensor(-0.7), "b": torch.tensor(0.4)})
    return method


def real(*, finish: str | None = None, **changes: float | str | bool) -> MeanTeacher:
    config = config_of(finish=finish, **changes)
    torch.manual_seed(0)
    method = build_method(build_network(config, CHANNELS), CHANNELS, config)
    assert isinstance(method, MeanTeacher)
    method.networks[0].train()
    return method


def speak(images: torch.Tensor, a: float, b: float) -> "np.typing.NDArray[np.float64]":
    return np.asarray(1 / (1 + np.exp(-(a * (images.numpy() / 255 - 0.449) / 0.226 + b))))


def batch_of(labelled: int = 3, unlabelled: int = 4) -> Batch:
    batch = toy_batch(labelled, unlabelled)
    assert batch.strong is not None
    assert not torch.equal(batch.strong, batch.images[labelled:])  # nor do they share memory
    return batch


@pytest.mark.parametrize("consistency", ["mse", "threshold"])
def test_a_step_as_calculated_in_numpy(consistency: str) -> None:
    """The student's strong view meets the teacher's word on the weak one; padding has no voice."""
    batch = batch_of()
    assert batch.strong is not None
    p, y = speak(batch.images[:3], 1.5, 0.2), batch.targets.numpy() / 255
    supervised = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    q, student = speak(batch.images[3:], -0.7, 0.4), speak(batch.strong, 1.5, 0.2)
    if consistency == "mse":
        expected = np.mean(2 * (student - q) ** 2)
    else:
        likely = np.where(q > 0.5, student, 1 - student)
        expected = np.sum(-np.log(likely[np.maximum(q, 1 - q) >= 0.7])) / q.size
    losses = toy(consistency=consistency, confidence=0.7).step(batch, HALFWAY)
    weighed = 2 * np.exp(-5 * 0.25) * expected
    assert losses.parts["bce"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses.parts["supervised"].item() == pytest.approx(supervised, rel=1e-5)
    assert losses.parts["consistency"].item() == pytest.approx(expected, rel=1e-4)
    assert losses.total.item() == pytest.approx(supervised + weighed, rel=1e-4)
    health = {name: value.item() for name, value in losses.health.items()}
    assert health == pytest.approx(
        {
            "foreground": np.mean(q > 0.5),
            "non_empty": np.mean((q > 0.5).any(axis=(1, 2))),
            "sure_pixels": np.mean(np.maximum(q, 1 - q) >= 0.7),
        },
        rel=1e-4,
    )
    assert not any(value.requires_grad for value in (*losses.parts.values(), *losses.health.values()))


def test_the_mirrored_word_is_the_mean_of_both_views() -> None:
    class Left(Pointwise):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + torch.linspace(-2, 2, x.shape[3])

    method = toy(mirrored=True)
    method.average.module = Left(CHANNELS, 0.9, 0.1)
    images = batch_of().images
    word = method.words(images, None).mean(dim=0)
    mirrored = method.words(images.flip(2), None).mean(dim=0).flip(2)
    torch.testing.assert_close(word, mirrored)
    alone = toy(mirrored=False)
    alone.average.module = method.average.module
    turned = alone.words(images.flip(2), None)[0].flip(2)
    torch.testing.assert_close(word, (alone.words(images, None)[0] + turned) / 2)


def spoken(method: MeanTeacher, words: torch.Tensor) -> MeanTeacher:
    """The method with a teacher that says these words [2, U, H, W]."""
    method.words = lambda *_: words  # type: ignore[method-assign]
    return method


def two_words(*same: bool) -> torch.Tensor:
    """Random words on tiles; where not `same`, the mirror image's masks are others."""
    words = torch.rand((2, len(same), *SHAPE), generator=torch.Generator().manual_seed(3))
    masks = words[0] > 0.5
    words[1] = torch.where(masks ^ ~torch.tensor(same)[:, None, None], 0.8, 0.3)
    words[0] = torch.where(masks, 0.6, 0.1)
    return words


def test_words_agree_by_the_iou_of_their_masks() -> None:
    words = torch.zeros(2, 5, 4, 5)
    words[:, 0, 0, :4] = 0.9  # alike
    words[0, 1, 0, :4], words[1, 1, 0, :5] = 0.9, 0.6  # IoU 4/5
    words[0, 2, 0, :3], words[1, 2, 0, :4] = 0.9, 0.6  # 3/4
    words[0, 3, 0, 0] = 0.9  # something and nothing
    assert agreed(words, 0.8, 1.0).tolist() == [True, True, False, False, True]  # twice nothing is the same
    assert agreed(words, 0.75, 1.0).tolist() == [True, True, True, False, True]
    assert agreed(words, 0.0, 1.0).all()


def test_an_empty_mask_agrees_where_it_is_sure_of_it() -> None:
    words = torch.full((2, 5, 4, 5), 0.05)
    words[0, 0, 0, 0], words[1, 0, 0, 0] = 0.1, 0.28  # the mean, .19, decides
    words[:, 1, 3, 4] = 0.21  # one pixel is enough
    words[:, 2, 0, :4] = 0.9
    words[:, 2, 1, :4] = 0.3  # a mask that is not empty needs no such thing
    words[0, 3, 0, 0] = 0.9  # nor does it help one that disagrees
    assert agreed(words, 0.8, 0.2).tolist() == [True, False, True, False, True]
    assert agreed(words, 0.8, 0.21001).tolist() == [True, True, True, False, True]
    assert agreed(words, 0.8, 1.0).tolist() == [True, True, True, False, True]


def test_a_step_learns_from_no_empty_mask_that_is_unsure() -> None:
    words = two_words(True, True, True, True)
    words[:, 1], words[:, 2] = 0.3, 0.1
    for below, taken in ((1.0, 1.0), (0.2, 0.75), (0.05, 0.5)):
        method = spoken(toy(mirrored=True, consistency="tiles", empty_below=below), words)
        assert method.step(batch_of(), HALFWAY).health["taken"].item() == taken


def test_a_step_on_tiles_as_calculated_in_numpy() -> None:
    batch, words = batch_of(), two_words(True, False, True, True)
    losses = spoken(toy(mirrored=True, consistency="tiles"), words).step(batch, HALFWAY)
    assert batch.strong is not None
    hard, student = words.mean(0).numpy() > 0.5, speak(batch.strong, 1.5, 0.2)
    likely = np.where(hard, student, 1 - student)[[0, 2, 3]]
    expected = 0.75 * np.mean(-np.log(likely))  # of the three tiles, times their share
    assert losses.parts["consistency"].item() == pytest.approx(expected, rel=1e-4)
    assert losses.health["taken"].item() == 0.75
    supervised = losses.parts["bce"].item()
    assert losses.total.item() == pytest.approx(supervised + 2 * np.exp(-5 * 0.25) * expected, rel=1e-4)


def test_a_tile_with_a_part_of_a_refused_one_is_refused() -> None:
    words = two_words(True, True, True, False)  # tiles 0 and 3 are each other's partners
    for cutmix, taken in ((0.0, 0.75), (1.0, 0.5)):
        method = spoken(toy(mirrored=True, consistency="tiles", cutmix=cutmix), words)
        assert method.step(batch_of(), HALFWAY).health["taken"].item() == taken


@pytest.mark.parametrize("consistency", ["tiles", "threshold"])
def test_cutmix_as_calculated_in_numpy(consistency: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One box for image, word, confidence and verdict: nothing refused comes back through a pasted part."""
    box = torch.zeros(4, *SHAPE, dtype=torch.bool)
    box[0, 2:9, 3:11] = box[2, 5:, :4] = True
    monkeypatch.setattr(module, "boxes", lambda *_: box)
    batch, words = batch_of(), two_words(True, False, True, True)
    method = spoken(toy(mirrored=True, consistency=consistency, confidence=0.75, cutmix=1.0), words)
    assert batch.strong is not None
    inside, strong, q = box.numpy(), batch.strong.numpy(), words.mean(0).numpy()
    mixed, said = np.where(inside, strong[::-1], strong), np.where(inside, q[::-1], q)
    student = speak(torch.from_numpy(mixed), 1.5, 0.2)
    loss = -np.log(np.where(said > 0.5, student, 1 - student))
    if consistency == "tiles":
        # Tile 1 is refused, and so is tile 2, which holds a part of it; tile 0 holds a part of tile 3.
        expected = loss[[0, 3]].mean() / 2
    else:
        sure = np.maximum(said, 1 - said) >= 0.75
        assert (sure != (np.maximum(q, 1 - q) >= 0.75)).any()
        expected = loss[sure].sum() / loss.size
    assert method.step(batch, HALFWAY).parts["consistency"].item() == pytest.approx(expected, rel=1e-4)


def test_a_pasted_part_keeps_its_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the student would be told the depth of the tile around it, the teacher was told the part's own."""

    class Deep(Pointwise):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.is_grad_enabled():  # the student
                seen.append(channels.crop(x[:, 1]))
            return super().forward(x)

    seen: list[torch.Tensor] = []
    channels = Channels(SHAPE, (0.0, 1000.0), "none")
    box = torch.zeros(4, *SHAPE, dtype=torch.bool)
    box[0, 2:9, 3:11] = box[2, 5:, :4] = True
    monkeypatch.setattr(module, "boxes", lambda *_: box)
    batch = batch_of()
    assert batch.depths is not None
    MeanTeacher(Deep(channels, 1.5, 0.2), channels, config_of(cutmix=1.0)).step(batch, HALFWAY)
    (found,) = seen
    own = np.broadcast_to((batch.depths.numpy() / 1000)[:, None, None], (7, *SHAPE))
    expected = np.concatenate([own[:3], np.where(box.numpy(), own[:2:-1], own[3:])])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_where_no_tile_is_taken_the_labels_teach_alone() -> None:
    method = spoken(toy(b=-9.0, mirrored=True, consistency="tiles"), two_words(False, False, False, False))
    losses = method.step(batch_of(), HALFWAY)
    assert losses.total.item() == pytest.approx(losses.parts["bce"].item())
    assert losses.parts["consistency"].item() == losses.health["taken"].item() == 0
    assert not losses.parts["consistency"].signbit()  # no −0 in the log
    assert losses.total.requires_grad
    losses.total.backward()


def test_tiles_are_learned_with_the_labelled_tiles_own_loss() -> None:
    """After the switch the mix is Lovász's, on the unlabelled tiles as well."""
    weights = {"start": {"bce": 1.0}, "finish": {"lovasz_hinge": 1.0}, "switch_epoch": 1}
    config = config_of(mirrored=True, consistency="tiles").model_copy(update={"loss": LossConfig(**weights)})
    words, batch = two_words(True, True, True, True), batch_of()
    method = spoken(MeanTeacher(Pointwise(CHANNELS, 1.5, 0.2), CHANNELS, config), words)
    assert batch.strong is not None
    logits = 1.5 * (batch.strong.float() / 255 - 0.449) / 0.226 + 0.2
    expected, _ = mix(logits, (words.mean(0) > 0.5).float(), weights["finish"])  # type: ignore[arg-type]
    assert method.step(batch, Progress(1, 9, 0.15)).parts["consistency"].item() == pytest.approx(
        expected.item(), rel=1e-4
    )


def test_tiles_need_both_words() -> None:
    with pytest.raises(ValidationError, match="set mirrored"):
        config_of(mirrored=False, consistency="tiles")


@pytest.mark.parametrize("consistency", ["mse", "threshold", "tiles"])
def test_the_consistency_alone_teaches_the_student_and_never_the_teacher(consistency: str) -> None:
    """A known bug: a term whose gradient to the student is zero."""
    how = {"consistency": consistency, "confidence": 0.5, "mirrored": True}
    batch = batch_of()

    def method_of(**changes: float) -> MeanTeacher:
        return spoken(real(**how, **changes), two_words(True, True, True, True))  # type: ignore[arg-type]

    with_it = method_of().step(batch, HALFWAY)
    assert with_it.total > with_it.parts["bce"]
    method = method_of(weight=1e6)
    method.step(batch, Progress(0, 0, 1.0)).total.backward()
    strong = [p.grad.norm().item() for p in method.networks[0].parameters() if p.grad is not None]
    method = method_of(weight=0.0)
    method.step(batch, Progress(0, 0, 1.0)).total.backward()
    plain = [p.grad.norm().item() for p in method.networks[0].parameters() if p.grad is not None]
    assert sum(strong) > 1000 * sum(plain)
    assert all(parameter.grad is None for parameter in method.average.module.parameters())


@pytest.mark.parametrize("finish", ["lovasz_hinge", "lovasz_symmetric"])
def test_an_all_empty_batch_still_has_a_gradient(finish: str) -> None:
    """Of the labelled tiles and one loss alone: others would hide a loss that has none."""
    method, batch = real(weight=0.0, finish=finish), batch_of()
    batch.targets[:] = 0
    for epoch in (0, 1):  # BCE, then Lovász
        method.networks[0].zero_grad()
        method.step(batch, Progress(epoch, 0, 1.0)).total.backward()
        assert sum(float(p.grad.abs().sum()) for p in method.networks[0].parameters() if p.grad is not None) > 0


def test_the_teacher_follows_with_its_batch_statistics_and_stays_in_eval_mode() -> None:
    method, batch = real(), batch_of()
    statistics = method.average.module.state_dict()
    name = next(name for name in statistics if name.endswith("running_mean"))
    before = statistics[name].clone()
    for step in range(3):
        method.step(batch, Progress(0, step, 0.5))
        assert not any(module.training for module in method.average.module.modules())
        assert torch.equal(method.average.module.state_dict()[name], before)  # its own passes move nothing
        method.after_step(Progress(0, step, 0.5))
        after = method.average.module.state_dict()[name].clone()
        assert not torch.equal(after, before)
        before = after
    assert moved_statistics(method.networks[0])[0] == 3  # one pass of the student a step


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_teacher_is_the_average_of_the_formula(decay: float) -> None:
    """θ' ← d θ' + (1 − d) θ with d = min(1 − 1/(t + 1), decay), t counting from 0."""
    method = toy(1.0, 0.0, decay=decay)
    average = -0.7  # the toy teacher's, of the slope
    for step, slope in enumerate((1.0, 3.0, -2.0, 5.0)):
        method.networks[0].load_state_dict({"a": torch.tensor(slope), "b": torch.tensor(0.0)})
        method.after_step(Progress(0, step, 0.5))
        kept = min(1 - 1 / (step + 1), decay)
        average = kept * average + (1 - kept) * slope
        assert method.average.module.a.item() == pytest.approx(average, rel=1e-6)


def test_the_teacher_speaks_of_the_unlabelled_tiles_with_their_depths() -> None:
    seen: list[torch.Tensor | None] = []
    method, batch = toy(), batch_of()
    words = method.words

    def noted(images: torch.Tensor, depths: torch.Tensor | None) -> torch.Tensor:
        seen.append(depths)
        assert torch.equal(images, batch.images[3:])
        return words(images, depths)

    method.words = noted  # type: ignore[method-assign]
    method.step(batch, HALFWAY)
    assert batch.depths is not None
    assert seen[0] is not None
    assert torch.equal(seen[0], batch.depths[3:])


def test_health_is_of_the_mean_word() -> None:
    """Planted: one word sees salt everywhere, the other the more surely none."""
    words = torch.stack([torch.full((4, *SHAPE), 0.7), torch.full((4, *SHAPE), 0.1)])
    health = spoken(toy(mirrored=True, confidence=0.55), words).step(batch_of(), HALFWAY).health
    assert health["foreground"].item() == health["non_empty"].item() == 0  # .4
    assert health["sure_pixels"].item() == 1
    turned = spoken(toy(mirrored=True, confidence=0.55), 1 - words).step(batch_of(), HALFWAY).health
    assert turned["foreground"].item() == turned["non_empty"].item() == 1


def test_cutmix_moves_image_and_word_together() -> None:
    """Where weak and strong view are the same and so are the networks, there is nothing to disagree about."""
    batch = toy_batch(3, 4)
    batch = replace(batch, strong=batch.images[3:].clone())
    method = toy(cutmix=1.0)
    method.average.module.load_state_dict(method.networks[0].state_dict())
    assert method.step(batch, HALFWAY).parts["consistency"].item() == pytest.approx(0, abs=1e-9)
    assert toy(cutmix=1.0).step(batch, HALFWAY).parts["consistency"] > 0.01
    # And it does something: with views that differ, boxes change the loss.
    torch.manual_seed(0)
    assert (
        toy(cutmix=1.0).step(batch_of(), HALFWAY).parts["consistency"]
        != toy().step(batch_of(), HALFWAY).parts["consistency"]
    )


def test_the_teacher_is_what_counts_and_is_kept_in_the_state() -> None:
    method = toy()
    assert method.predictor() is method.average.module
    assert method.beside() == {"student": method.networks[0]}
    other = MeanTeacher(Pointwise(CHANNELS, 0.0, 0.0), CHANNELS, config_of())
    other.load_state_dict(method.state_dict())
    assert other.average.module.state_dict() == method.average.module.state_dict()
