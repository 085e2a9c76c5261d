"""Every Python started with this folder in PYTHONPATH has only what a lock file names.

`LOCKED_TO` names a file: a line of distributions, a line of top-level modules, with spaces. Other
modules are as if they were not installed, so a command can be tried in an image's environment
without installing it a second time.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType

DISTRIBUTIONS, HIDDEN = (
    frozenset(line.split()) for line in Path(os.environ["LOCKED_TO"]).read_text().splitlines()
)


class LockedFinder(PathFinder):
    """Python's own finder, which finds less."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Nothing, for a hidden module."""
        if fullname.partition(".")[0] in HIDDEN:
            return None
        return super().find_spec(fullname, path, target)

    @classmethod
    def find_distributions(
        cls, context: DistributionFinder.Context | None = None
    ) -> Iterator[Distribution]:
        """Those of the lock: of others no entry point is found either."""
        for found in super().find_distributions(context or DistributionFinder.Context()):
            if re.sub(r"[-_.]+", "-", found.name).lower() in DISTRIBUTIONS:
                yield found


sys.meta_path[sys.meta_path.index(PathFinder)] = LockedFinder
