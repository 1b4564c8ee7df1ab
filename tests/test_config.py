import pytest

from semisalt.errors import UserError
from semisalt.recipe import load_config


@pytest.mark.parametrize(
    "override",
    [
        "training.epochs",
        "=3",
        "training.epochs=many",
        "training.epochs.x=1",
        "training=3",
        "training.epochs=[3",
        "training.batch=1",
        "training.ema_decay=1",
        "optimiser.clip_norm=nan",
        "loss.start={bce: .nan}",
        "loss.start={bce: -1}",
        "loss.start={bce: 0}",
        "loss.start={}",
        "schedule.kind=step",
        "schedule.base=1e-3",  # above the peak
        "inference.thresholds=[0.5, 0.5]",
        "inference.thresholds=[0.5, 0.4]",
        "inference.thresholds=[0.0]",
        "inference.thresholds=[0.5, 1.0]",
        "inference.thresholds=[]",
        "inference.min_salts=[-1]",
        "inference.min_holes=[20, 0]",
    ],
)
def test_bad_value_is_the_users_error(override: str) -> None:
    with pytest.raises(UserError):
        load_config(None, [override])


def test_cycles_add_up_to_the_epochs() -> None:
    cosine = ["schedule.kind=cosine", "training.epochs=65"]
    assert load_config(None, [*cosine, "schedule.cycles=[20, 20, 25]"]).schedule.kind == "cosine"
    with pytest.raises(UserError, match=r"add up to 64 epochs, training\.epochs is 65"):
        load_config(None, [*cosine, "schedule.cycles=[20, 20, 24]"])
    with pytest.raises(UserError, match="greater than 0"):
        load_config(None, [*cosine, "schedule.cycles=[70, -5]"])


def test_losses_switch_at_their_epoch() -> None:
    loss = load_config(None, ["loss.switch_epoch=3"]).loss
    assert [dict(loss.at(epoch)) for epoch in (0, 2, 3, 99)] == [loss.start, loss.start, loss.finish, loss.finish]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["unlabelled.strong.affine=0.5"], "the strong view keeps the weak one's geometry"),
        (["unlabelled.strong.flip=0.5"], "the strong view keeps the weak one's geometry"),
        (["unlabelled.cutmix_area=[0.4, 0.02]"], "shares of a tile rise within 0 to 1"),
        (["unlabelled.cutmix_area=[0, 0.4]"], "shares of a tile rise within 0 to 1"),
        (["method=mean_teacher", "training.ema_decay=0.99"], "the teacher is an average of the weights already"),
    ],
)
def test_what_learning_from_unlabelled_tiles_cannot_be_given(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(None, overrides)


def test_one_key_of_the_strong_views_leaves_the_others_alone() -> None:
    default = load_config(None, []).unlabelled.strong
    changed = load_config(None, ["unlabelled.strong.noise=0.7"]).unlabelled.strong
    assert changed.noise == 0.7 != default.noise
    assert changed.model_dump(exclude={"noise"}) == default.model_dump(exclude={"noise"})


def test_strong_views_are_those_of_the_method() -> None:
    """Nobody looks at any of co-training's: the adversarial examples take their place."""
    keys = ["pseudo.augment.noise=0.3", "unlabelled.strong.noise=0.7"]
    supervised, teacher, cotrain = (
        load_config(None, [*keys, f"method={method}"]).strong_views
        for method in ("supervised", "mean_teacher", "co_training")
    )
    assert supervised is not None
    assert supervised.noise == 0.3
    assert teacher is not None
    assert teacher.noise == 0.7
    assert cotrain is None
    assert load_config(None, []).strong_views is None
