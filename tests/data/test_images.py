import numpy as np
import pytest
import torch
from PIL import Image

from sfc.data.images import box_masks, normalise, read_image, read_mask, resize_image, resize_label, voc_palette
from sfc.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P"])
def test_images_of_every_kind_become_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (7, 5), (204, 204, 204)).convert(mode).save(path)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((5, 7, 3), np.uint8)
    assert np.abs(image.astype(int) - 204).max() <= 2


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
        with pytest.raises(UserError, match=rf"{name}\.jpg: {text}"):
            read_image(tmp_path / f"{name}.jpg")


def test_normalise_against_loops():
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    boxes = torch.tensor([[1, 0, 3, 4], [0, 2, 4, 5]])
    result = normalise(images, boxes)
    assert result.dtype == torch.float32
    for b, (top, left, bottom, right) in enumerate(boxes.tolist()):
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    inside = top <= y < bottom and left <= x < right
                    wanted = (images[b, c, y, x].item() / 255 - MEAN[c]) / STD[c] if inside else 0.0
                    assert result[b, c, y, x].item() == pytest.approx(wanted, abs=1e-5)
    everything = torch.tensor([[0, 0, 4, 5]] * 2)
    assert torch.equal(normalise(images, None), normalise(images, everything))


def test_box_masks():
    mask = box_masks(torch.tensor([[0, 1, 2, 3], [1, 1, 1, 3]]), 2, 4)
    assert mask.int().tolist() == [[[0, 1, 1, 0], [0, 1, 1, 0]], [[0] * 4, [0] * 4]]


def test_resizing():
    image = np.full((4, 6, 3), 77, np.uint8)
    assert resize_image(image, 8, 3).tolist() == np.full((8, 3, 3), 77).tolist()
    label = np.array([[0, 255], [3, 7]], np.uint8)
    assert resize_label(label, 4, 4).tolist() == label.repeat(2, 0).repeat(2, 1).tolist()


def test_palette_in_loops():
    for label, colour in enumerate(voc_palette().tolist()):
        for channel in range(3):
            wanted = sum((label >> (3 * level + channel) & 1) << (7 - level) for level in range(8))
            assert colour[channel] == wanted
