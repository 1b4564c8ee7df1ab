"""Beginning a study, or going on with one: the request is resolved, checked, and kept."""

from collections.abc import Callable
from pathlib import Path

import torch

from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.files import held
from semisalt.inference.outputs import own_survey
from semisalt.run import RunDirectory
from semisalt.studies.directory import StudyDirectory
from semisalt.studies.request import StudyFile, StudyRequest, base_recipe, changes, write_request
from semisalt.studies.space import check
from semisalt.studies.storage import check_url
from semisalt.studies.threshold import check_keep, check_threshold_space, fingerprint_of, material_of
from semisalt.training.crossval import divide
from semisalt.training.settle import settle


def begin(
    path: Path, source: Path, file: StudyFile, survey: Survey, storage: str | None, device: torch.device
) -> StudyDirectory:
    """The study of level training at `path`: begun now, or found there as it is asked for.

    Args:
        path: the study's directory.
        source: the YAML that `file` was read from.
        file: what is asked for.
        survey: the tiles.
        storage: the URL of a database; None: SQLite in the directory.
        device: where trials run; what the recipe leaves open is settled on it once, for all trials.

    Raises:
        UserError: the study was begun with something else (the differences are named), or cannot work.
    """
    config = base_recipe(source, file)
    recipe = config.model_dump(mode="json")
    check(str(source), file.space, recipe)
    if file.folds is not None and not set(file.folds) <= set(range(config.data.folds)):
        raise UserError(f"{source}: folds {list(file.folds)}: the folds are 0 to {config.data.folds - 1}")
    if storage is not None:
        check_url(storage)
    division = divide(survey, config)
    data = {
        "path": str(survey.source.resolve()),
        "fingerprint": survey.fingerprint,
        "labelled": len(survey.labelled),
        "holdout_tiles": len(division.holdout),
    }
    own = file.model_dump(exclude={"trials", "config", "set", "run"})
    asked = StudyRequest(**own, name=path.name, storage=storage, recipe=recipe, data=data)

    def settled() -> StudyRequest:
        return asked.model_copy(update={"recipe": settle(config, survey, device).config.model_dump(mode="json")})

    return keep(path, asked, settled)


def begin_threshold(path: Path, source: Path, file: StudyFile, run: RunDirectory, moved: Path | None) -> StudyDirectory:
    """The study of level threshold at `path`, of a finished run's predictions: begun now, or found as it is asked for.

    Args:
        path, source, file: as of `begin`.
        run: the run.
        moved: where the run's data lies now, if it moved.

    Raises:
        UserError: as `begin`; no fold of the run is finished, its tiles are gone, or its scores are inflated.
    """
    if run.inflated:
        raise UserError(f"{run.path}: nothing can be chosen or judged by its out-of-fold scores: {run.inflated}")
    check_threshold_space(str(source), file.space)
    survey = own_survey(run, moved)
    material = material_of(run, survey.labelled, file.holdout, file.seed)
    check_keep(str(source), file.space, run)
    data = {
        "path": str(survey.source.resolve()),
        "fingerprint": survey.fingerprint,
        "labelled": len(survey.labelled),
        "holdout_tiles": int(material.holdout.sum()),
        "weights": fingerprint_of(run),
    }
    own = file.model_dump(exclude={"trials", "config", "set", "run"})
    asked = StudyRequest(**own, name=path.name, recipe={}, data=data, run=str(run.path.resolve()))
    return keep(path, asked, lambda: asked)


def keep(path: Path, asked: StudyRequest, settled: Callable[[], StudyRequest]) -> StudyDirectory:
    """Write the request, settled only now, where there is none; refuse another one, naming the differences."""
    path.mkdir(parents=True, exist_ok=True)
    with held(path / ".begin.lock"):  # the tasks of a cluster's array begin all at once
        if not (path / "study.yaml").exists():
            write_request(path / "study.yaml", settled())
        directory = StudyDirectory.open(path)
    problems = changes(asked, directory.request)
    if problems:
        raise UserError(
            f"{path} was begun differently; choose another name by --run, or ask for the same:\n  "
            + "\n  ".join(problems)
        )
    return directory
