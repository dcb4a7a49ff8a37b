import pytest
import torch

from sfc.data.batches import batches
from sfc.data.crops import ImageCrops
from sfc.data.manifest import label_matrix
from sfc.data.negatives import batch_mix
from sfc.errors import UserError
from tests.data.folder import records


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    made = records(tmp_path_factory.mktemp("images"), [(12, 10 + i) for i in range(11)])
    return ImageCrops(made, 11, crop=16, long_side=(8, 20), seed=1)


def run(crops, first_step=0, steps=7, batch_size=4, **changes):
    mix = batch_mix(label_matrix(crops.records, crops.num_classes), batch_size, None, section="irn")
    settings = {"seed": 5, "mix": mix, "workers": 0, "rank": 0, "world": 1}
    return list(batches(crops, first_step=first_step, steps=steps, **{**settings, **changes}))


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x)


def test_every_epoch_is_a_permutation_without_its_rest(crops):
    indices = torch.stack([batch["index"] for batch in run(crops, steps=8)])
    epochs = indices.reshape(4, 8).tolist()  # 11 images are 2 batches of 4
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert set(indices.flatten().tolist()) == set(range(11))


def test_result_does_not_depend_on_workers(crops):
    assert same(run(crops), run(crops, workers=2))


def test_can_begin_anywhere(crops):
    assert same(run(crops)[3:], run(crops, first_step=3))
    assert run(crops, first_step=7) == []


@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_all_processes_are_the_global_batch(crops, world):
    shares = [run(crops, rank=rank, world=world) for rank in range(world)]
    joined = [{k: torch.cat([part[k] for part in step]) for k in step[0]} for step in zip(*shares, strict=True)]
    assert same(run(crops), joined)


def test_seed_matters(crops):
    assert not same(run(crops), run(crops, seed=6))


def test_too_few_images_or_too_many_processes(crops):
    with pytest.raises(UserError, match=r"11 training images are fewer than one batch of 12; lower irn\.batch_size"):
        run(crops, batch_size=12)
    with pytest.raises(UserError, match="shared among 5 processes"):
        run(crops, world=5)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_one_line_even_from_a_worker(crops, workers):
    crops.records[3].image.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"does not decode .*; replace the file$"):
        run(crops, workers=workers)
