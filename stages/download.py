"""Download a public data set; no DVC stage, since what it brings does not depend on this repository."""

from __future__ import annotations

import errno
import http.client
import re
import shlex
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError

import click
from torchvision.datasets import SBDataset, VOCSegmentation

from sfc.errors import UserError
from sfc.exchange.yaml_text import quoted
from stages._errors import errors_as_lines
from stages._places import GivenPath

# what torchvision moves from SBD's archive to its folder, in that order
_SBD_PARTS = ("cls", "img", "inst", "train.txt", "val.txt")
_PLAIN = r"[A-Za-z_./~][\w./~+-]*"  # what YAML takes for text without quotes, and nobody for something else
_TIMEOUT = 60  # seconds without a byte: torchvision would wait for ever


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", type=click.Choice(["voc12"]))
@click.option(
    "--root",
    default="datasets/voc12",
    type=GivenPath(path_type=Path),
    help="Folder of its own to put it in [datasets/voc12].",
)
@click.option("--sbd", is_flag=True, help="Also the Semantic Boundaries Dataset: VOC's augmented masks.")
def main(name: str, root: Path, sbd: bool) -> None:
    """Let torchvision download the data set NAME, check it and unpack it.

    voc12: the trainval devkit of PASCAL VOC 2012, 2 GB, to ROOT/VOCdevkit/VOC2012; with --sbd also 1.4 GB to ROOT/SBD.

    An archive that is there whole, however it was loaded, is only checked and unpacked; one that broke off is loaded
    anew. Archives are kept; delete them when all is unpacked. `dvc add ROOT` then lets queued experiments see it: the
    folder as a whole, so that with the devkit, which stages depend on, they have SBD as well.
    """
    with errors_as_lines():
        _bring(_voc12, root)
        params = {"kind": "voc", "root": root / "VOCdevkit" / "VOC2012"}
        if sbd:
            _bring(_sbd, root / "SBD")
            params["sbd"] = root / "SBD"
    click.echo(f"download: {name} is there; in params.yaml, section dataset, write", err=True)
    for key, value in params.items():
        click.echo(f"{key}: {value if re.fullmatch(_PLAIN, str(value)) else quoted(str(value))}")
    if not root.is_absolute() and Path.cwd() in root.resolve().parents:
        click.echo("for queued experiments to have it, delete the archives and track the folder:", err=True)
        folder, record, ignored = (shlex.quote(str(p)) for p in (root, f"{root}.dvc", root.parent / ".gitignore"))
        click.echo(f"rm -f {folder}/*.tar {folder}/SBD/*.tgz", err=True)
        click.echo(f"dvc add {folder} && git add {record} {ignored}", err=True)


def _bring(download: Callable[[Path], None], root: Path) -> None:
    """`download(root)`; whatever breaks on the way becomes a UserError."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        download(root)
    except HTTPError as error:
        raise UserError(f"{error.url}: the server answers {error.code} {error.reason}") from None
    except (URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"{root}: the server cannot be reached ({reason}); are you online? Run it again") from None
    except RuntimeError as error:  # torchvision's word for a wrong checksum, and for a data set that lacks a part
        raise UserError(f"{root}: the download broke off or its checksum is wrong ({error}); run it again") from None
    except (OSError, EOFError) as error:
        full = "; the disk is full" if getattr(error, "errno", None) == errno.ENOSPC else ""
        raise UserError(f"{root}: cannot be written or unpacked ({error}){full}") from None
    finally:
        socket.setdefaulttimeout(before)


def _voc12(root: Path) -> None:
    VOCSegmentation(root, year="2012", image_set="train", download=True)


def _sbd(root: Path) -> None:
    if all((root / part).exists() for part in _SBD_PARTS):
        return
    # torchvision mends no interrupted unpacking
    for part in (*_SBD_PARTS, "benchmark_RELEASE"):
        if (root / part).is_dir():
            shutil.rmtree(root / part)
        else:
            (root / part).unlink(missing_ok=True)
    SBDataset(root, image_set="train", mode="segmentation", download=True)


if __name__ == "__main__":
    main()
