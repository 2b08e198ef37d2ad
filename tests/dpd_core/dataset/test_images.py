"""Decoding: every common format becomes 8-bit RGB, everything else is refused with a reason."""

import importlib.util
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dpd_core.dataset import images
from dpd_core.dataset import tiff as tiff_module
from dpd_core.dataset.images import decode, open_rgb, to_square
from dpd_core.dataset.stretch import stretch
from dpd_core.errors import ImageRefused

RED, GREEN, BLUE = (200, 30, 10), (20, 180, 40), (10, 50, 220)


def photo(width: int = 24, height: int = 16) -> Image.Image:
    """Left half red, right half green."""
    image = Image.new("RGB", (width, height), GREEN)
    image.paste(RED, (0, 0, width // 2, height))
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def png16(values: np.ndarray) -> bytes:
    """A 16-bit PNG of (H, W, 3 or 4), which Pillow cannot write."""
    height, width, channels = values.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )


def lzw_tiff(values: np.ndarray) -> bytes:
    """A little-endian LZW TIFF of (H, W, bands) uint16 in one strip; Pillow packs the strip."""
    height, width, count = values.shape
    raw = np.ascontiguousarray(values, "<u2").tobytes()
    row = encoded(Image.frombytes("L", (len(raw), 1), raw), "TIFF", compression="tiff_lzw")
    with Image.open(io.BytesIO(row)) as packed:
        start, size = packed.tag_v2[273][0], packed.tag_v2[279][0]
    entries = [
        (256, width),
        (257, height),
        (258, 16),
        (259, 5),
        (262, 1),
        (273, 0),
        (277, count),
        (278, height),
        (279, size),
        (339, 1),
    ]
    # The bits of each band stand behind the directory, then the strip.
    bits_at = 8 + 2 + 12 * len(entries) + 4
    data_at = bits_at + 2 * count
    out = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    for tag, value in entries:
        if tag == 258:
            out += struct.pack("<HHII", tag, 3, count, bits_at)
        else:
            out += struct.pack("<HHII", tag, 4, 1, data_at if tag == 273 else value)
    return out + b"\0\0\0\0" + b"\x10\0" * count + row[start : start + size]


def close(pixel: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 12) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, expected, strict=True))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("TIFF", {}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("PPM", {}),
        ("JPEG2000", {}),
    ],
)
def test_common_formats_keep_their_colours(kind: str, options: dict) -> None:
    image = open_rgb(encoded(photo(), kind, **options))
    assert (image.mode, image.size) == ("RGB", (24, 16))
    assert close(image.getpixel((3, 8)), RED) and close(image.getpixel((20, 8)), GREEN)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LA", "RGBA"])
def test_every_8_bit_mode_becomes_rgb(mode: str) -> None:
    kind = {"CMYK": "TIFF", "YCbCr": "JPEG"}.get(mode, "PNG")
    image = open_rgb(encoded(photo().convert(mode), kind))
    assert image.mode == "RGB"
    expected = photo().convert(mode).convert("RGB").getpixel((20, 8))
    assert close(image.getpixel((20, 8)), expected)


def test_transparent_is_black() -> None:
    layer = photo().convert("RGBA")
    layer.putalpha(Image.linear_gradient("L").resize(layer.size).point(lambda v: 255 * (v > 127)))
    image = open_rgb(encoded(layer, "PNG"))
    assert image.getpixel((3, 0)) == (0, 0, 0) and image.getpixel((3, 15)) == RED


def test_transparent_palette_entry_is_black() -> None:
    image = open_rgb(
        encoded(photo().quantize(4), "GIF", transparency=photo().quantize(4).getpixel((0, 0)))
    )
    assert image.getpixel((3, 8)) == (0, 0, 0) and close(image.getpixel((20, 8)), GREEN)


def test_camera_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise
    image = open_rgb(encoded(photo(), "JPEG", exif=exif, quality=95))
    assert image.size == (16, 24)
    assert close(image.getpixel((8, 3)), RED) and close(image.getpixel((8, 20)), GREEN)


def test_camera_orientation_of_16_bit_images() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp = np.arange(6 * 9, dtype=np.uint16).reshape(6, 9)
    assert open_rgb(encoded(Image.fromarray(ramp), "PNG", exif=exif)).size == (6, 9)


