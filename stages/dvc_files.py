"""Whether the files in which DVC keeps its books are whole; no DVC stage, `make demo` begins with it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid

from sfc.errors import UserError
from sfc.params import read_text, read_yaml
from stages._errors import errors_as_lines

LOOKS, PAUSE = 5, 0.1  # seconds
LOCK, RWLOCK = Path("dvc.lock"), Path(".dvc/tmp/rwlock")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Check dvc.lock and .dvc/tmp/rwlock, which DVC leaves half-written if it is killed at the wrong moment.

    It refuses to run then; this command says which file is damaged and what to do. It changes nothing.
    """
    with errors_as_lines():
        check_project()


def check_project() -> None:
    """Raise UserError if the present folder is not one where DVC can work, with the remedy."""
    if not Path(".dvc").is_dir():
        raise UserError("no DVC project here: run it in the folder of a clone, where dvc.yaml and .dvc are")
    problems = [problem for problem in (_lock_problem(), _rwlock_problem()) if problem]
    if problems:
        raise UserError("\n".join(problems))


def _lock_problem() -> str | None:
    if not LOCK.exists():  # nothing has run
        return None
    try:
        COMPILED_LOCKFILE_SCHEMA(read_yaml(read_text(LOCK), source=str(LOCK)))
    except (UserError, Invalid):
        return (
            f"{LOCK} is damaged, as by a DVC that was killed: take the one that git has, `git checkout {LOCK}`, or "
            f"where it has none `rm {LOCK}`; then `dvc repro` restores from its cache what had run"
        )
    return None


def _rwlock_problem() -> str | None:
    for _ in range(LOOKS):  # while DVC writes it, it is not whole either
        try:
            if isinstance(json.loads(RWLOCK.read_bytes()), dict):
                return None
        except FileNotFoundError:
            return None
        except ValueError:
            pass
        time.sleep(PAUSE)
    return f"{RWLOCK} is damaged, as by a DVC that was killed: when no other dvc is at work here, `rm {RWLOCK}`"


if __name__ == "__main__":
    main()
