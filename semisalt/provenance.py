"""What a run was made from and on: data, versions, device, seed, commit."""

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = (
    "semisalt",
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "albumentations",
    "opencv-python-headless",
    "numpy",
    "scipy",
    "accelerate",
)


def collect_provenance(fingerprint: str, source: Path, seed: int, device: torch.device) -> dict[str, Any]:
    """What a run was made from and on: data, versions, device, seed, commit."""
    return {
        "data": fingerprint,
        "source": str(source.resolve()),
        "seed": seed,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def device_name(device: torch.device) -> str:
    """The GPU's or the processor's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = next(
        (line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")),
        "processor unknown",
    )
    return f"{device.type}: {model}"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _commit() -> str | None:
    """The commit of the source tree that is running, marked where it has changes; None for an installed wheel."""
    file = Path(__file__)
    try:
        # In the virtual environment of some other repository git would name that one's commit.
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        return _git(file.parent, "describe", "--always", "--dirty", "--abbrev=12") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()  # noqa: S603
