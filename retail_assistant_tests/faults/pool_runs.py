"""Runs in the pool of trainings, made by children of `forked`."""

import dagster as dg

from retail_assistant.defs.adapters import TRAINING_POOL
from retail_assistant.settings import get_settings
from retail_assistant.storage.crash_points import crash_point
from retail_assistant.workbench import prepare_instance


@dg.asset(pool=TRAINING_POOL)
def trained() -> None:
    """Holds the pool's only place until it ends."""
    crash_point("within", "training")


def train() -> None:
    """A run, begun as the commands do."""
    prepare_instance(get_settings())
    with dg.DagsterInstance.get() as instance:
        dg.materialize([trained], instance=instance)
