"""The code location: the asset graph of `defs/`, with resources bound for this environment."""

from pathlib import Path

import dagster as dg

from retail_assistant.defs.resources import resources_for
from retail_assistant.settings import get_settings
from retail_assistant.telemetry.logs import log_format, set_up_logs, take_over_consoles


@dg.definitions
def defs() -> dg.Definitions:
    """Everything that the Dagster UI shows."""
    if log_format() == "json":
        # Of the code server and of a run's process: what is logged beside Dagster's own events.
        set_up_logs()
        take_over_consoles()
    return dg.Definitions.merge(
        dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
        dg.Definitions(**resources_for(get_settings())),
    )
