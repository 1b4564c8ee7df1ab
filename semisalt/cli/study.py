"""semisalt study …: search the configuration, and look at what was found."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semisalt.cli.options import DataOption, RunOption, console, device
from semisalt.errors import UserError

if TYPE_CHECKING:  # the help texts must not wait for Optuna
    from semisalt.studies.directory import StudyDirectory

app = typer.Typer(help="Search the configuration (Optuna), and look at what was found.", no_args_is_help=True)

StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="A name under runs/, or a study's path.")]


@app.command("run")
def study_run(
    source: Annotated[Path, typer.Argument(metavar="YAML", help="A study; or the directory of one that goes on.")],
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="How many in all; without it as the YAML says.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes on this machine.")] = 1,
    storage: Annotated[
        str | None, typer.Option("--storage", help="postgresql+psycopg://…, for workers on several machines.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", help="Stop after so long, for example 90s, 30m or 2h; it can go on.")
    ] = None,
    data: DataOption = None,
    run: RunOption = None,
    finished: Annotated[
        str | None, typer.Option("--from", metavar="RUN", help="The run whose predictions a threshold study searches.")
    ] = None,
) -> None:
    """Run a study, or go on with it, until so many trials are finished; then judge the best on the holdout.

    Example: [bold]semisalt study run configs/study.yaml --trials 50 --workers 2 --data data/tgs[/bold]
    """
    from semisalt.report.trials import best_table, holdout_table, report_trial
    from semisalt.studies.best import best_trial, write_best
    from semisalt.studies.command import prepare, run_study

    limit = seconds(timeout)
    directory, wanted = prepare(
        source, name=run, data=data, finished=finished, storage=storage, device=device(), announce=console.print
    )
    result = run_study(directory, trials or wanted, workers, limit, device(), console.print, report_trial)
    study = directory.open_study()
    if result is None and not study.best_trials:
        console.print(f"no trial is finished yet; go on with: semisalt study run {directory.path}")
        return
    best = best_trial(study, directory.path)
    console.print(best_table(best, result))
    if result is not None:
        console.print(holdout_table(result))
    console.print(_ways_on(directory, write_best(directory, best)))
    console.print(f"look at it: semisalt study report {directory.path}")


@app.command("status")
def study_status(study: StudyArgument) -> None:
    """Print how far a study is: trials by state, the best so far, which workers run, and when each last reported.

    Example: [bold]semisalt study status study[/bold]
    """
    directory = _study(study)

    from semisalt.report.trials import status_table
    from semisalt.studies.storage import silence_of

    console.print(status_table(directory.open_study(), silence_of(directory)))


@app.command("best")
def study_best(study: StudyArgument) -> None:
    """Print the best trial, and write its recipe to STUDY/best.yaml, which every command that trains takes by --config.

    Example: [bold]semisalt study best study[/bold]
    """
    directory = _study(study)

    from semisalt.report.trials import best_table, holdout_table
    from semisalt.studies.best import best_trial, write_best

    best = best_trial(directory.open_study(), directory.path)
    result = directory.holdout_result()
    result = result if result is not None and result["best_trial"] == best.number else None
    console.print(best_table(best, result))
    if result is not None:
        console.print(holdout_table(result))
    console.print(_ways_on(directory, write_best(directory, best)))


@app.command("report")
def study_report(study: StudyArgument) -> None:
    """Write one page with the study's history, what mattered, and what it is worth. A live study is not disturbed.

    Example: [bold]semisalt study report study[/bold]
    """
    directory = _study(study)

    from semisalt.report.study import write_report

    console.print(f"page: {write_report(directory, directory.open_study())}")


@app.command("board")
def study_board(
    study: StudyArgument,
    port: Annotated[int, typer.Option("--port", help="Of the web server.")] = 8080,
) -> None:
    """Start optuna-dashboard on the study (needs semisalt\\[dashboard]).

    Example: [bold]semisalt study board study[/bold]
    """
    import os
    import sys

    from semisalt.studies.directory import StudyDirectory

    program = Path(sys.executable).with_name("optuna-dashboard")
    if not program.exists():
        raise UserError("optuna-dashboard is missing: pip install 'semisalt[dashboard]'")
    url = StudyDirectory.find(study).url
    sys.stdout.flush()
    os.execv(program, [str(program), url, "--port", str(port)])  # noqa: S606  # this process becomes the board


def _study(text: str) -> "StudyDirectory":
    """The study that a user names. Raises UserError where there is none: before anything slow is imported."""
    from semisalt.studies.directory import StudyDirectory

    return StudyDirectory.find(text)


def _ways_on(directory: "StudyDirectory", recipe: Path) -> str:
    """What can be done with the best trial."""
    request = directory.request
    use = f"\npredict so: semisalt predict {request.run} --study {directory.path}" if request.run else ""
    return f"recipe: {recipe}{use}"


def seconds(text: str | None) -> float | None:
    """'90s', '30m', '1.5h', '3h50m' as seconds. Raises UserError for anything else."""
    if text is None:
        return None
    number = r"(\d+(?:\.\d+)?)"
    found = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s)?", text)
    if not text or not found:
        raise UserError(f"--timeout {text}: expected numbers with h, m and s, for example 2h or 3h50m")
    hours, minutes, rest = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + rest
