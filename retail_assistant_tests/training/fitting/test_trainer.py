"""The loss is TRL's, packed or not; the validation loss is a token's; the order is the seed's."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from retail_assistant.training.fitting.rows import IGNORED
from retail_assistant.training.fitting.trainer import _EpochOrder
from retail_assistant_tests.training.trainings import one_thread, small_corpus, trainer_of

TOGETHER = {"packing": {"packing": True}, "padding_free": {"padding_free": True}}


@pytest.fixture(scope="module", autouse=True)
def thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def corpus() -> pl.DataFrame:
    return small_corpus()


def loss_and_gradients(trainer: Any, compute_loss: Any, count: Any) -> tuple[float, dict[str, Any]]:
    trainer.model.zero_grad()
    batch = next(iter(trainer.get_train_dataloader()))
    loss = compute_loss(trainer.model, dict(batch), num_items_in_batch=count)
    loss.backward()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in trainer.model.named_parameters()
        if parameter.requires_grad
    }
    return loss.item(), gradients


def assert_alike(ours: tuple[float, dict[str, Any]], theirs: tuple[float, dict[str, Any]]) -> None:
    import torch

    assert ours[0] == pytest.approx(theirs[0], abs=1e-4)
    assert ours[1].keys() == theirs[1].keys()
    assert any(gradient.abs().max() > 1e-4 for gradient in ours[1].values())
    for name, gradient in ours[1].items():
        torch.testing.assert_close(gradient, theirs[1][name], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("count", [None, 37])
@pytest.mark.parametrize("together", [{}, *TOGETHER.values()], ids=["padded", *TOGETHER])
def test_the_loss_and_its_gradients_are_those_of_trl(
    corpus: pl.DataFrame,
    tiny_model_folder: Path,
    tmp_path: Path,
    count: int | None,
    together: dict[str, bool],
) -> None:
    import torch
    from trl import SFTTrainer

    trainer = trainer_of(
        corpus, tiny_model_folder, tmp_path, grounding="retrieved", batch_size=4, **together
    )
    trainer.model.train()
    items = None if count is None else torch.tensor(count)
    theirs = loss_and_gradients(trainer, SFTTrainer.compute_loss.__get__(trainer), items)
    assert_alike(loss_and_gradients(trainer, trainer.compute_loss, items), theirs)
    trainer.fused_head = True  # as on a GPU
    assert_alike(loss_and_gradients(trainer, trainer.compute_loss, items), theirs)


@pytest.mark.slow
def test_recomputed_activations_give_the_same_gradients(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    found = []
    for choice in ("on", "off"):
        trainer = trainer_of(corpus, tiny_model_folder, tmp_path, gradient_checkpointing=choice)
        for number, parameter in enumerate(trainer.model.parameters()):
            if parameter.requires_grad:
                parameter.data.fill_(0.01 * (1 + number % 3))
        if choice == "on":
            trainer.model.gradient_checkpointing_enable()
        trainer.model.train()
        assert trainer.model.is_gradient_checkpointing == (choice == "on")
        found.append(loss_and_gradients(trainer, trainer.compute_loss, None))
    assert_alike(*found)


@pytest.mark.slow
def test_only_answers_and_their_ends_are_learned(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(corpus, tiny_model_folder, tmp_path, grounding="retrieved")
    tokenizer = trainer.processing_class
    for batch in trainer.get_train_dataloader():
        for labels, ids in zip(batch["labels"], batch["input_ids"], strict=True):
            learned = tokenizer.decode(labels[labels != IGNORED])
            assert learned.startswith("It is ")
            assert learned.endswith("<|im_end|>")
            assert learned in tokenizer.decode(ids)


def llama(folder: Path) -> None:
    """Untouched: the tiny model as it is."""


def gemma2(folder: Path) -> None:
    """Other attention: scores are capped, and every other layer sees 16 tokens only."""
    import torch
    from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=16,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    Gemma2ForCausalLM(config).save_pretrained(folder)


def losses_by_token(
    model: Any, batch: dict[str, Any], *, borders: bool = True
) -> dict[tuple[int, ...], list[float]]:
    """Of each row of a batch the losses of its learned tokens; a row is named by its tokens.

    Without `borders` every row sees those before it in its sequence.
    """
    import torch
    from torch.nn.functional import cross_entropy

    given = {key: batch[key] for key in batch if key != "labels"}
    if not borders:
        given = {"input_ids": batch["input_ids"]}
    with torch.no_grad():
        logits = model(**given).logits
    found = {}
    for row, (ids, labels) in enumerate(zip(batch["input_ids"], batch["labels"], strict=True)):
        for start, end in _documents(batch, row):
            learned = labels[start + 1 : end] != IGNORED
            losses = cross_entropy(
                logits[row, start : end - 1], ids[start + 1 : end], reduction="none"
            )
            found[tuple(ids[start:end].tolist())] = losses[learned].tolist()
    return found


def _documents(batch: dict[str, Any], row: int) -> list[tuple[int, int]]:
    """Where the rows of the corpus begin and end in a sequence."""
    if "attention_mask" in batch:
        return [(0, int(batch["attention_mask"][row].sum()))]
    places = (batch["position_ids"][row] == 0).nonzero().flatten().tolist()
    return list(zip(places, [*places[1:], batch["position_ids"].shape[1]], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [llama, gemma2])
@pytest.mark.parametrize("together", TOGETHER.values(), ids=TOGETHER)
def test_rows_in_one_sequence_do_not_see_each_other(
    corpus: pl.DataFrame,
    tiny_model_folder: Path,
    tmp_path: Path,
    architecture: Callable[[Path], None],
    together: dict[str, bool],
) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    architecture(folder)
    changes = {"grounding": "retrieved", "batch_size": 3, "max_seq_length": 256}
    alone = trainer_of(corpus, folder, tmp_path, **changes | {"batch_size": 1})
    joined = trainer_of(corpus, folder, tmp_path, **changes, **together)
    joined.model.load_state_dict(alone.model.state_dict())
    expected, found, mixed = {}, {}, {}
    for trainer in (alone, joined):
        trainer.model.eval()
    for batch in alone.get_train_dataloader():
        expected |= losses_by_token(alone.model, dict(batch))
    for batch in joined.get_train_dataloader():
        found |= losses_by_token(joined.model, dict(batch))
        mixed |= losses_by_token(joined.model, dict(batch), borders=False)
    assert len(expected) == 10
    assert found.keys() == expected.keys()
    for row, losses in expected.items():
        assert found[row] == pytest.approx(losses, abs=1e-4)
    # The difference that is looked for can be seen.
    assert (
        max(
            abs(one - other)
            for row in expected
            for one, other in zip(expected[row], mixed[row], strict=True)
        )
        > 1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("together", [{}, {"padding_free": True}], ids=["padded", "padding-free"])
def test_the_validation_loss_is_a_tokens_however_rows_are_batched(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path, together: dict[str, bool]
) -> None:
    import torch

    # Rows of very different answers, so that a mean of means would show.
    held = corpus.with_columns(pl.lit("validation").alias("subset"))
    rows = pl.concat([corpus.filter(subset="train"), held])
    trainer = trainer_of(rows, tiny_model_folder, tmp_path, grounding="retrieved", **together)
    trainer.train()
    by_hand = torch.zeros(2, dtype=torch.float64)
    for row in trainer.eval_dataset:
        batch = trainer.data_collator([{key: row[key] for key in ("input_ids", "labels")}])
        with torch.no_grad():
            total, count, _ = trainer._total_loss(trainer.model.eval(), batch)
        by_hand += torch.stack([total, count]).double()
    expected = (by_hand[0] / by_hand[1]).item()
    for size in (1, 3, 16):
        trainer.args.per_device_eval_batch_size = size
        assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_the_adapter_of_a_quantized_model_is_precise(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path, quantization: str
) -> None:
    import torch
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    trainer = trainer_of(corpus, tiny_model_folder, tmp_path, quantization=quantization)
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    kind = Linear4bit if quantization == "4bit" else Linear8bitLt
    held = [module for module in trainer.model.modules() if isinstance(module, kind)]
    assert len(held) == 14
    if quantization == "4bit":
        assert {module.weight.quant_type for module in held} == {"nf4"}
        assert all(module.weight.quant_state.nested for module in held)


def test_an_epochs_order_is_the_seeds_and_the_epochs() -> None:
    order = _EpochOrder(100, seed=7)
    first = list(order)
    assert sorted(first) == list(range(100))
    assert list(order) == first
    order.set_epoch(1)
    second = list(order)
    assert sorted(second) == list(range(100))
    assert second != first
    assert list(_EpochOrder(100, seed=8)) not in (first, second)
    later = _EpochOrder(100, seed=7)
    later.set_epoch(1)
    assert list(later) == second
