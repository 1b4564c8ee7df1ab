"""What this machine offers, and how fast it is."""

from typing import Annotated

import typer

from semisalt.cli.options import ConfigOption, SetOption, console, device


def doctor(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Print what this machine offers and what a run would choose on it.

    Example: [bold]semisalt doctor --config configs/gpu.yaml[/bold]
    """
    from semisalt.config import load_config
    from semisalt.doctor import diagnose, diagnosis_table

    console.print(diagnosis_table(diagnose(load_config(config, overrides or []))))


def bench(
    config: ConfigOption = None,
    overrides: SetOption = None,
    seconds: Annotated[float, typer.Option(help="About how long to measure.")] = 60.0,
) -> None:
    """Measure a recipe's speed: training, inference, loader, and the share of the machine's matmul peak.

    Example: [bold]semisalt bench --config configs/seed.yaml --seconds 180[/bold]
    """
    from semisalt.bench import bench as measure
    from semisalt.bench import bench_table
    from semisalt.config import load_config

    report = measure(load_config(config, overrides or []), device=device(), seconds=seconds, announce=console.print)
    console.print(bench_table(report))
