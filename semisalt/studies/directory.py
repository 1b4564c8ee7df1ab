"""A study's directory:

study.yaml     the resolved request      trial0000/ …   a run directory a trial
study.db       the trials (SQLite)       default/       the base recipe, trained as the trials are
holdout.json   the last judgement        best.yaml      the best trial's recipe
unlabelled*/ predictions/ submission.csv  made with --study, of a study of level threshold
"""

import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from semisalt.errors import UserError
from semisalt.run import read_json
from semisalt.studies.request import StudyRequest, read_request


@dataclass(frozen=True)
class StudyDirectory:
    """Where a study lies; see the module for what it holds."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> "StudyDirectory":
        """Open a study for reading. Raises UserError where there is none."""
        if not (path / "study.yaml").exists():
            raise UserError(f"{path} is not a study: it has no study.yaml; begin one with: semisalt study run YAML")
        return cls(path)

    @classmethod
    def find(cls, name: str) -> "StudyDirectory":
        """The study that a user means by a name under runs/, or by a path. Raises UserError where there is none."""
        inside = Path("runs") / name
        return cls.open(inside if (inside / "study.yaml").exists() else Path(name))

    @property
    def request(self) -> StudyRequest:
        """What was asked for."""
        return read_request(self.path / "study.yaml")

    @property
    def database(self) -> Path:
        """The SQLite file, where no other storage was asked for."""
        return self.path / "study.db"

    @property
    def url(self) -> str:
        """The storage's URL."""
        return self.request.storage or f"sqlite:///{self.database.resolve()}"

    def trial_path(self, number: int) -> Path:
        """The run directory of a trial that is its first attempt."""
        return self.path / f"trial{number:04d}"

    @property
    def default(self) -> Path:
        """The run directory of the base recipe."""
        return self.path / "default"

    def holdout_result(self) -> dict[str, Any] | None:
        """The last judgement; None while there is none."""
        path = self.path / "holdout.json"
        return read_json(path) if path.exists() else None

    @property
    def without_trials(self) -> str:
        """What is wrong with a study that was begun and ended at once, and the way out."""
        return f"{self.path} has no trials yet: go on with: semisalt study run YAML --run {self.path}"

    def open_study(self) -> optuna.study.Study:
        """The study as it is now, in memory: nobody who writes to it is ever waited for, or kept waiting.

        Raises UserError where the storage holds none.
        """
        request = self.request
        if request.storage is not None:
            return _in_memory(request.storage, request.name)
        if not self.database.exists():
            raise UserError(self.without_trials)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "study.db"
            with (
                closing(sqlite3.connect(f"file:{self.database.resolve()}?mode=ro", uri=True, timeout=60)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
            return _in_memory(f"sqlite:///{copy}", request.name)


def _in_memory(url: str, name: str) -> optuna.study.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study made in memory is no news
    storage = optuna.storages.RDBStorage(url)
    try:
        study = optuna.load_study(study_name=name, storage=storage)
        memory = optuna.create_study(study_name=name, directions=study.directions)
        for key, value in study.user_attrs.items():
            memory.set_user_attr(key, value)
        memory.add_trials(study.get_trials(deepcopy=False))
        return memory
    except KeyError:
        raise UserError(f"the storage holds no study named {name}") from None
    finally:
        storage.remove_session()
        storage.engine.dispose()
