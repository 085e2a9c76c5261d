"""TRL's trainer with a cheaper loss, an exact validation loss, and an order that breaks keep."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from retail_assistant.training.fitting.checkpoints import CheckpointMark
from retail_assistant.training.fitting.divergence import require_finite_loss
from retail_assistant.training.fitting.fused_lora import fuse_adapters
from retail_assistant.training.fitting.joined_rows import attends_row_by_row, joined
from retail_assistant.training.fitting.rows import IGNORED


@cache
def trainer_class() -> Any:
    """`CompletionTrainer`; made on first use, for its base class takes seconds to import."""
    import torch
    from torch.nn.functional import cross_entropy
    from trl import SFTTrainer
    from trl.trainer.utils import add_fused_lm_head

    class CompletionTrainer(SFTTrainer):
        """SFTTrainer that runs the vocabulary head only where something is learned.

        On a CPU TRL multiplies every position by the vocabulary and masks afterwards; with a
        catalog record in the prompt nine of ten are masked (benchmarks/finetune.py). On a GPU
        TRL's own fused head skips them; its entropy and accuracy, with a wait for the device each,
        are left out. A CPU reads no padding either, and computes the adapters in fewer passes.

        `tokens`, `learned_tokens`: what all processes have read so far, without padding. They, and
        `seconds`, go on after a break.
        """

        control: Any

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.fused_head = self.args.device.type == "cuda"
            self.tokens = self.learned_tokens = 0
            self.evaluation_seconds = self._seconds_before = 0.0
            self._counts = torch.zeros(2, dtype=torch.int64, device=self.args.device)
            self._unsound = torch.zeros(1, dtype=torch.int64, device=self.args.device)
            model = self.accelerator.unwrap_model(self.model)
            self._ending = _SparingEnding(model.get_base_model())
            self._joins_rows = False
            if self.fused_head:
                add_fused_lm_head(model.get_base_model(), outputs=("log_probs",))
            if not self.is_deepspeed_enabled:
                _keep_adapter_precise(model)
            if not (self.fused_head or self.is_deepspeed_enabled or self.is_fsdp_enabled):
                fuse_adapters(model)
                self._joins_rows = attends_row_by_row(model.get_base_model())

        def go_on_from(self, mark: CheckpointMark) -> None:
            """Take up the sums of a checkpoint."""
            self.tokens, self.learned_tokens = mark.tokens, mark.learned_tokens
            self.evaluation_seconds = mark.evaluation_seconds
            self._seconds_before = mark.seconds

        def train(self, *args: Any, **kwargs: Any) -> Any:
            self._started = time.monotonic()
            return super().train(*args, **kwargs)

        def seconds(self) -> float:
            """Seconds of training so far, evaluations included."""
            return self._seconds_before + time.monotonic() - self._started

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            logs |= {"tokens": self.tokens, "seconds": round(self.seconds(), 3)}
            super().log(logs, start_time)

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            rows = self.train_dataset if train_dataset is None else train_dataset
            self.order = _EpochOrder(len(rows), self.args.data_seed)
            return self.order

        def training_step(self, model: Any, inputs: dict[str, Any], *args: Any) -> Any:
            self._counts += _token_counts(inputs)
            loss = super().training_step(model, inputs, *args)
            self._unsound += ~torch.isfinite(loss)
            return loss

        def settle(self, *flags: bool) -> list[bool]:
            """Add up what all processes have read, and tell which flags any of them has set.

            One exchange between the processes; every one of them has to call it, once a step.

            Raises:
                DivergedError: the loss of any of them was no number; in all of them.
            """
            own = torch.tensor(flags, dtype=torch.int64, device=self._counts.device)
            counted = torch.cat([self._counts, self._unsound, own])
            whole = self.accelerator.reduce(counted, reduction="sum")
            tokens, learned, unsound, *set_by = (int(number) for number in whole.tolist())
            require_finite_loss("the loss", math.nan if unsound else 0.0, self.state.global_step)
            self.tokens += tokens
            self.learned_tokens += learned
            self._counts.zero_()
            return [number > 0 for number in set_by]

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            total, count, outputs = self._total_loss(model, inputs)
            if num_items_in_batch is not None:
                count = torch.as_tensor(num_items_in_batch)
            loss = total / count.clamp(min=1)
            if self.args.average_tokens_across_devices and num_items_in_batch is not None:
                # The count is of all processes, whose gradients are averaged.
                loss = loss * self.accelerator.num_processes
            return (loss, outputs) if return_outputs else loss

        def _total_loss(self, model: Any, inputs: dict[str, Any]) -> tuple[Any, Any, Any]:
            """Summed loss in nats, how many tokens were learned, and the model's outputs."""
            if self.fused_head:
                outputs = model(**inputs, use_cache=False, fused_lm_head=True)
                return -outputs.log_probs.sum(), outputs.label_mask.sum(), outputs
            if self._joins_rows:
                inputs = joined(inputs)
            targets = inputs["labels"][:, 1:]
            learned = targets != IGNORED
            kept = {key: value for key, value in inputs.items() if key != "labels"}
            with self._ending.only_before(learned):
                outputs = model(**kept, use_cache=False)
            total = cross_entropy(outputs.logits.float(), targets[learned], reduction="sum")
            return total, learned.sum(), outputs

        def evaluate(
            self,
            eval_dataset: Any = None,
            ignore_keys: Any = None,
            metric_key_prefix: str = "eval",
        ) -> dict[str, float]:
            """Validation loss a token, over all tokens of all processes.

            The Trainer's own averages the batches' means, which depends on how rows are batched.
            """
            started = time.monotonic()
            rows = self.eval_dataset if eval_dataset is None else eval_dataset
            self.model.eval()
            sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
            with torch.no_grad():
                for batch in self._validation_batches(rows):
                    total, count, _ = self._total_loss(self.model, self._prepare_inputs(batch))
                    sums += torch.stack([total.double(), count.double()])
            loss, tokens = self.accelerator.reduce(sums, reduction="sum").tolist()
            require_finite_loss("the validation loss", loss, self.state.global_step)
            metrics = {f"{metric_key_prefix}_loss": loss / max(1.0, tokens)}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(
                self.args, self.state, self.control, metrics
            )
            self.evaluation_seconds += time.monotonic() - started
            return metrics

        def _validation_batches(self, rows: Any) -> Iterator[dict[str, Any]]:
            """The share of this process, as many batches as any other's: sharded models wait for
            each other. Rows of about one length stand together, so that little is padded.
            """
            lengths = [len(ids) for ids in rows["input_ids"]]
            order = sorted(range(len(lengths)), key=lengths.__getitem__)
            size, processes = self.args.per_device_eval_batch_size, self.accelerator.num_processes
            for turn in range(math.ceil(len(order) / (size * processes))):
                start = (turn * processes + self.accelerator.process_index) * size
                batch = [_example(rows[row]) for row in order[start : start + size]]
                yield self.data_collator(batch or [_ignored(rows[order[0]])])

    return CompletionTrainer


