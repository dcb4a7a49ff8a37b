"""`python -m bench`: speed and memory of each hot part against its plain form, as a Markdown table."""

from __future__ import annotations

import click
import torch

from bench import (
    calibration,
    evaluation,
    gpu,
    localization,
    markdown,
    public_images,
    public_step,
    refinement,
    segmentation,
    training,
)
from bench.measure import Measured, Row, known_device, machine, measure
from sfc.memory import keep_freed_memory

FAMILIES = (calibration, localization, refinement, segmentation, evaluation, training, public_step, public_images)
ROWS = {row.name: row for family in FAMILIES for row in family.ROWS}

_COLUMNS = ("part", "plain form -> ours", "plain ms", "ours ms", "ratio", "plain MiB", "ours MiB", "max difference")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, type=click.Choice(list(ROWS)), help="Only this part; may be given repeatedly.")
@click.option(
    "--scale",
    type=click.Choice(["tiny", "small", "full"]),
    default="small",
    show_default=True,
    help="Tiny is for the tests, full is VOC.",
)
@click.option("--device", default="cpu", show_default=True, help="A torch device; some parts run on the CPU alone.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Timed runs of each form.")
def main(only: tuple[str, ...], scale: str, device: str, repeats: int) -> None:
    """Time each hot part and its plain form in turn.

    Seconds are medians. MiB are the peak of one run beyond what was in use before it, which both forms' inputs are
    part of; "training-step" gives the peak of the whole process. The largest difference is relative to the largest
    value of the plain form. On a GPU the tables of `python -m bench.gpu` follow. The exit status is 1 if any part
    differs by more than its rounding explains.

    Of other kinds are python -m bench.peak (share of the peak of matrix products, and where the rest of the time goes),
    bench.stages (stages end to end on photographs) and bench.growth (10,000 and 100,000 images).
    """
    keep_freed_memory()  # as in every stage
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    target = known_device(device)
    click.echo(f"{machine(target)}, scale {scale}, {repeats} repeats\n")
    click.echo(markdown.head(_COLUMNS))
    rows = [ROWS[name] for name in only or ROWS]
    wrong = []
    for row in rows:
        measured = measure(row, scale=scale, device=target, repeats=repeats)
        click.echo(markdown.row(_cells(row, measured, target)))
        if not measured.difference <= row.tolerance:
            wrong.append(row.name)
    if not only and (target.type == "cuda" or scale == "tiny"):  # on a CPU larger ones would take hours
        for line in gpu.lines(target, scale):
            click.echo(line)
    if wrong:
        raise click.ClickException(f"plain form and ours disagree: {', '.join(wrong)}")


def _cells(row: Row, measured: Measured, target: torch.device) -> list[str]:
    return [
        row.name + (" (CPU)" if row.cpu_only and target.type != "cpu" else ""),
        row.what,
        f"{1000 * measured.plain:,.1f}",
        f"{1000 * measured.ours:,.1f}",
        f"{measured.plain / measured.ours:.1f}",
        *("" if peak is None else f"{peak:,.0f}" for peak in (measured.plain_peak, measured.ours_peak)),
        f"{measured.difference:.1e}" if measured.difference else "0",
    ]


if __name__ == "__main__":
    main()
