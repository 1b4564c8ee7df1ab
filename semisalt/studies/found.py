"""What a study of level threshold found, for the predictions of the run that it searched."""

from semisalt.config import Config
from semisalt.errors import UserError
from semisalt.run import RunDirectory
from semisalt.studies.best import best_trial, searched_recipe
from semisalt.studies.directory import StudyDirectory
from semisalt.studies.threshold import fingerprint_of


def found_recipe(directory: StudyDirectory, run: RunDirectory) -> Config:
    """The run's recipe with the best trial's snapshots, mirroring and operating point.

    Raises:
        UserError: the study trained its trials, was made of other predictions than the run's, or has no trial yet.
    """
    request = directory.request
    if request.level != "threshold":
        raise UserError(
            f"{directory.path} trained its trials, which are runs of their own: semisalt study best names the best one"
        )
    if fingerprint_of(run) != request.data["weights"]:
        raise UserError(f"{directory.path} searched other predictions than {run.path} has now: those of {request.run}")
    return searched_recipe(run.config, best_trial(directory.open_study(), directory.path))
