"""Values of any depth made 8-bit, what is no data, and whether the result can be believed."""

from __future__ import annotations

import numpy as np

FILLS = (-9999.0, -99999.0, -999.0, -32768.0, 65535.0, -32767.0, 1e20, -1e20, 32767.0)
"""Values that commonly mean no data although the file does not say so."""

HUGE = 1e30
"""Floats beyond mean no data; the usual fill is the lowest 32-bit float, -3.4e38."""

_GAP = 2.0
"""An untagged fill value lies further from the data than so many times its range."""

_FEW_LEVELS = 8
_SAMPLE = 1_000_000
_ROWS = 1 << 22


def stretch(
    values: np.ndarray, valid: np.ndarray | None = None, notes: set[str] | None = None
) -> np.ndarray:
    """Percentile stretch of each band to 8 bits.

    Args:
        values: (H, W, C), any real number type.
        valid: (H, W, C) or (H, W, 1) bool, false where there is no data; NaN, infinities and
            floats beyond :data:`HUGE` are never valid.
        notes: Collects what a person should know.

    Returns:
        (H, W, C) uint8: the 2nd percentile of the valid values is 0, the 98th 255. A band that
        is one value everywhere becomes middle grey, or black if the value is 0.
    """
    result = np.zeros(values.shape, np.uint8)
    for index in range(values.shape[2]):
        band = values[..., index]
        good = known(band)
        if valid is not None:
            good &= valid[..., min(index, valid.shape[2] - 1)]
        if good.any():
            _stretch_band(band, good, result[..., index], notes)
    return result


def known(band: np.ndarray) -> np.ndarray:
    """Where a band has data, as far as single values tell."""
    if band.dtype.kind != "f":
        return np.ones(band.shape, bool)
    if band.dtype.itemsize == 2:
        return np.isfinite(band)
    with np.errstate(invalid="ignore"):
        return np.isfinite(band) & (np.abs(band) < HUGE)


def is_nodata(values: np.ndarray, nodata: float) -> np.ndarray:
    """Where values are a file's no-data value, in the precision in which it may be written."""
    with np.errstate(over="ignore", invalid="ignore"):
        if values.dtype.kind != "f":
            return values == np.float64(nodata)
        # A tag of "-3.40282e+38" means the lowest 32-bit float.
        return np.isclose(values, np.float64(nodata), rtol=1e-5, atol=0)


def collapsed(image: np.ndarray) -> bool:
    """Whether an 8-bit image (H, W, C) is one colour."""
    flat = image.reshape(-1, image.shape[-1])
    return bool((flat == flat[0]).all())


def _stretch_band(
    band: np.ndarray, good: np.ndarray, out: np.ndarray, notes: set[str] | None
) -> None:
    # A regular sample of a million is as good for two percentiles, and bounded.
    step = max(1, band.size // _SAMPLE)
    sample = band.reshape(-1)[::step][good.reshape(-1)[::step]].astype(np.float64)
    if not sample.size:
        sample = band[good][:1].astype(np.float64)
    for fill in _fills(sample):
        good &= band != band.dtype.type(fill)
        sample = sample[sample != fill]
        if notes is not None:
            notes.add(f"the untagged value {fill:g} was taken for missing data.")
    low, high = np.percentile(sample, (2, 98))
    if high <= low:
        low, high = float(band[good].min()), float(band[good].max())
    # float32 holds 16-bit numbers exactly, in half the memory
    precision = np.result_type(band.dtype, np.float32)
    rows = max(1, _ROWS // max(band.shape[1], 1))
    for start in range(0, band.shape[0], rows):
        part, inside = band[start : start + rows], good[start : start + rows]
        with np.errstate(over="ignore", invalid="ignore"):
            if high > low:
                scaled = (np.where(inside, part, low).astype(precision) - low) / (high - low)
            else:
                scaled = np.full(part.shape, 0.5 if low else 0.0)
        # nan_to_num: the span of extreme floats can overflow
        levels = np.clip(np.nan_to_num(scaled * 255), 0, 255).round()
        out[start : start + rows] = np.where(inside, levels, 0).astype(np.uint8)
    if notes is not None and len(np.unique(sample)) > 8 * _FEW_LEVELS:
        shown = np.clip((sample - low) / max(high - low, 1e-300) * 255, 0, 255).round()
        if len(np.unique(shown)) < _FEW_LEVELS:
            notes.add("its values fall together into few grey levels; a value may mean no data.")


def _fills(sample: np.ndarray) -> list[float]:
    """The common fill values that stand apart from all other values."""
    found = []
    for extreme in (sample.min(), sample.max()):
        if float(extreme) not in FILLS and float(np.float32(extreme)) not in map(
            float, map(np.float32, FILLS)
        ):
            continue
        rest = sample[sample != extreme]
        if rest.size and np.abs(rest - extreme).min() > _GAP * max(np.ptp(rest), 1e-12):
            found.append(float(extreme))
            sample = rest
    return found
