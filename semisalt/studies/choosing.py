"""How a study chooses: its sampler and its pruner, every default of Optuna's that decides a result set here."""

import warnings
from copy import copy

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from semisalt.studies.request import HyperbandPruner, MedianPruner, StudyRequest


def sampler_of(request: StudyRequest, place: int) -> BaseSampler:
    """The sampler of one trial: a function of the study's seed and the trial's place in the search (from 0).

    A sampler that lived as long as its process would start again with the same draws whenever a study goes on, and
    would depend on how often that was.
    """
    seed = int(np.random.SeedSequence([request.seed, place]).generate_state(1)[0])
    conditional = any(parameter.when for parameter in request.space.values())
    multivariate = request.sampler.multivariate and len(request.objectives) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=request.sampler.startup,
            n_ei_candidates=request.sampler.candidates,
            seed=seed,
            multivariate=multivariate,
            group=multivariate and conditional,  # keys that only some trials have are drawn together, too
            constant_liar=request.sampler.constant_liar,
        )


def pruner_of(request: StudyRequest) -> BasePruner:
    """The pruner; its resource is epochs, over all folds of a trial."""
    pruner = request.pruner
    if isinstance(pruner, MedianPruner):
        # interval_steps counts reports that come as they come; every one is looked at.
        median = optuna.pruners.MedianPruner(
            n_startup_trials=pruner.startup, n_warmup_steps=pruner.warmup, interval_steps=1, n_min_trials=1
        )
        return FoldPruner(median, epochs(request))
    if isinstance(pruner, HyperbandPruner):
        total = epochs(request) * len(request.wanted_folds)
        hyperband = optuna.pruners.HyperbandPruner(
            min_resource=pruner.shortest, max_resource=total, reduction_factor=pruner.reduction, bootstrap_count=0
        )
        return FoldPruner(hyperband, epochs(request))
    return optuna.pruners.NopPruner()


def epochs(request: StudyRequest) -> int:
    """The most epochs that a fold of any trial has."""
    searched = request.space.get("training.epochs")
    longest = 0 if searched is None else max(int(str(end)) for end in searched.ends())
    return max(longest, request.base.training.epochs)


class FoldPruner(BasePruner):
    """Another pruner, shown the reports of a trial's present fold only.

    Optuna's median rule compares a trial's best report so far. Later folds begin with an untrained network, so that
    the first fold's best would shield a trial through all others.
    """

    def __init__(self, inner: BasePruner, epochs: int) -> None:
        self.inner, self.epochs = inner, epochs

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether a trial should end; see BasePruner."""
        if trial.last_step is None:
            return False
        fold = (trial.last_step - 1) // self.epochs
        present = {
            step: value for step, value in trial.intermediate_values.items() if (step - 1) // self.epochs == fold
        }
        shown = copy(trial)
        shown.intermediate_values = present
        return self.inner.prune(study, shown)