def test_first_frame_of_an_animation() -> None:
    first, second = Image.new("RGB", (9, 9), RED), Image.new("RGB", (9, 9), BLUE)
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    assert close(open_rgb(data).getpixel((4, 4)), RED)


def test_16_bit_grey_is_stretched() -> None:
    ramp = np.linspace(1000, 3000, 100 * 100).reshape(100, 100).astype(np.uint16)
    for data in (encoded(Image.fromarray(ramp), "PNG"), tiff(ramp)):
        grey = np.asarray(open_rgb(data))
        assert (grey[..., 0] == grey[..., 2]).all()
        # the 2nd percentile is black, the 98th white, the middle in the middle
        assert grey[1, 99, 0] == 0 and grey[98, 0, 0] == 255
        assert abs(int(grey[50, 0, 0]) - 128) <= 2


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_16_bit_colour_keeps_its_low_byte(form: str) -> None:
    # 0 to 255 in 16 bits: a decoder that keeps the high byte shows black
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    values = np.stack([ramp, ramp[::-1], ramp.T], axis=-1)
    data = png16(values) if form == "png" else tiff(values, photometric="rgb")
    rgb = np.asarray(open_rgb(data)).astype(int)
    assert len(np.unique(rgb[..., 0])) > 200
    assert np.abs(rgb[..., 0] - rgb[::-1, :, 1]).max() == 0


def test_transparent_16_bit_pixels_do_not_count() -> None:
    values = np.full((10, 10, 4), 65535, np.uint16)
    values[..., :3] = np.arange(100).reshape(10, 10, 1)
    values[0] = (60000, 60000, 60000, 0)
    rgb = np.asarray(open_rgb(png16(values)))
    assert (rgb[0] == 0).all() and rgb[9].max() == 255


LAYOUTS = {
    "samples": lambda v: tiff(np.moveaxis(v, 0, -1), planarconfig="contig"),
    "planes": lambda v: tiff(v, planarconfig="separate"),
    "pages": lambda v: tiff(v),
    "tiles": lambda v: tiff(np.moveaxis(v, 0, -1), planarconfig="contig", tile=(16, 16)),
    "deflate": lambda v: tiff(
        np.moveaxis(v, 0, -1), planarconfig="contig", compression="zlib", predictor=True
    ),
    "big-endian": lambda v: tiff(v, planarconfig="separate", byteorder=">"),
    "lzw": lambda v: lzw_tiff(np.moveaxis(v, 0, -1)),
}


def bands(count: int, dtype: type = np.uint16) -> np.ndarray:
    """(count, 32, 32): the values of band k run from 0 to 100 along a direction of its own."""
    y, x = np.mgrid[0:32, 0:32]
    angles = np.linspace(0, np.pi, count, endpoint=False)
    planes = [np.cos(angle) * x + np.sin(angle) * y for angle in angles]
    return np.stack([(plane - plane.min()) / np.ptp(plane) * 3000 for plane in planes]).astype(
        dtype
    )