class _SparingEnding:
    """The end of a model, told to read only the positions before a learned token.

    It is the vocabulary head and, before it, the last layer's feed-forward network: what that
    leaves at other positions nobody reads.
    """

    def __init__(self, model: Any) -> None:
        self._positions: Any = None
        self._model = model
        model.get_output_embeddings().register_forward_pre_hook(self._select)
        layers = getattr(model.get_decoder(), "layers", None)
        last: Any = getattr(layers[-1], "mlp", None) if layers else None
        if hasattr(last, "down_proj"):  # no mixture of experts, which leaves more than one thing
            last.register_forward_pre_hook(self._select_row)
            last.register_forward_hook(self._put_back)

    @contextmanager
    def only_before(self, learned: Any) -> Iterator[None]:
        """Within, logits are of shape (tokens learned, vocabulary).

        `learned`: booleans of shape (rows, length - 1), whether the next token is learned.
        """
        import torch

        self._positions = torch.nn.functional.pad(learned, (0, 1), value=False)
        try:
            yield
        finally:
            self._positions = None

    def _select(self, _head: Any, given: tuple[Any]) -> tuple[Any] | None:
        return None if self._positions is None else (given[0][self._positions],)

    def _select_row(self, _last: Any, given: tuple[Any]) -> tuple[Any] | None:
        return (given[0][self._positions].unsqueeze(0),) if self._spares_last() else None

    def _put_back(self, _last: Any, _given: tuple[Any], found: Any) -> Any:
        if not self._spares_last():
            return None
        whole = found.new_zeros(*self._positions.shape, found.shape[-1])
        whole[self._positions] = found[0]
        return whole

    def _spares_last(self) -> bool:
        """Recomputed in the backward pass it would not know the positions any more."""
        return self._positions is not None and not self._model.is_gradient_checkpointing


class _EpochOrder:
    """The rows of an epoch in an order that depends on the seed and the epoch alone.

    Accelerate's own sampler starts at epoch 0 again when several processes go on in the middle of a
    later one.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self._rows, self._seed = rows, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        # The pair, not the sum: the next seed's first epoch is not this one's second.
        yield from np.random.default_rng([self._seed, self.epoch]).permutation(self._rows).tolist()


def _keep_adapter_precise(model: Any) -> None:
    """Adapter weights in float32: TRL makes those of a quantized model bfloat16, where AdamW's
    small steps round to nothing.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _token_counts(inputs: dict[str, Any]) -> Any:
    """Tokens read (without padding) and learned in a batch."""
    import torch

    labels, mask = inputs["labels"], inputs.get("attention_mask")
    read = torch.tensor(labels.numel(), device=labels.device) if mask is None else mask.sum()
    return torch.stack([read, (labels[:, 1:] != IGNORED).sum()])


def _example(row: dict[str, Any]) -> dict[str, Any]:
    return {"input_ids": row["input_ids"], "labels": row["labels"]}


def _ignored(row: dict[str, Any]) -> dict[str, Any]:
    """A row that is read for company only."""
    return {"input_ids": row["input_ids"], "labels": [IGNORED] * len(row["input_ids"])}
