"""What this machine offers, and how fast it is."""

from pathlib import Path
from typing import Annotated

import typer

from semisalt.cli.options import SetOption, console, device

RecipeOption = Annotated[Path | None, typer.Option("--config", help="A recipe in YAML; without it the defaults.")]


def doctor(config: RecipeOption = None, overrides: SetOption = None) -> None:
    """Print what this machine offers and what a run would choose on it.

    Example: [bold]semisalt doctor --config configs/gpu.yaml[/bold]
    """
    from semisalt.doctor import diagnose, diagnosis_table
    from semisalt.recipe import load_config

    console.print(diagnosis_table(diagnose(load_config(config, overrides or []))))


def bench(
    config: RecipeOption = None,
    overrides: SetOption = None,
    seconds: Annotated[float, typer.Option(min=1, help="About how long to measure.")] = 60.0,
    methods: Annotated[
        bool | None,
        typer.Option(
            "--methods/--no-methods",
            help="Also what a mean-teacher and a co-training step cost, over a supervised step on as many tiles; "
            "without either, what the recipe's own method costs.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Measure a recipe's speed: training, inference, loader, and the share of the machine's matmul peak.

    With --methods half of the time goes to what learning from unlabelled tiles costs, by the recipe's settings.

    A step of co-training is long and holds several batches: a small machine wants --set training.batch=8.

    Example: [bold]semisalt bench --config configs/seed.yaml --seconds 180[/bold]

    Example: [bold]semisalt bench --config configs/teacher.yaml --methods[/bold]
    """
    from semisalt.bench import METHODS, bench_table
    from semisalt.bench import bench as measure
    from semisalt.recipe import load_config

    recipe = load_config(config, overrides or [])
    own = [method for method in METHODS if method == recipe.method]
    wanted = own if methods is None else METHODS if methods else []
    report = measure(recipe, device=device(), seconds=seconds, announce=console.print, methods=wanted)
    console.print(bench_table(report))
