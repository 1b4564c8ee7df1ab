"""A small survey as files, which the tests then damage."""

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

Files = dict[str, bytes]


def png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    done, data = cv2.imencode(".png", pixels)
    assert done
    return data.tobytes()


def zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def run_lengths(mask: NDArray[np.uint8]) -> str:
    """Down the columns, pixel by pixel."""
    values, length, number = [], 0, 0
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            number += 1
            if mask[row, column]:
                length += 1
            elif length:
                values += [number - length, length]
                length = 0
    if length:
        values += [number - length + 1, length]
    return " ".join(map(str, values))


@dataclass
class SmallSurvey:
    """Four labelled tiles, three unlabelled ones, of 6×9 pixels; `files` in the unpacked layout."""

    images: dict[str, NDArray[np.uint8]]
    masks: dict[str, NDArray[np.uint8]]
    depths: dict[str, float]
    files: Files = field(default_factory=dict)

    def packed(self) -> Files:
        """The same with train.zip (images/ and masks/ at its root) and test.zip."""
        files = {name: data for name, data in self.files.items() if "/" not in name}
        for part in ("train", "test"):
            inside = {n.removeprefix(f"{part}/"): d for n, d in self.files.items() if n.startswith(f"{part}/")}
            if inside:
                files[f"{part}.zip"] = zipped(inside)
        return files


@pytest.fixture
def small() -> SmallSurvey:
    generator = np.random.default_rng(7)
    labelled, unlabelled = ["a1", "b2", "c3", "d4"], ["t1", "t2", "t3"]
    images = {tile: generator.integers(0, 256, (6, 9), dtype=np.uint8) for tile in labelled + unlabelled}
    masks = {tile: (generator.random((6, 9)) < 0.4).astype(np.uint8) for tile in labelled}
    masks["b2"][:] = 0
    depths = {tile: 100.0 + 7 * at for at, tile in enumerate(images)}
    files = {f"train/images/{tile}.png": png(images[tile]) for tile in labelled}
    files |= {f"train/masks/{tile}.png": png(masks[tile] * np.uint8(255)) for tile in labelled}
    files |= {f"test/images/{tile}.png": png(images[tile]) for tile in unlabelled}
    rows = [f"{tile},{run_lengths(masks[tile])}" for tile in labelled]
    files["train.csv"] = "\n".join(["id,rle_mask", *rows]).encode()
    files["depths.csv"] = "\n".join(["id,z", *(f"{tile},{z:g}" for tile, z in depths.items())]).encode()
    files["sample_submission.csv"] = b"id,rle_mask\nt2,1 1\nt1,1 1\nt3,1 1\n"
    return SmallSurvey(images, masks, depths, files)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Mapping[str, bytes]], Path]:
    """Writes files into a new folder and returns it."""
    made = 0

    def write_files(files: Mapping[str, bytes]) -> Path:
        nonlocal made
        made += 1
        root = tmp_path / f"survey{made}"
        root.mkdir()
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root

    return write_files


@pytest.fixture(name="png")
def png_fixture() -> Callable[..., bytes]:
    return png


@pytest.fixture(name="zipped")
def zipped_fixture() -> Callable[[Mapping[str, bytes]], bytes]:
    return zipped


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
