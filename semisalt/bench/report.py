"""What the benchmark found, and how it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from semisalt.bench.methods import MethodCosts
from semisalt.bench.timing import Seconds, Spread, spread

Row = tuple[str, str, str]

# What a mean-teacher step may cost, in supervised steps on as many tiles.
TEACHER_LIMIT = 1.6


@dataclass(frozen=True)
class Subject:
    """What was measured, and on what.

    Attributes:
        device: by name.
        threads: torch's.
        load: the machine's load average of the last minute before, in processes that want a core; None: unknown.
        encoder, parameters, input: the network, and the shape [B, C, H, W] of its training input.
        precision: of training and inference.
        reasons: a sentence for each choice that was made.
        flops: floating-point operations of a training step.
        lovasz: the name of the Lovász loss.
        mirrored: whether inference averages each tile with its mirror image.
        predicted: tiles in a call of `predict`.
        loaded: for each number of workers, the tiles in a call of its loader.
        sides: for each precision, the side of the square matrices.
    """

    device: str
    threads: int
    load: float | None
    encoder: str
    parameters: int
    input: tuple[int, int, int, int]
    precision: str
    reasons: tuple[str, ...]
    flops: int
    lovasz: str
    mirrored: bool
    predicted: int
    loaded: dict[int, int]
    sides: dict[str, int]


@dataclass(frozen=True)
class BenchReport:
    """A configuration's speed on this machine. Ratios are taken round by round, then summed up.

    Attributes:
        subject: what was measured.
        rounds: how often.
        step: seconds of a step of the training loop, the wait for its batch included.
        bare: seconds of forward, backward and optimiser step of the same network on a prepared input.
        plain: seconds of a plain script's step: fp32, NCHW, eager, torch's own Adam, the system's allocator.
        kept: seconds of the same with freed memory kept, as semisalt keeps it; None on a GPU.
        overhead: step / bare − 1.
        speedup: plain / step.
        speedup_kept: kept / step, what is left of it without the allocator; None on a GPU.
        training, inference: tiles a second.
        loaders: for each number of workers, tiles a second of a loader that works for nobody.
        lovasz: seconds of the Lovász loss, forward and backward, at the training's batch.
        lovasz_share: lovasz / step.
        gflops: GFLOP/s reached in a step.
        peaks: for each precision, GFLOP/s of the machine's matrix product.
        peak_share: gflops over the peak in the training's precision.
        methods: what learning from unlabelled tiles costs; None: not asked for.
    """

    subject: Subject
    rounds: int
    step: Spread
    bare: Spread
    plain: Spread
    kept: Spread | None
    overhead: Spread
    speedup: Spread
    speedup_kept: Spread | None
    training: Spread
    inference: Spread
    loaders: dict[int, Spread]
    lovasz: Spread
    lovasz_share: Spread
    gflops: Spread
    peaks: dict[str, Spread]
    peak_share: Spread
    methods: MethodCosts | None


def summarise(subject: Subject, times: Mapping[str, Seconds], methods: MethodCosts | None = None) -> BenchReport:
    """The report of the measured seconds a call, [rounds] each.

    Args:
        subject: what was measured.
        times: of 'step', 'bare', 'plain', 'predict' and 'lovasz', 'loader N' for each N of `subject.loaded`,
            and 'matmul P' for each P of `subject.sides`; on a CPU 'kept' and 'step beside kept', [other rounds].
        methods: measured in rounds of their own.
    """
    step, bare, plain, lovasz = (times[name] for name in ("step", "bare", "plain", "lovasz"))
    kept = times.get("kept")
    gflops = subject.flops / step / 1e9
    peaks = {name: 2 * side**3 / times[f"matmul {name}"] / 1e9 for name, side in subject.sides.items()}
    return BenchReport(
        subject=subject,
        rounds=len(step),
        step=spread(step),
        bare=spread(bare),
        plain=spread(plain),
        kept=None if kept is None else spread(kept),
        overhead=spread(step / bare - 1),
        speedup=spread(plain / step),
        speedup_kept=None if kept is None else spread(kept / times["step beside kept"]),
        training=spread(subject.input[0] / step),
        inference=spread(subject.predicted / times["predict"]),
        loaders={count: spread(tiles / times[f"loader {count}"]) for count, tiles in subject.loaded.items()},
        lovasz=spread(lovasz),
        lovasz_share=spread(lovasz / step),
        gflops=spread(gflops),
        peaks={name: spread(peak) for name, peak in peaks.items()},
        peak_share=spread(gflops / peaks[subject.precision]),
        methods=methods,
    )


def bench_table(report: BenchReport) -> RenderableType:
    """The report as a heading and a table that fits 80 columns."""
    subject = report.subject
    batch, *shape = subject.input
    heading = Text(
        f"{subject.encoder}, {subject.parameters / 1e6:.1f} M parameters, {subject.precision}, "
        f"batch {batch} of {'×'.join(map(str, shape))}\n{subject.device}, torch threads: {subject.threads}"
    )
    if subject.load is not None and subject.load > subject.threads / 2:
        heading.append(
            f"\nwarning: busy before this began (load {subject.load:.1f}); alone, the machine does better",
            style="yellow",
        )
    table = Table(caption=_caption(report), caption_justify="left")
    table.add_column("")
    table.add_column("median", justify="right")
    table.add_column("quartiles", justify="right")
    for section in (_training(report), _delivery(report), _efficiency(report), _methods(report.methods)):
        for row in section:
            table.add_row(*row)
        table.add_section()
    return Group(heading, table)


def _caption(report: BenchReport) -> str:
    said = f"{report.rounds} rounds; everything is measured in turn in each, and ratios are taken within rounds"
    if report.methods is None:
        return said
    costs = report.methods
    settings = {
        "mean_teacher": "two passes of the teacher (teacher.mirrored)" if costs.mirrored else "one pass of the teacher",
        "co_training": f"co-training of {costs.views} views",
    }
    measured = ", ".join(settings[name] for name in costs.steps)
    return f"{said}; the methods in {costs.rounds} rounds of their own, by the recipe's settings: {measured}"


def _training(report: BenchReport) -> list[Row]:
    allocator = []
    if report.kept is not None and report.speedup_kept is not None:
        allocator.append(_row("plain, freed memory kept", report.kept, "ms", 1e3))
        allocator.append(_row("loop's speed over that one", report.speedup_kept, "×"))
    return [
        _row("training", report.training, "tiles/s"),
        _row("step of the loop", report.step, "ms", 1e3),
        _row("bare forward, backward, step", report.bare, "ms", 1e3),
        _row("loop over bare", report.overhead, "%", 100, signed=True),
        _row("plain: fp32, NCHW, eager", report.plain, "ms", 1e3),
        _row("loop's speed over plain", report.speedup, "×"),
        *allocator,
        _row(f"{report.subject.lovasz}, both ways", report.lovasz, "ms", 1e3),
        _row("its share of a step", report.lovasz_share, "%", 100),
    ]


def _delivery(report: BenchReport) -> list[Row]:
    inference = "inference, mirrors included" if report.subject.mirrored else "inference"
    loaders = [_row(f"loader alone, {_workers(count)}", tiles, "tiles/s") for count, tiles in report.loaders.items()]
    return [_row(inference, report.inference, "tiles/s"), *loaders]


def _efficiency(report: BenchReport) -> list[Row]:
    subject = report.subject
    peaks = [
        _row(f"matmul {name}, {subject.sides[name]}×{subject.sides[name]}", peak, "GFLOP/s")
        for name, peak in report.peaks.items()
    ]
    return [
        *peaks,
        _row(f"a step's {subject.flops / 1e9:,.0f} GFLOP", report.gflops, "GFLOP/s"),
        _row(f"share of the {subject.precision} matmul", report.peak_share, "%", 100),
    ]


def _methods(costs: MethodCosts | None) -> list[Row]:
    if costs is None:
        return []
    names = {
        "mean_teacher": ("mean teacher, as many", f"teacher over supervised (≤ {TEACHER_LIMIT})"),
        "co_training": ("co-training, as many a view", "co-training over supervised"),
    }
    rows = [_row(f"supervised, {costs.labelled} + {costs.unlabelled} tiles", costs.supervised, "ms", 1e3)]
    for method, seconds in costs.steps.items():
        step, ratio = names[method]
        over = method == "mean_teacher" and costs.ratios[method].median > TEACHER_LIMIT
        rows += [_row(step, seconds, "ms", 1e3), _row(ratio, costs.ratios[method], "× (over)" if over else "×")]
    return rows


def _workers(count: int) -> str:
    return {0: "no worker", 1: "1 worker"}.get(count, f"{count} workers")


def _row(name: str, value: Spread, unit: str, scale: float = 1, *, signed: bool = False) -> Row:
    low, median, high = (_number(part * scale, signed) for part in (value.low, value.median, value.high))
    return name, f"{median} {unit}", f"{low} … {high}"


def _number(value: float, signed: bool) -> str:
    """Three digits, more in front of the point where there are more."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:{'+' if signed else ''},.{digits}f}"
