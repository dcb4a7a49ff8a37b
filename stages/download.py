"""Download a public data set; no DVC stage, since what it brings does not depend on this repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
from torchvision.datasets import SBDataset, VOCSegmentation
from torchvision.datasets.voc import DATASET_YEAR_DICT

from sfc.errors import UserError
from stages._fetch import fetch

# what torchvision moves from SBD's archive to its folder, in that order
_SBD_PARTS = ("cls", "img", "inst", "train.txt", "val.txt")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", type=click.Choice(["voc12"]))
@click.option("--root", default="datasets", type=click.Path(path_type=Path), help="Folder to put it in [datasets].")
@click.option("--sbd", is_flag=True, help="Also the Semantic Boundaries Dataset: VOC's augmented masks.")
def main(name: str, root: Path, sbd: bool) -> None:
    """Download the data set NAME as torchvision knows it, check it and unpack it.

    voc12: the trainval devkit of PASCAL VOC 2012, 2 GB, to ROOT/VOCdevkit/VOC2012; with --sbd also 1.4 GB to ROOT/SBD.

    A download that broke off goes on where it was when the command is run again. An archive that you loaded in another
    way, put into the same place, is only checked and unpacked. Archives are kept; delete them when all is unpacked.
    """
    try:
        _unpack(_voc12, root)
        params = {"kind": "voc12", "root": root / "VOCdevkit" / "VOC2012"}
        if sbd:
            _unpack(_sbd, root / "SBD")
            params["sbd"] = root / "SBD"
    except UserError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"download: {name} is there; in params.yaml, section dataset, write", err=True)
    for key, value in params.items():
        click.echo(f"{key}: {value}")


def _unpack(download, root: Path) -> None:
    try:
        download(root)
    except (OSError, EOFError, RuntimeError) as error:  # RuntimeError: torchvision's word for an incomplete data set
        raise UserError(f"{root}: cannot be unpacked ({error}); is the disk full?") from None


def _voc12(root: Path) -> None:
    archive = DATASET_YEAR_DICT["2012"]
    fetch(archive["url"], root / archive["filename"], archive["md5"])
    VOCSegmentation(root, year="2012", image_set="train", download=True)


def _sbd(root: Path) -> None:
    if all((root / part).exists() for part in _SBD_PARTS):
        return
    fetch(SBDataset.url, root / SBDataset.filename, SBDataset.md5)
    for part in (*_SBD_PARTS, "benchmark_RELEASE"):  # of an unpacking that was interrupted
        if (root / part).is_dir():
            shutil.rmtree(root / part)
        else:
            (root / part).unlink(missing_ok=True)
    SBDataset(root, image_set="train", mode="segmentation", download=True)


if __name__ == "__main__":
    main()
