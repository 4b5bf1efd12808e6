"""Photographs of any depth, mode and orientation, and large ones read at a part of their size."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, features

from mini_lib import folders, load_clip
from mini_lib.benchmarks.upright import Upright, whites
from mini_lib.benchmarks.verify import examine
from mini_lib.clip import openai_transform, train_transform


def png(values, kind):
    """A PNG of 16 bits, of grey (0), colour (2), grey with transparency (4) or colour with it (6): Pillow writes grey alone."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values.reshape(len(values), -1))
    head = struct.pack(">2I5B", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values, bits, form=1, packed=None, compression=1, zero_is_white=False):
    """A TIFF of whole numbers (form 1), numbers with a sign (2) or floats (3), in either order of bytes."""
    order, mark = (">", b"MM\0*") if values.dtype.byteorder == ">" else ("<", b"II*\0")
    channels = values.shape[2] if values.ndim == 3 else 1
    data = packed or values.tobytes()
    data = zlib.compress(data) if compression == 8 else data
    tags = {256: (4, values.shape[1]), 257: (4, values.shape[0]), 259: (3, compression), 277: (3, channels),
            262: (3, 2 if channels > 1 else 0 if zero_is_white else 1), 278: (4, values.shape[0]), 279: (4, len(data)), 339: (3, form)}  # fmt: skip
    end = 8 + 2 + 12 * (len(tags) + 2) + 4
    wide = struct.pack(f"{order}{channels}H", *[bits] * channels) if channels > 1 else b""
    tags |= {258: (4, end) if wide else (3, bits), 273: (4, end + len(wide))}
    entries = b""
    for tag, (kind, value) in sorted(tags.items()):
        kind, number = (3, channels) if tag == 258 else (kind, 1)
        content = struct.pack(order + ("H2x" if kind == 3 and not (tag == 258 and wide) else "I"), value)
        entries += struct.pack(order + "2HI", tag, kind, number) + content
    return mark + struct.pack(order + "IH", 8, len(tags)) + entries + bytes(4) + wide + data


def read(folder, contents, number=0):
    """uint8 (H, W, 3) of one of these files, which are one data set."""
    paths = []
    for i, content in enumerate(contents):
        paths.append(folder / f"{i}.img")
        paths[-1].write_bytes(content)
    examine({folder: paths}, "")
    return Upright(paths, [0] * len(paths), np.asarray, white=whites(paths))[number][0]


def ramp(top, dtype=np.uint16, shape=(16, 16)):
    return np.linspace(0, top, np.prod(shape)).reshape(shape).astype(dtype)


