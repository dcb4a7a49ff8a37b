"""Scratch checkpoints: a run that was killed ends as if nothing had been, whatever became of its last checkpoint."""

import os

import pytest
import torch
from torch import nn

from sfc.sealed import checksum_path, sealed
from sfc.training.checkpoint import KEPT, Checkpoint
from sfc.training.loop import Stopped
from tests.limits import largest_file
from tests.training.test_loop import STEPS, Quadratic, feed, run

KILLED_AT = 13


@pytest.fixture
def notes():
    return []


@pytest.fixture
def checkpoint(tmp_path, notes):
    """Makes a checkpoint of the run in one folder, due after every step."""

    def make(fingerprint="a", every=0.0):
        return Checkpoint(tmp_path / "run", fingerprint=fingerprint, every_seconds=every, note=notes.append)

    return make


@pytest.fixture
def killed(tmp_path, checkpoint):
    """The checkpoints of a run that was killed, the last one first."""
    with pytest.raises(KeyboardInterrupt):
        run(Quadratic(), checkpoint=checkpoint(), stop_at=KILLED_AT)
    return sorted((tmp_path / "run").glob("*.pt"), reverse=True)


def go_on(checkpoint):
    """The step a new start goes on from; it must end as a run that was never killed."""
    whole, again, starts = Quadratic(), Quadratic(), []
    nn.init.zeros_(again.layer.weight)
    rows = run(again, checkpoint=checkpoint, batches=lambda first: starts.append(first) or feed(first))
    if starts[0]:
        assert rows == run(whole)
        assert torch.equal(again.layer.weight, whole.layer.weight)
    return starts[0]


def test_a_killed_run_goes_on_to_the_same_end_and_says_so(checkpoint, killed, notes, tmp_path):
    assert go_on(checkpoint()) == KILLED_AT
    assert notes == [f"goes on from step {KILLED_AT}, from a scratch checkpoint in {tmp_path / 'run'}"]


def test_the_one_before_it_is_kept_and_no_more(killed):
    assert [int(path.stem) for path in killed] == [KILLED_AT - i for i in range(KEPT)]


def empty(path):
    path.write_bytes(b"")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-7])


def flipped(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def without_checksum(path):
    checksum_path(path).unlink()


def unreadable_checksum(path):
    checksum_path(path).write_bytes(b"\xff\xfe")


def of_another_version(path):
    """Whole, and yet nothing that this version writes."""
    with sealed(path) as temporary:
        torch.save([1, 2], temporary)


DAMAGES = [empty, truncated, flipped, without_checksum, unreadable_checksum, of_another_version]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_named_and_the_one_before_it_taken(checkpoint, killed, notes, damage):
    damage(killed[0])
    assert go_on(checkpoint()) == KILLED_AT - 1
    assert notes[0] == f"the scratch checkpoint {killed[0]} is damaged and passed over"
    assert notes[1].startswith(f"goes on from step {KILLED_AT - 1},")


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_whole_one_the_run_starts_anew(checkpoint, killed, notes, damage):
    for path in killed:
        damage(path)
    assert go_on(checkpoint()) == 0
    assert len(notes) == 2
    assert all("is damaged and passed over" in note for note in notes)


def test_not_one_flipped_bit_goes_unnoticed(checkpoint, killed):
    files = {path: path.read_bytes() for path in (killed[0], checksum_path(killed[0]))}
    for part in range(40):
        flipped(killed[0], part / 39)
        assert checkpoint().load()["step"] == KILLED_AT - 1
        for path, content in files.items():  # what was damaged has been taken away
            path.write_bytes(content)
    assert checkpoint().load()["step"] == KILLED_AT


def test_one_of_another_run_is_ignored(checkpoint, killed, notes):
    assert go_on(checkpoint("b")) == 0
    assert notes == []


def test_delete_leaves_nothing(tmp_path, checkpoint):
    ours = checkpoint()
    ours.save({"step": 1})
    ours.delete()
    assert list(tmp_path.iterdir()) == []
    assert ours.load() is None


def test_a_sibling_that_ended_first_may_take_the_folder_away(checkpoint, monkeypatch):
    ours, sibling = checkpoint(), checkpoint()
    save = torch.save

    def save_while_the_other_ends(*args):
        save(*args)
        sibling.delete()

    monkeypatch.setattr(torch, "save", save_while_the_other_ends)
    assert not ours.save({"step": 1})
    assert ours.load() is None


def test_one_that_does_not_fit_leaves_nothing_and_the_training_goes_on(tmp_path, checkpoint, notes):
    whole, limited = Quadratic(), Quadratic()
    with largest_file(1500):  # of 4 to 5 kB
        rows = run(limited, checkpoint=checkpoint())
    assert rows == run(whole)
    assert torch.equal(limited.layer.weight, whole.layer.weight)
    assert len(notes) == 1
    assert "000000001.pt: cannot be written (File too large); raise the limit on a file's size" in notes[0]
    assert notes[0].endswith("The training goes on without this scratch checkpoint")
    assert list((tmp_path / "run").iterdir()) == []


def test_one_that_does_not_fit_leaves_those_before_it(checkpoint, killed, notes):
    ours = checkpoint()
    with largest_file(1500):
        assert not ours.save({"step": 99, "weights": torch.zeros(1000)})
    assert ours.load()["step"] == KILLED_AT


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(tmp_path, checkpoint, notes):
    tmp_path.chmod(0o500)
    run(Quadratic(), checkpoint=checkpoint())
    assert "cannot be written (Permission denied)" in notes[0]


def test_what_is_no_fault_of_the_disk_is_raised(checkpoint):
    with pytest.raises(RuntimeError, match="no disk"):
        checkpoint().save({"step": 1, "weights": _Broken()})


class _Broken:
    def __reduce__(self):
        raise RuntimeError("no disk is to blame")


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_run_that_is_asked_to_end_saves_after_its_step(checkpoint, notes, every):
    asked = iter(range(STEPS))
    with pytest.raises(Stopped) as stopped:
        run(Quadratic(), checkpoint=checkpoint(every=every), stop=lambda: next(asked) == 6)
    assert stopped.value.step == 7
    assert go_on(checkpoint()) == 7


def test_a_run_that_is_asked_to_end_where_nothing_can_be_saved(checkpoint):
    with largest_file(1500), pytest.raises(Stopped) as stopped:
        run(Quadratic(), checkpoint=checkpoint(), stop=lambda: True)
    assert stopped.value.step is None


def test_after_the_last_step_nobody_is_asked(checkpoint):
    asked = []
    run(Quadratic(), checkpoint=checkpoint(every=1e9), stop=lambda: asked.append(1) and False)
    assert len(asked) == STEPS - 1
