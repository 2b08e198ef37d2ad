"""Decoding: every common format becomes 8-bit RGB, everything else is refused with a reason."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dpd_core.dataset import images
from dpd_core.dataset.images import open_rgb, stretch, to_square
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


def test_other_multi_band_images_show_their_first_three() -> None:
    values = bands(6)
    assert (np.asarray(open_rgb(LAYOUTS["samples"](values))) == shown(values, (1, 2, 3))).all()
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