def shown(values: np.ndarray, chosen: tuple[int, int, int]) -> np.ndarray:
    return stretch(np.moveaxis(values[[band - 1 for band in chosen]], 0, -1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_thirteen_bands_show_sentinel_2_in_true_colour(layout: str) -> None:
    values = bands(13)
    assert (np.asarray(open_rgb(LAYOUTS[layout](values))) == shown(values, (4, 3, 2))).all()


@pytest.mark.parametrize(
    ("count", "chosen"),
    [
        (4, (3, 2, 1)),
        (5, (3, 2, 1)),
        (6, (3, 2, 1)),
        (7, (4, 3, 2)),
        (8, (5, 3, 2)),
        (9, (1, 2, 3)),
        (10, (3, 2, 1)),
        (11, (4, 3, 2)),
        (12, (4, 3, 2)),
    ],
)
def test_sensors_are_known_by_their_number_of_bands(
    count: int, chosen: tuple[int, int, int]
) -> None:
    values = bands(count)
    found = decode(LAYOUTS["samples"](values))
    assert (np.asarray(found.image) == shown(values, chosen)).all()
    assert ", ".join(map(str, chosen)) in found.bands


def test_one_and_two_bands_are_grey() -> None:
    grey = np.asarray(open_rgb(LAYOUTS["samples"](bands(2))))
    assert (grey[..., 0] == grey[..., 1]).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bands_can_be_chosen(layout: str) -> None:
    values = bands(5)
    image = open_rgb(LAYOUTS[layout](values), bands=(5, 1, 4))
    assert (np.asarray(image) == shown(values, (5, 1, 4))).all()


def test_8_bit_bands_are_not_stretched() -> None:
    values = np.moveaxis(bands(4) // 30, 0, -1).astype(np.uint8)
    data = tiff(values, planarconfig="contig")
    assert (np.asarray(open_rgb(data, bands=(4, 3, 2))) == values[..., [3, 2, 1]]).all()
    assert (np.asarray(open_rgb(data)) == values[..., :3]).all()


def test_bands_of_an_ordinary_photo() -> None:
    assert open_rgb(encoded(photo(), "PNG"), bands=(3, 2, 1)).getpixel((3, 8)) == RED[::-1]


@pytest.mark.parametrize(
    ("data", "chosen"),
    [
        (encoded(photo(), "PNG"), (4, 3, 2)),
        (tiff(bands(5)), (1, 2, 6)),
        (encoded(photo().convert("L"), "PNG"), (1, 2, 3)),
        (tiff(bands(5)), (0, 1, 2)),
        (tiff(bands(5)), (1, 2)),
    ],
)
def test_bands_that_are_not_there_are_refused(data: bytes, chosen: tuple[int, ...]) -> None:
    with pytest.raises(ImageRefused, match=r"band") as refused:
        open_rgb(data, bands=chosen)
    assert refused.value.fix


def test_floats_with_missing_values() -> None:
    values = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    values[0, :3] = (np.nan, np.inf, -np.inf)
    rgb = np.asarray(open_rgb(tiff(values)))
    assert (rgb[0, :3] == 0).all() and rgb[19, 19, 0] == 255


def test_gdal_nodata_is_black_and_does_not_count() -> None:
    values = np.linspace(100, 200, 400).reshape(20, 20).astype(np.int16)
    values[:10] = -9999
    rgb = np.asarray(open_rgb(tiff(values, extratags=[(42113, "s", 6, "-9999", True)])))
    assert (rgb[:10] == 0).all()
    assert rgb[10, 0, 0] == 0 and rgb[19, 19, 0] == 255


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (7, 128), (float("nan"), 0)])
def test_one_value_everywhere(value: float, grey: int) -> None:
    assert (np.asarray(open_rgb(tiff(np.full((8, 8), value, np.float32)))) == grey).all()


def test_stretch_of_extreme_values_stays_in_range() -> None:
    values = np.array([[-1e308, 1e308], [0, 1]], np.float64)[..., None]
    assert stretch(values).shape == (2, 2, 1)


REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"not an image at all", "not an image"),
    "truncated jpeg": (encoded(photo(200, 200), "JPEG")[:700], "damaged"),
    "truncated png": (encoded(photo(200, 200), "PNG")[:100], "damaged"),
    "truncated tiff": (tiff(bands(5))[:900], "damaged"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "complex": (tiff(np.zeros((8, 8), np.complex64)), "number type"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused(case: str, tmp_path: Path) -> None:
    data, reason = REFUSED[case]
    with pytest.raises(ImageRefused, match=reason):
        open_rgb(data)
    path = tmp_path / "file.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageRefused, match=reason) as refused:
        open_rgb(path)
    assert refused.value.where == str(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match="missing"):
        open_rgb(tmp_path / "absent.png")
    with pytest.raises(ImageRefused, match="regular"):
        open_rgb(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageRefused, match="regular"):
        open_rgb(tmp_path / "pipe.png")


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = bytearray(encoded(photo(), "PNG"))
    bomb[16:24] = struct.pack(">II", 9000, 9000)  # the size in the header; 29 bytes on its checksum
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    with pytest.raises(ImageRefused, match="limit"):
        open_rgb(bytes(bomb))


def test_limits_of_pixels_and_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    for data in (encoded(photo(), "PNG"), tiff(bands(5))):
        with pytest.raises(ImageRefused, match="limit"):
            open_rgb(data)
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.png").write_bytes(encoded(photo(), "PNG"))
    with pytest.raises(ImageRefused, match="limit"):
        open_rgb(tmp_path / "a.png")


SEEDS = [
    encoded(photo(), "PNG"),
    encoded(photo(), "JPEG"),
    encoded(photo(), "GIF"),
    tiff(bands(3)[:, :8, :8]),
    lzw_tiff(np.moveaxis(bands(3)[:, :8, :8], 0, -1)),
    encoded(photo(), "WEBP"),
]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8),
    st.integers(0, 10_000),
)
def test_damaged_files_give_an_image_or_a_refusal(
    data: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    content = bytes(damaged[: cut % len(damaged) + 1] if cut % 3 == 0 else damaged)
    try:
        assert open_rgb(content).mode == "RGB"
    except ImageRefused as refused:
        assert refused.what.endswith(".")


def test_square_is_the_centre() -> None:
    image = Image.new("RGB", (60, 20), RED)
    image.paste(BLUE, (20, 0, 40, 20))
    square = to_square(image, 10)
    assert square.size == (10, 10) and square.mode == "RGB"
    assert np.abs(np.asarray(square).astype(int) - BLUE).max() <= 25  # filter ringing at the rim


def test_square_of_the_right_size_is_untouched() -> None:
    image = Image.effect_noise((16, 16), 80).convert("RGB")
    assert (np.asarray(to_square(image, 16)) == np.asarray(image)).all()


@pytest.mark.parametrize("size", [(1, 50), (50, 1), (1, 1), (3, 7)])
def test_square_of_any_shape(size: tuple[int, int]) -> None:
    assert to_square(Image.new("RGB", size, RED), 8).getpixel((4, 4)) == RED


# --- one set of rules, whatever decodes ---------------------------------------------------


def ramp(dtype: type = np.uint16, top: int = 4000) -> np.ndarray:
    """(16, 24) values from 0 to ``top``, another in each place."""
    return np.linspace(0, top, 16 * 24).reshape(16, 24).astype(dtype)


def grey(data: bytes) -> np.ndarray:
    return np.asarray(open_rgb(data))[..., 0].astype(int)


def test_white_is_zero_in_any_depth() -> None:
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535)):
        values = ramp(dtype, top)
        turned = grey(tiff(values.max() - values, photometric="miniswhite"))
        assert np.abs(turned - grey(tiff(values))).max() <= 1


