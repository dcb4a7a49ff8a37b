"""Weights of timm's models: from files of the whole model, from files of this project, by name; torchvision's."""

import errno
import re
import ssl
from urllib.error import URLError

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from sfc.backbone import build_trunk, load_backbone_weights
from sfc.errors import UserError
from tests.methods.tiny import base_network

ARCHS = ["test_convnext", "regnetx_002", "test_vit", "vit_small_patch14_dinov2"]


def trunk(arch):
    return build_trunk(arch, output_stride=16, frozen_stages=0, batch_norm="frozen")


def equal(net, model):
    whole = model.state_dict()
    return all(torch.equal(value, whole[name]) for name, value in net.model.state_dict().items())


@pytest.mark.parametrize("arch", ARCHS)
def test_file_of_the_whole_model_fits_and_its_classifier_is_left_out(tmp_path, arch):
    model, net = timm.create_model(arch, num_classes=7), trunk(f"timm/{arch}")
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    torch.save({name: value.half() for name, value in model.state_dict().items()}, tmp_path / "a.pth")
    load_backbone_weights(net, str(tmp_path / "a.safetensors"))
    assert equal(net, model)
    load_backbone_weights(net, str(tmp_path / "a.pth"))
    assert equal(net, model.half().float())


def test_file_of_this_project_fits_another_network(tmp_path):
    network, net = base_network(arch="timm/test_convnext"), trunk("timm/test_convnext")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "a.safetensors")
    load_backbone_weights(net, str(tmp_path / "a.safetensors"))
    assert equal(net, network.backbone.model)
    save_file(net.state_dict(), tmp_path / "b.safetensors")
    again = trunk("timm/test_convnext")
    load_backbone_weights(again, str(tmp_path / "b.safetensors"))
    assert equal(again, net.model)


@pytest.mark.parametrize("arch", ["test_convnext2", "test_vit"])
def test_file_of_another_model_is_refused(tmp_path, arch):
    save_file(timm.create_model(arch).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"a\.safetensors: .* is it for the architecture named in backbone\.arch\?"):
        load_backbone_weights(trunk("timm/test_convnext"), str(tmp_path / "a.safetensors"))


def test_weights_of_timms_name_are_asked_for_by_it(monkeypatch):
    net = trunk("timm/test_convnext.r160_in1k")
    create, asked, model = timm.create_model, [], timm.create_model("test_convnext")

    def created(name, *, pretrained):
        asked.append((name, pretrained))
        return model

    monkeypatch.setattr(timm, "create_model", created)
    load_backbone_weights(net, "timm")
    monkeypatch.setattr(timm, "create_model", create)
    assert asked == [("test_convnext.r160_in1k", True)]
    assert equal(net, model)


def test_what_cannot_be_downloaded_is_told_in_one_line(monkeypatch):
    def offline(name, *, pretrained):
        raise OSError("no route\nto the host")

    net = trunk("timm/test_convnext")
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError) as error:
        load_backbone_weights(net, "timm")
    assert str(error.value) == (
        "backbone.weights: timm gives no weights of test_convnext (no route to the host); "
        "give the path of a file with them, or none"
    )


def test_timms_weights_are_for_timms_models():
    with pytest.raises(UserError, match=r"^backbone\.weights: timm stands for .* backbone\.arch is timm/NAME"):
        load_backbone_weights(trunk("resnet18"), "timm")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x80", b"PK\x03\x04 no zip", b"\x80\x02}q\x00X\x99", b"text\n" * 99])
def test_files_that_are_no_weights_are_told_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        UserError, match=rf"^{tmp_path / name}: cannot be read as weights \([^\n]+\); replace the file$"
    ):
        load_backbone_weights(trunk("resnet18"), str(tmp_path / name))


def test_damaged_torch_files_leak_nothing(tmp_path):
    torch.save({"conv1.weight": torch.zeros(2, 2)}, tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    random, net = np.random.default_rng(0), trunk("resnet18")
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        (tmp_path / "a.pth").write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.pth: "):
            load_backbone_weights(net, str(tmp_path / "a.pth"))


def test_folders_empty_names_and_names_too_long(tmp_path):
    with pytest.raises(
        UserError, match=f"^{tmp_path}: no such weights file; put it there or set backbone.weights to none"
    ):
        load_backbone_weights(trunk("resnet18"), str(tmp_path))
    for name in ("", "x" * 300):
        with pytest.raises(
            UserError, match=rf"^backbone\.weights: '?{name}'? is neither a file nor a torchvision weights"
        ):
            load_backbone_weights(trunk("resnet18"), name)
    with pytest.raises(UserError, match=r"x\.safetensors: no such weights file"):
        load_backbone_weights(trunk("resnet18"), "x" * 300 + ".safetensors")


PUBLISHED = "ResNet18_Weights.IMAGENET1K_V1"


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Where torchvision would put its weights."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / "resnet18-f37072fd.pth"


def test_a_cached_file_that_cannot_be_opened_is_not_said_to_be_missing(cached):
    cached.mkdir()
    said = rf"^{re.escape(str(cached))}: cannot be read \(Is a directory\); mend that, or delete it to fetch it anew$"
    with pytest.raises(UserError, match=said):
        load_backbone_weights(trunk("resnet18"), PUBLISHED)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:port", "http:/127.0.0.1", "http://127.0.0.1:1"])
def test_a_proxy_that_does_not_answer_or_cannot_be_one_is_one_line(cached, monkeypatch, proxy):
    for name in ("HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", proxy)
    said = (
        rf"^backbone\.weights: {PUBLISHED} could not be downloaded by the proxy in https_proxy \([^\n]+\); fetch it on"
    )
    with pytest.raises(UserError, match=said):
        load_backbone_weights(trunk("resnet18"), PUBLISHED)
    assert not cached.exists()


def refused(monkeypatch, error: Exception) -> None:
    def download(*_, **__):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)


def test_a_disk_that_takes_no_download_is_not_the_proxys_fault(cached, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    refused(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(UserError, match=rf"^{re.escape(str(cached))}: cannot be written \(No space left on device: "):
        load_backbone_weights(trunk("resnet18"), PUBLISHED)


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLError(1, "decryption failed"),  # 1 and 5 would be EPERM and EIO of a disk
        ssl.SSLError(5, "end of file"),
        URLError(PermissionError(errno.EPERM, "Operation not permitted")),  # a firewall
    ],
)
def test_a_network_that_fails_is_no_disk(cached, monkeypatch, error):
    refused(monkeypatch, error)
    with pytest.raises(UserError, match=rf"^backbone\.weights: {PUBLISHED} could not be downloaded"):
        load_backbone_weights(trunk("resnet18"), PUBLISHED)
