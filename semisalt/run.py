"""The run directory: layout, lock, provenance, resume.

Everything that one command leaves for another lies here:

    config.yaml       the settled configuration          fold0/ …       one FoldDirectory a fold
    provenance.json   data, versions, device, commit     oof.npy        out-of-fold probabilities (uint8)
    folds.csv         the fold of every labelled tile    oof.csv        the tiles of oof.npy, row by row
    results.json      every figure reported              tensorboard/   events
"""

import csv
import fcntl
import io
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semisalt.config import Config
from semisalt.errors import UserError
from semisalt.files import remove_leftovers, write_json, write_text
from semisalt.recipe import differences, dump_config, load_config


@dataclass(frozen=True)
class FoldDirectory:
    """The files of one fold's training."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """Resume state."""
        return self.path / "last.ckpt"

    @property
    def snapshots(self) -> Path:
        """Folder of the snapshots' weights (safetensors)."""
        return self.path / "snapshots"

    @property
    def averaged(self) -> Path:
        """The snapshots' averaged weights with batch-norm statistics of their own."""
        return self.path / "averaged.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, one line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def probabilities(self) -> Path:
        """Probabilities on the fold's validation tiles, uint8 [n, H, W]."""
        return self.path / "oof.npy"

    @property
    def tile_scores(self) -> Path:
        """The score of every validation tile at 0.5, by each way of combining snapshots."""
        return self.path / "tiles.csv"

    @property
    def result(self) -> Path:
        """Written last: a fold is finished when this exists."""
        return self.path / "result.json"

    @property
    def begun(self) -> bool:
        """Whether the fold can be resumed, or is finished: it has weights of its own."""
        return self.checkpoint.exists() or self.result.exists()


