"""Seconds of one training step: TRL's SFTTrainer beside ours, same model, same batch, one run.

    .venv/bin/python benchmarks/finetune_step.py [--rounds 5]

Needs a finished `make run` (it reads the base model and the prompt corpus from the storage
folder). Prints the medians and the ratio, round by round in turn, so that a machine whose speed
drifts slows both.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore
from retail_assistant.training.finetune import (
    _arguments,
    _dataset,
    _lora,
    _model,
    _trainer_class,
    training_rows,
)
from retail_assistant.training.jobs import load_registry


def trainers(job_name: str) -> dict:
    from transformers import AutoTokenizer

    settings = get_settings()
    job = load_registry(settings.studies).job(job_name).hyperparameters
    base = read_artefact_ref(settings.storage, "base_model").folder / "model"
    corpus = TableStore(settings.storage).ref("prompt_corpus", "assistant").read()
    rows = training_rows(corpus, job, "train").head(8 * job.batch_size)
    ours = _trainer_class()
    made = {}
    for name, kind in (("TRL SFTTrainer", ours.__mro__[1]), ("ours", ours)):
        made[name] = kind(
            model=_model(base, job),
            args=_arguments(Path(tempfile.mkdtemp()), job, evaluate=True),
            train_dataset=_dataset(rows),
            eval_dataset=_dataset(rows),
            processing_class=AutoTokenizer.from_pretrained(base),
            peft_config=_lora(job),
        )
    return made


def step_seconds(trainer, batch: dict) -> tuple[float, float]:
    learned = (batch["labels"] != -100).sum()
    trainer.model.train()
    started = time.perf_counter()
    loss = trainer.training_step(trainer.model, dict(batch), learned)
    trainer.model.zero_grad()
    return time.perf_counter() - started, float(loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--job", default="quickstart-grounded")
    given = parser.parse_args()
    both = trainers(given.job)
    batches = list(both["ours"].get_train_dataloader())
    seconds: dict[str, list[float]] = {name: [] for name in both}
    losses: dict[str, list[float]] = {name: [] for name in both}
    for turn in range(given.rounds + 1):
        batch = batches[turn % len(batches)]
        for name, trainer in both.items():
            taken, loss = step_seconds(trainer, batch)
            losses[name].append(loss)
            if turn:  # the first round warms up
                seconds[name].append(taken / batch["attention_mask"].sum().item())
    ratios = [theirs / ours for theirs, ours in zip(*seconds.values(), strict=True)]
    print(f"{'trainer':<16} {'tokens/s, median':>18}")
    for name, taken in seconds.items():
        print(f"{name:<16} {1 / statistics.median(taken):>18.0f}")
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"{'ratio':<16} {statistics.median(ratios):>18.2f}   {spread}")
    gap = max(abs(a - b) for a, b in zip(*losses.values(), strict=True))
    print(f"{os.cpu_count()} cores; largest difference of losses on a batch: {gap:.1e}")


if __name__ == "__main__":
    main()
