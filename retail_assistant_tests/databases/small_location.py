"""A code location with the first assets of the graph, and a sensor that asks for them once."""

import dagster as dg

from retail_assistant.defs.catalog import clean_products, observed_catalog
from retail_assistant.defs.resources import resources_for
from retail_assistant.settings import get_settings


@dg.sensor(
    target=[observed_catalog, clean_products],
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def first_look() -> dg.RunRequest:
    """Ask for one run, whenever it is asked."""
    return dg.RunRequest(run_key="first")


defs = dg.Definitions(
    assets=[observed_catalog, clean_products],
    sensors=[first_look],
    **resources_for(get_settings()),
)
