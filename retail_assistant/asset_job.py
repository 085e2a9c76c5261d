"""A job of one asset, from a terminal: what a person decides, as in the UI's launchpad."""

import io
import warnings
from contextlib import redirect_stderr
from typing import Any

from retail_assistant.settings import get_settings


def run_asset_job(job: str, asset: str, config: dict[str, Any]) -> str | None:
    """Run a job with Dagster's own instance; what failed, if anything did.

    Args:
        job: its name.
        asset: the one whose configuration is given.
        config: that configuration.
    """
    from retail_assistant.workbench import prepare_instance

    prepare_instance(get_settings())
    import dagster as dg

    from retail_assistant.definitions import defs
    from retail_assistant.quickstart import failure_reason

    for category in (dg.BetaWarning, dg.PreviewWarning):
        warnings.simplefilter("ignore", category)
    # The run's log is in the UI; here its outcome is told in one line.
    with dg.DagsterInstance.get() as instance, redirect_stderr(io.StringIO()):
        result = (
            defs()
            .resolve_job_def(job)
            .execute_in_process(
                instance=instance,
                raise_on_error=False,
                run_config={"ops": {asset: {"config": config}}, "loggers": {"console": {}}},
            )
        )
    return None if result.success else failure_reason(result)
