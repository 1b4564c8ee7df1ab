"""A random piece of the earth: beds, folds, faults, unconformities and salt, as acoustic impedance.

A `Cube` is a three-dimensional model that is drawn once and evaluated on vertical planes ("lines").
Everything in it changes slowly with the line number, so neighbouring lines look alike, as in a survey.
Lengths are in pixels of the section; z points down, x runs along the line.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]

OVERSAMPLING = 4  # samples of the bed column a pixel; beds thinner than a pixel then do not alias
COLUMN_LENGTH = 4096  # pixels of stratigraphy, far more than the packages of one section use
WATER = -5.0  # log impedance, in standard deviations of the sediments
PACKAGE_OFFSET = 1300.0  # stratigraphic distance between packages on either side of an unconformity


@dataclass(frozen=True)
class Waves:
    """A smooth random function of x, z and the line number: a sum of cosines with unit variance."""

    frequencies: Array  # [K, 3], radians a pixel, a pixel and a line
    phases: Array  # [K]

    def at(self, line: float, x: Array | float, z: Array | float = 0.0) -> Array:
        """Value at (x, z, line); x and z broadcast against each other."""
        total: Array = np.zeros(np.broadcast_shapes(np.shape(x), np.shape(z)), np.float32)
        for (kx, kz, ky), phase in zip(self.frequencies, self.phases, strict=True):
            total += np.cos(x * kx + z * kz + np.float32(line * ky + phase))
        return np.asarray(total * np.float32(np.sqrt(2.0 / len(self.phases))), np.float32)


def draw_waves(rng: np.random.Generator, wavelength: tuple[float, float], lines: float = 9.0, count: int = 8) -> Waves:
    """Random waves with wavelengths (pixels) log-uniform in `wavelength`, isotropic in (x, z).

    `lines`: the shortest wavelength along the lines, about, in lines.
    """
    k = 2 * np.pi / np.exp(rng.uniform(np.log(wavelength[0]), np.log(wavelength[1]), count))
    angle = rng.uniform(0, 2 * np.pi, count)
    across = rng.choice([-1.0, 1.0], count) * 2 * np.pi / (lines * rng.uniform(0.7, 2.0, count))
    frequencies = np.stack([k * np.cos(angle), k * np.sin(angle), across], axis=1)
    return Waves(frequencies.astype(np.float32), rng.uniform(0, 2 * np.pi, count).astype(np.float32))


@dataclass(frozen=True)
class Fault:
    """A normal fault: a plane that dips, with the layers on its hanging wall let down."""

    x: float  # where it cuts z = 0 on line 0
    strike: float  # pixels along x a line
    slope: float  # dx/dz; its sign says on which side the hanging wall lies
    curvature: float  # listric faults flatten with depth
    throw: float
    tip: float  # depth above which the fault has died out
    reach: float  # distance over which the throw fades away from the fault


@dataclass(frozen=True)
class SaltBody:
    """A head (an ellipse), with or without a stem to the bottom of the section.

    Domes, mushrooms, pillows and sheets differ in these sizes alone.
    """

    x: float
    top: float
    half_width: float
    half_height: float
    stem: float  # half-width of the stem; 0: none
    lean: float  # dx/dz of the axis
    flare: float  # growth of the stem's half-width a pixel downwards
    upright: bool  # the stem is bounded by vertical planes further down
    roughness: float  # of its surface, pixels
    flat_base: bool  # a sheet: everything below its axis is cut off
    wander: Waves  # of position, top and width along the lines
    dirt: float  # strength of the layering inside


@dataclass(frozen=True)
class Cube:
    """A whole earth model; see the fields' types."""

    shape: tuple[int, int]
    seafloor: float
    seafloor_waves: Waves
    columns: Array  # [2, COLUMN_LENGTH * OVERSAMPLING] log impedance of the beds in two facies
    facies: Waves
    folds: tuple[Waves, ...]  # one a package, the youngest first
    fold_heights: tuple[float, ...]
    dips: tuple[float, ...]
    unconformities: tuple[float, ...]  # mean depths
    unconformity_waves: Waves
    faults: tuple[Fault, ...]
    bodies: tuple[SaltBody, ...]
    roughness: Waves  # of the salt's surface
    fine_roughness: Waves
    drag: float  # height to which layers are dragged up at the salt
    drag_reach: float
    salt_contrast: float  # log impedance of salt over the sediments' mean, in their standard deviations
    contrast_waves: Waves


@dataclass(frozen=True)
class Earth:
    """One line of a cube."""

    impedance: Array  # [H, W] log impedance, sediments have unit variance
    salt: NDArray[np.bool_]  # [H, W]
    distance: Array  # [H, W] pixels to the salt, roughly; negative inside
    water: NDArray[np.bool_]  # [H, W] above the sea floor


