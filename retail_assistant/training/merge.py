"""Merge an adapter into its base model, and prove that the result says the same.

`python -m retail_assistant.training.merge --spec spec.json` leaves `model/`: safetensors in
bfloat16, tokenizer and model card, on request a GGUF file. The adapter is merged into the plain
base, also where it was trained on a quantized one: merged into 4-bit weights it would be rounded
away.
"""

import gc
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.launch.spec import read_manifest
from retail_assistant.launch.workload import Workload, workload
from retail_assistant.storage import write_atomically
from retail_assistant.training.gguf_export import (
    GgufType,
    export_gguf,
    require_exportable,
)
from retail_assistant.training.model_card import card_facts, write_model_card

MERGED_DTYPE = "bfloat16"
PROMPTS = (
    "What is this watch made of?",
    "I need running shoes in red, size 8. Which do you have?",
    "Does the sofa come with a warranty?",
    "Name three gifts under 500 for a child of six years.",
    "Write a product description: cotton shirt, slim fit, full sleeve, blue, checkered.",
    "The price of the ring, its weight and its purity are",
)
# What rounding every weight to eight bits of mantissa (2^-9 relative) may change. The adapter's
# effect is the yardstick, for an adapter that is lost has lost all of it.
MOST_OF_EFFECT_LOST = 0.25
MOST_OF_RANGE = 0.05
MOST_GGUF_DIFFERENCE: dict[str, float] = {"bf16": 1e-3, "f16": 2e-2, "q8_0": MOST_OF_RANGE}


class MergeError(RuntimeError):
    """A merged model does not say what base and adapter say; shows the numbers."""


class MergeConfig(BaseModel):
    """What is asked of a merge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gguf: GgufType | None = Field(default=None, description="Also a GGUF file, of this type.")


class Agreement(BaseModel):
    """How far two models' logits are apart, over every position of a few prompts.

    All in float32, whatever the weights are kept in.
    """

    model_config = ConfigDict(frozen=True)

    positions: int
    max_logit_difference: float
    mean_logit_difference: float
    logit_range: float = Field(description="Largest less smallest logit of the unmerged model.")
    adapter_effect: float = Field(description="Mean difference that the adapter makes to the base.")
    same_first_choice: float = Field(description="Share of positions with the same best token.")

    @property
    def effect_lost(self) -> float:
        """The mean difference as a share of the adapter's effect."""
        return self.mean_logit_difference / self.adapter_effect if self.adapter_effect else 0.0

    def require(self) -> None:
        """Refuse a merge that changed the answers.

        Raises:
            MergeError: with the numbers and what is allowed.
        """
        share = self.max_logit_difference / self.logit_range
        if share > MOST_OF_RANGE or self.effect_lost > MOST_OF_EFFECT_LOST:
            raise MergeError(
                f"merged and unmerged logits differ by up to {self.max_logit_difference:.3g},"
                f" {share:.1%} of their range (allowed: {MOST_OF_RANGE:.0%}), on average by"
                f" {self.effect_lost:.1%} of what the adapter changes"
                f" (allowed: {MOST_OF_EFFECT_LOST:.0%})"
            )


