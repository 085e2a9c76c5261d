"""The journeys' workload in a process of its own, with a trained adapter and the real index."""

import polars as pl
import pytest

from retail_assistant.corpus.rendering import PROMPT_VERSION
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec, read_artefact_ref
from retail_assistant.serving.journeys.report import CHECKS_SCHEMA, journey_rows
from retail_assistant.serving.journeys.scenario import load_journeys
from retail_assistant_tests.integration.line import FinishedLine

pytestmark = pytest.mark.slow

IN_CODE = {"price", "price_range", "greeting_and_thanks"}
"""Journeys without a word of the model's, whose weights are random here."""


def test_a_model_plays_the_journeys(finished_line: FinishedLine) -> None:
    storage = finished_line.storage
    adapter = finished_line.adapter("tiny-grounded")
    index = read_artefact_ref(storage, "catalog_index")
    base = adapter.manifest().inputs["base_model"]
    suite = load_journeys()
    spec = LaunchSpec(
        name="champion_journeys",
        module="retail_assistant.serving.journeys.run",
        config={
            "job": "tiny-grounded",
            "event": 1,
            "grounding": "retrieved",
            "style": adapter.manifest().metrics.get("prompt_style", "chat"),
            "suite": suite.version,
            "prompt": PROMPT_VERSION,
            "seed": 7,
            "max_tokens": 16,
            "max_context_tokens": 2048,
            "only": [*IN_CODE, "colour_of_a_product"],
        },
        inputs={
            "adapter": adapter.fingerprint,
            "base_model": base,
            "catalog_index": index.fingerprint,
        },
        paths={
            "adapter": adapter.folder / "adapter",
            "base_model": storage / "artefacts" / "base_model" / base / "model",
            "catalog_index": index.folder / "index",
        },
        code_version="1",
        root=storage,
    )
    run_local(spec, {})
    ref = ArtefactRef(folder=spec.folder, fingerprint=spec.fingerprint)
    checks = pl.read_parquet(ref.path("checks"))
    assert dict(checks.schema) == CHECKS_SCHEMA
    journeys = {row["journey"]: row for row in journey_rows(checks).to_dicts()}
    assert set(journeys) == {*IN_CODE, "colour_of_a_product"}
    failed = {name: journeys[name]["failed"] for name in IN_CODE}
    assert failed == dict.fromkeys(IN_CODE, "")
    # It was the model that answered, and random weights know no value.
    asked = checks.filter(journey="colour_of_a_product")
    assert set(asked["written_by"]) == {"model"}
    assert "value" in journeys["colour_of_a_product"]["failed"]
    metrics = ref.manifest().metrics
    assert metrics["journeys"] == 4
    assert metrics["passed"] == 3
    assert metrics["seconds_p95"] >= metrics["seconds_p50"] > 0
