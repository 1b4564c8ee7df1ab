"""The recipe of a round, from the recipe of the baseline."""

from semisalt.config import Config, CosineConfig
from semisalt.errors import UserError


def lesson_shares(config: Config) -> tuple[float, ...]:
    """For each epoch the share of pseudo-labelled tiles in a batch."""
    epochs, pseudo = config.training.epochs, config.pseudo
    if pseudo.use == "pretrain_finetune":
        first = _pretraining(config)
        return (1.0,) * first + (0.0,) * (epochs - first)
    return (0.5 if pseudo.use == "half_swap" else pseudo.share,) * epochs


def round_recipe(settled: Config, config: Config) -> Config:
    """The recipe of the rounds.

    Their peak learning rate may be their own; weights of the round before have had the first losses already; and
    fine-tuning is a second cosine cycle at a lower rate.
    """
    # A round learns from its labels, whatever the run before it learned by.
    recipe = settled.model_copy(update={"pseudo": config.pseudo, "method": "supervised"})
    if recipe.pseudo.start == "previous":
        recipe = recipe.model_copy(update={"loss": recipe.loss.model_copy(update={"switch_epoch": 0})})
    if recipe.pseudo.peak is not None:
        lowest = "floor" if isinstance(recipe.schedule, CosineConfig) else "base"
        rates = {"peak": recipe.pseudo.peak, lowest: min(getattr(recipe.schedule, lowest), recipe.pseudo.peak)}
        recipe = recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update=rates)})
    if recipe.pseudo.use != "pretrain_finetune":
        return recipe
    if not isinstance(recipe.schedule, CosineConfig) or recipe.training.epochs < 2:
        raise UserError(
            "pseudo.use: pretrain_finetune needs schedule.kind: cosine and two epochs at least, since it fine-tunes in "
            "a second cycle; or use mix or half_swap"
        )
    first = _pretraining(recipe)
    cycles = (first, recipe.training.epochs - first)
    schedule = recipe.schedule.model_copy(update={"cycles": cycles, "restart": recipe.pseudo.rate})
    return recipe.model_copy(update={"schedule": schedule})


def _pretraining(config: Config) -> int:
    """Epochs on pseudo-labels alone; at least one, and one is left."""
    epochs = config.training.epochs
    return min(max(1, round(config.pseudo.pretrain * epochs)), epochs - 1)
