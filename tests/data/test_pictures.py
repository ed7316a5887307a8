"""Pictures as cameras, scanners and programs write them: what comes out is what a person sees, on white."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from kdlib.data.decode import decode

RED, GREEN, BLUE, WHITE, GREY = (254, 0, 0), (0, 128, 1), (0, 0, 254), (255, 255, 255), (128, 128, 128)


def decoded(tmp_path, image, suffix, size=None, **options):
    """The picture after it was written and read, (size, size, 3)."""
    path = tmp_path / f"picture{suffix}"
    image.save(path, **options)
    return decode(path, size or image.width).astype(int)


def quarters():
    """Red, green, blue and white: none is where it was after any turn or mirroring."""
    image = Image.new("RGB", (32, 32), WHITE)
    for color, place in ((RED, (0, 0)), (GREEN, (16, 0)), (BLUE, (0, 16))):
        image.paste(color, (*place, place[0] + 16, place[1] + 16))
    return image


def corners(pixels):
    """The colours in the middle of the four quarters, row by row."""
    quarter = len(pixels) // 4
    return [pixels[row, column] for row in (quarter, -quarter) for column in (quarter, -quarter)]


# What was done to a picture before it was stored so, by the number of the EXIF standard.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_pictures_are_upright(tmp_path, orientation, suffix):
    turned = STORED[orientation]
    image = quarters() if turned is None else quarters().transpose(turned)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = corners(decoded(tmp_path, image, suffix, exif=exif))
    np.testing.assert_allclose(found, [RED, GREEN, BLUE, WHITE], atol=40)


def test_a_picture_on_its_side_loses_the_ends_of_its_longer_side(tmp_path):
    """The square is cut from the middle of what a person sees, and not of what is stored."""
    image = Image.new("RGB", (20, 60), BLUE)
    image.paste(WHITE, (0, 20, 20, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert (decoded(tmp_path, image, ".png", size=20, exif=exif) == 255).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0nothing of the kind", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
def test_a_damaged_note_does_not_spoil_a_picture(tmp_path, exif):
    found = corners(decoded(tmp_path, quarters(), ".jpg", exif=exif))
    np.testing.assert_allclose(found, [RED, GREEN, BLUE, WHITE], atol=40)


def colored(mode):
    return Image.new("RGB", (16, 16), RED).convert(mode)


def in_lab():
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(Image.new("RGB", (16, 16), RED), *profiles, outputMode="LAB")


@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        (lambda: colored("RGB"), ".png"),
        (lambda: colored("P"), ".png"),
        (lambda: colored("P"), ".bmp"),
        (lambda: colored("RGBX"), ".tif"),
        (lambda: colored("CMYK"), ".jpg"),  # as Adobe's programs have it, with black as 255
        (lambda: colored("CMYK"), ".tif"),
        (lambda: colored("YCbCr"), ".tif"),
        (lambda: colored("YCbCr"), ".jpg"),
        (in_lab, ".tif"),
    ],
    ids=["rgb", "palette", "bmp", "padded", "cmyk-jpeg", "cmyk-tiff", "ycc-tiff", "ycc-jpeg", "lab"],
)
def test_colour_is_the_same_in_every_mode(tmp_path, make, suffix):
    np.testing.assert_allclose(decoded(tmp_path, make(), suffix)[8, 8], RED, atol=5)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
@pytest.mark.parametrize(("mode", "levels"), [("1", [0, 255]), ("L", [0, 90, 255])])
def test_grey_has_three_equal_levels(tmp_path, mode, levels, suffix):
    row = Image.fromarray(np.array([levels], np.uint8)).convert(mode)
    image = row.resize((16, 16), Image.Resampling.NEAREST)
    found = decoded(tmp_path, image, suffix)
    assert sorted(set(found.flatten().tolist())) == levels
    assert (found == found[..., :1]).all()


def transparent(mode):
    """Black, of which the left half is not to be seen, and the right half is."""
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 8, 16))
    return image.convert(mode)


def keyed(mode, key):
    """A picture in which one level stands for nothing at all; black elsewhere."""
    image = Image.new(mode, (16, 16))
    if mode == "P":
        image.putpalette([0, 0, 0, 9, 9, 9])
    image.paste(key, (0, 0, 8, 16))
    return image


def keyed_in_sixteen_bits(key):
    levels = np.zeros((16, 16), np.uint16)
    levels[:, :8] = key
    return Image.fromarray(levels)


@pytest.mark.parametrize(
    ("make", "suffix", "options"),
    [
        (lambda: transparent("RGBA"), ".png", {}),
        (lambda: transparent("RGBA"), ".webp", {"lossless": True}),
        (lambda: transparent("RGBA"), ".tif", {}),
        (lambda: transparent("LA"), ".png", {}),
        (lambda: transparent("LA"), ".tif", {}),
        (lambda: transparent("PA"), ".tif", {}),
        (lambda: keyed("P", 1), ".png", {"transparency": 1}),
        (lambda: keyed("P", 1), ".png", {"transparency": b"\xff\0"}),
        (lambda: keyed("L", 9), ".png", {"transparency": 9}),
        (lambda: keyed("1", 1), ".png", {"transparency": 1}),
        (lambda: keyed("RGB", (9, 9, 9)), ".png", {"transparency": (9, 9, 9)}),
        (lambda: keyed_in_sixteen_bits(900), ".png", {"transparency": 900}),
    ],
    ids=[
        "rgba-png",
        "rgba-webp",
        "rgba-tiff",
        "la-png",
        "la-tiff",
        "pa",
        "p-index",
        "p-bytes",
        "l",
        "1",
        "rgb",
        "16",
    ],
)
def test_what_is_transparent_is_white(tmp_path, make, suffix, options):
    found = decoded(tmp_path, make(), suffix, **options)
    assert (found[:, :8] == 255).all()
    assert (found[:, 8:] == 0).all()


def test_what_is_half_transparent_is_between_its_colour_and_white(tmp_path):
    found = decoded(tmp_path, Image.new("RGBA", (16, 16), (0, 0, 200, 128)), ".png")[8, 8]
    np.testing.assert_allclose(found, [127, 127, 227], atol=1)


def test_hidden_colours_do_not_shine_through_a_smaller_picture(tmp_path):
    """Colour is under what is transparent in most drawings; resizing first would mix it into the edges."""
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 33, 64))
    found = decoded(tmp_path, image, ".png", size=16)
    assert (found == found[..., :1]).all()


SIXTEEN = np.tile(np.array([0, 257, 128 * 257, 65535], np.uint16).repeat(4), (16, 1))


@pytest.mark.parametrize(
    ("mode", "suffix", "options"),
    [
        ("I;16", ".png", {}),
        ("I;16", ".tif", {}),
        ("I;16", ".tif", {"compression": "tiff_lzw"}),
        ("I;16L", ".tif", {}),
        ("I;16B", ".tif", {}),
        ("I;16", ".ppm", {}),
    ],
)
def test_sixteen_bits_are_scaled_by_their_whole_range(tmp_path, mode, suffix, options):
    order = ">u2" if mode == "I;16B" else "<u2"
    image = Image.frombytes(mode, (16, 16), SIXTEEN.astype(order).tobytes())
    found = decoded(tmp_path, image, suffix, **options)
    assert found[8, 2::4].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_sixteen_bits_are_turned_upright_too(tmp_path):
    image = Image.frombytes("I;16", (16, 16), SIXTEEN.astype("<u2").tobytes())
    exif = Image.Exif()
    exif[0x0112] = 3
    assert decoded(tmp_path, image, ".png", exif=exif)[8, 2::4, 0].tolist() == [255, 128, 1, 0]


def tiff(pixels, bits, photometric, **tags):
    """A grey TIFF file of 16 by 16, byte by byte: these kinds Pillow reads and does not write."""
    fields = {256: 16, 257: 16, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: 16}
    fields |= {279: len(pixels)} | {int(tag[1:]): value for tag, value in tags.items()}
    fields[273] = 8 + 2 + 12 * len(fields) + 4
    entries = [
        struct.pack("<HHIHH", tag, 3, 2, *value)
        if isinstance(value, tuple)
        else struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value)
        for tag, value in sorted(fields.items())
    ]
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(entries) + bytes(4) + pixels


def test_sixteen_bits_with_white_as_zero(tmp_path):
    (tmp_path / "x.tif").write_bytes(tiff(SIXTEEN.astype("<u2").tobytes(), 16, 0))
    assert decode(tmp_path / "x.tif", 16)[8, 2::4, 0].tolist() == [255, 254, 127, 0]


def test_twelve_bits(tmp_path):
    """Two levels in three bytes; the row has 0, 4095, 2056, 0, … ."""
    row = b"\x00\x0f\xff\x80\x80\x00" * 4
    (tmp_path / "x.tif").write_bytes(tiff(row * 16, 12, 1))
    assert decode(tmp_path / "x.tif", 16)[8, :4, 0].tolist() == [0, 255, 128, 0]


def test_grey_that_was_multiplied_by_its_alpha(tmp_path):
    pixels = bytes([0, 0] * 8 + [40, 255] * 8) * 16
    (tmp_path / "x.tif").write_bytes(tiff(pixels, (8, 8), 1, t277=2, t338=1))
    with Image.open(tmp_path / "x.tif") as image:
        assert image.mode == "La"
    found = decode(tmp_path / "x.tif", 16)
    assert (found[:, :8] == 255).all()
    assert (found[:, 8:] == 40).all()


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.linspace(0, 1, 256, dtype=np.float32), "floating-point numbers"),
        (np.linspace(0, 255, 256, dtype=np.float32), "floating-point numbers"),
        (np.arange(256, dtype=np.int32) * 1000, "signed or 32-bit integers"),
    ],
)
def test_numbers_without_a_range_are_refused(tmp_path, values, what):
    Image.fromarray(values.reshape(16, 16)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=rf"x\.tif has {what} for pixels, .*save it with 8 or 16"):
        decode(tmp_path / "x.tif", 16)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_of_several_frames_it_is_the_first(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, GREEN, BLUE)]
    found = decoded(tmp_path, frames[0], suffix, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(found[8, 8], RED, atol=4)


def test_a_chunk_that_is_broken_is_said_as_any_damage_is(tmp_path):
    """Pillow raises a SyntaxError there."""
    raw = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(raw, "PNG")
    before, _, after = raw.getvalue().rpartition(b"IDAT")
    (tmp_path / "x.png").write_bytes(before + b"\x1b_\xe4\x8d" + after)
    with pytest.raises(ValueError, match=r"x\.png cannot be read as an image \(broken PNG file"):
        decode(tmp_path / "x.png", 16)


def test_a_picture_that_is_too_large_is_not_called_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (16, 16)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x\.png is too large .*; make it smaller, or remove it"):
        decode(tmp_path / "x.png", 16)
