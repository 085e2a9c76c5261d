"""A classifier that was trained here, ready to label."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.prompts import prompt_style
from retail_assistant.evaluation.classification.labelling import Classifier
from retail_assistant.evaluation.classification.labels import labels_of
from retail_assistant.evaluation.classification.predict import MAX_LENGTH
from retail_assistant.evaluation.classification.report import AFTER, TEMPERATURE
from retail_assistant.evaluation.engine import open_engine
from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant.storage import StorageError, TableStore
from retail_assistant.training.jobs import CLASSIFIED_TASK


@contextmanager
def open_classifier(job: str, storage: Path, say: Callable[[str], None]) -> Iterator[Classifier]:
    """The classifier that a job has trained; its temperature is that of the job's report, or 1.

    Raises:
        StorageError: it was never trained.
    """
    from transformers import AutoTokenizer

    adapter = read_artefact_ref(storage, "adapter", job)
    model = read_artefact_ref(storage, "base_model").part("model")
    corpus = TableStore(storage).ref("prompt_corpus", CLASSIFIED_TASK).read()
    style = prompt_style(corpus)
    encoder = Encoder(AutoTokenizer.from_pretrained(model, trust_remote_code=False), style)
    temperature = fitted_temperature_of(job, storage)
    say(f"probabilities are scaled by the temperature {temperature:.3g}")
    with open_engine(
        model, adapter.part("adapter"), style=style, max_length=MAX_LENGTH, say=say
    ) as engine:
        yield Classifier(engine, encoder, labels_of(corpus), temperature, MAX_LENGTH)


def fitted_temperature_of(job: str, storage: Path) -> float:
    """The temperature that the job's report has fitted; 1 where there is no report yet."""
    try:
        report = TableStore(storage).ref("classification_report", job).read()
    except StorageError:
        return 1.0
    found = report.filter(metric=TEMPERATURE, variant=AFTER)["value"].to_list()
    return float(found[0]) if found else 1.0
