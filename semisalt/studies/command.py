"""What `semisalt study run` does, from the YAML to the last judgement."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from semisalt.data.read import load_survey
from semisalt.data.source import choose_source
from semisalt.errors import UserError
from semisalt.mosaics.groups import grouped
from semisalt.run import RunDirectory, find_run
from semisalt.studies.begin import begin, begin_threshold
from semisalt.studies.directory import StudyDirectory
from semisalt.studies.holdout import judge
from semisalt.studies.objective import ReportTrial
from semisalt.studies.request import base_recipe, read_file
from semisalt.studies.search import search, survey_of
from semisalt.studies.threshold import search_threshold

Announce = Callable[[str], None]


def prepare(
    source: Path,
    *,
    name: str | None,
    data: Path | None,
    finished: str | None,
    storage: str | None,
    device: torch.device,
    announce: Announce,
) -> tuple[StudyDirectory, int]:
    """The study that `source` asks for, begun or found, and how many trials it wants.

    Args:
        source: a study's YAML, or the directory of a study, which then goes on as it was begun.
        name: of the study's directory; None: the YAML's.
        data: the tiles; None: see choose_source.
        finished: the run that a study of level threshold searches.
        storage: the URL of a database; None: SQLite.
        device: where trials run.
        announce: told which tiles were chosen.

    Raises:
        UserError: see read_file and begin.
    """
    if source.is_dir():
        directory = StudyDirectory.open(source)
        if name or data or finished or storage:
            raise UserError(f"{source} goes on as it was begun: leave out --run, --data, --from and --storage")
        wanted = directory.open_study().user_attrs.get("trials")
        if wanted is None:
            raise UserError(directory.without_trials)
        return directory, int(wanted)
    file = read_file(source)
    path = Path(name) if name and len(Path(name).parts) > 1 else Path("runs") / (name or source.stem)
    if file.level == "threshold":
        if storage is not None:
            raise UserError(f"{source} takes seconds in one process: leave out --storage")
        run = finished or file.run
        if run is None:
            raise UserError(f"{source} searches the predictions of a finished run: name it by --from RUN")
        return begin_threshold(path, source, file, RunDirectory.open(find_run(run)), data), file.trials
    if finished is not None:
        raise UserError(f"--from is for studies of level threshold, and {source} trains")
    chosen, sentence = choose_source(data)
    announce(sentence)
    survey = grouped(load_survey(chosen), base_recipe(source, file))
    return begin(path, source, file, survey, storage, device), file.trials


def run_study(
    directory: StudyDirectory,
    total: int,
    workers: int,
    timeout: float | None,
    device: torch.device,
    announce: Announce,
    report: ReportTrial,
) -> dict[str, Any] | None:
    """Search, then judge the best on the holdout; returns the judgement, None where it must wait or there is none.

    The holdout is looked at only once all trials are finished, by whoever finishes them.
    """
    if directory.request.level == "threshold":
        if workers > 1:
            raise UserError("a study of level threshold uses all cores by itself: leave out --workers")
        return search_threshold(directory, total, timeout, announce)
    if not search(directory, total, workers, timeout, announce, report):
        announce(f"the time is up; go on with: semisalt study run {directory.path} --trials {total}")
        return None
    survey = survey_of(directory.request)
    return judge(directory, directory.open_study(), survey, device, announce)
