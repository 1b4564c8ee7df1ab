#!/usr/bin/env python3
"""What a short script without semisalt's recipe reaches on a fold of a finished run, paired over the same tiles.

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1 .venv/bin/python scripts/plain.py --run runs/cpu --fold 1

The script is segmentation-models-pytorch's U-Net as it comes, on the same pretrained EfficientNet-lite0: grey copied to
three channels, BCE and then smp's Lovász loss, one cycle of AdamW, fp32, 20 epochs, mirrored views at the end, p > 0.5.
It sees the fold's training tiles through the recipe's own augmentation, which makes it a generous opponent. The two
variables keep glibc from giving memory back after every step, as semisalt does for itself.

Writes OUT/tiles.csv (score of every validation tile) and prints both scores and the paired difference.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from semisalt.data.batches import Plan, batches
from semisalt.data.read import load_survey
from semisalt.data.tiles import TileSet
from semisalt.metrics import bootstrap, paired_bootstrap, precision
from semisalt.models.weights import read_weights
from semisalt.run import RunDirectory, read_csv, write_csv
from semisalt.training.crossval import divide

_MEAN, _STD = 0.5, 0.5  # what the lite encoders were trained with
_PEAK = 1e-3


def network_input(images: Tensor) -> Tensor:
    """uint8 [B, 101, 101] -> float32 [B, 3, 128, 128]."""
    grey = (images.float() / 255 - _MEAN) / _STD
    missing = [-side % 32 for side in grey.shape[1:]]
    padding = [missing[1] // 2, missing[1] - missing[1] // 2, missing[0] // 2, missing[0] - missing[0] // 2]
    padded: Tensor = F.pad(grey[:, None], padding, mode="reflect")
    return padded.expand(-1, 3, -1, -1)


def cropped(logits: Tensor, shape: tuple[int, int]) -> Tensor:
    """[B, 1, H', W'] -> [B, H, W], the padding cut off."""
    top, left = ((padded - side) // 2 for padded, side in zip(logits.shape[2:], shape, strict=True))
    return logits[:, 0, top : top + shape[0], left : left + shape[1]]


@torch.inference_mode()
def predict(network: nn.Module, tiles: TileSet) -> NDArray[np.bool_]:
    """Masks of tiles, the mean of each tile's and its mirror image's probabilities over 0.5."""
    network.eval()
    parts = []
    for part in torch.from_numpy(tiles.images).split(64):
        views = (part, part.flip(2))
        maps = [cropped(network(network_input(view)), tiles.shape).sigmoid() for view in views]
        parts.append(((maps[0] + maps[1].flip(2)) / 2 > 0.5).numpy())
    return np.concatenate(parts)


def train(tiles: TileSet, options: argparse.Namespace, run: RunDirectory) -> nn.Module:
    """One cycle over the fold's training tiles; Lovász in the last two fifths."""
    torch.manual_seed(options.fold)
    network = smp.Unet("tu-tf_efficientnet_lite0", encoder_weights=None, in_channels=3)
    state = read_weights("tu-tf_efficientnet_lite0", "bundled")
    assert state is not None  # noqa: S101  # 'bundled' gives weights
    missing = network.encoder.model.load_state_dict(state, strict=False).missing_keys
    if missing:
        raise SystemExit(f"the pretrained weights lack {missing[:3]} …")
    plan = Plan(len(tiles), options.batch, run.config.seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_PEAK)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, _PEAK, total_steps=options.epochs * plan.steps)
    lovasz = smp.losses.LovaszLoss("binary", per_image=True, from_logits=True)
    stream = batches(tiles, plan, run.config.augment, epochs=options.epochs, workers=1)
    begin = time.monotonic()
    for epoch in range(options.epochs):
        network.train()
        total = 0.0
        for _ in range(plan.steps):
            batch = next(stream)
            logits = cropped(network(network_input(batch.images)), tiles.shape)
            late = epoch >= 0.6 * options.epochs
            targets = batch.targets.float() / 255
            loss = lovasz(logits, targets) if late else F.binary_cross_entropy_with_logits(logits, targets)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            cycle.step()
            total += loss.item()
        print(f"epoch {epoch}: loss {total / plan.steps:.4f}, {time.monotonic() - begin:.0f} s", flush=True)
    return network


def main() -> None:
    """Train, score, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run of `semisalt baseline` with this fold finished")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--data", type=Path, help="where the run's tiles lie now, if they moved")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("runs/plain"))
    options = parser.parse_args()
    run = RunDirectory.open(options.run)
    division = divide(load_survey(options.data or run.source()), run.config)
    validation = division.validation(options.fold)
    assert validation.masks is not None  # noqa: S101  # validation tiles are labelled
    masks = predict(train(division.train(options.fold), options, run), validation)
    scores = precision(masks, validation.masks)
    write_csv(options.out / "tiles.csv", ("id", "score"), list(zip(validation.ids, scores.tolist(), strict=True)))
    ours = {row["id"]: float(row[run.config.snapshots.combine]) for row in _rows(run, options.fold)}
    recipe = np.array([ours[tile] for tile in validation.ids])
    print(f"plain script {bootstrap(scores)}, {options.run} {bootstrap(recipe)} at 0.5, {len(scores)} tiles")
    print(f"{options.run} minus the plain script, paired: {paired_bootstrap(recipe, scores)}")


def _rows(run: RunDirectory, fold: int) -> list[dict[str, str]]:
    try:
        return read_csv(run.fold(fold).tile_scores)
    except (OSError, csv.Error):
        raise SystemExit(
            f"{run.fold(fold).tile_scores} is missing: fold {fold} of {run.path} is not finished"
        ) from None


if __name__ == "__main__":
    main()