def test_palettes_in_any_depth() -> None:
    entries = np.random.default_rng(0).integers(0, 256, (3, 65536))
    for dtype, size in ((np.uint8, 256), (np.uint16, 65536)):
        index = ramp(dtype, size - 1)
        data = tiff(
            index, photometric="palette", colormap=(entries[:, :size] * 257).astype(np.uint16)
        )
        expected = entries[:, :size].T[index]
        assert (np.asarray(open_rgb(data)) == expected).all()


def test_signed_bytes() -> None:
    values = np.linspace(-128, 127, 16 * 24).reshape(16, 24).astype(np.int8)
    found = grey(tiff(values))
    assert (np.diff(found.ravel()) >= 0).all() and found[0, 0] == 0 and found[-1, -1] == 255


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_in_any_depth(turn: int) -> None:
    values = np.arange(6 * 9).reshape(6, 9)
    exif = Image.Exif()
    exif[0x0112] = turn
    expected = grey(encoded(Image.fromarray(values.astype(np.uint8)), "PNG", exif=exif))
    tag = [(274, "H", 1, turn, True)]
    for dtype in (np.uint8, np.uint16, np.float32):
        found = grey(tiff(values.astype(dtype), extratags=tag))
        order = np.argsort(expected.ravel(), kind="stable")
        assert found.shape == expected.shape and (np.diff(found.ravel()[order]) >= 0).all()


def test_a_small_copy_before_the_image_is_not_the_image() -> None:
    values = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    for options in ({"subfiletype": 1}, {}):
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as file:
            file.write(values[::4, ::4], photometric="rgb", **options)
            file.write(values, photometric="rgb")
        assert (np.asarray(open_rgb(buffer.getvalue())) == values).all()


