"""What several commands share: their options, the console, the device."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from semisalt.errors import UserError
from semisalt.processes import join
from semisalt.run import RunDirectory, find_run

if TYPE_CHECKING:  # the help texts must not wait for torch
    import torch

console = Console(soft_wrap=True, highlight=False)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="A recipe in YAML; without it the defaults, or the recipe of the run that goes on.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the configuration; repeatable."),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="A folder or zip of tiles; without it those of the run that goes on, data/tgs, or the synthetic survey.",
    ),
]
RunOption = Annotated[
    str | None, typer.Option("--run", help="Name under runs/, or a path; without it the recipe's name.")
]
FractionOption = Annotated[
    float | None, typer.Option("--label-fraction", help="Share of the labels that training may use; without it all.")
]
LimitOption = Annotated[
    int | None,
    typer.Option("--unlabelled-limit", metavar="N", help="Work with so many unlabelled tiles only; without it all."),
]
MovedOption = Annotated[Path | None, typer.Option("--data", help="Where the run's data lies now, if it moved.")]
MosaicOption = Annotated[
    bool, typer.Option("--mosaic", help="Let neighbouring tiles correct the masks (see `semisalt mosaic`).")
]


def a_run(name: str) -> RunDirectory:
    """The run that a user names. Raises UserError where there is none: before anything slow is imported."""
    return RunDirectory.open(find_run(name))


RunArgument = Annotated[
    RunDirectory, typer.Argument(metavar="RUN", parser=a_run, help="A name under runs/, or a run's path.")
]


def settings_of(overrides: list[str] | None, label_fraction: float | None, unlabelled_limit: int | None) -> list[str]:
    """All overrides of the configuration, those with an option of their own last."""
    own = {"data.label_fraction": label_fraction, "data.unlabelled_limit": unlabelled_limit}
    return [*(overrides or []), *(f"{key}={value}" for key, value in own.items() if value is not None)]


def fold_list(text: str | None) -> list[int] | None:
    """'0,1' as numbers. Raises UserError for anything else."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise UserError(f"--folds {text}: expected numbers separated by commas, for example 0,1")
    return [int(part) for part in parts]


def device() -> "torch.device":
    """Where networks run."""
    device: torch.device = join().device
    return device
