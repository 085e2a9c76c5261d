"""What the model answers while it is trained: a few validation prompts, at every evaluation."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from retail_assistant.corpus.encoding import Encoder

LONGEST_ANSWER = 128
ROOM = 8
"""Tokens that a sample may be longer than the longest expected answer."""

SHOWN = 160
_SCHEMA = {
    "stage": pl.String,
    "step": pl.Int64,
    "row_id": pl.String,
    "prompt": pl.String,
    "expected": pl.String,
    "answer": pl.String,
    "finished": pl.Boolean,
}


class Questions(NamedTuple):
    """Prompts that are answered again and again."""

    row_ids: list[str]
    prompts: list[str]
    expected: list[str]
    ids: list[list[int]]
    tokens: int


def questions_of(rows: pl.DataFrame, count: int, encoder: Encoder) -> Questions:
    """As many rows as asked for, spread evenly over the validation rows.

    `prompts` are the last messages, `tokens` how long an answer may be.
    """
    chosen = rows.gather_every(max(1, rows.height // count)).head(count) if count else rows.clear()
    pairs = list(chosen.select("prompt", "completion").iter_rows())
    lengths = [len(one.ids) - one.prompt_length for one in encoder.examples(pairs)]
    return Questions(
        row_ids=chosen["row_id"].to_list(),
        prompts=[prompt[-1]["content"] for prompt, _ in pairs],
        expected=[completion[-1]["content"] for _, completion in pairs],
        ids=list(encoder.prompts(prompt for prompt, _ in pairs)),
        tokens=min(LONGEST_ANSWER, max(lengths, default=0) + ROOM),
    )


def answers(
    model: Any, tokenizer: Any, questions: Questions, stops: Sequence[int]
) -> list[tuple[str, bool]]:
    """Greedy answers, and whether each came to its end; the model is in training mode after."""
    import torch

    padded = _left_padded(questions.ids, tokenizer.pad_token_id).to(model.device)
    model.eval()
    with torch.no_grad():
        written = model.generate(
            input_ids=padded,
            attention_mask=_mask(questions.ids).to(model.device),
            do_sample=False,
            max_new_tokens=questions.tokens,
            eos_token_id=sorted(set(stops)),
            pad_token_id=tokenizer.pad_token_id,
            use_cache=True,
        )
    model.train()
    found = []
    for row in written[:, padded.shape[1] :].tolist():
        stop = next((place for place, one in enumerate(row) if one in stops), None)
        found.append(
            (tokenizer.decode(row[:stop], skip_special_tokens=True).strip(), stop is not None)
        )
    return found


def _left_padded(rows: list[list[int]], padding: int) -> Any:
    import torch

    width = max(map(len, rows))
    return torch.tensor([[padding] * (width - len(row)) + row for row in rows])


def _mask(rows: list[list[int]]) -> Any:
    import torch

    width = max(map(len, rows))
    return torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])


@cache
def sampler_class() -> Any:
    """`Sampler`; made on first use, for its base class takes seconds to import."""
    from transformers import TrainerCallback

    class Sampler(TrainerCallback):
        """Answers the questions at every evaluation, into `samples-<step>.parquet`.

        Of a sharded model every process has a part, so all generate; else the first one does.
        """

        def __init__(
            self, trainer: Any, questions: Questions, encoder: Encoder, stage: str, say: Any
        ) -> None:
            self._trainer, self._questions, self._encoder = trainer, questions, encoder
            self._stage, self._say = stage, say

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            trainer = self._trainer
            sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
            if not self._questions.ids or not (sharded or state.is_world_process_zero):
                return
            tokenizer = trainer.processing_class
            stops = [self._encoder.end_of_turn, tokenizer.eos_token_id]
            found = answers(trainer.model, tokenizer, self._questions, stops)
            if not state.is_world_process_zero:
                return
            frame = _frame(self._stage, state.global_step, self._questions, found)
            folder = Path(args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(folder / f"samples-{state.global_step:08d}.parquet")
            asked, answered = self._questions.prompts[0][-SHOWN:], found[0][0][:SHOWN]
            self._say(f"step {state.global_step}, asked: {asked!r}, answered: {answered!r}")

    return Sampler


def _frame(
    stage: str, step: int, questions: Questions, found: list[tuple[str, bool]]
) -> pl.DataFrame:
    rows = zip(questions.row_ids, questions.prompts, questions.expected, found, strict=True)
    return pl.DataFrame(
        [(stage, step, row, asked, expected, *answer) for row, asked, expected, answer in rows],
        schema=_SCHEMA,
        orient="row",
    )


def samples_until(folder: Path, step: int) -> pl.DataFrame:
    """The samples of a stage up to a step.

    Columns: stage, step, row_id, prompt (its last message), expected, answer, finished.
    """
    frames = [pl.read_parquet(path) for path in sorted(folder.glob("samples-*.parquet"))]
    whole = pl.concat([pl.DataFrame(schema=_SCHEMA), *frames])
    return whole.filter(pl.col("step") <= step)
