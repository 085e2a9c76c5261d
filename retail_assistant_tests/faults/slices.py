"""Slices of the graph, run by children of `forked` under the settings of that process."""

import sys

from rich.console import Console

from retail_assistant.definitions import defs
from retail_assistant.quickstart import Slice, run_in_order
from retail_assistant.settings import get_settings
from retail_assistant.workbench import prepare_instance

JOB = "tiny-grounded"
TRAIN = "train_and_evaluate"

CLEANED = ("products", "rejected_products")
SLICES = {
    "cleaned catalog": [Slice("prepare", assets=CLEANED)],
    "assortment": [Slice("prepare", assets=("catalog_changes", "near_duplicates", "assortment"))],
    "search index": [Slice("prepare", assets=("catalog_index",))],
    "dialogues": [
        Slice("prepare", assets=("product_splits", "dialogues", "unwritten_dialogues")),
        Slice("prepare", assets=("screened_dialogues", "rejected_dialogues")),
    ],
    "approval": [Slice("prepare", assets=("corpus_sheet", "corpus_approval"))],
    "base model": [Slice("prepare", assets=("base_model",))],
    "prompts": [Slice("render_prompts", ("assistant",))],
    "adapter": [Slice(TRAIN, (JOB,), ("training_plan", "adapter"))],
    "answers": [
        Slice(
            TRAIN,
            (JOB,),
            ("predictions",),
            config={"ops": {"predictions": {"config": {"baselines": True}}}},
        ),
        Slice("answer_baselines"),
    ],
    "comparison": [
        Slice(TRAIN, (JOB,), ("evaluation_report",)),
        Slice("compare_and_promote", assets=("model_comparison",)),
    ],
}
"""In the graph's order; each is made of what those before it have left."""

# Once, for all children.
CODE_LOCATION = defs()
for _job in {one.job for slices in SLICES.values() for one in slices}:
    CODE_LOCATION.resolve_job_def(_job)


def make(name: str) -> None:
    """Run a slice, with what it says of itself, as `retail-assistant run` does."""
    prepare_instance(get_settings())
    ended = run_in_order(SLICES[name], Console(file=sys.stderr), CODE_LOCATION)
    if ended[-1].failure is not None:
        sys.exit(ended[-1].failure)
