"""What the tests of rounds share: a training that leaves made-up results, and how rounds are started."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from semisalt.config import Config
from semisalt.data.tiles import Survey
from semisalt.pseudo import single
from semisalt.pseudo.request import Request
from semisalt.pseudo.rounds import Outcome, run_pseudo
from semisalt.run import RunDirectory
from semisalt.training.crossval import LessonOf, divide
from semisalt.training.lesson import Lesson
from tests.pseudo.made import config_of, finish_folds

CONFIG = config_of()


class Training:
    """Takes the place of train_folds: notes what a fold would learn from, and leaves made-up results.

    `wrong` gives for each round's name how many out-of-fold tiles of a fold are got wrong; `strike` names a round
    whose training is killed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lessons: dict[tuple[str, int], Lesson] = {}
        self.wrong: dict[str, int] = {}
        self.strike: str | None = None
        monkeypatch.setattr(single, "train_folds", self)

    def __call__(
        self,
        run: RunDirectory,
        survey: Survey,
        folds: Any,
        _build: Any,
        _accelerator: Any,
        lesson_of: LessonOf,
    ) -> None:
        name = run.path.name
        if name == self.strike:
            self.strike = None
            raise KeyboardInterrupt
        for fold in folds:
            if not run.fold(fold).result.exists():
                self.lessons[name, fold] = lesson_of(fold, divide(survey, run.config))
        seed = 1000 * int(name.removeprefix("round"))
        finish_folds(run, survey, folds, seed=seed, wrong=self.wrong.get(name, 0))


def request_of(source: RunDirectory, **changes: Any) -> Request:
    wanted = Request(source.path.parent / "rounds", 2, source.path, (0, 1), pooled=False, early_stop=False)
    return replace(wanted, **changes)


def start(request: Request, survey: Survey, config: Config = CONFIG, *, resume: bool = False) -> Outcome:
    return run_pseudo(
        request,
        survey,
        config,
        resume=resume,
        announce=lambda _: None,
        report=lambda *_: None,
        progress=lambda *_: None,
    )


def text_of(table: Any, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()
