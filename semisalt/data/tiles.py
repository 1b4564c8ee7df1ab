"""Tiles in memory: the one form in which data flows through the package."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, eq=False)
class TileSet:
    """Tiles of one size, in memory.

    Attributes:
        ids: the tiles' names, all different.
        images: [N, H, W], grey, 0 to 255.
        masks: [N, H, W], 0 or 1 (salt); None for unlabelled tiles.
        depths: [N], in the unit of depths.csv; None where no depth is known.
        soft: [N, H, W], p = value / 255: probabilities of salt to learn from, beside masks that are their hard form;
            None where the masks are all there is to learn.

    Raises:
        ValueError: the parts do not belong together.
    """

    ids: tuple[str, ...]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None
    depths: NDArray[np.float32] | None
    soft: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        count = len(self.ids)
        if len(set(self.ids)) != count:
            raise ValueError("tile ids must be different")
        if self.images.ndim != 3 or len(self.images) != count:
            raise ValueError(f"{count} ids, but images of shape {self.images.shape}")
        if self.masks is not None and self.masks.shape != self.images.shape:
            raise ValueError(f"masks of shape {self.masks.shape}, but images of shape {self.images.shape}")
        if self.soft is not None and (self.masks is None or self.soft.shape != self.images.shape):
            raise ValueError(f"soft labels of shape {self.soft.shape} need masks and images of that shape")
        if self.depths is not None and self.depths.shape != (count,):
            raise ValueError(f"{count} ids, but depths of shape {self.depths.shape}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of every tile."""
        _, height, width = self.images.shape
        return height, width

    @property
    def coverage(self) -> NDArray[np.float64]:
        """[N]: the share of each tile's pixels that is salt. Raises ValueError for tiles without masks."""
        if self.masks is None:
            raise ValueError("unlabelled tiles have no coverage")
        salt: NDArray[np.int64] = np.count_nonzero(self.masks, axis=(1, 2))
        return salt / float(self.shape[0] * self.shape[1])

    @property
    def blank(self) -> NDArray[np.bool_]:
        """[N]: tiles without any signal (every pixel is zero)."""
        brightest: NDArray[np.uint8] = self.images.max(axis=(1, 2), initial=0)
        return np.asarray(brightest == 0, dtype=np.bool_)

    def subset(self, indices: NDArray[np.int64] | NDArray[np.bool_]) -> "TileSet":
        """The tiles at these positions, in this order; or those where a [N] boolean array is true."""
        positions = np.arange(len(self))[indices]
        return TileSet(
            ids=tuple(self.ids[position] for position in positions),
            images=self.images[positions],
            masks=None if self.masks is None else self.masks[positions],
            depths=None if self.depths is None else self.depths[positions],
            soft=None if self.soft is None else self.soft[positions],
        )

    @property
    def targets(self) -> NDArray[np.uint8]:
        """[N, H, W]: what to learn, p = value / 255. Raises ValueError for tiles without masks."""
        if self.masks is None:
            raise ValueError("unlabelled tiles have nothing to learn from")
        return self.soft if self.soft is not None else self.masks * np.uint8(255)


def join(first: TileSet, second: TileSet) -> TileSet:
    """The tiles of both, `first` before `second`; what only one of them has (masks, depths) is dropped.

    Raises ValueError where their sizes differ or they share an id.
    """
    labelled = first.masks is not None and second.masks is not None
    soft = labelled and (first.soft is not None or second.soft is not None)

    def both(one: NDArray[T] | None, other: NDArray[T] | None) -> NDArray[T] | None:
        return None if one is None or other is None else np.concatenate([one, other])

    return TileSet(
        first.ids + second.ids,
        np.concatenate([first.images, second.images]),
        both(first.masks, second.masks),
        both(first.depths, second.depths),
        both(first.targets, second.targets) if soft else None,
    )


@dataclass(frozen=True, eq=False)
class Survey:
    """A survey's labelled and unlabelled tiles, each in ascending order of the ids.

    Attributes:
        fingerprint: see `fingerprint`.
        source: where it was read from.
        submission_ids: the order of sample_submission.csv, where there is one.
        groups: [N labelled], numbers of the groups of tiles that must share a fold; None: each may go where it will.
    """

    labelled: TileSet
    unlabelled: TileSet
    fingerprint: str
    source: Path
    submission_ids: tuple[str, ...] | None
    groups: NDArray[np.int64] | None = None

    @property
    def depth_range(self) -> tuple[float, float] | None:
        """(least, greatest) depth over both sets; None where no depth is known."""
        depths = [part.depths for part in (self.labelled, self.unlabelled) if part.depths is not None]
        known = np.concatenate(depths) if depths else np.empty(0, dtype=np.float32)
        return (float(known.min()), float(known.max())) if known.size else None


def fingerprint(labelled: TileSet, unlabelled: TileSet) -> str:
    """SHA-256 (hex) over ids, images, masks and depths, in ascending order of the ids.

    The same content has the same fingerprint whatever its files are called, how they are packed, or in which
    order they are read.
    """
    digest = sha256(b"semisalt survey 1")
    for part in (labelled, unlabelled):
        digest.update(f"|{len(part)} {part.shape} {part.masks is None} {part.depths is None}|".encode())
        for position in np.argsort(np.array(part.ids, dtype=np.str_), kind="stable"):
            name = part.ids[position].encode()
            digest.update(len(name).to_bytes(4, "little") + name)
            digest.update(part.images[position].tobytes())
            if part.masks is not None:
                digest.update(part.masks[position].tobytes())
            if part.depths is not None:
                digest.update(part.depths[position].astype("<f4").tobytes())
    return digest.hexdigest()
