"""What commands share that are no stages and write something: one line, one at a time, nothing left behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from stages._ending import Ended, ending_on_notice, notice
from stages._errors import errors_as_lines
from stages._lock import at_work


@contextmanager
def writing_alone(name: str, target: object) -> Iterator[None]:
    """Be the only process that writes `target` by the command `name`; errors are lines, and notice cleans up.

    So what a killed one has left of the target is cleared away by the next, see `stages._stage.output`.
    """
    try:
        with ending_on_notice(), errors_as_lines(), at_work(name, [str(target)], target=str(target)):
            yield
    except (Ended, click.ClickException):
        if notice() is None:
            raise
        click.echo(f"{name}: ended by {notice().name}", err=True)
        sys.exit(128 + notice())
