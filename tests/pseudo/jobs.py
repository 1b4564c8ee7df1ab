"""Pseudo-label rounds in processes of their own, killed where `moment` says; see tests.training.jobs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from semisalt.config import Config
from semisalt.inference import ensemble
from semisalt.pseudo import labelling, rounds, single
from semisalt.pseudo.request import Request
from semisalt.training import fit
from semisalt.training.fit import Trainer
from tests.tiny import tiny_survey
from tests.training.jobs import _before, _kill

FOLDS = (0,)


def two_rounds(path: Path, config: Config, resume: bool, moment: str | None, notes: Path) -> None:
    """Rounds 0 to 2 of fold 0; each chunk that is predicted for labels is noted, a line for each."""
    ensemble._CHUNK = 8
    fit._LOOK_EVERY = 1  # a checkpoint after every step
    vote = ensemble._vote

    def noted(tiles: Any, voters: Any, *rest: Any) -> Any:
        voted = vote(tiles, voters, *rest)
        with notes.open("a") as file:
            file.write(f"{voters[-1][0].relative_to(path)} {tiles.ids[0]}\n")
            file.flush()
            os.fsync(file.fileno())
        return voted

    ensemble._vote = noted
    if moment is not None:
        MOMENTS[moment]()
    request = Request(path, 2, None, FOLDS, pooled=False, early_stop=False)
    survey = tiny_survey(60, 20)
    rounds.run_pseudo(
        request,
        survey,
        config,
        resume=resume,
        announce=lambda _: None,
        report=lambda *_: None,
        progress=lambda *_: None,
    )


def _round(run: str, name: str = "") -> Callable[..., bool]:
    """Whether what is called works on a round: one of its arguments lies in it."""

    def mine(*arguments: Any, **_: Any) -> bool:
        places = [str(getattr(argument, "path", argument)) for argument in arguments]
        places += [str(a.folder.path) for a in arguments if isinstance(a, Trainer)]
        return any(f"/{run}" in place and name in place for place in places)

    return mine


def _in_training(run: str, step: int) -> None:
    mine = _round(run)
    _before(Trainer, "step", _kill, lambda trainer, _: mine(trainer) and trainer.position.step == step)


MOMENTS: dict[str, Callable[[], None]] = {
    "in the baseline": lambda: _in_training("round0", 3),
    "before the second chunk is noted": lambda: _before(
        ensemble, "write_json", _kill, lambda path, value: "round0" in str(path) and value["done"] == 16
    ),
    "labels without provenance": lambda: _before(labelling, "write_provenance", _kill, _round("round1")),
    "in round 1's training": lambda: _in_training("round1", 1),
    "before round 1 is evaluated": lambda: _before(single, "evaluate", _kill, _round("round1")),
    "between the rounds": lambda: _before(rounds, "_note", _kill, lambda *_: True),
    "round 2 has a directory": lambda: _before(
        single, "label_fold", _kill, lambda task, *_: "round1" in str(task.source.path)
    ),
    "in round 2's training": lambda: _in_training("round2", 3),
    "before the table": lambda: _before(
        Path, "replace", _kill, lambda _, target: target.name == "rounds.json" and (target.parent / "round2").exists()
    ),
}
