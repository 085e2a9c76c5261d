"""What is partitioned: corpora by task, models by hyperparameter job."""

from collections.abc import Mapping, Sequence

import dagster as dg

from retail_assistant.corpus.tasks import TASKS
from retail_assistant.settings import SHIPPED_STUDIES, get_settings
from retail_assistant.training.studies import load_registry

REGISTRY = load_registry(SHIPPED_STUDIES, get_settings().studies)

task_partitions = dg.StaticPartitionsDefinition(list(TASKS))
job_partitions = dg.StaticPartitionsDefinition(list(REGISTRY.jobs))
search_partitions = dg.StaticPartitionsDefinition(list(REGISTRY.searches))
# What a search proposes is not known before: added while it runs.
trial_partitions = dg.DynamicPartitionsDefinition(name="trial")

# Every job is asked about the corpus of its task.
task_of_job = dg.StaticPartitionMapping({task: list(REGISTRY.of_task(task)) for task in TASKS})
assistant_corpus = dg.SpecificPartitionsPartitionMapping(["assistant"])


def _corpora(learned: Mapping[str, Sequence[str]]) -> dg.StaticPartitionMapping:
    return dg.StaticPartitionMapping(
        {task: [name for name, corpora in learned.items() if task in corpora] for task in TASKS}
    )


# A job learns from the corpus of its task; with the domain stage from the catalog's texts too.
corpora_of_job = _corpora({name: job.corpora for name, job in REGISTRY.jobs.items()})
corpora_of_search = _corpora({name: one.corpora for name, one in REGISTRY.searches.items()})
