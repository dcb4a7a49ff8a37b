import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from sfc.data.images import read_mask, voc_palette
from sfc.errors import UserError
from sfc.readers import sbd as module
from sfc.readers.sbd import augmented_list, draw_masks, read_sbd_mask
from tests.readers.devkit import AUGMENTED, SBD_TRAIN, SBD_VAL, label_map, make_devkit, make_sbd


@pytest.fixture
def sbd(tmp_path):
    return make_sbd(tmp_path)


def plain(items, total):
    return items


def test_mask_of_the_nested_struct(sbd):
    for image_id, classes in {**SBD_TRAIN, **SBD_VAL}.items():
        mask = read_sbd_mask(sbd / "cls" / f"{image_id}.mat")
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, label_map(classes))


def test_broken_files_are_one_line_each(sbd):
    path = sbd / "cls" / "x.mat"
    with pytest.raises(UserError, match=r"x\.mat: no such file"):
        read_sbd_mask(path)
    whole = (sbd / "cls" / "2008_000002.mat").read_bytes()
    for content in (b"", b"no MATLAB file", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"^\S+x\.mat: not a mask of SBD[^\n]*replace the file$"):
            read_sbd_mask(path)
    for values in ({"other": 1}, {"GTcls": {"Boundaries": 1}}, {"GTcls": {"Segmentation": np.zeros((3, 4))}}):
        savemat(path, values)
        with pytest.raises(UserError, match="not a mask of SBD"):
            read_sbd_mask(path)


@pytest.mark.parametrize("workers", [0, 2])
def test_drawn_masks(sbd, tmp_path, workers):
    seen = []

    def progress(items, total):
        for item in items:
            seen.append(total)
            yield item

    draw_masks(sbd, list(SBD_TRAIN), tmp_path / "drawn", workers=workers, progress=progress)
    assert seen == [3, 3, 3]
    for image_id, classes in SBD_TRAIN.items():
        np.testing.assert_array_equal(read_mask(tmp_path / "drawn" / f"{image_id}.png"), label_map(classes))
    with Image.open(tmp_path / "drawn" / "2008_000002.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[60:63] == voc_palette()[20].tolist()


def test_every_broken_mask_is_named(sbd, tmp_path):
    for image_id in ("2008_000002", "2008_000009"):
        (sbd / "cls" / f"{image_id}.mat").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"2 problems\n.*2008_000002\.mat: not a mask.*\n.*2008_000009\.mat: not a"):
        draw_masks(sbd, list(SBD_TRAIN), tmp_path / "drawn", workers=0, progress=plain)


def test_augmented_list(sbd, tmp_path):
    root = make_devkit(tmp_path)
    wanted = ["2007_000032", "2007_000039", "2008_000002", "2008_000003"]
    assert augmented_list(root, sbd) == wanted == AUGMENTED
    (sbd / "train.txt").write_bytes(b"\xef\xbb\xbf2008_000002\r\n2007_000032\r\n2008_000009\r\n")
    assert augmented_list(root, sbd) == wanted


def test_count_of_the_full_devkit_is_checked(sbd, tmp_path, monkeypatch):
    root = make_devkit(tmp_path)
    monkeypatch.setattr(module, "FULL_VOC_TRAIN", 2)
    message = r"^\S+dataset: train\.txt and val\.txt make .* 4 images, expected 10,582; .*train_aug\.txt$"
    with pytest.raises(UserError, match=message):
        augmented_list(root, sbd)
    monkeypatch.setattr(module, "FULL_TRAIN_AUG", 4)
    assert len(augmented_list(root, sbd)) == 4