def draw_column(rng: np.random.Generator, bed_thickness: float) -> Array:
    """Log impedance down a column of beds: lognormal thickness, bright and quiet groups, unit variance."""
    n = COLUMN_LENGTH * OVERSAMPLING
    thickness = np.maximum(OVERSAMPLING * rng.lognormal(np.log(bed_thickness), 0.8, n // 4), 2).astype(np.int64)
    ends = np.cumsum(thickness)
    bed = np.searchsorted(ends, np.arange(n), side="right")
    group = ndimage.gaussian_filter1d(rng.standard_normal(n // 4), 12.0)
    strength = np.exp(0.6 * group / group.std())
    values = (rng.standard_normal(n // 4) * strength)[bed]
    values = ndimage.gaussian_filter1d(values, 0.3 * OVERSAMPLING)
    return np.asarray((values - values.mean()) / values.std(), np.float32)


def draw_body(rng: np.random.Generator, x: float, height: int) -> SaltBody:
    """One salt body near x: dome, mushroom, pillow or sheet."""
    kind = rng.choice(["dome", "mushroom", "pillow", "sheet"], p=[0.35, 0.3, 0.1, 0.25])
    top = height * rng.uniform(0.12, 0.55)
    stem, lean, flare = 0.0, rng.normal(0, 0.25), 0.0
    if kind == "dome":
        half_width, half_height = rng.uniform(25, 80), rng.uniform(35, 120)
        stem, flare = half_width * rng.uniform(0.8, 1.0), rng.uniform(0, 0.35)
    elif kind == "mushroom":
        half_width, half_height = rng.uniform(70, 130), rng.uniform(35, 75)
        stem = half_width * rng.uniform(0.25, 0.5)
    elif kind == "pillow":
        half_width, half_height, top = (
            rng.uniform(90, 170),
            rng.uniform(30, 70),
            height * rng.uniform(0.5, 0.8),
        )
    else:
        half_width, half_height = rng.uniform(110, 240), rng.uniform(45, 110)
        lean = 0.0
    wander = draw_waves(rng, (1e3, 1e4), lines=8.0)
    dirt = rng.uniform(0.15, 0.45) if rng.random() < 0.3 else 0.03
    rough, upright = float(np.exp(rng.normal(-0.5, 0.8))), bool(rng.random() < 0.35)
    sheet = bool(kind == "sheet")
    return SaltBody(x, top, half_width, half_height, stem, lean, flare, upright, rough, sheet, wander, dirt)


def draw_fault(rng: np.random.Generator, height: int, width: int) -> Fault:
    """A random normal fault."""
    side = rng.choice([-1.0, 1.0])
    return Fault(
        x=rng.uniform(-0.1, 1.1) * width,
        strike=rng.normal(0, 12),
        slope=side * rng.uniform(0.3, 0.8),
        curvature=side * rng.uniform(0, 6e-4),
        throw=rng.uniform(5, 40),
        tip=height * rng.uniform(-0.1, 0.5),
        reach=rng.uniform(60, 300),
    )


def draw_cube(rng: np.random.Generator, shape: tuple[int, int]) -> Cube:
    """A random earth for sections of `shape` (H, W)."""
    height, width = shape
    packages = int(rng.integers(2, 4))
    cuts = np.sort(rng.uniform(0.15, 0.8, packages - 1)) * height
    heights = [rng.uniform(4, 18), *rng.uniform(15, 60, packages - 1)]
    dips = [rng.normal(0, 0.07), *rng.normal(0, 0.35, packages - 1)]
    bodies = max(1, round(width / 190))
    places = (np.arange(bodies) + rng.uniform(0.2, 0.8, bodies)) * width / bodies
    reach = rng.uniform(40, 130)
    thickness = rng.uniform(2.5, 7.0)
    return Cube(
        shape=shape,
        seafloor=rng.uniform(-90, 60),
        seafloor_waves=draw_waves(rng, (300, 1500)),
        columns=np.stack([draw_column(rng, thickness) for _ in range(2)]),
        facies=draw_waves(rng, (80, 700)),
        folds=tuple(draw_waves(rng, (150, 700)) for _ in range(packages)),
        fold_heights=tuple(heights),
        dips=tuple(dips),
        unconformities=tuple(float(cut) for cut in cuts),
        unconformity_waves=draw_waves(rng, (150, 900)),
        faults=tuple(draw_fault(rng, height, width) for _ in range(int(rng.integers(3, 9)))),
        bodies=tuple(draw_body(rng, float(place), height) for place in places),
        roughness=draw_waves(rng, (40, 220), count=10),
        fine_roughness=draw_waves(rng, (9, 40), count=10),
        drag=reach * rng.uniform(0.4, 1.6),
        drag_reach=reach,
        salt_contrast=rng.uniform(1.5, 5.5),
        contrast_waves=draw_waves(rng, (60, 300)),
    )


def body_distance(body: SaltBody, line: float, x: Array, z: Array) -> Array:
    """Roughly the signed distance to one salt body (pixels, negative inside), [H, W]; x [1, W], z [H, 1]."""
    move, lift, swell = (float(body.wander.at(line, 4e4 * i)) for i in range(3))
    scale = np.clip(1 + 0.3 * swell, 0.35, 1.7)
    half_width, half_height = body.half_width * scale, body.half_height * np.sqrt(scale)
    middle = body.top + 30 * lift + half_height
    across = np.abs(x - body.x - 35 * move - body.lean * (z - middle))
    radius = np.sqrt((across / half_width) ** 2 + ((z - middle) / half_height) ** 2)
    head = (radius - 1) * min(half_width, half_height)
    if body.flat_base:
        head = np.maximum(head, z - middle - 0.25 * half_height)
    if body.stem == 0:
        return np.asarray(head, np.float32)
    below = z - middle
    if body.upright:  # what makes masks whose rows are all equal
        below = np.minimum(below, 1.5 * half_height)
    axis = body.x + 35 * move + body.lean * below
    stem = np.maximum(np.abs(x - axis) - body.stem * scale - body.flare * below, half_height * 0.2 - (z - middle))
    gap = np.clip(0.5 + 0.5 * (stem - head) / 18.0, 0, 1)
    union = stem + (head - stem) * gap - 18.0 * gap * (1 - gap)  # a smooth minimum
    union = np.where(z > middle + 1.6 * half_height, np.minimum(stem, head), union)
    return np.asarray(union, np.float32)


def salt_distance(cube: Cube, line: float, x: Array, z: Array) -> tuple[Array, Array]:
    """Signed distance to the nearest salt [H, W], and the strength of that body's inner layering [H, W]."""
    coarse, fine = cube.roughness.at(line, x, z), cube.fine_roughness.at(line, x, z)
    distance = np.full((z.size, x.size), 1e4, np.float32)
    dirt = np.zeros_like(distance)
    for body in cube.bodies:
        each = body_distance(body, line, x, z)
        rough = 6.0 * coarse + body.roughness * fine
        if body.upright:  # roughness dies out down to the planes
            rough = rough * np.clip(1 - (z - body.top - 1.6 * body.half_height) / 60.0, 0, 1)
        each = each + rough
        nearer = each < distance
        distance = np.where(nearer, each, distance)
        dirt = np.where(nearer, np.float32(body.dirt), dirt)
    return distance, dirt


def fault_shift(faults: tuple[Fault, ...], line: float, x: Array, z: Array) -> Array:
    """How far all faults have let the beds down, [H, W]; the throw fades away from a fault (rollover)."""
    shift = np.zeros((z.size, x.size), np.float32)
    for fault in faults:
        plane = fault.x + fault.strike * line + fault.slope * z + fault.curvature * z * z
        beyond = np.float32(np.sign(fault.slope)) * (x - plane)
        growth = np.clip((z - fault.tip) / 120.0, 0, 1)
        shift += fault.throw * growth * (beyond > 0) * np.exp(-np.maximum(beyond, 0) / fault.reach)
    return shift


def bedding(cube: Cube, line: float, x: Array, z: Array, shift: Array) -> Array:
    """Stratigraphic coordinate [H, W], whose level lines are the beds; `shift`: how far they moved down."""
    width = cube.shape[1]
    layer = np.full((z.size, x.size), 0.0, np.float32)
    for package, (fold, size, dip) in enumerate(zip(cube.folds, cube.fold_heights, cube.dips, strict=True)):
        bend = size * fold.at(line, x, 0.25 * z) + dip * (x - width / 2)
        own = z + 400.0 - bend - shift + package * PACKAGE_OFFSET
        if package == 0:
            layer = own
            continue
        cut = cube.unconformities[package - 1] + 16 * cube.unconformity_waves.at(line, x, 900.0 * package)
        layer = np.where(z - 0.8 * shift > cut, own, layer)
    return layer


def line_through(cube: Cube, line: float) -> Earth:
    """The vertical plane number `line` of the cube."""
    height, width = cube.shape
    x, z = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
    floor = cube.seafloor + 25 * cube.seafloor_waves.at(line, x)
    distance, dirt = salt_distance(cube, line, x, z)
    distance = np.maximum(distance, floor + 20 - z)  # salt stays buried
    drag = -cube.drag * np.exp(-np.maximum(distance, 0) / cube.drag_reach)
    layer = bedding(cube, line, x, z, drag + fault_shift(cube.faults, line, x, z))
    place = np.clip(layer * OVERSAMPLING, 0, COLUMN_LENGTH * OVERSAMPLING - 1).astype(np.int64)
    blend = np.pi / 4 * (1 + np.tanh(cube.facies.at(line, x, z)))
    beds = np.cos(blend) * cube.columns[0][place] + np.sin(blend) * cube.columns[1][place]
    contrast = cube.salt_contrast * (1 + 0.3 * np.tanh(cube.contrast_waves.at(line, x, z)))
    share = np.clip(0.5 - distance, 0, 1)  # antialiased
    impedance = beds + share * (contrast + (dirt - 1) * beds)
    water = z < floor
    impedance = np.where(water, np.float32(WATER), impedance)
    return Earth(impedance.astype(np.float32), distance < 0, distance, water)