@pytest.mark.parametrize("packing", [0, 8])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_float_predictor(packing: int, dtype: type, order: str) -> None:
    """Written here by the rule of the format: no writer at hand has it without imagecodecs."""
    values = np.random.default_rng(0).normal(size=(8, 6)).astype(dtype)
    size = values.itemsize
    planes = values.astype(values.dtype.newbyteorder(">")).tobytes()
    planes = np.frombuffer(planes, np.uint8).reshape(8, 6, size).transpose(0, 2, 1).reshape(8, -1)
    packed = np.diff(planes, axis=1, prepend=np.uint8(0)).astype(np.uint8).tobytes()
    packed = zlib.compress(packed) if packing else packed
    entries = [
        (256, 6),
        (257, 8),
        (258, 8 * size),
        (259, packing or 1),
        (262, 1),
        (273, 0),
        (277, 1),
        (278, 8),
        (279, len(packed)),
        (317, 3),
        (339, 3),
    ]
    start = 8 + 2 + 12 * len(entries) + 4
    mark = b"II" if order == "<" else b"MM"
    data = mark + struct.pack(f"{order}HIH", 42, 8, len(entries))
    for tag, value in entries:
        data += struct.pack(f"{order}HHII", tag, 4, 1, start if tag == 273 else value)
    data += bytes(4) + packed
    assert (grey(data) == stretch(values[..., None])[..., 0]).all()


def test_a_band_of_infrared_marked_as_alpha_is_not_multiplied_in() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
    infrared = rng.integers(20, 230, (16, 16, 1), dtype=np.uint8)
    four = np.concatenate([rgb, infrared], axis=2)
    marked = tiff(four, photometric="rgb", extrasamples=["unassalpha"])
    for data in (marked, encoded(Image.fromarray(four), "PNG")):
        found = decode(data)
        assert (np.asarray(found.image) == rgb).all()
        assert any("alpha" in note for note in found.notes)
        shown = np.asarray(open_rgb(data, bands=("nir",)))
        assert (shown == four[..., [3, 0, 1]]).all()
    true = np.concatenate([rgb, np.where(infrared > 100, 255, 0).astype(np.uint8)], axis=2)
    for data in (
        tiff(true, photometric="rgb", extrasamples=["unassalpha"]),
        encoded(Image.fromarray(true), "PNG"),
    ):
        found = decode(data)
        assert (np.asarray(found.image) == rgb * (true[..., 3:] > 0)).all() and not found.notes


