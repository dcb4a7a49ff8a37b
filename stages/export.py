"""Export the segmentation model for other runtimes; no DVC stage, since no stage reads what it writes."""

from __future__ import annotations

from pathlib import Path

import click

from sfc.deployment.export import exported, metadata, write_onnx, write_pt2
from sfc.errors import UserError
from sfc.model_file import SEGMENTATION, read_facts
from sfc.segmentation.models import load_segmenter
from stages._command import writing_alone
from stages._places import GivenPath, check_file
from stages._stage import output, say
from stages._use import look, look_options, scales_line, source_line

WRITERS = {"onnx": write_onnx, "pt2": write_pt2}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--format", "form", type=click.Choice(list(WRITERS)), default="onnx", show_default=True)
@click.option(
    "--model", type=GivenPath(path_type=Path), default="out/seg.safetensors", show_default=True, help="By train_seg."
)
@click.option(
    "--to", "target", type=GivenPath(path_type=Path, readable=False), help="[the model's name, .onnx or .pt2]"
)
@look_options("predict in params.yaml")
def main(form, model, target, scales, flip) -> None:
    """Write the segmentation model as one file that needs nothing of this project.

    Input `images`: uint8 RGB (batch, height, width, 3), of any size. Outputs `logits`: float32 (batch, classes, height,
    width), and `labels`: uint8 (batch, height, width), 0 the background. Normalisation, scales and mirroring are
    inside. The metadata `sfc` (JSON) has class names, palette and how the model was made. onnx needs the extra export.
    """
    target = target or model.parent / f"{model.stem}.{form}"
    with writing_alone("export", target):
        check_file(target)
        if not target.name.lower().endswith(f".{form}"):
            raise UserError(f"--to {target}: format {form} is called .{form}; name it so, or another --format")
        found = look(scales=scales, flip=flip, crf=None)
        how = {"scales": found.scales, "merge": found.merge, "flip": found.flip}
        facts = read_facts(model, task=SEGMENTATION)
        say(f"export: {model}, {scales_line(found.scales, found.flip)}; {source_line()}")
        program = exported(load_segmenter(model, "cpu"), **how)
        with output(target) as path:
            WRITERS[form](program, path, metadata(facts, **how))
    say(f"export: {target}, {target.stat().st_size / 1e6:.0f} MB; the dense CRF is no part of it")


if __name__ == "__main__":
    main()
