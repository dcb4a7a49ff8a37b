import base64

from sfc.report.gallery import gallery
from tests.report.conftest import TITLES, examples


def test_pictures_are_kept_once_whatever_shows_them(run):
    shown = gallery([run()], TITLES)
    assert len(shown["pictures"]) == 4  # two photographs, and the label maps are alike
    (product,) = shown["products"]
    assert (product["key"], product["title"], product["measured"]) == ("crf", "CRF", True)
    assert (product["images"], product["split"], product["maps"]) == (9, "train", ["labels"])
    for uri in shown["pictures"].values():
        kind, _, content = uri.partition(";base64,")
        head = base64.b64decode(content)[:3]
        assert head == {"data:image/jpeg": b"\xff\xd8\xff", "data:image/png": b"\x89PN"}[kind]
    assert all(p["src"] in shown["pictures"] for e in product["examples"] for p in e["found"][0]["pictures"])


def test_runs_share_an_image_by_its_id(run, tmp_path):
    a = run("A")
    (tmp_path / "more").mkdir()
    b = run("B", examples={"crf": examples(tmp_path / "more", "crf", 20.0, ids=("two", "three"))})
    (product,) = gallery([a, b], TITLES)["products"]
    found = {
        example["id"]: {i: of_run["iou"] for i, of_run in example["found"].items()} for example in product["examples"]
    }
    assert found == {"one": {0: 50.0}, "two": {0: 50.0, 1: 20.0}, "three": {1: 20.0}}
    assert {example["id"]: example["fixed"] for example in product["examples"]}["two"] is True


def test_without_masks_nothing_is_measured(run):
    (product,) = gallery([run(miou=None)], TITLES)["products"]
    assert product["measured"] is False


def test_a_product_without_examples_has_no_gallery(run, tmp_path):
    assert gallery([run(examples={})], TITLES)["products"] == []
    (tmp_path / "none").mkdir()
    assert (
        gallery([run("B", examples={"crf": examples(tmp_path / "none", "crf", 1.0, ids=())})], TITLES)["products"] == []
    )
