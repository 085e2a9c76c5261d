"""A model's shape: what parameters, memory and adapters are counted from, without its weights.

Read once, on torch's meta device, when `base_model` is laid out; from then on counting is
arithmetic that needs no torch.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

LAYER = "{}"
_NUMBER = re.compile(r"\.\d+\.")
_ATTENTION_BLOCK = re.compile(r"att(n|ention)")
_GATED = 2


class LinearGroup(BaseModel):
    """A linear layer that stands in every layer of the model under the same name, or only once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Its full name, `{}` for the number of the layer if it repeats.")
    inputs: int
    outputs: int
    count: int = Field(default=1, ge=1, description="Layers 0 to count - 1 have one.")

    @property
    def in_attention(self) -> bool:
        """Whether it stands in an attention block."""
        *blocks, _ = self.name.split(".")
        return any(_ATTENTION_BLOCK.search(block) for block in blocks)

    @property
    def parameters(self) -> int:
        """Weights in all layers (biases apart)."""
        return self.inputs * self.outputs * self.count

    def modules(self) -> Iterator[str]:
        """The full names of its modules."""
        if LAYER not in self.name:
            yield self.name
            return
        yield from (self.name.replace(LAYER, str(layer)) for layer in range(self.count))


class ModelShape(BaseModel):
    """What a causal language model is made of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str
    hidden: int = Field(description="Width of the residual stream.")
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int = Field(description="Inner width of the feed-forward block.")
    norms: int = Field(description="Norms of the residual stream in a layer.")
    query_key_norms: bool = Field(description="Whether queries and keys are normed as well.")
    caps_scores: bool = Field(
        default=False,
        description="Whether attention scores are capped (Gemma 2): only flash and eager attention"
        " can do that.",
    )
    vocabulary: int
    tied: bool = Field(description="Whether the head's weights are those of the embeddings.")
    parameters: int = Field(description="All of them; tied ones count once.")
    embedding_parameters: int = Field(description="Embeddings and vocabulary head; tied: once.")
    linears: tuple[LinearGroup, ...] = Field(description="Linear layers, without the head.")
    head: LinearGroup | None = Field(description="The vocabulary head, where it is linear.")

    @property
    def linear_parameters(self) -> int:
        """Weights that quantization compresses: all linear layers but the head."""
        return sum(group.parameters for group in self.linears)

    @property
    def gated(self) -> bool:
        """Whether the feed-forward block multiplies two projections (SwiGLU and its like)."""
        inner = {
            group.name: group.outputs // self.intermediate
            for group in self.linears
            if group.outputs % self.intermediate == 0 and not group.in_attention
        }
        # Two projections, or one that is twice as wide.
        return sum(inner.values()) >= _GATED


def model_shape(folder: Path) -> ModelShape:
    """The shape of a laid-out model, from its `config.json`; no weights are read."""
    from transformers import AutoConfig

    return shape_of_config(AutoConfig.from_pretrained(folder, trust_remote_code=False))


def shape_of_config(config: Any) -> ModelShape:
    """The shape of the model that a transformers configuration describes.

    The model is made as fine-tuning makes it, on the meta device: its modules are there and can be
    asked, its weights are not.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return shape_of_model(model)


def shape_of_model(model: Any) -> ModelShape:
    """The shape of a transformers model, wherever its weights are."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is not None and head.weight is embedding.weight
    config = model.config.get_text_config()
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    found = {name: size for name, module in model.named_modules() if (size := _linear_size(module))}
    norms = _norm_widths(model)
    of_head = next((name for name, module in model.named_modules() if module is head), None)
    head_size = found.pop(of_head, None) if of_head else None
    untied = head is not None and not tied
    return ModelShape(
        architecture=type(model).__name__,
        hidden=config.hidden_size,
        layers=layers,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        norms=round(norms.count(config.hidden_size) / layers),
        query_key_norms=len(norms) - norms.count(config.hidden_size) >= 2 * layers,
        caps_scores=getattr(config, "attn_logit_softcapping", None) is not None,
        vocabulary=config.vocab_size,
        tied=tied,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        embedding_parameters=embedding.weight.numel() + (head.weight.numel() if untied else 0),
        linears=_grouped(found),
        head=LinearGroup(name=of_head, inputs=head_size[0], outputs=head_size[1])
        if of_head and head_size
        else None,
    )


def _linear_size(module: Any) -> tuple[int, int] | None:
    """Inputs and outputs of a module that peft takes for a linear layer."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        inputs, outputs = module.weight.shape
        return inputs, outputs
    return None


def _norm_widths(model: Any) -> list[int]:
    """The widths of all norms within layers (a model's last norm stands outside)."""
    return [
        module.weight.numel()
        for name, module in model.named_modules()
        if type(module).__name__.endswith("Norm") and _NUMBER.search(name)
    ]


def _grouped(found: dict[str, tuple[int, int]]) -> tuple[LinearGroup, ...]:
    """Modules of every layer 0 … n - 1 as one group; others, such as of every fourth layer, each
    alone: their names could not be told from a count.
    """
    alike: dict[tuple[str, int, int], list[str]] = defaultdict(list)
    for name, (inputs, outputs) in found.items():
        alike[_NUMBER.sub(f".{LAYER}.", name, count=1), inputs, outputs].append(name)
    groups = []
    for (pattern, inputs, outputs), names in alike.items():
        group = LinearGroup(name=pattern, inputs=inputs, outputs=outputs, count=len(names))
        if sorted(group.modules()) == sorted(names):
            groups.append(group)
        else:
            groups += [LinearGroup(name=name, inputs=inputs, outputs=outputs) for name in names]
    return tuple(groups)
