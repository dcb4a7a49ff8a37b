import os
import struct
import subprocess
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from sfc.data.images import (
    IGNORE,
    SUFFIXES,
    box_masks,
    has_rotation_tag,
    normalise,
    palette_png,
    read_image,
    read_mask,
    resize_image,
    resize_label,
    resize_labels,
    voc_palette,
)
from sfc.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P"])
def test_images_of_every_kind_become_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (7, 5), (204, 204, 204)).convert(mode).save(path)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((5, 7, 3), np.uint8)
    assert np.abs(image.astype(int) - 204).max() <= 2


def save(path, pixels, mode=None, **options):
    Image.fromarray(pixels, mode).save(path, **options)
    return read_image(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_images_are_scaled_and_not_clipped(tmp_path, suffix):
    values = np.array([[0, 128, 129, 255, 256], [257, 32768, 65406, 65407, 65535]], np.uint16)
    image = save(tmp_path / f"a.{suffix}", values)
    wanted = [[round(value * 255 / 65535) for value in row] for row in values.tolist()]
    assert (image == np.array(wanted)[:, :, None]).all()
    assert (image.shape, image.dtype) == ((2, 5, 3), np.uint8)
    big_endian = Image.frombytes("I;16B", (5, 2), values.astype(">u2").tobytes())
    big_endian.save(tmp_path / "b.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), image)


def test_32_bit_integers_that_hold_16_bits(tmp_path):
    values = np.array([[0, 256, 65535]], np.int32)
    assert save(tmp_path / "a.tif", values)[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize("values", [np.float32([[0.5]]), np.int32([[65536]]), np.int32([[-1]])])
def test_values_of_unknown_range_are_refused(tmp_path, values):
    with pytest.raises(
        UserError, match=r"^\S+a\.tif: pixel values of unknown range \(mode [FI]\); save it with 8 bits"
    ):
        save(tmp_path / "a.tif", values)


def test_16_bit_colour(tmp_path):
    # Pillow writes none, so the file is made by hand: one row of two RGB pixels
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = struct.pack(">6H", 0, 32768, 65535, 256, 511, 65280)
    header = struct.pack(">2I5B", 2, 1, 16, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    assert read_image(tmp_path / "a.png").tolist() == [[[0, 128, 255], [1, 1, 255]]]


def test_transparent_pixels_lie_on_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    assert save(tmp_path / "a.png", pixels).tolist() == [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    grey = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert save(tmp_path / "b.png", grey)[0, :, 0].tolist() == [10, 255]


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png", transparency=1)
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    image.save(tmp_path / "b.png", transparency=bytes([255, 0, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "b.png").tolist() == [[[255, 0, 0], [255, 255, 255], [255, 255, 255]]]


def rotated(path):
    return has_rotation_tag(path, path.read_bytes())


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_rotation_tag_is_seen_and_not_applied(tmp_path, name):
    pixels = np.full((2, 5, 3), 100, np.uint8)
    pixels[:, 2:] = 200
    plain = save(tmp_path / name, pixels, quality=100)
    assert not rotated(tmp_path / name)
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        np.testing.assert_array_equal(save(tmp_path / name, pixels, quality=100, exif=exif), plain)
        assert rotated(tmp_path / name) == (orientation == 6)


def test_orientation_of_tiff_is_part_of_its_storage(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert save(tmp_path / "a.tif", np.zeros((2, 5, 3), np.uint8), exif=exif).shape == (5, 2, 3)
    assert not rotated(tmp_path / "a.tif")


def test_damaged_exif_data_are_no_fault_of_the_image(tmp_path):
    save(tmp_path / "a.jpg", np.zeros((2, 5, 3), np.uint8), exif=b"Exif\0\0nothing of use")
    assert not rotated(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"^b\.jpg: does not decode"):
        has_rotation_tag("b.jpg", b"no picture")


def test_panoramas(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6000, 3), dtype=np.uint8)
    np.testing.assert_array_equal(save(tmp_path / "a.png", pixels), pixels)
    assert Image.MAX_IMAGE_PIXELS > 6000 * 6000
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    with pytest.raises(
        UserError, match=r"^\S+a\.png: too large to be decoded \([^\n]*18000[^\n]*\); make the image smaller$"
    ):
        read_image(tmp_path / "a.png")


def test_mask_keeps_palette_indices(tmp_path):
    values = np.array([[0, 1], [20, 255]], np.uint8)
    image = Image.fromarray(values, mode="P")
    image.putpalette(bytes(range(256)) * 3)
    image.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").tolist() == values.tolist()


def test_colour_mask_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: a mask must be"):
        read_mask(tmp_path / "a.png")


def test_broken_and_missing_files_are_named(tmp_path):
    Image.effect_noise((64, 64), 90).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    for name, text in (("a", "does not decode"), ("b", "does not decode"), ("c", "no such file")):
        with pytest.raises(UserError, match=rf"{name}\.jpg: {text}") as caught:
            read_image(tmp_path / f"{name}.jpg")
        assert "BytesIO" not in str(caught.value)
    with pytest.raises(UserError, match=r": cannot be read \(File name too long\); replace the file"):
        read_image(tmp_path / f"{'x' * 300}.jpg")
    with pytest.raises(UserError, match=r": cannot be read \(embedded null byte\); replace the file"):
        read_image(tmp_path / "a\0.jpg")


def test_folders_and_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    for path in (tmp_path, tmp_path / "a.jpg"):
        with pytest.raises(UserError, match=rf"^{path}: a folder, pipe or device; put an image file there$"):
            read_image(path)


def test_files_that_are_no_images_by_their_size_are_not_read(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg")
    os.truncate(tmp_path / "a.jpg", 1 << 40)  # takes no space on the disk, and would all of the memory
    with pytest.raises(UserError, match=rf"^{tmp_path}/a\.jpg: 1,099,511,627,776 bytes, which no image here has"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("format", ["EPS", "PDF", "GIF", "PPM", "ICO", "TGA"])
def test_formats_that_are_not_promised_are_not_opened(tmp_path, monkeypatch, format):
    """For EPS Pillow would run Ghostscript on what may be anyone's program."""
    monkeypatch.setattr(subprocess, "Popen", None)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg", format)
    for read in (read_image, read_mask):
        with pytest.raises(
            UserError, match=r"a\.jpg: does not decode \(no JPEG, PNG, BMP, TIFF or WEBP file\); replace"
        ):
            read(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.png", "a.bmp", "a.tif", "a.tiff", "a.webp"])
def test_formats_that_readers_look_for_are_opened(tmp_path, name):
    assert name.removeprefix("a") in SUFFIXES
    assert save(tmp_path / name, np.zeros((2, 5, 3), np.uint8)).shape == (2, 5, 3)


def test_photographs_of_telephones_with_a_second_picture_behind_are_jpeg(tmp_path):
    pictures = [Image.new("RGB", (5, 2), colour) for colour in ("white", "black")]
    pictures[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=pictures[1:])
    image = read_image(tmp_path / "a.jpg")
    assert (image.shape, image.min()) == ((2, 5, 3), 255)


def test_normalise_against_loops():
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    boxes = torch.tensor([[1, 0, 3, 4], [0, 2, 4, 5]])
    result = normalise(images, boxes, mean=MEAN, std=STD)
    assert result.dtype == torch.float32
    for b, (top, left, bottom, right) in enumerate(boxes.tolist()):
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    inside = top <= y < bottom and left <= x < right
                    wanted = (images[b, c, y, x].item() / 255 - MEAN[c]) / STD[c] if inside else 0.0
                    assert result[b, c, y, x].item() == pytest.approx(wanted, abs=1e-5)
    everything = torch.tensor([[0, 0, 4, 5]] * 2)
    assert torch.equal(normalise(images, None, mean=MEAN, std=STD), normalise(images, everything, mean=MEAN, std=STD))


def test_box_masks():
    boxes = torch.tensor([[0, 1, 2, 3], [1, 1, 1, 3]])
    mask = box_masks(boxes, canvas=(2, 4), size=(2, 4))
    assert mask.int().tolist() == [[[0, 1, 1, 0], [0, 1, 1, 0]], [[0] * 4, [0] * 4]]
    # of two cells the first begins at pixel 0, the second at pixel 2
    assert box_masks(boxes, canvas=(2, 4), size=(1, 2)).int().tolist() == [[[0, 1]], [[0, 0]]]


def test_resizing():
    image = np.full((4, 6, 3), 77, np.uint8)
    assert resize_image(image, 8, 3).tolist() == np.full((8, 3, 3), 77).tolist()
    label = np.array([[0, 255], [3, 7]], np.uint8)
    assert resize_label(label, 4, 4).tolist() == label.repeat(2, 0).repeat(2, 1).tolist()


@pytest.mark.parametrize("size", [(41, 41), (30, 30), (3, 2), (1, 1)])
def test_label_maps_on_the_device_shrink_as_those_on_file(size):
    label = np.random.default_rng(0).choice([0, 1, 7, IGNORE], size=(321, 97)).astype(np.uint8)
    found = resize_labels(torch.from_numpy(label)[None], size)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found[0].numpy(), resize_label(label, *size))


@pytest.mark.parametrize("optimize", [False, True])
def test_palette_png_holds_the_labels(tmp_path, optimize):
    label = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(palette_png(label, optimize=optimize))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), label)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.reshape(image.getpalette(), (-1, 3)), voc_palette())


def test_palette_in_loops():
    for label, colour in enumerate(voc_palette().tolist()):
        for channel in range(3):
            wanted = sum((label >> (3 * level + channel) & 1) << (7 - level) for level in range(8))
            assert colour[channel] == wanted
