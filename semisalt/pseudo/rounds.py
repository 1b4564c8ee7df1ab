"""Pseudo-label rounds: each labels the unlabelled tiles with the round before, and learns from them."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from semisalt.config import Config, CosineConfig, differences
from semisalt.data.tiles import Survey, TileSet
from semisalt.errors import UserError
from semisalt.files import write_json
from semisalt.inference.build import channels_of
from semisalt.inference.ensemble import voters_of
from semisalt.inference.evaluate import evaluate
from semisalt.inference.outputs import bare_tiles
from semisalt.metrics import Interval
from semisalt.pseudo.figures import RoundFigures, figures_of
from semisalt.pseudo.labelling import Announce, Task, candidates_of, label_directory, label_fold
from semisalt.pseudo.labels import load_labels, refuse_leak
from semisalt.run import RunDirectory, collect_provenance, read_json
from semisalt.training.baseline import run_baseline, supervised
from semisalt.training.crossval import Division, divide, train_folds
from semisalt.training.lesson import Lesson
from semisalt.training.settle import settle

INFLATED = "the labels come from all folds' models, which have learned from the tiles that are scored (--pooled)"

Report = Callable[[RunDirectory, TileSet], object]


@dataclass(frozen=True)
class Request:
    """What `semisalt pseudo` was asked for.

    Attributes:
        path: the directory that the rounds go into, as round1, round2, …; round0, too, unless `source` is given.
        rounds: how many, after round 0.
        source: a finished run that is round 0.
        folds: which folds.
        pooled: every fold learns from all folds' labels.
        early_stop: end where a round does not beat the one before.
    """

    path: Path
    rounds: int
    source: Path | None
    folds: tuple[int, ...]
    pooled: bool
    early_stop: bool

    def run(self, number: int) -> RunDirectory:
        """A round's directory."""
        return RunDirectory(self.source if self.source and number == 0 else self.path / f"round{number}")


@dataclass(frozen=True)
class Outcome:
    """All rounds' figures, the best round, and why the last one was the last."""

    rounds: tuple[RoundFigures, ...]
    best: int
    ended: str


def run_pseudo(
    request: Request, survey: Survey, config: Config, *, resume: bool, announce: Announce, report: Report
) -> Outcome:
    """Run the rounds, each from where it stands; returns their figures, which also lie in PATH/rounds.json.

    Args:
        request: what is asked for.
        survey: the tiles.
        config: the recipe of every round.
        resume: go on with rounds that were begun.
        announce: told what happens, a line at a time.
        report: called with each finished round's run and the labelled tiles.

    Raises:
        UserError: rounds are there already, or are not; they were made otherwise; see also label_fold and Trainer.fit.
    """
    accelerator = Accelerator(mixed_precision="no")
    main = accelerator.is_main_process
    with RunDirectory(request.path).lock() if main else nullcontext():
        if main:
            _check(request, resume)
        accelerator.wait_for_everyone()
        first = _first_round(request, survey, config, announce, report, accelerator)
        settled = _settled(config, first, survey, accelerator) if request.source else first.config
        recipe = _round_recipe(settled, config)
        division, bare = divide(survey, recipe), bare_tiles(survey, recipe)
        runs, figures = [first], [figures_of(0, [first], survey, division, bare, request.folds)]
        ended = f"all {request.rounds} rounds were run"
        for number in range(1, request.rounds + 1):
            run = _round(number, request, survey, recipe, division, bare, runs[-1], accelerator, announce)
            runs.append(run)
            if main:
                _report(report, run, survey)
            figures.append(figures_of(number, runs, survey, division, bare, request.folds))
            gain = figures[-1].minus_before
            assert gain is not None  # noqa: S101  # every round but the first has one before it
            if request.early_stop and gain.low <= 0:
                ended = f"round {number} does not beat round {number - 1} within its interval ({_signed(gain)})"
                if number < request.rounds:
                    ended += "; --no-early-stop goes on"
                    break
        best = max(range(len(figures)), key=lambda number: figures[number].score.value)
        outcome = Outcome(tuple(figures), best, ended)
        if main:
            write_json(request.path / "rounds.json", {**_kept(request), **asdict(outcome)})
        return outcome


def lesson_shares(config: Config) -> tuple[float, ...]:
    """For each epoch the share of pseudo-labelled tiles in a batch."""
    epochs, pseudo = config.training.epochs, config.pseudo
    if pseudo.use == "pretrain_finetune":
        first = _pretraining(config)
        return (1.0,) * first + (0.0,) * (epochs - first)
    return (0.5 if pseudo.use == "half_swap" else pseudo.share,) * epochs


def _round_recipe(settled: Config, config: Config) -> Config:
    """The recipe of the rounds: fine-tuning is a second cosine cycle at a lower rate."""
    recipe = settled.model_copy(update={"pseudo": config.pseudo})
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


def _kept(request: Request) -> dict[str, Any]:
    """What must stay the same when the rounds go on; there may be more of them."""
    return {
        "source": str(request.source) if request.source else None,
        "folds": list(request.folds),
        "pooled": request.pooled,
    }


