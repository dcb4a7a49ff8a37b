"""The test predictions as an archive for the PASCAL VOC server; no DVC stage, one runs it when one submits."""

from __future__ import annotations

from pathlib import Path

import click

from sfc.data.manifest import read_manifest
from sfc.errors import UserError
from sfc.label_archive import LabelArchive
from sfc.readers.voc import VOC_CLASSES
from sfc.voc_results import FOLDER, write_voc_results
from stages._command import writing_alone
from stages._places import GivenPath, check_file
from stages._stage import output, progress


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--to",
    "target",
    type=GivenPath(path_type=Path, readable=False),
    default="out/voc_results.tar.gz",
    show_default=True,
    help="The archive to write.",
)
def main(target: Path) -> None:
    """Write out/predictions.zip as the PASCAL VOC evaluation server takes it.

    For predictions of the test split: set predict.split to test and run `dvc repro predict` first. Every image of the
    split must be there, at its own size. Equal predictions give equal bytes.
    """
    with writing_alone("export_voc", target):
        check_file(target)
        if not target.name.lower().endswith((".tar.gz", ".tgz")):
            raise UserError(f"--to {target}: the archive is a .tar.gz; name it so")
        manifest = read_manifest("out/manifest.csv", "out/classes.json")
        if manifest.classes != VOC_CLASSES:
            raise UserError("the VOC server knows VOC's 20 classes in their order, and out/classes.json has others")
        records = manifest.split("test")
        archive = LabelArchive("out/predictions.zip")
        with output(target) as path:
            written = write_voc_results(path, archive, records, len(manifest.classes))
            for _ in progress(written, total=len(records), label="packing"):
                pass
    click.echo(f"{len(records):,} label maps in {FOLDER} to {target}", err=True)


if __name__ == "__main__":
    main()
