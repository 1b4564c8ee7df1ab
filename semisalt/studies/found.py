"""What a study of level threshold found, for the predictions of the run that it searched."""

from semisalt.config import Config
from semisalt.errors import UserError
from semisalt.inference.outputs import only_point
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
        raise UserError(
            f"{directory.path} searched the predictions that {request.run} had, and {run.path} has others (another "
            "run, or another fold was finished): name that run, or search these by semisalt study run --from and --run"
        )
    return searched_recipe(run.config, best_trial(directory.open_study(), directory.path))


def told(found: Config) -> str:
    """In words, how a found recipe predicts."""
    snapshots, mirrored = found.snapshots, "mirrored too" if found.inference.flip else "not mirrored"
    voters = "averaged weights"
    if snapshots.combine == "predictions":
        voters = f"the newest {snapshots.keep} snapshots, each older one {snapshots.decay:.2f} as loud"
    return f"{only_point(found).words}; {voters}, {mirrored}"
