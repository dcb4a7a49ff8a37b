"""Archives of mask proposals: label maps of every depth, run lengths of every form, and damage."""

import io
import json
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfc.data.manifest import Record
from sfc.errors import UserError
from sfc.proposals.archive import ProposalArchive
from tests.readers.coco_folder import SIZE, compressed, rectangle, uncompressed

RECORD = Record("im.0", "train", "im.jpg", None, *SIZE, (0,), "", "table")
MASKS = [rectangle(0, 0, 6, 8), rectangle(3, 4, 9, 12)]


def png(array, palette=False):
    content = io.BytesIO()
    image = Image.fromarray(array)
    if palette:
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(content, format="PNG")
    return content.getvalue()


def archive(path, **entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    return ProposalArchive(path)


def numbered(dtype, numbers=(1, 2)):
    label = np.zeros(SIZE, dtype)
    label[:3], label[5:7, 4:] = numbers
    return label


@pytest.mark.parametrize(
    ("label", "palette"),
    [
        (numbered(np.uint8), False),
        (numbered(np.uint8), True),
        (numbered(np.uint8, (255, 7)), False),
        (numbered(np.uint16, (300, 65535)), False),
    ],
)
def test_each_value_of_a_label_map_but_0_is_a_proposal(tmp_path, label, palette):
    found = list(archive(tmp_path / "a.zip", **{"im.0.png": png(label, palette)}).masks_of(RECORD))
    assert len(found) == 2
    for mask, number in zip(found, np.unique(label)[1:], strict=True):
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, label == number)


@pytest.mark.parametrize("code", [compressed, uncompressed])
@pytest.mark.parametrize("wrap", [lambda coded: coded, lambda coded: {"segmentation": coded, "area": 3}])
def test_run_lengths_may_lie_over_one_another(tmp_path, code, wrap):
    content = json.dumps([wrap(code(mask)) for mask in MASKS])
    proposals = pickle.loads(pickle.dumps(archive(tmp_path / "a.zip", **{"im.0.json": content})))
    for mask, wanted in zip(proposals.masks_of(RECORD), MASKS, strict=True):
        np.testing.assert_array_equal(mask, wanted)


def test_entries_may_lie_in_a_folder(tmp_path):
    proposals = archive(tmp_path / "a.zip", **{"proposals/": "", "proposals/im.0.png": png(numbered(np.uint8) > 0)})
    (mask,) = proposals.masks_of(RECORD)
    np.testing.assert_array_equal(mask, numbered(np.uint8) > 0)


def test_an_image_may_have_none(tmp_path):
    proposals = archive(tmp_path / "a.zip", **{"other.json": "[]"})
    assert "other" in proposals
    assert RECORD.id not in proposals
    assert list(proposals.masks_of(RECORD)) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("im.0.png", png(np.zeros((3, 4), np.uint8)), "4 x 3 pixels, but the image is 16 x 12"),
        ("im.0.png", png(np.zeros((*SIZE, 3), np.uint8)), "of mode RGB, but a label map is grey or has a palette"),
        ("im.0.png", b"no image", "is damaged"),
        ("im.0.json", "{}", "not a list of run lengths"),
        ("im.0.json", "[", "is damaged"),
        ("im.0.json", '[{"segmentation": [[1, 2, 3, 4]]}]', "proposal 1 of 1 has no run lengths"),
        ("im.0.json", '[{"size": [12, 16]}]', "proposal 1 of 1 has no run lengths"),
        ("im.0.json", '[{"size": [3, 4], "counts": [12]}]', "run lengths of size"),
        ("im.0.json", "[1, 2]", 'proposal 1 of 2 has no run lengths {"size": ..., "counts": ...}; make'),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, name, content, message):
    proposals = archive(tmp_path / "a.zip", **{name: content})
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        list(proposals.masks_of(RECORD))
    assert str(caught.value).startswith(f"{tmp_path}/a.zip: {name}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("names", [("im.0.png", "im.0.json"), ("a/im.0.json", "b/im.0.json"), ("x.json", "x.json")])
def test_two_entries_of_one_image_are_refused(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, of the third case
        for name in names:
            packed.writestr(name, "[]")
    id, both = Path(names[0]).stem, " and ".join(dict.fromkeys(names))
    with pytest.raises(UserError, match=re.escape(f"a.zip: image {id} comes twice ({both}); leave one entry of it")):
        ProposalArchive(tmp_path / "a.zip")


def test_what_is_no_archive_of_proposals_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.zip: no such file; see refine\.proposals"):
        ProposalArchive(tmp_path / "none.zip")
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"bad\.zip: not a zip archive of mask proposals"):
        ProposalArchive(tmp_path / "bad.zip")
    with pytest.raises(UserError, match=r"a\.zip: holds neither ID\.png nor ID\.json"):
        archive(tmp_path / "a.zip", **{"readme.txt": "x"})
