from pathlib import Path

import pytest

from semisalt.config import Config
from semisalt.errors import UserError
from semisalt.training.health import health_beside, health_of, prior_of, refuse_collapse
from tests.tiny import tiny_config, tiny_tiles

FOLDER = Path("runs/x/fold1")
TRAIN = tiny_tiles(30)
CONFIG = tiny_config(method="mean_teacher", teacher={"ramp": 0.3})  # type: ignore[arg-type]


def record(foreground: float) -> dict[str, float]:
    prior = {f"health/{name}": value for name, value in prior_of(TRAIN).items()}
    return {"epoch": 7, "loss/total": 1.0, "health/foreground": foreground, "health/non_empty": 0.125, **prior}


def test_prior_is_that_of_the_labels() -> None:
    assert TRAIN.masks is not None
    prior = prior_of(TRAIN)
    assert prior["prior_foreground"] == pytest.approx(TRAIN.masks.mean())
    assert prior["prior_non_empty"] == sum(mask.any() for mask in TRAIN.masks) / 30


def test_the_losses_share_is_that_of_the_epochs_means() -> None:
    """Planted: of two steps, 0.9 and 0.1 by the labels and 0.1 each beside them, the mean share would be 0.56."""
    found = health_beside({"health/foreground": 0.2, "loss/total": 0.6, "loss/supervised": 0.5}, TRAIN)
    assert found.pop("health/consistency_share") == pytest.approx(0.2)
    assert found == {f"health/{name}": value for name, value in prior_of(TRAIN).items()}
    assert health_beside({"loss/total": 0.6}, TRAIN) == {}
    assert "health/consistency_share" not in health_beside({"health/foreground": 0.2, "loss/total": 0.6}, TRAIN)


def test_labels_that_are_learned_by_heart_leave_finite_figures() -> None:
    found = health_beside({"health/foreground": 0.2, "loss/total": 0.1, "loss/supervised": 0.0}, TRAIN)
    assert found["health/consistency_share"] == pytest.approx(0.1 / 1e-6)


def test_a_collapse_after_the_warm_up_is_refused_with_its_figures() -> None:
    prior = prior_of(TRAIN)["prior_foreground"]
    with pytest.raises(
        UserError, match=rf"runs/x/fold1: .*after epoch 8: foreground .*non_empty 0\.125.*prior_foreground {prior:.3f}"
    ):
        refuse_collapse(FOLDER, record(0.24 * prior), CONFIG, 0.31)
    refuse_collapse(FOLDER, record(0.26 * prior), CONFIG, 0.31)
    refuse_collapse(FOLDER, record(0.0), CONFIG, 0.29)  # still warming up when the epoch began
    with pytest.raises(UserError, match="collapsed"):
        refuse_collapse(FOLDER, record(0.0), CONFIG, 0.3)


def test_less_salt_may_be_true_of_the_unlabelled_tiles() -> None:
    """Labels chosen for their salt: a perfect network sees less."""
    rare = tiny_config(method="mean_teacher", unlabelled={"least_salt": 0.05})  # type: ignore[arg-type]
    prior = prior_of(TRAIN)["prior_foreground"]
    refuse_collapse(FOLDER, record(0.06 * prior), rare, 0.9)
    with pytest.raises(UserError, match=r"--resume and --set unlabelled\.least_salt=0\.039 or less"):
        refuse_collapse(FOLDER, record(0.0396 * prior), rare, 0.9)
    never = tiny_config(method="mean_teacher", unlabelled={"least_salt": 0.0})  # type: ignore[arg-type]
    refuse_collapse(FOLDER, record(0.0), never, 0.9)


@pytest.mark.parametrize(
    ("method", "remedy"), [("mean_teacher", "lower teacher.weight"), ("co_training", "lower co_training.agreement")]
)
def test_the_way_out_is_the_methods_own(method: str, remedy: str) -> None:
    with pytest.raises(UserError, match=rf"another --run, with .*{remedy}"):
        refuse_collapse(FOLDER, record(0.0), tiny_config(method=method), 0.9)  # type: ignore[arg-type]


def test_a_first_epoch_is_not_judged() -> None:
    at_once = tiny_config(method="mean_teacher", teacher={"ramp": 0.0})  # type: ignore[arg-type]
    refuse_collapse(FOLDER, record(0.0), at_once, 0.0)
    with pytest.raises(UserError, match="collapsed"):
        refuse_collapse(FOLDER, record(0.0), at_once, 0.01)


def test_each_method_has_a_warm_up_of_its_own() -> None:
    other = tiny_config(method="co_training", co_training={"ramp": 0.6})  # type: ignore[arg-type]
    refuse_collapse(FOLDER, record(0.0), other, 0.5)  # its own warm-up, not the teacher's
    with pytest.raises(UserError, match="collapsed"):
        refuse_collapse(FOLDER, record(0.0), other, 0.61)


@pytest.mark.parametrize("method", ["mean_teacher", "co_training"])
def test_a_ramp_over_the_whole_training_does_not_switch_the_check_off(method: str) -> None:
    section = "teacher" if method == "mean_teacher" else method
    slow = tiny_config(method=method, **{section: {"ramp": 1.0}})  # type: ignore[arg-type]
    refuse_collapse(FOLDER, record(0.0), slow, 0.59)
    with pytest.raises(UserError, match="collapsed"):
        refuse_collapse(FOLDER, record(0.0), slow, 0.61)


def test_supervision_has_no_health() -> None:
    assert health_of({"loss/total": 0.1, "score": 0.4}) == {}
    refuse_collapse(FOLDER, {"epoch": 1, "loss/total": 0.1}, Config(), 1.0)
