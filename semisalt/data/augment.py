"""Random views of a tile and its mask: the one place that knows albumentations.

albumentations 2.0.8 is pinned: it is the last release under the MIT licence.
"""

import os
from collections.abc import Callable

# Read when albumentations is imported: it asks a server for its newest version otherwise.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from semisalt.config import AugmentConfig

View = Callable[[NDArray[np.uint8], NDArray[np.uint8], int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]


def random_view(config: AugmentConfig) -> View:
    """Build the function (image [H, W], mask [H, W], seed) → (image, mask).

    The view depends on the seed alone. Image and mask share their geometry; what lies outside the tile is mirrored.
    """
    # Left out rather than given a probability of 0, at which they would still draw from the generator.
    rare: list[A.BasicTransform] = []
    if config.gamma:
        rare.append(A.RandomGamma(gamma_limit=(60, 160), p=config.gamma))
    if config.noise:
        rare.append(A.GaussNoise(std_range=(0.0, 0.1), p=config.noise))
    if config.erase:
        sides = (0.1, 0.35)
        rare.append(A.CoarseDropout((1, 3), sides, sides, fill=128, fill_mask=None, p=config.erase))
    transform = A.Compose(
        [
            A.HorizontalFlip(p=config.flip),
            A.Affine(
                scale=(1 - config.scale, 1 + config.scale),
                rotate=(-config.rotate, config.rotate),
                translate_percent=(-config.shift, config.shift),
                border_mode=cv2.BORDER_REFLECT_101,
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_NEAREST,
                p=config.affine,
            ),
            A.RandomBrightnessContrast(config.brightness, config.contrast, p=config.light),
            A.GaussianBlur(blur_limit=(3, 3), p=config.blur),
            *rare,
        ]
    )

    def view(
        image: NDArray[np.uint8], mask: NDArray[np.uint8], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        transform.set_random_seed(seed)
        seen = transform(image=image, mask=mask)
        return seen["image"], seen["mask"]

    return view


def geometry_of(config: AugmentConfig) -> AugmentConfig:
    """Its flips and affine moves alone: a view whose grey levels are the tile's own."""
    return config.model_copy(update=dict.fromkeys(("light", "gamma", "blur", "noise", "erase"), 0.0))


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """The seed of one sample's view: a function of the run's seed, the epoch and the tile alone."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1)[0])
