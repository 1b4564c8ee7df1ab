"""What a training tells: metrics.jsonl, TensorBoard, and a line or a progress bar for the person watching."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from semisalt.files import write_text


class TrainingLog:
    """The log of one fold; a process that does not write (`enabled` false) keeps silent.

    On a terminal a progress bar with the time left; elsewhere one plain line a validated epoch.
    """

    def __init__(
        self, metrics: Path, events: Path, title: str, *, enabled: bool, resumed_step: int, inflated: bool = False
    ) -> None:
        self.metrics, self.title, self.enabled = metrics, title, enabled
        # A score of tiles that were learned from has a name of its own, by which it cannot be taken for another.
        self.score_tag = "inflated/score" if inflated else "score"
        self.mark = {"inflated": True} if inflated else {}
        self.console = Console(quiet=not enabled)
        if enabled:
            # Later events belong to steps that a killed process made and that are made again now.
            self.writer = SummaryWriter(str(events), purge_step=resumed_step + 1)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (enabled and self.console.is_terminal),
        )

    def __enter__(self) -> "TrainingLog":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        if self.enabled:
            self.writer.close()

    def begin(self, total_steps: int, done: int) -> None:
        """Start the bar."""
        self.task = self.bar.add_task(self.title, total=total_steps, completed=done)

    def step(self, done: int) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=done)

    def say(self, text: str) -> None:
        """A line for the person watching."""
        self.console.print(f"{self.title}: {text}", highlight=False, soft_wrap=True)

    def epoch(self, record: dict[str, Any], best: float) -> None:
        """Record a finished epoch; flushed, so that a checkpoint written next never knows more than the log."""
        if not self.enabled:
            return
        with self.metrics.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({**record, **self.mark}) + "\n")
        for name, value in record.items():
            if isinstance(value, float):
                self.writer.add_scalar(self.score_tag if name == "score" else name, value, record["step"])
        self.writer.flush()
        if "score" in record:
            losses = ", ".join(f"{k.removeprefix('loss/')} {v:.4f}" for k, v in record.items() if "loss/" in k)
            score = self.score_tag.replace("/", " ")
            text = f"epoch {record['epoch'] + 1}, {score} {record['score']:.4f} (best {best:.4f}), {losses}"
            self.bar.update(self.task, description=f"{self.title}: {text}")
            if not self.console.is_terminal:
                self.say(f"{text}, lr {record['lr']:.2e}, {record['seconds']:.0f} s")

    def rewind(self, epoch: int) -> None:
        """Drop the lines of `epoch` and later, and a torn last line: they are made again."""
        if not self.enabled or not self.metrics.exists():
            return
        kept = [record for record in read_metrics(self.metrics) if record["epoch"] < epoch]
        write_text(self.metrics, "".join(json.dumps(record) + "\n" for record in kept))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics.jsonl."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            records.append(json.loads(line))
    return records
