"""What is partitioned: corpora by task, models by hyperparameter job."""

import dagster as dg

from retail_assistant.corpus.tasks import TASKS
from retail_assistant.settings import get_settings
from retail_assistant.training.jobs import load_registry

REGISTRY = load_registry(get_settings().studies)

task_partitions = dg.StaticPartitionsDefinition(list(TASKS))
job_partitions = dg.StaticPartitionsDefinition(list(REGISTRY.jobs))

# Every job learns from, and is asked about, the corpus of its task.
task_of_job = dg.StaticPartitionMapping({task: list(REGISTRY.of_task(task)) for task in TASKS})
assistant_corpus = dg.SpecificPartitionsPartitionMapping(["assistant"])
