import math

import pytest

from semisalt.config import Config
from semisalt.errors import UserError
from semisalt.pseudo.recipe import lesson_shares, round_recipe
from semisalt.recipe import dump_config, load_config
from semisalt.training.schedules import build_schedule
from tests.tiny import tiny_config

COSINE = {"kind": "cosine", "peak": 1e-2, "floor": 0.0, "warmup_epochs": 0}


def config_of(epochs: int, pseudo: dict[str, object], schedule: dict[str, object] = COSINE) -> Config:
    base = tiny_config(training={"epochs": epochs}, pseudo=pseudo).model_dump()
    return Config.model_validate({**base, "schedule": schedule})


def test_shares_of_each_use() -> None:
    assert lesson_shares(config_of(3, {"use": "mix", "share": 0.25})) == (0.25,) * 3
    assert lesson_shares(config_of(2, {"use": "half_swap", "share": 0.25})) == (0.5, 0.5)
    assert lesson_shares(config_of(5, {"use": "pretrain_finetune", "pretrain": 0.6})) == (1, 1, 1, 0, 0)


@pytest.mark.parametrize(("epochs", "pretrain", "first"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.99, 9), (10, 0.01, 1)])
def test_both_phases_have_an_epoch(epochs: int, pretrain: float, first: int) -> None:
    shares = lesson_shares(config_of(epochs, {"use": "pretrain_finetune", "pretrain": pretrain}))
    assert shares == (1.0,) * first + (0.0,) * (epochs - first)


@pytest.mark.parametrize("rate", [0.5, 1.0, 0.1])
def test_finetuning_is_a_second_cycle_at_a_lower_rate(rate: float) -> None:
    config = config_of(5, {"use": "pretrain_finetune", "pretrain": 0.6, "rate": rate})
    recipe = round_recipe(config, config)
    schedule = build_schedule(recipe.schedule, epochs=5, steps_per_epoch=4)
    first = [1e-2 * (1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]
    second = [rate * 1e-2 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert [schedule(step) for step in range(20)] == pytest.approx(first + second)
    # The shares change where the second cycle begins.
    assert lesson_shares(recipe) == (1, 1, 1, 0, 0)
    assert recipe.training.epochs == 5


def test_a_rounds_recipe_survives_its_file_and_being_made_twice(tmp_path: object) -> None:
    config = config_of(5, {"use": "pretrain_finetune"})
    recipe = round_recipe(config, config)
    file = tmp_path / "config.yaml"  # type: ignore[operator]
    file.write_text(dump_config(recipe))
    assert load_config(file) == recipe == round_recipe(recipe, recipe)


def test_other_uses_keep_the_schedule() -> None:
    config = config_of(5, {"use": "half_swap"})
    assert round_recipe(config, config) == config
    settled = tiny_config()
    assert round_recipe(settled, config).pseudo == config.pseudo
    assert round_recipe(settled, config).schedule == settled.schedule


@pytest.mark.parametrize("schedule", [COSINE, {"kind": "triangular2", "base": 5e-3, "peak": 6e-3, "step_size": 4}])
def test_rounds_that_go_on_have_a_peak_and_losses_of_their_own(schedule: dict[str, object]) -> None:
    config = config_of(5, {"start": "previous", "peak": 2e-3}, schedule)
    recipe = round_recipe(config, config)
    assert config.loss.switch_epoch > 0
    assert recipe.loss.switch_epoch == 0
    rates = [build_schedule(recipe.schedule, epochs=5, steps_per_epoch=4)(step) for step in range(20)]
    assert max(rates) == pytest.approx(2e-3)
    assert round_recipe(recipe, recipe) == recipe == Config.model_validate(recipe.model_dump())


def test_pretraining_needs_two_cycles() -> None:
    triangular = {"kind": "triangular2", "base": 1e-3, "peak": 3e-3, "step_size": 4}
    for config in (
        config_of(5, {"use": "pretrain_finetune"}, triangular),
        config_of(1, {"use": "pretrain_finetune"}),
    ):
        with pytest.raises(UserError, match=r"schedule\.kind: cosine and two epochs"):
            round_recipe(config, config)
