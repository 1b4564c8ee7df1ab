"""What a migrated seismic section of an earth looks like: band-limited, noisy, of lower frequency with depth.

A migrated image is, to first order, the reflectivity seen through a point-spread function: its spectrum
is that of the wavelet along the normal of the reflector, weakened towards steep dips (Lecomte, The
Leading Edge 27, 2008). So the section is filtered in the wavenumber domain, once for each of a few
dominant periods, and blended over depth.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from semisalt.data.geology import Array, Earth, Waves, draw_waves

NOISE_LEVEL = 1.25  # of unit noise, in mean absolute amplitudes of the sediments
MARGIN = 48  # pixels of mirrored border that keep the filters from wrapping round


@dataclass(frozen=True)
class Acquisition:
    """How a cube was shot and processed."""

    shallow_period: float  # dominant period in pixels at the top
    deep_period: float  # and at the bottom
    steepness: float  # exponent of the dip weight; small: steep flanks are imaged well
    random: float  # strength of random noise seen through the same wavelet
    streaks: float  # strength of steeply dipping coherent noise
    smiles: float  # strength of migration smiles
    electronic: float  # strength of noise that no migration has seen
    salt_noise: float  # how strong noise is inside salt, relative to outside
    low: float  # exponent that takes low wavenumbers away; 0: relative impedance, 1: reflectivity
    smear: float  # lateral smoothing in pixels
    patches: Waves  # where noise is strong
    fan: Waves  # where the streaks lean


def draw_acquisition(rng: np.random.Generator) -> Acquisition:
    """Random acquisition and processing."""
    shallow = np.exp(rng.uniform(np.log(5.0), np.log(15)))
    return Acquisition(
        shallow_period=shallow,
        deep_period=shallow * rng.uniform(1.5, 3.5),
        steepness=rng.uniform(0.1, 0.7),
        random=np.exp(rng.uniform(np.log(0.15), np.log(1.8))),
        streaks=rng.uniform(0.2, 1.5),
        smiles=rng.uniform(0.0, 0.5),
        electronic=0.4 * rng.uniform(0, 1) ** 2,
        salt_noise=rng.uniform(0.25, 1.0),
        low=rng.uniform(0, 1),
        smear=rng.uniform(0.0, 0.7),
        patches=draw_waves(rng, (90, 500)),
        fan=draw_waves(rng, (150, 900)),
    )


@dataclass(frozen=True)
class Grid:
    """Wavenumbers of a padded section."""

    shape: tuple[int, int]
    kz: Array  # [H', 1] cycles a pixel
    kx: Array  # [1, W' // 2 + 1]
    k: Array  # [H', W' // 2 + 1], never zero


def make_grid(shape: tuple[int, int]) -> Grid:
    """The wavenumbers for sections of `shape`."""
    rows, columns = (fft.next_fast_len(n + 2 * MARGIN, real=True) for n in shape)
    kz = fft.fftfreq(rows)[:, None].astype(np.float32)
    kx = fft.rfftfreq(columns)[None].astype(np.float32)
    return Grid((rows, columns), kz, kx, np.hypot(kz, kx) + np.float32(1e-6))


def spectrum(section: Array, grid: Grid) -> NDArray[np.complex64]:
    """Real FFT of a section [H, W] with mirrored borders."""
    (rows, columns), (height, width) = grid.shape, section.shape
    padded = np.pad(section, ((MARGIN, rows - height - MARGIN), (MARGIN, columns - width - MARGIN)), "symmetric")
    return np.asarray(fft.rfft2(padded), np.complex64)


def back(values: NDArray[np.complex64], grid: Grid, shape: tuple[int, ...]) -> Array:
    """Inverse of `spectrum`."""
    whole = fft.irfft2(values, s=grid.shape)
    return np.asarray(whole[MARGIN : MARGIN + shape[0], MARGIN : MARGIN + shape[1]], np.float32)


def ricker(k: Array, period: float) -> Array:
    """Spectrum of the Ricker wavelet, (k/k0)^2 exp(1 - (k/k0)^2) with k0 = 1 / period, one at its peak."""
    square = (k * np.float32(period)) ** 2
    return np.asarray(square * np.exp(1 - square), np.float32)


def noise_shapes(lean: float, spread: float, grid: Grid, period: float) -> tuple[Array, Array, Array]:
    """Spectral amplitudes of random grain and of streaks that lean left and right.

    `lean` and `spread`: the streaks' mean dip and its width, radians from the horizontal.
    """
    dip = np.arctan2(grid.kx, np.abs(grid.kz))  # 0 … pi/2
    band = ricker(grid.k, period * 0.75) / grid.k
    grain = band * np.exp(-((dip / np.float32(1.3)) ** 2))
    fan = band * np.exp(-(((dip - np.float32(lean)) / np.float32(spread)) ** 2))
    left, right = fan * (grid.kz >= 0), fan * (grid.kz <= 0)
    return np.asarray(grain, np.float32), np.asarray(left, np.float32), np.asarray(right, np.float32)


def unit(section: Array) -> Array:
    """The section divided by its standard deviation."""
    return np.asarray(section / (section.std() + np.float32(1e-9)), np.float32)


def smile_kernel(period: float, radius: float, aperture: float) -> Array:
    """A concave-up arc with a Ricker profile: what migration makes of a lone spike. Odd-sized array."""
    half = int(radius * np.sin(aperture) + 2 * period)
    z, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    across = (np.hypot(x, z + radius) - radius) * np.pi / np.float32(period)
    taper = np.exp(-((np.arctan2(x, z + radius) / aperture) ** 2) * 2)
    return np.asarray((1 - 2 * across**2) * np.exp(-(across**2)) * taper, np.float32)


def smiles(rng: np.random.Generator, shape: tuple[int, int], grid: Grid, period: float) -> Array:
    """A section of migration smiles at random places, unit variance."""
    spikes = rng.standard_normal(shape).astype(np.float32) * (rng.random(shape, np.float32) < 0.002)
    kernel = smile_kernel(period, rng.uniform(40, 110), rng.uniform(0.5, 1.0))
    placed = np.zeros(grid.shape, np.float32)
    rows, columns = (min(k, g) for k, g in zip(kernel.shape, grid.shape, strict=True))
    placed[:rows, :columns] = kernel[:rows, :columns]
    placed = np.roll(placed, (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), axis=(0, 1))
    return unit(back(spectrum(spikes, grid) * np.asarray(fft.rfft2(placed), np.complex64), grid, shape))


def shadow(earth: Earth) -> Array:
    """How much salt lies above each pixel, 0 … 1, smeared sideways: illumination is poor there."""
    above = np.cumsum(earth.salt, axis=0, dtype=np.float32) * ~earth.salt
    return np.asarray(ndimage.uniform_filter(np.clip(above / 60.0, 0, 1), size=(15, 41)), np.float32)


def depth_weights(height: int, plan: Acquisition, bands: int) -> tuple[list[float], Array]:
    """Periods of the bands, and each band's weight down the section, [bands, H, 1], summing to one."""
    periods = np.geomspace(plan.shallow_period, plan.deep_period, bands)
    place = np.linspace(0, bands - 1, height, dtype=np.float32)
    weights = np.clip(1 - np.abs(place[None] - np.arange(bands, dtype=np.float32)[:, None]), 0, 1)
    return [float(period) for period in periods], weights[:, :, None]