def test_dark_images_stay_dark_and_twelve_bits_are_seen(tmp_path):
    bright, dark, deep = ramp(65535), ramp(3000), ramp(4095)
    as_seen = read(tmp_path, [png(bright, 0), png(dark, 0)], 1)
    assert as_seen.max() == 3000 // 257 == 11  # one dark photograph among others of 16 bits
    for name, write in {
        "png": lambda a: png(a, 0),
        "tif": lambda a: tiff(a, 16),
        "back": lambda a: tiff(a.astype(">u2"), 16),
    }.items():
        twelve = read(tmp_path, [write(deep), write(dark)], 0)
        assert twelve.max() == 255 and (twelve[..., 0] == deep.astype(int) * 255 // 4095).all(), name
        assert read(tmp_path, [write(deep), write(dark)], 1).max() == 3000 * 255 // 4095 == 186, name


@pytest.mark.parametrize(
    "top, white", [(200, 255), (256, 1023), (1024, 4095), (4096, 16383), (16384, 65535), (65535, 65535)]
)
def test_white_is_the_largest_value_of_so_many_bits(tmp_path, top, white):
    grey = read(tmp_path, [png(ramp(top), 0), png(ramp(5), 0)])
    assert grey.max() == top * 255 // white


@pytest.mark.parametrize("kind, write", [
    ("png", lambda a: png(a, 2)), ("tiff", lambda a: tiff(a, 16)), ("tiff of Macs", lambda a: tiff(a.astype(">u2"), 16)),
    ("packed tiff", lambda a: tiff(a, 16, compression=8)),
])  # fmt: skip
def test_colour_of_sixteen_bits(tmp_path, kind, write):
    if kind == "packed tiff" and not features.check("libtiff"):
        pytest.skip("this Pillow has no libtiff")
    deep, full = np.stack([ramp(4095), ramp(2000), ramp(99)], -1), np.stack([ramp(65535), ramp(2000), ramp(99)], -1)
    assert (read(tmp_path, [write(deep)]) == deep.astype(int) * 255 // 4095).all()
    assert (read(tmp_path, [write(full)]) == full // 256).all()  # Pillow's own way


def test_transparency_of_sixteen_bits(tmp_path):
    deep = np.stack([ramp(4095)] * 3 + [ramp(65535) * 0 + 65535], -1)
    assert (read(tmp_path, [png(deep, 6)]) == deep[..., :3].astype(int) * 255 // 4095).all()
    with pytest.raises(
        ValueError, match="0.img has grey and transparency of 16 bits, of which no more than 12 are used"
    ):
        read(tmp_path, [png(deep[..., 2:], 4)])
    full = np.stack([ramp(65535), ramp(65535) * 0 + 65535], -1)
    assert (read(tmp_path, [png(full, 4)])[..., 0] == full[..., 0] // 256).all()


def test_a_file_that_says_what_is_white_is_taken_at_its_word(tmp_path):
    values = ramp(4095)
    pgm = b"P5 16 16 4095\n" + values.astype(">u2").tobytes()
    dark = b"P5 16 16 4095\n" + (values // 16).astype(">u2").tobytes()
    found = read(tmp_path, [pgm, dark, png(ramp(65535), 0)])
    assert np.abs(found[..., 0] - values / 4095 * 255).max() < 1.1 and read(tmp_path, [pgm, dark], 1).max() == 15
    pairs = values.reshape(-1, 2).tolist()
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    found = read(tmp_path, [tiff(values, 12, packed=packed), tiff(ramp(65535), 16)])
    assert (found[..., 0] == values.astype(int) * 255 // 4095).all()


@pytest.mark.parametrize("values, bits, form, expected", [
    (ramp(1e6, np.uint32), 32, 1, lambda a: a.astype(np.int64) * 255 // 10**6),
    (ramp(4095, np.int32), 32, 2, lambda a: a * 255 // 4095), (ramp(30000, np.int16), 16, 2, lambda a: a.astype(int) * 255 // 65535),
    (ramp(1, np.float32), 32, 3, lambda a: a * 255), (ramp(0.5, np.float32), 32, 3, lambda a: a * 255),
    (ramp(2500, np.float32), 32, 3, lambda a: a * (255 / 2500)), (ramp(0, np.float32), 32, 3, lambda a: a),
])  # fmt: skip
def test_thirty_two_bits_and_floats(tmp_path, values, bits, form, expected):
    found = read(tmp_path, [tiff(values, bits, form)])
    assert np.abs(found[..., 0] - expected(values)).max() <= 1 and (found[..., 0] == found[..., 2]).all()


def test_floats_of_one_data_set_have_one_white(tmp_path):
    assert read(tmp_path, [tiff(ramp(f, np.float32), 32, 3) for f in (100, 400)]).max() == 63


@pytest.mark.parametrize("values, bits, words", [
    (np.full((9, 9), np.nan, np.float32), 32, "are no numbers"), (np.full((9, 9), np.inf, np.float32), 32, "are no numbers"),
    (ramp(1, np.float32) - 0.5, 32, "some of its pixels are negative"), (ramp(900, np.int16) - 300, 16, "negative"),
    (ramp(900, np.int32) - 300, 32, "negative"),
])  # fmt: skip
def test_values_that_nobody_can_show(tmp_path, values, bits, words):
    with pytest.raises(ValueError, match=f"0.img cannot be read as an image .*{words}"):
        read(tmp_path, [tiff(values, bits, 3 if values.dtype == np.float32 else 2)])


def test_a_deep_tiff_that_counts_from_white_to_black(tmp_path):
    assert (read(tmp_path, [tiff(ramp(65535), 16, zero_is_white=True)])[..., 0] == 255 - ramp(65535) // 257).all()


def test_by_hand_floats_have_no_white(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(ramp(1, np.float32), 32, 3))
    with pytest.raises(
        ValueError,
        match="a.tif cannot be read as an image .its pixels are floats, and nobody says which of them is white",
    ):
        Upright([tmp_path / "a.tif"], [0], np.asarray)[0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_modes(tmp_path, mode):
    colour = Image.new("RGB", (20, 10), (200, 200, 200))
    image = (
        Image.new("I;16", (20, 10), 200 * 257)
        if mode == "I;16"
        else colour.quantize()
        if mode == "P"
        else colour.convert(mode)
    )
    image.save(out := io.BytesIO(), {"CMYK": "TIFF", "YCbCr": "JPEG"}.get(mode, "PNG"))
    tones = read(tmp_path, [out.getvalue()])
    assert tones.shape == (10, 20, 3) and tones.dtype == np.uint8
    assert np.isin(tones, (0, 255)).all() if mode == "1" else np.abs(tones.astype(int) - 200).max() <= 2


def test_the_first_picture_of_an_animation(tmp_path):
    frames = [Image.new("P", (9, 9), i) for i in (0, 1)]
    for frame in frames:
        frame.putpalette([255, 0, 0, 0, 0, 255])
    frames[0].save(out := io.BytesIO(), "GIF", save_all=True, append_images=frames[1:])
    assert (read(tmp_path, [out.getvalue()]) == [255, 0, 0]).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("noted", range(1, 9))
def test_every_way_to_hold_a_camera(tmp_path, kind, noted):
    if kind == "WEBP" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    back = {1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: x.transpose(1, 0, 2),
            6: lambda x: np.rot90(x, 1), 7: lambda x: np.rot90(x, 2).transpose(1, 0, 2), 8: lambda x: np.rot90(x, -1)}  # fmt: skip
    upright = np.zeros((20, 40, 3), np.uint8)
    upright[:10, :20], upright[10:, 20:] = (255, 0, 0), (0, 0, 255)
    camera = Image.Exif()
    camera[0x0112] = noted
    stored = Image.fromarray(np.ascontiguousarray(back[noted](upright)))
    stored.save(out := io.BytesIO(), kind, exif=camera, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}))
    found = read(tmp_path, [out.getvalue()])
    assert found.shape == (20, 40, 3)
    for corner in ((2, 5), (2, 35), (17, 5), (17, 35)):
        assert np.abs(found[corner].astype(int) - upright[corner]).max() < 40, (noted, corner)


def test_damaged_notes_of_a_camera_do_no_harm(tmp_path):
    for notes in (b"Exif\0\0MM\0*\0\0", b"Exif\0\0XX\0*\0\0\0\x08", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        Image.new("RGB", (20, 10), "red").save(out := io.BytesIO(), "PNG", exif=notes)
        assert (read(tmp_path, [out.getvalue()]) == [255, 0, 0]).all()


# Large photographs


def photograph(size, **how):
    """Something with edges, gradients and grain, as a JPEG."""
    rng, (width, height) = np.random.default_rng(0), size
    rough = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = Image.fromarray(rng.integers(0, 40, (height // 4, width // 4, 3), dtype=np.uint8)).resize(size)
    Image.blend(rough, grain, 0.2).save(out := io.BytesIO(), **{"format": "JPEG", "quality": 90} | how)
    return out.getvalue()


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}])
@pytest.mark.parametrize("side", [32, 224])
def test_a_large_photograph_is_read_at_a_part_of_its_size(tmp_path, monkeypatch, how, side):
    preprocess = load_clip("tiny", pretrained=None)[1] if side == 32 else openai_transform()
    how, mode = dict(how), how.get("mode", "RGB")
    how.pop("mode", None)
    (file := tmp_path / "a.jpg").write_bytes(photograph((1600, 1200), **how))
    Image.open(file).convert(mode).save(file, quality=90)
    quick, whole = Upright([file], [0], preprocess), Upright([file], [0], preprocess)
    whole.enough, sizes = 0, []
    monkeypatch.setattr(quick, "transform", lambda image: sizes.append(image.size) or preprocess(image))
    one, other = quick[0][0], whole[0][0]
    assert min(sizes[0]) == {32: 150, 224: 600}[side] >= 2 * side
    spread = (other.amax() - other.amin()).item()
    assert (one - other).abs().mean() < spread / 255 and (one - other).abs().max() < 0.04 * spread


def test_never_below_twice_what_the_transform_needs(tmp_path):
    preprocess = openai_transform()
    for size in ((1000, 700), (448, 3000), (900, 896), (300, 200), (5000, 450)):
        (file := tmp_path / "a.jpg").write_bytes(photograph(size))
        sizes = []
        for transform in (preprocess, train_transform(preprocess)):
            dataset = Upright([file], [0], transform)
            dataset.transform = lambda image: sizes.append(image.size) or 0
            dataset[0]
        assert all(min(found) >= min(448, *size) for found in sizes)
    assert Upright([file], [0], np.asarray)[0][0].shape == (450, 5000, 3)  # who asks for the pixels gets them
    assert Upright([], [], lambda image: image).enough == 0


def test_a_large_photograph_that_was_turned(tmp_path):
    camera = Image.Exif()
    camera[0x0112] = 6
    (file := tmp_path / "a.jpg").write_bytes(photograph((1600, 1200), exif=camera))
    preprocess = load_clip("tiny", pretrained=None)[1]
    quick, whole = Upright([file], [0], preprocess), Upright([file], [0], preprocess)
    whole.enough = 0
    assert (quick[0][0] - whole[0][0]).abs().mean() < 0.01


def test_folders_learn_which_value_is_white(tmp_path):
    for part in ("train", "test"):
        for name, top in (("dark", 900), ("light", 4095)):
            (folder := tmp_path / "cells" / part / name).mkdir(parents=True)
            for i in range(3):
                (folder / f"{i}.png").write_bytes(png(ramp(top), 0))
    task = folders(tmp_path, load_clip("tiny", pretrained=None)[1]).tasks[0]
    lightest = {task.classnames[label]: ((image + 1) / 2 * 255).amax().item() for image, label in task.test}
    assert lightest["light"] > 230 and 40 < lightest["dark"] < 60
    assert torch.equal(task.val[0][0], task.test[0][0])
