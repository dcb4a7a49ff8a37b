"""Downloading one large file: it goes on where it broke off, and counts only with the right checksum."""

from __future__ import annotations

import http.client
import shutil
import sys
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from torchvision.datasets.utils import check_integrity
from tqdm import tqdm

from sfc.errors import UserError

_CHUNK = 1 << 20  # bytes
_TIMEOUT = 60  # seconds without a byte
_ATTEMPTS = 5  # transfers a call begins before it gives up
_NOTHING_LEFT = 416  # HTTP: the range asked for begins at or behind the end of the file


def fetch(url: str, path: Path, md5: str) -> None:
    """Download `url` to `path`, unless a file with that checksum is there.

    What arrives is kept in PATH.partial; another call, or another attempt of this one, asks the server for the rest.
    A server that knows no ranges sends all of it again.

    Raises:
        UserError: the server cannot be reached or refuses, the transfer breaks off several times, the disk is full,
            or the checksum is wrong (what was loaded is then deleted).
    """
    if check_integrity(path, md5):
        return
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():  # another program's download that broke off
            path.replace(partial)
        if not any(_transfer(url, partial) for _ in range(_ATTEMPTS)):
            raise UserError(f"{url}: the transfer broke off {_ATTEMPTS} times; run the command again, it goes on there")
        if not check_integrity(partial, md5):
            partial.unlink()
            raise UserError(f"{url}: wrong checksum (expected MD5 {md5}); the file was deleted, run the command again")
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def _transfer(url: str, partial: Path) -> bool:
    """Append what the server has beyond `partial`; False if the connection broke off before the end."""
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "sfc", "Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        response = urlopen(Request(url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        if error.code == _NOTHING_LEFT:
            return True
        raise UserError(f"{url}: the server answers {error.code} {error.reason}") from None
    except (URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"{url}: cannot be reached ({reason}); are you online?") from None
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0
        left = response.length
        free = shutil.disk_usage(partial.parent).free
        if left is not None and left > free:
            raise UserError(f"{partial.parent}: {left:,} bytes to download, but {free:,} bytes of disk are free")
        return _copy(response, partial, start, left)


def _copy(response: http.client.HTTPResponse, partial: Path, start: int, left: int | None) -> bool:
    with (
        open(partial, "ab" if start else "wb") as file,
        tqdm(
            total=None if left is None else start + left,
            initial=start,
            desc=partial.stem,
            unit="B",
            unit_scale=True,
            mininterval=1.0,
            dynamic_ncols=True,
            file=sys.stderr,
        ) as bar,
    ):
        while chunk := _read(response):
            file.write(chunk)
            bar.update(len(chunk))
    return left is None or partial.stat().st_size >= start + left


def _read(response: http.client.HTTPResponse) -> bytes:
    """The next bytes, or none at the end and where the connection is lost."""
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException):
        return b""