def signal_of(earth: Earth, plan: Acquisition, grid: Grid, periods: list[float], weights: Array) -> Array:
    """The migrated image without noise.

    Its spectrum: that of the log impedance · i sign(kz) · (k / k0)^low · ricker(k) · cos(dip)^steepness.
    """
    whole = spectrum(earth.impedance, grid)
    normal = np.sign(grid.kz) * (np.abs(grid.kz) / grid.k) ** np.float32(plan.steepness)
    normal = normal * np.exp(-((np.float32(plan.smear * 2 * np.pi) * grid.kx) ** 2) / 2)
    total = np.zeros(earth.impedance.shape, np.float32)
    for period, weight in zip(periods, weights, strict=True):
        band = normal * ricker(grid.k, period) * (grid.k * np.float32(period)) ** np.float32(plan.low)
        total += weight * back(np.asarray(1j * band * whole, np.complex64), grid, total.shape)
    return total


def noise_of(
    grid: Grid,
    periods: list[float],
    weights: Array,
    leaning: Array,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Random grain and steep streaks, [H, W], each of about unit variance; `leaning`: 1 left, 0 right."""
    shape = leaning.shape
    white = [spectrum(rng.standard_normal(shape, np.float32), grid) for _ in range(2)]
    lean, spread = rng.uniform(0.7, 1.4), rng.uniform(0.25, 0.6)
    grain, streaks = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for period, weight in zip(periods, weights, strict=True):
        even, left, right = noise_shapes(lean, spread, grid, period)
        grain += weight * unit(back(white[0] * even, grid, shape))
        streaks += weight * leaning * unit(back(white[1] * left, grid, shape))
        streaks += weight * (1 - leaning) * unit(back(white[1] * right, grid, shape))
    return grain, streaks


def image(earth: Earth, plan: Acquisition, line: float, rng: np.random.Generator) -> Array:
    """The seismic section of an earth, float32 [H, W], zero in the water.

    Signal and noise go through the same wavelet, whose period grows with depth; noise is stronger deep down,
    beside and below salt, where the signal is weak for want of illumination.
    """
    shape = earth.impedance.shape
    grid = make_grid(shape)
    x, z = np.arange(shape[1], dtype=np.float32)[None], np.arange(shape[0], dtype=np.float32)[:, None]
    periods, weights = depth_weights(shape[0], plan, bands=4)
    signal = signal_of(earth, plan, grid, periods, weights)
    leaning = np.asarray(0.5 * (1 + np.tanh(4 * plan.fan.at(line, x, z))), np.float32)
    grain, streaks = noise_of(grid, periods, weights, leaning, rng)
    dark, near = shadow(earth), np.exp(-np.abs(earth.distance) / 60.0)
    patch = np.exp(0.45 * plan.patches.at(line, x, z))
    noise = plan.random * patch * grain + plan.streaks * patch * (0.25 + 0.7 * near + 0.7 * dark) * streaks
    noise += plan.smiles * (0.2 + dark) * smiles(rng, shape, grid, periods[2])
    noise *= (0.35 + 0.9 * z / shape[0]) * np.where(earth.salt, plan.salt_noise, 1.0)
    noise += plan.electronic * patch * ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), 0.6)
    level = NOISE_LEVEL * np.abs(signal[~earth.salt]).mean()
    section = signal * (1 - 0.6 * dark) + level * noise
    # The sea floor's own wavelet reaches a little into the water; the rest is muted in processing.
    reach = int(np.ceil(0.7 * plan.shallow_period))
    muted = np.zeros_like(earth.water)
    muted[:-reach] = earth.water[reach:]
    return np.where(muted, 0, section).astype(np.float32)
