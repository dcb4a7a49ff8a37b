"""What a launcher says in the environment is checked where it is read."""

import pytest
import torch

from sfc.errors import UserError
from sfc.launch import launched
from sfc.training import distributed
from stages import _gpu, _stage

LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.mark.parametrize(
    ("set_to", "message"),
    [
        ({"WORLD_SIZE": ""}, "WORLD_SIZE=: expected a whole number"),
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE=x: expected a whole number"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0: expected a whole number"),
        ({"RANK": "-1"}, "RANK=-1: expected a whole number"),
        ({"RANK": "1"}, "RANK=1: no process of WORLD_SIZE=1; torchrun sets both"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2: no process of WORLD_SIZE=2"),
        ({"LOCAL_RANK": ""}, "LOCAL_RANK=: expected a whole number"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK=x: expected a whole number"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK=-1: expected a whole number"),
        ({"LOCAL_RANK": "5", "LOCAL_WORLD_SIZE": "2"}, "LOCAL_RANK=5: no process of LOCAL_WORLD_SIZE=2; torchrun sets"),
        ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE=0: expected a whole number"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2: .*RANK.*; start with torchrun, or unset it"),
    ],
)
def test_what_torchrun_would_not_set_is_one_line(monkeypatch, set_to, message):
    for name in (*LAUNCHED, "MASTER_ADDR", "MASTER_PORT", "SFC_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)

    def start():
        _gpu.gpu_index.__wrapped__()  # which is kept from call to call
        _stage.is_main()
        _stage.workers()
        distributed.start(torch.device("cpu"))

    with pytest.raises(UserError, match=f"^{message}"):
        start()


def test_what_it_does_set_is_read(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (launched("RANK", 0), launched("WORLD_SIZE", 1), launched("LOCAL_WORLD_SIZE", 1)) == (1, 2, 1)