@dataclass(frozen=True)
class RunDirectory:
    """A run directory; `create` or `resume` it to write, `open` it to read."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: Config, provenance: dict[str, Any]) -> "RunDirectory":
        """Start a new run.

        A run that ended before its first checkpoint is begun anew.

        Raises:
            UserError: the directory already holds a run, or what is left of one.
        """
        if cls(path).has_checkpoint():
            if not (path / "config.yaml").exists():
                raise UserError(
                    f"{path} holds folds of a run whose config.yaml is gone: remove it, or choose another --run"
                )
            raise UserError(f"{path} already holds a run: add --resume to go on with it, or choose another --run")
        write_json(path / "provenance.json", provenance)
        # Last: its existence says that the run was begun.
        write_text(path / "config.yaml", dump_config(config))
        return cls(path)

    @classmethod
    def resume(cls, path: Path, requested: Config | None, fingerprint: str) -> "RunDirectory":
        """Go on with a run; nothing of it is changed here.

        Raises:
            UserError: there is no run or no checkpoint, or it was made with another configuration (see `unlike`) or
                other data.
        """
        run = cls.open(path)
        if "round" in run.provenance:
            raise UserError(f"{path} is a round of pseudo-labels: go on with {run.going_on}")
        if not run.has_checkpoint():
            raise UserError(f"{path} has no checkpoint to resume from: start it without --resume")
        problems = run.unlike(requested) if requested else []
        if run.provenance["data"] != fingerprint:
            problems.append(f"data: fingerprint {run.provenance['data']} in the run, {fingerprint} given")
        if problems:
            raise UserError(f"{path} cannot be resumed, it was made differently:\n  " + "\n  ".join(problems))
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Open a run for reading. Raises UserError where there is none."""
        if not (path / "config.yaml").exists():
            raise UserError(f"{path} is not a run: {_instead(path)}")
        return cls(path)

    def unlike(self, requested: Config) -> list[str]:
        """Where the run was made differently, as `differences` tells it.

        `unlabelled.least_salt` does not count: it stops a training, and changes none.
        """
        least = {"least_salt": self.config.unlabelled.least_salt}
        return differences(
            requested.model_copy(update={"unlabelled": requested.unlabelled.model_copy(update=least)}), self.config
        )

    def limit(self, least_salt: float) -> None:
        """Go on by another `unlabelled.least_salt`, whenever the run goes on."""
        unlabelled = self.config.unlabelled.model_copy(update={"least_salt": least_salt})
        write_text(self.path / "config.yaml", dump_config(self.config.model_copy(update={"unlabelled": unlabelled})))

    def has_checkpoint(self) -> bool:
        """Whether any fold was begun or finished."""
        folds = (FoldDirectory(path) for path in self.path.glob("fold*"))
        return any(fold.begun for fold in folds)

    @property
    def config(self) -> Config:
        return load_config(self.path / "config.yaml")

    @property
    def provenance(self) -> dict[str, Any]:
        return read_json(self.path / "provenance.json")

    @property
    def inflated(self) -> str | None:
        """Why the run's out-of-fold scores know the tiles that they are made on; None where they do not."""
        reason: str | None = self.provenance.get("inflated")
        return reason

    @property
    def going_on(self) -> str:
        """The command that goes on with the rounds of pseudo-labels that this one belongs to."""
        return f"semisalt pseudo --resume --run {self.path.parent}"

    @property
    def start(self) -> "RunDirectory | None":
        """The run whose weights each fold began with; None: pretrained or random ones."""
        path = self.provenance.get("start")
        return RunDirectory(Path(path)) if path else None

    @property
    def source_run(self) -> str | None:
        """Where the run was that gave this one weights to begin with, or labels; None: there is none."""
        name: str | None = self.provenance.get("start") or self.provenance.get("labels_by")
        return name

    @property
    def builds_on(self) -> "RunDirectory | None":
        """The run that gave this one weights to begin with, or labels.

        None: there is none, or it is gone, and perhaps another one called so: with other data, folds or labels.
        """
        name = self.source_run
        if name is None:
            return None
        # Where it was, or where it lies beside this one now, or beside the rounds that this one is among.
        places = (Path(name), *(folder / Path(name).name for folder in (self.path.parent, self.path.parent.parent)))
        runs = (RunDirectory(place) for place in places if place.resolve() != self.path.resolve())
        return next((run for run in runs if run._divided_like(self)), None)

    def _divided_like(self, other: "RunDirectory") -> bool:
        """Whether both are runs with the same data, folds, and labels to learn from."""
        if not all((run.path / name).exists() for run in (self, other) for name in ("provenance.json", "folds.csv")):
            return False
        one, two = (read_csv(run.path / "folds.csv") for run in (self, other))
        return one == two and self.provenance["data"] == other.provenance["data"]

    @property
    def channels(self) -> dict[str, Any]:
        """What the run's networks see: arguments of `data.channels.Channels`."""
        kept = self.provenance["channels"]
        depth_range = kept["depth_range"]
        return {**kept, "shape": tuple(kept["shape"]), "depth_range": tuple(depth_range) if depth_range else None}

    @property
    def results(self) -> dict[str, Any]:
        """results.json. Raises UserError while the folds are still trained."""
        path = self.path / "results.json"
        if not path.exists():
            finished = self.finished_folds()
            if not finished:
                raise UserError(f"{self.path} has no results yet: no fold of it is finished; go on with --resume")
            folds = ",".join(map(str, finished))
            raise UserError(
                f"{self.path} has no results yet, they come with its last fold: go on with --resume, or have those of "
                f"what is finished by --resume --folds {folds}"
            )
        return read_json(path)

    def source(self) -> Path:
        """Where the run's data came from. Raises UserError where that is gone."""
        path = Path(self.provenance["source"])
        if not path.exists():
            raise UserError(f"{path}, the data of {self.path}, is not there any more: give it by --data")
        return path

    def fold(self, index: int) -> FoldDirectory:
        return FoldDirectory(self.path / f"fold{index}")

    def finished_folds(self) -> list[int]:
        """Folds with a result, ascending."""
        return [k for k in range(self.config.data.folds) if self.fold(k).result.exists()]

    def fold_result(self, index: int) -> dict[str, Any]:
        """A finished fold's result.json."""
        return read_json(self.fold(index).result)

    @property
    def unlabelled(self) -> Path:
        """Folder of each fold's own probabilities on the unlabelled tiles, fold0.npy …, uint8 [n, H, W]."""
        return self.path / "unlabelled"

    def maps_of(self, limit: int | None, seed: int) -> Path:
        """Likewise on another configuration's sample of the unlabelled tiles, which must not replace the run's own."""
        own = self.config.data.unlabelled_limit
        if limit == own and (limit is None or seed == self.config.seed):
            return self.unlabelled
        return self.path / ("unlabelled_all" if limit is None else f"unlabelled_{limit}_seed{seed}")

    @contextmanager
    def lock(self, wait: Callable[[str], object] | None = None) -> Iterator[None]:
        """Hold the run for writing, and remove what a killed holder left half-written.

        With `wait` another holder is waited for, and `wait` is told of him.

        Raises:
            UserError: another process holds it; its host and pid are named.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read().strip() or "another process"
                if wait is None:
                    raise UserError(f"{self.path} is in use by {holder}") from None
                wait(f"waiting for {self.path}, which is in use by {holder}")
                fcntl.flock(handle, fcntl.LOCK_EX)
            handle.truncate(0)
            handle.write(f"pid {os.getpid()} on {socket.gethostname()}")
            handle.flush()
            # A loader's process would hold the lock on after its parent was killed, and a resume would be refused.
            os.register_at_fork(after_in_child=handle.close)
            for folder in (self.path, *self.path.glob("fold*")):
                remove_leftovers(folder)
            yield


def _instead(path: Path) -> str:
    """What a user may have meant by a path that is no run's."""
    if (path / "study.yaml").exists():
        return "it is a study, whose trials are runs; semisalt study best prints the best one"
    inner = sorted(folder.parent.name for folder in path.glob("*/config.yaml"))
    if inner:
        return f"name one of the runs in it: {', '.join(inner[:8])}{', …' if len(inner) > 8 else ''}"
    if path.exists():
        return "it has no config.yaml"
    beside = sorted(folder.parent.name for folder in path.parent.glob("*/config.yaml"))
    if beside:
        return f"it does not exist; runs there: {', '.join(beside[:8])}{', …' if len(beside) > 8 else ''}"
    return "it does not exist"


def find_run(name: str, root: Path = Path("runs")) -> Path:
    """The directory that a user means by `name`: a run's path as it is, a name (also NAME/round1) under `root`."""
    given = Path(name)
    if not (given / "config.yaml").exists() and (root / name / "config.yaml").exists():
        return root / name
    return given if given.is_absolute() or len(given.parts) > 1 or (given / "config.yaml").exists() else root / name


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a small table atomically."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table written by `write_csv`."""
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError where it cannot be read or is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object")
    return value
