"""`python -m retail_assistant_tests.rehearsal [--size tiny]`."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from retail_assistant_tests.rehearsal.parts import stage
from retail_assistant_tests.rehearsal.sizes import SIZES
from retail_assistant_tests.rehearsal.story import tell
from retail_assistant_tests.rehearsal.timeline import RehearsalError, Timeline


def main() -> int:
    """Rehearse; 0 where all went as it has to."""
    parser = argparse.ArgumentParser(
        prog="make rehearse",
        description="On one machine everything that a cluster runs, with real parts: PostgreSQL, a"
        " server of Google Cloud Storage's protocol, a Ray head with two workers, MLflow on"
        " PostgreSQL, Dagster with its daemon, the assistant. A first model is made, the catalog in"
        " the bucket is replaced, and all follows. Prints a timeline; fails loudly.",
    )
    parser.add_argument(
        "--size",
        choices=sorted(SIZES),
        default="quickstart",
        help="quickstart: the model and job of `make run` (about half an hour on 2 cores); tiny:"
        " random weights, promoted by hand (minutes).",
    )
    parser.add_argument("--keep", action="store_true", help="Keep the parts' logs.")
    asked = parser.parse_args()
    console = Console(width=140)
    timeline = Timeline(console)
    folder = Path(tempfile.mkdtemp(prefix="retail-rehearsal-"))
    failed = True
    try:
        size = SIZES[asked.size](folder)
        with stage(timeline, folder, size.environment) as parts:
            tell(timeline, parts, size)
        failed = False
    except RehearsalError as error:
        console.print(f"[bold red]The rehearsal failed.[/] {error}", highlight=False)
    finally:
        console.print(timeline.table())
        if failed or asked.keep:
            console.print(f"The parts' logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
