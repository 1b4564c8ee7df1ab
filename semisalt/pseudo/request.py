"""What `semisalt pseudo` was asked for, and whether it can be done."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semisalt.config import Config
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.files import write_json
from semisalt.inference.outputs import bare_tiles
from semisalt.pseudo.recipe import round_recipe
from semisalt.recipe import load_config
from semisalt.run import RunDirectory, read_json
from semisalt.training.crossval import divide
from semisalt.training.source import check_division, check_networks, check_weights

ROUNDS = 3  # where no number is given


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
class Begun:
    """Rounds that were begun.

    Attributes:
        source, folds, pooled, rounds, early_stop: as they were asked for, the last time.
        run: the round whose recipe and data are those that were asked for; None while none was begun.
    """

    source: str | None
    folds: tuple[int, ...]
    pooled: bool
    rounds: int
    early_stop: bool
    run: RunDirectory | None

    @classmethod
    def open(cls, path: Path) -> "Begun":
        """Read what the rounds at `path` were begun with. Raises UserError where there are none."""
        kept = _read_note(path)
        # Round 0's recipe is the one that was given; later ones have a schedule of their own.
        runs = [RunDirectory(path / f"round{number}") for number in (0, 1)]
        run = next((run for run in runs if (run.path / "config.yaml").exists()), None)
        rounds, early_stop = kept.get("rounds", ROUNDS), kept.get("early_stop", True)
        return cls(kept["source"], tuple(kept["folds"]), kept["pooled"], rounds, early_stop, run)


def understand(
    path: Path,
    source: Path | None,
    config: Path | None,
    settings: Sequence[str],
    *,
    rounds: int | None,
    folds: Sequence[int] | None,
    pooled: bool,
    early_stop: bool | None,
    resume: bool,
) -> tuple[Request, Config, RunDirectory | None]:
    """The request, its recipe, and the run whose data it works on unless told otherwise (None: there is none yet).

    Rounds that go on have a request, a recipe and data of their own; what is given is compared with them. `rounds` and
    `early_stop` may change; None is what they were begun with, or ROUNDS and true.

    Raises:
        UserError: nothing to go on with, a source that is no run, or rounds that would lie in their own source.
    """
    begun = Begun.open(path) if resume else None
    if begun and begun.run is None and config is None:
        raise UserError(f"{path} ended before its first round, whose recipe is not kept: start it without --resume")
    if source is None and begun and begun.source:
        source = Path(begun.source)
    first = RunDirectory.open(source) if source else None
    if first and path.resolve() == first.path.resolve():
        raise UserError(f"--run {path} is the run of --from: the rounds need a directory of their own")
    own = (begun.run if begun else None) or first
    recipe = load_config(own.path / "config.yaml" if own and config is None else config, settings)
    request = Request(
        path=path,
        rounds=rounds or (begun.rounds if begun else ROUNDS),
        source=first.path if first else None,
        folds=begun.folds if begun and folds is None else folds_of(first, folds, recipe),
        pooled=pooled or (begun is not None and begun.pooled),
        early_stop=early_stop if early_stop is not None else begun is None or begun.early_stop,
    )
    return request, recipe, own


def folds_of(source: RunDirectory | None, wanted: Sequence[int] | None, config: Config) -> tuple[int, ...]:
    """The folds that the rounds train: those asked for, else the source's finished ones, else all."""
    if wanted is not None:
        return tuple(sorted(set(wanted)))
    return tuple(source.finished_folds() if source else range(config.data.folds))


def fixed(request: Request) -> dict[str, Any]:
    """What must stay the same when the rounds go on; there may be more of them."""
    return {
        "source": str(request.source.resolve()) if request.source else None,
        "folds": list(request.folds),
        "pooled": request.pooled,
    }


def check_request(request: Request, survey: Survey, config: Config, *, resume: bool) -> None:
    """Refuse to begin anew over work that was begun, to go on with something else, and what cannot end well."""
    asked, note = fixed(request), request.path / "request.json"
    begun = note.exists() and any(request.path.glob("round*/config.yaml"))
    if begun and not resume:
        raise UserError(
            f"{request.path} already holds rounds: add --resume to go on with them, or choose another --run"
        )
    if resume:
        kept = _read_note(request.path)
        changed = [
            f"{key}: {kept.get(key)!r} in the run, {asked[key]!r} asked for"
            for key in asked
            if kept.get(key) != asked[key]
        ]
        if changed:
            raise UserError(f"{request.path} cannot be resumed, it was begun differently:\n  " + "\n  ".join(changed))
        there = standing(request.path)
        if request.rounds < there:
            raise UserError(f"{request.path} already has {there} rounds: go on with --rounds {there} or more")
    # What would be refused hours later, after the baseline was trained, is refused now, and leaves nothing behind.
    _check_plan(request, survey, config)
    if not resume:
        (request.path / "rounds.json").unlink(missing_ok=True)  # of rounds that were removed
    write_json(note, {**asked, "rounds": request.rounds, "early_stop": request.early_stop})


def standing(path: Path) -> int:
    """How many rounds after round 0 are finished and told of in PATH/rounds.json."""
    note = path / "rounds.json"
    told = len(read_json(note)["rounds"]) - 1 if note.exists() else 0
    return next((n - 1 for n in range(1, told + 1) if not (path / f"round{n}" / "results.json").exists()), told)


def _read_note(path: Path) -> dict[str, Any]:
    note = path / "request.json"
    if not note.exists():
        raise UserError(f"{path} has no rounds to go on with: start them without --resume")
    return read_json(note)


def _check_plan(request: Request, survey: Survey, config: Config) -> None:
    if request.pooled and len(request.folds) < 2:
        raise UserError("--pooled pools the labels of several folds: train two at least")
    if request.source and not request.folds:
        raise UserError(f"{request.source} has no finished fold: go on with baseline --resume")
    if not request.folds or not set(request.folds) <= set(range(config.data.folds)):
        raise UserError(
            f"--folds {', '.join(map(str, request.folds)) or 'none'}: the folds are 0 to {config.data.folds - 1}"
        )
    if not request.source and config.method != "supervised":
        raise UserError(
            f"method: {config.method}: round 0 is a supervised run here; train another one first, and give it by --from"
        )
    if request.source:
        check_division(request.run(0), survey, config, request.folds, "round 0")
        if config.pseudo.start == "previous":
            anew = "begin each round anew by --set pseudo.start=scratch --set pseudo.peak=null"
            check_networks(request.run(0), survey, round_recipe(config, config), "pseudo.start: previous", anew)
    if not request.source or config.pseudo.start == "scratch":
        check_weights(survey, config, request.folds)
    round_recipe(config, config)
    divide(survey, config).candidates(request.folds[0], bare_tiles(survey, config))
    if request.pooled:
        return
    first = request.run(0).config if request.source else config
    for whose, recipe in ((str(request.run(0).path), first), ("the recipe", config)):
        reasons = [f"{key}: {value}" for key, value in recipe.chosen_by_score.items()]
        if reasons:
            raise UserError(
                f"{whose} lets the score on a fold's validation tiles choose its weights ({', '.join(reasons)}), and "
                "labels by such weights, and their scores, know those tiles: set snapshots.select to last and "
                "training.patience to null"
            )