def test_grey_with_alpha_of_16_bits() -> None:
    values = np.stack([ramp(), np.full((16, 24), 65535, np.uint16)], axis=-1)
    header = struct.pack(">IIBBBBB", 24, 16, 16, 4, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content
        data += struct.pack(">I", zlib.crc32(kind + content))
    assert (grey(data) == stretch(values[..., :1])[..., 0]).all()


def test_deep_portable_pixmaps_keep_their_low_byte() -> None:
    values = np.stack([ramp(top=200)] * 3, axis=-1)
    data = b"P6\n# made here\n24 16\n65535\n" + values.astype(">u2").tobytes()
    assert (np.asarray(open_rgb(data)) == stretch(values)).all()


@pytest.mark.parametrize(
    ("fill", "tag"),
    [
        (-9999.0, "-9999"),
        (-9999.0, None),
        (float(np.finfo(np.float32).min), "-3.40282e+38"),
        (float(np.finfo(np.float32).min), None),
        (1e20, None),
        (np.nan, "nan"),
        (-32768.0, None),
    ],
)
def test_missing_data_leaves_the_rest_as_it_is(fill: float, tag: str | None) -> None:
    values = ramp(np.float32, 30) - 25
    holes = values.copy()
    holes[:4] = fill
    extra = [(42113, "s", 0, tag, True)] if tag else []
    found = decode(tiff(holes, extratags=extra))
    shown = np.asarray(found.image)[..., 0]
    assert (shown[4:] == stretch(values[4:, :, None])[..., 0]).all() and (shown[:4] == 0).all()
    said = any("untagged" in note for note in found.notes)
    assert said == (tag is None and abs(fill) < 1e30)


def test_deep_integers_with_an_untagged_fill() -> None:
    values = ramp() + 1
    holes = values.copy()
    holes[:4] = 65535
    found = decode(tiff(holes))
    assert (np.asarray(found.image)[4:, :, 0] == stretch(values[4:, :, None])[..., 0]).all()


def test_an_image_of_one_grey_level_is_told() -> None:
    for values in (np.full((8, 8), 7, np.float32), np.full((8, 8), 9, np.uint8)):
        assert "the whole image is one colour." in decode(tiff(values)).notes
    outlier = ramp(np.float32, 1)
    outlier[0, :10] = 1e12  # no value that commonly means no data
    assert any("few grey levels" in note for note in decode(tiff(outlier)).notes)


def test_bands_have_names() -> None:
    names = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
    mixed = names[::-1]
    items = "".join(
        f'<Item name="DESCRIPTION" sample="{k}" role="description">{name}</Item>'
        for k, name in enumerate(mixed)
    )
    text = f"<GDALMetadata>{items}</GDALMetadata>"
    values = bands(12)
    data = tiff(values, planarconfig="separate", extratags=[(42112, "s", 0, text, True)])
    at = {name: mixed.index(name) + 1 for name in names}
    true = (at["B04"], at["B03"], at["B02"])
    assert (np.asarray(open_rgb(data)) == shown(values, true)).all()
    swir = (at["B12"], at["B08"], at["B04"])
    for wanted in (("swir",), ("swir2", "nir", "red"), ("B12", "B08", "b4")):
        assert (np.asarray(open_rgb(data, bands=wanted)) == shown(values, swir)).all()
    with pytest.raises(ImageRefused, match="no band thermal"):
        open_rgb(data, bands=("thermal", "red", "green"))


def test_an_index_is_grey() -> None:
    values = bands(13) + 1
    found = decode(LAYOUTS["planes"](values), wanted=("ndvi",))
    red, infrared = (values[k].astype(float) for k in (3, 7))
    expected = ((infrared - red) / (infrared + red) * 127.5 + 127.5).round()
    assert (np.asarray(found.image)[..., 1] == expected).all() and "NDVI" in found.bands


def test_limits_count_values_and_only_the_wanted_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    values = bands(13)
    monkeypatch.setattr(tiff_module, "MAX_SAMPLES", 32 * 32 * 4)
    with pytest.raises(ImageRefused, match="million values"):
        open_rgb(LAYOUTS["samples"](values))
    # planes that are not shown are not decoded, nor counted
    assert (np.asarray(open_rgb(LAYOUTS["planes"](values))) == shown(values, (4, 3, 2))).all()
    damaged = bytearray(LAYOUTS["planes"](values))
    plane = values[9].astype("<u2").tobytes()
    place = bytes(damaged).find(plane)
    assert place > 0
    damaged[place : place + len(plane)] = bytes(len(plane))
    assert (np.asarray(open_rgb(bytes(damaged))) == shown(values, (4, 3, 2))).all()


def test_a_strip_unpacks_to_no_more_than_its_place() -> None:
    """A few bytes that unpack to a gigabyte are cut off where the image ends."""
    bomb = zlib.compress(bytes(64 << 20), 9)
    small = tiff(np.zeros((8, 8), np.uint16), compression="zlib")
    with tifffile.TiffFile(io.BytesIO(small)) as file:
        page = file.pages[0]
        place, tag = page.tags[273].valueoffset, page.tags[279].valueoffset
    data = bytearray(small) + bomb
    data[place : place + 4] = struct.pack("<I", len(small))
    data[tag : tag + 4] = struct.pack("<I", len(bomb))
    tracemalloc.start()
    assert (grey(bytes(data)) == 0).all()
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("compression", [34887, 50001])
def test_compressions_that_need_a_package_name_it(compression: int) -> None:
    if importlib.util.find_spec("imagecodecs"):
        pytest.skip("imagecodecs is installed")
    small = bytearray(tiff(np.zeros((8, 8), np.uint16), compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(bytes(small))) as file:
        place = file.pages[0].tags[259].valueoffset
    small[place : place + 2] = struct.pack("<H", compression)
    with pytest.raises(ImageRefused, match="compression") as refused:
        open_rgb(bytes(small))
    assert "imagecodecs" in str(refused.value.fix)


def test_readers_stay_quiet() -> None:
    code = (
        "import io, sys, numpy as np, tifffile;"
        "from dpd_core.dataset.images import open_rgb;"
        "b = io.BytesIO(); tifffile.imwrite(b, np.zeros((8, 8, 13), np.uint16),"
        " photometric='minisblack', planarconfig='contig');"
        "print(open_rgb(b.getvalue()).size)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(8, 8)" and not done.stderr
