"""Play the journeys with a champion, on a catalog index.

`python -m retail_assistant.serving.journeys.run --spec spec.json` leaves `checks.parquet` (CHECKS)
and `summary.parquet` (SUMMARY). Models and records are those of the spec, whatever serves by now.
"""

import asyncio

from pydantic import BaseModel, ConfigDict

from retail_assistant.corpus.encoding import PromptStyle
from retail_assistant.corpus.rendering import PROMPT_VERSION
from retail_assistant.evaluation.engine import open_engine
from retail_assistant.evaluation.registry import Champion
from retail_assistant.launch.spec import ArtefactRef
from retail_assistant.launch.workload import Workload, workload
from retail_assistant.serving.assistant import open_catalog
from retail_assistant.serving.in_process import assistant_with
from retail_assistant.serving.journeys.report import (
    check_rows,
    headline,
    journey_rows,
    latencies,
    skipped_rows,
    summarize_journeys,
)
from retail_assistant.serving.journeys.runner import play_all
from retail_assistant.serving.journeys.scenario import load_journeys
from retail_assistant.serving.journeys.stock import Stock
from retail_assistant.serving.turns import Versions


class JourneysConfig(BaseModel):
    """How the journeys are played. `suite` and `prompt` are what the result depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    event: int
    grounding: str
    style: PromptStyle
    suite: str
    prompt: str = PROMPT_VERSION
    seed: int
    max_tokens: int
    max_context_tokens: int
    only: list[str] = []


def _run(work: Workload) -> None:
    config = JourneysConfig.model_validate(work.spec.config)
    suite = load_journeys()
    if suite.version != config.suite:
        raise ValueError(f"the journeys are {suite.version} by now, not {config.suite}: run again")
    if config.only:
        suite = suite.only(config.only)
    paths, inputs = work.spec.paths, work.spec.inputs
    catalog = open_catalog(paths["catalog_index"], inputs["catalog_index"])
    versions = Versions(
        job=config.job,
        adapter=inputs["adapter"],
        event=config.event,
        index=inputs["catalog_index"],
        prompt=config.prompt,
    )
    champion = Champion(
        job=config.job,
        grounding=config.grounding,
        adapter=ArtefactRef(folder=paths["adapter"].parent, fingerprint=inputs["adapter"]),
        base_model=inputs["base_model"],
        registered_model="",
        why="",
        event=config.event,
    )
    stock = Stock.of(catalog.shop.index)
    with open_engine(
        paths["base_model"],
        paths["adapter"],
        style=config.style,
        max_length=config.max_context_tokens,
        say=work.say,
    ) as engine:
        assistant = assistant_with(engine, catalog, champion, versions)
        played = asyncio.run(
            play_all(
                suite,
                assistant,
                stock,
                seed=config.seed,
                max_tokens=config.max_tokens,
                progress=lambda done, total: work.progress(done, total, "journeys"),
            )
        )
        work.metrics["engine"] = engine.name
    checks = check_rows(played, stock)
    for name, frame in (("checks", checks), ("summary", summarize_journeys(checks))):
        path = work.folder / f"{name}.parquet"
        frame.write_parquet(path)
        work.output(name, path)
    journeys = journey_rows(checks)
    work.metrics |= {
        "journeys": journeys.height,
        "passed": int(journeys["passed"].sum()),
        "skipped": skipped_rows(checks).height,
        **latencies(checks),
    }
    work.say(headline(checks))


def main() -> None:
    """Entry point of the workload."""
    with workload("Play the shopping journeys with a champion.") as work:
        _run(work)


if __name__ == "__main__":
    main()
