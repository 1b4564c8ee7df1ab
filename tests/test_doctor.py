import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from semisalt import doctor
from semisalt.config import Config
from semisalt.doctor import (
    Choices,
    Diagnosis,
    Gpu,
    Machine,
    Software,
    diagnose,
    diagnosis_table,
    warnings,
    weights_ready,
)
from semisalt.errors import UserError
from tests.tiny import tiny_config

MACHINE = Machine("abacus", 2, 2, 0.1, ("AVX512-BF16",), 24.0, 20.0, 70.0, ())
SOFTWARE = Software("3.11.7", {"torch": "2.14.1"}, {"opencv-python-headless": "5.0"}, (0, 1, 2), False)
CHOICES = Choices(
    "data/tgs",
    "cpu: abacus",
    "fp32",
    ("precision fp32: it is so",),
    "resnet18",
    "none",
    True,
    False,
    1,
    50.0,
    1000,
    1 / 3,
    90,
)


def shown(diagnosis: Diagnosis) -> str:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(diagnosis_table(diagnosis))
    return capture.get()


def test_nothing_to_warn_of() -> None:
    assert warnings(MACHINE, SOFTWARE, CHOICES) == ()


@pytest.mark.parametrize(
    ("part", "change", "word"),
    [
        ("machine", {"disk_free": 0.5}, "disk"),
        ("machine", {"load": 5.0}, "load 5.0"),
        ("software", {"opencv": {}}, "none"),
        ("software", {"opencv": {"opencv-python": "4", "opencv-python-headless": "5"}}, "opencv-python, "),
        ("choices", {"weights_ready": False, "weights": "imagenet"}, "imagenet"),
        ("choices", {"workers": 3}, "data.workers"),
    ],
)
def test_each_fault_is_named_alone(part: str, change: dict[str, object], word: str) -> None:
    parts = {"machine": MACHINE, "software": SOFTWARE, "choices": CHOICES}
    parts[part] = dataclasses.replace(parts[part], **change)
    found = warnings(**parts)  # type: ignore[arg-type]
    assert len(found) == 1
    assert word in found[0]


def test_table_fits_80_columns_and_shows_what_matters() -> None:
    machine = dataclasses.replace(MACHINE, gpus=(Gpu("Number Cruncher 9000", 80.0, 79.0, True),), memory_free=None)
    text = shown(Diagnosis(machine, SOFTWARE, CHOICES, ("look here",)))
    assert max(map(len, text.splitlines())) <= 80
    for word in ("Number Cruncher 9000", "80 GiB", "unknown", "lite2", "data/tgs", "it is so", "warning: look here"):
        assert word in text
    # 90 epochs of a third of a minute each.
    assert "0.3 min" in text
    assert "0.5 h" in text


def test_weights_that_are_to_be_had(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    lite1 = "tu-tf_efficientnet_lite1"
    assert not weights_ready(lite1, str(file), True, (1,))
    file.touch()
    assert weights_ready(lite1, str(file), False, ())
    assert weights_ready(lite1, "none", False, ())
    assert weights_ready(lite1, "bundled", False, (0, 1))
    assert weights_ready(f"{lite1}.in1k", "bundled", False, (0, 1))
    assert not weights_ready(lite1, "bundled", True, (0, 2))
    assert not weights_ready("resnet18", "bundled", True, (0, 1, 2))
    assert weights_ready("resnet18", "imagenet", True, ())
    assert not weights_ready("resnet18", "imagenet", False, (0, 1, 2))


def test_diagnosis_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "imagenet_reachable", lambda _encoder: False)
    found = diagnose(tiny_config())
    assert json.loads(json.dumps(dataclasses.asdict(found)))["choices"]["precision"] == "fp32"
    assert found.machine.cores >= 1
    assert found.machine.threads == torch.get_num_threads()
    assert found.software.packages["torch"] == torch.__version__.partition("+")[0]
    assert found.choices.weights_ready
    assert found.choices.tiles_per_second * found.choices.epoch_minutes * 60 == pytest.approx(1000)
    assert "synthetic" in found.choices.data
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data" / "tgs").mkdir(parents=True)
    assert doctor._data() == "data/tgs"


def test_an_epoch_is_the_recipes_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "imagenet_reachable", lambda _encoder: False)
    met: list[tuple[int, int]] = []
    make = doctor.make_trainer

    def noted(config: Config, *others: Any) -> Any:
        assert config.unlabelled.batch is not None
        met.append((config.training.batch, config.unlabelled.batch))
        return make(config, *others)

    monkeypatch.setattr(doctor, "make_trainer", noted)
    changes = {"training": {"batch": 16, "epoch_steps": 3}, "unlabelled": {"batch": 6}}
    found = diagnose(tiny_config(method="mean_teacher", **changes)).choices  # type: ignore[arg-type]
    assert found.epoch_tiles == 48
    assert found.tiles_per_second * found.epoch_minutes * 60 == pytest.approx(48)
    assert met == [(8, 3)]  # as many to a labelled tile as the recipe has


def test_an_unknown_encoder_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="resnet81"):
        diagnose(tiny_config(model={"encoder": "resnet81"}))


def test_memory_and_flags_are_read_as_linux_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": ["MemTotal:       25165824 kB", "MemFree: 1 kB", "MemAvailable:   12582912 kB"],
        "/proc/cpuinfo": ["processor : 0", "flags\t\t: fpu avx512f amx_bf16", "", "flags : other"],
    }
    monkeypatch.setattr(doctor, "_lines", files.__getitem__)
    assert doctor._memory() == (24.0, 12.0)
    assert doctor._processor_flags() == {"fpu", "avx512f", "amx_bf16"}
    monkeypatch.setattr(doctor, "_lines", lambda _path: [])
    assert doctor._memory() == (None, None)
    assert doctor._processor_flags() == set()


def test_the_network_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    # A hub that never answers; see semisalt.models.weights.hub_answers.
    class Silent:
        def head(self, *_: object, **__: object) -> None:
            time.sleep(30)

    monkeypatch.setattr("huggingface_hub.get_session", Silent)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("semisalt.models.weights.cached", lambda _file: None)
    begin = time.monotonic()
    assert not doctor.imagenet_reachable("resnet18")
    assert time.monotonic() - begin < 5
