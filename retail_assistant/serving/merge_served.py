"""Merge a champion for servers that take whole models.

`python -m retail_assistant.serving.merge_served --spec spec.json` leaves `model/`: safetensors,
the base's configuration and tokenizer, and generation settings under which any server decodes
greedily and stops where the model was taught to.

Sums are made in float32 by the code that gives evaluation its weights, so in float32 the folder
holds the very numbers that were evaluated. Rounded to bfloat16, its logits are compared with those
of base and adapter apart, as those of `merged_model` are.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from retail_assistant.corpus.encoding import Encoder, PromptStyle
from retail_assistant.evaluation.adapter_weights import weights
from retail_assistant.launch.workload import Workload, workload
from retail_assistant.storage import write_atomically
from retail_assistant.training.merge import compare_logits

WEIGHTS = "model.safetensors"
GENERATION = "generation_config.json"


class ServedMergeConfig(BaseModel):
    """What is asked of a merge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: Literal["float32", "bfloat16"]
    style: PromptStyle


def merge_served(base: Path, adapter: Path, folder: Path, config: ServedMergeConfig) -> None:
    """Write base weights with the adapter added to `folder`, and all else that a server reads.

    Needs memory for the merged weights once more. Raises AdapterError where they do not fit.
    """
    import torch
    from safetensors.torch import save_file

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in base.iterdir():
        if path.is_file() and not path.name.endswith((".safetensors", ".safetensors.index.json")):
            shutil.copyfile(path, folder / path.name)
    kind = getattr(torch, config.precision)
    merged = {name: value.to(kind).contiguous() for name, value in weights(base, adapter)}
    save_file(merged, folder / WEIGHTS, {"format": "pt"})
    _change(folder / "config.json", dtype=config.precision, torch_dtype=None)
    _change(folder / GENERATION, **_greedy(base, config.style))


def _greedy(base: Path, style: PromptStyle) -> dict[str, Any]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    stops = {Encoder(tokenizer, style).end_of_turn, tokenizer.eos_token_id}
    sampling = dict.fromkeys(("temperature", "top_p", "top_k", "repetition_penalty"))
    return {**sampling, "do_sample": False, "eos_token_id": sorted(stops)}


def _change(path: Path, **changes: Any) -> None:
    """Set fields of a JSON file; None takes one away."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    content = {name: value for name, value in (content | changes).items() if value is not None}
    write_atomically(path, json.dumps(content, indent=2))


def _run(work: Workload, config: ServedMergeConfig) -> None:
    base, adapter = work.spec.paths["base_model"], work.spec.paths["adapter"]
    folder = work.folder / "model"
    work.say(f"merging {adapter.parent.name} into {base.parent.name} as {config.precision}")
    merge_served(base, adapter, folder, config)
    if config.precision != "float32":
        work.say("comparing the logits of merged and unmerged")
        agreement = compare_logits(base, adapter, folder)
        agreement.require()
        work.metrics = agreement.model_dump()
    for path in sorted(folder.iterdir()):
        work.output(path.name, path)


def main() -> None:
    """Entry point of the workload."""
    with workload("Merge a champion for serving.") as work:
        _run(work, ServedMergeConfig.model_validate(work.spec.config))


if __name__ == "__main__":
    main()