def _check(request: Request, resume: bool) -> None:
    """Refuse to begin anew over finished work, or to go on with something else."""
    asked, note = _kept(request), request.path / "request.json"
    if request.pooled and len(request.folds) < 2:
        raise UserError("--pooled pools the labels of several folds: train two at least")
    if note.exists() and not resume:
        raise UserError(
            f"{request.path} already holds rounds: add --resume to go on with them, or choose another --run"
        )
    if resume:
        if not note.exists():
            raise UserError(f"{request.path} has no rounds to go on with: start them without --resume")
        kept = read_json(note)
        changed = [
            f"{key}: {kept[key]!r} in the run, {asked[key]!r} asked for" for key in asked if kept[key] != asked[key]
        ]
        if changed:
            raise UserError(f"{request.path} cannot be resumed, it was begun differently:\n  " + "\n  ".join(changed))
    write_json(note, asked)


def _first_round(
    request: Request, survey: Survey, config: Config, announce: Announce, report: Report, accelerator: Accelerator
) -> RunDirectory:
    run = request.run(0)
    if request.source:
        if run.provenance["data"] != survey.fingerprint:
            raise UserError(f"{run.path} was made from other data (fingerprint {run.provenance['data']})")
        missing = sorted(set(request.folds) - set(run.finished_folds()))
        if missing:
            raise UserError(
                f"{run.path}: fold {', '.join(map(str, missing))} not finished; go on with baseline --resume"
            )
        return run
    begun = (run.path / "config.yaml").exists()
    if begun and set(request.folds) <= set(run.finished_folds()) and (run.path / "results.json").exists():
        RunDirectory.resume(run.path, config, survey.fingerprint)
        return run
    announce("round 0: the supervised baseline")
    going_on = begun and run.has_checkpoint()
    run_baseline(run.path, survey, config, folds=request.folds, resume=going_on, announce=announce)
    if accelerator.is_main_process:
        _report(report, run, survey)
    return run


def _report(report: Report, run: RunDirectory, survey: Survey) -> None:
    with run.lock():
        report(run, survey.labelled)


def _settled(config: Config, first: RunDirectory, survey: Survey, accelerator: Accelerator) -> Config:
    """The recipe without `auto`, which must divide the tiles as round 0 did."""
    kept = first.config
    changed = [
        line
        for line in differences(config, kept)
        if line.partition(":")[0] in ("seed", "data.folds", "data.label_fraction")
    ]
    if changed:
        raise UserError(f"{first.path} cannot be round 0, it divided the tiles differently:\n  " + "\n  ".join(changed))
    if config.model == kept.model and config.training.precision == "auto":
        # The probe's choice must not differ from round to round.
        training = config.training.model_copy(update={"precision": kept.training.precision})
        config = config.model_copy(update={"training": training})
    return settle(config, survey, accelerator.device).config


def _round(
    number: int,
    request: Request,
    survey: Survey,
    recipe: Config,
    division: Division,
    bare: TileSet,
    before: RunDirectory,
    accelerator: Accelerator,
    announce: Announce,
) -> RunDirectory:
    """Label by the round before, train, evaluate; whatever of it is finished is kept."""
    run, main = request.run(number), accelerator.is_main_process
    announce(f"round {number}: labels by {before.path}")
    with ExitStack() as locks:
        if main:
            locks.enter_context(run.lock())
            locks.enter_context(before.lock())
            _begin(number, run, request, survey, recipe, before, accelerator)
            for fold in request.folds:
                voters = request.folds if request.pooled else (fold,)
                half = (number - 1) % 2 if recipe.pseudo.use == "half_swap" else None
                task = Task(before, fold, voters, bare, division, half)
                label_fold(task, recipe.pseudo, label_directory(run, fold), accelerator.device, announce)
        accelerator.wait_for_everyone()

        def lesson(fold: int, division: Division) -> Lesson:
            folder = label_directory(run, fold)
            provenance = folder.provenance()
            if not request.pooled:
                refuse_leak(folder, provenance, division.validation(fold).ids)
            tiles = load_labels(folder, candidates_of(bare, division, fold))
            start = voters_of(before, fold)[-1][0] if recipe.pseudo.start == "previous" else None
            return Lesson(tiles, lesson_shares(recipe), start)

        train_folds(run, survey, request.folds, supervised, accelerator, lesson)
        if main:
            evaluate(run, survey.labelled)
    accelerator.wait_for_everyone()
    return run


def _begin(
    number: int,
    run: RunDirectory,
    request: Request,
    survey: Survey,
    recipe: Config,
    before: RunDirectory,
    accelerator: Accelerator,
) -> None:
    """Create the round's directory, or see that it is what is asked for."""
    if (run.path / "config.yaml").exists():
        problems = differences(recipe, run.config)
        if run.provenance["data"] != survey.fingerprint:
            problems.append("data: another fingerprint")
        if problems:
            raise UserError(f"{run.path} cannot be resumed, it was made differently:\n  " + "\n  ".join(problems))
        return
    provenance = collect_provenance(survey.fingerprint, survey.source, recipe.seed, accelerator.device)
    provenance["channels"] = asdict(channels_of(recipe, survey))
    provenance["round"] = number
    provenance["labels_by"] = str(before.path)
    provenance["inflated"] = INFLATED if request.pooled else before.inflated
    RunDirectory.create(run.path, recipe, provenance)


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def folds_of(source: RunDirectory | None, wanted: Sequence[int] | None, config: Config) -> tuple[int, ...]:
    """The folds that the rounds train: those asked for, else the source's finished ones, else all."""
    if wanted is not None:
        return tuple(sorted(set(wanted)))
    return tuple(source.finished_folds() if source else range(config.data.folds))