def merge(base: Path, adapter: Path, folder: Path, dtype: str | None = None) -> Path:
    """Write base weights with the adapter merged in to `folder`, with the base's tokenizer.

    Args:
        base: folder of the plain base model.
        adapter: folder of the PEFT adapter.
        folder: where to.
        dtype: of the merged weights; None: the base's own. They are added in the base's own
            precision first, so nothing is rounded twice.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", trust_remote_code=False)
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload(safe_merge=True)
    if dtype is not None:
        merged = merged.to(getattr(torch, dtype))
    merged.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base, trust_remote_code=False).save_pretrained(folder)
    return folder


def compare_logits(base: Path, adapter: Path, merged: Path) -> Agreement:
    """How far a merged model is from base and adapter apart, and what the adapter changes at all.

    On the CPU in float32, one model in memory at a time (4 bytes a parameter): a handful of
    prompts needs no GPU, and float32 shows what the merge changed, not the arithmetic.
    """
    from peft import PeftModel

    gc.collect()  # the model that was merged
    prompts = _prompts(base)
    model = PeftModel.from_pretrained(_load(base), adapter).eval()
    unmerged = _logits(model, prompts)
    with model.disable_adapter():
        plain = _logits(model, prompts)
    del model
    gc.collect()
    return _agreement(unmerged, _logits(_load(merged), prompts), plain)


def _load(folder: Path, **options: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False, **options
    ).eval()


def _prompts(folder: Path) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not tokenizer.chat_template:
        return [tokenizer(text).input_ids for text in PROMPTS]
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in PROMPTS
    ]


def _logits(model: Any, prompts: Sequence[list[int]]) -> Any:
    """All positions of all prompts: a matrix with a row a position."""
    import torch

    with torch.inference_mode():
        rows = [model(torch.tensor([ids])).logits[0].float() for ids in prompts]
    return torch.cat(rows)


def _agreement(unmerged: Any, merged: Any, plain: Any) -> Agreement:
    difference = (merged - unmerged).abs()
    return Agreement(
        positions=unmerged.shape[0],
        max_logit_difference=difference.max().item(),
        mean_logit_difference=difference.mean().item(),
        logit_range=(unmerged.max() - unmerged.min()).item(),
        adapter_effect=(unmerged - plain).abs().mean().item(),
        same_first_choice=(merged.argmax(-1) == unmerged.argmax(-1)).float().mean().item(),
    )


def gguf_difference(merged: Path, gguf: Path) -> float:
    """How far a GGUF file's logits, read back, are from the folder's, as a share of their range."""
    from transformers import GgufConfig

    prompts = _prompts(merged)
    ours = _logits(_load(merged), prompts)
    read = _load(gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True))
    theirs = _logits(read, prompts)
    return float((theirs - ours).abs().max() / (ours.max() - ours.min()))


def _run(work: Workload, asked: MergeConfig) -> None:
    base, adapter = work.spec.paths["base_model"], work.spec.paths["adapter"]
    folder = work.folder / "model"
    shutil.rmtree(folder, ignore_errors=True)
    if asked.gguf is not None:
        require_exportable(base)
    work.say(f"merging {adapter.parent.name} into {base.parent.name} as {MERGED_DTYPE}")
    merge(base, adapter, folder, MERGED_DTYPE)
    work.say("comparing the logits of merged and unmerged")
    agreement = compare_logits(base, adapter, folder)
    write_atomically(work.folder / "agreement.json", agreement.model_dump_json(indent=2))
    agreement.require()
    work.metrics = {
        **agreement.model_dump(),
        "effect_lost": agreement.effect_lost,
        "allowed_share_of_range": MOST_OF_RANGE,
        "allowed_effect_lost": MOST_OF_EFFECT_LOST,
    }
    if asked.gguf is not None:
        _export(work, folder, asked.gguf)
    _write_card(work, adapter.parent, folder)
    work.output("agreement", work.folder / "agreement.json")
    for path in sorted(folder.iterdir()):
        work.output(path.name, path)
    work.metrics["size_mib"] = round(sum(p.stat().st_size for p in folder.iterdir()) / 2**20, 1)


def _export(work: Workload, folder: Path, kind: GgufType) -> None:
    work.say(f"writing GGUF ({kind}), and reading it back")
    path = export_gguf(folder, folder / f"model-{kind}.gguf", kind)
    difference = gguf_difference(folder, path)
    if difference > MOST_GGUF_DIFFERENCE[kind]:
        raise MergeError(
            f"{path.name} read back differs by {difference:.2%} of the logits' range;"
            f" allowed: {MOST_GGUF_DIFFERENCE[kind]:.2%}"
        )
    work.metrics["gguf_difference_of_range"] = difference


def _write_card(work: Workload, adapter: Path, folder: Path) -> None:
    """The adapter's card, of the merged weights."""
    trained = read_manifest(adapter, verify=False)
    facts = card_facts(work.spec, work.metrics)
    if trained is not None:
        facts = facts.model_copy(
            update={
                "task": str(trained.config.get("task", facts.task)),
                "inputs": {**trained.inputs, **facts.inputs},
                "hyperparameters": dict(trained.config.get("hyperparameters", {})),
                "metrics": {**trained.metrics, **work.metrics},
            }
        )
    write_model_card(folder, facts.model_copy(update={"kind": "merged"}))


def main() -> None:
    """Entry point of the workload."""
    with workload("Merge an adapter into its base model.") as work:
        _run(work, MergeConfig.model_validate(work.spec.config))


if __name__ == "__main__":
    main()
