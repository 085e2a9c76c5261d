"""Rows of a batch one after the other, without padding, each attending to itself alone."""

from functools import cache
from typing import Any

from retail_assistant.training.fitting.rows import IGNORED

ROW_BY_ROW = "sdpa_row_by_row"
_FULL = "full_attention"


def attends_row_by_row(model: Any) -> bool:
    """Give a model the attention `ROW_BY_ROW` where it is exact; whether it has it now.

    It is for models whose tokens meet in PyTorch's own causal attention only, and know their places
    by `position_ids`: no sliding windows, no states from token to token, no other kernels.
    """
    config = model.config.get_text_config()
    exact = (
        config._attn_implementation == "sdpa"
        and model._supports_attention_backend
        and not getattr(model, "_is_stateful", False)
        and set(getattr(config, "layer_types", None) or [_FULL]) == {_FULL}
        and getattr(config, "sliding_window", None) is None
    )
    if exact:
        _register()
        config._attn_implementation = ROW_BY_ROW
    return exact


def joined(inputs: dict[str, Any]) -> dict[str, Any]:
    """A batch as one sequence: padding left out, positions from 0 in every row.

    Args:
        inputs: `input_ids`, `labels` and `attention_mask` (1: no padding) of shape (rows, length),
            or a sequence with `position_ids` already.

    Returns:
        What a model with the attention `ROW_BY_ROW` takes: `input_ids`, `labels`, `position_ids` of
        shape (1, tokens), where rows begin and, last, where they end, and an empty mask. A row's
        first token is not learned from the row before.
    """
    import torch

    ids, labels = inputs["input_ids"], inputs["labels"]
    if (mask := inputs.get("attention_mask")) is None:
        places = inputs["position_ids"]
    else:
        read = mask.bool()
        places = (mask.cumsum(dim=1) - 1)[read]
        ids, labels = ids[read], labels[read]
    places = places.reshape(-1)
    begins = places == 0
    starts = begins.nonzero().flatten()
    end = torch.tensor([len(places)], device=starts.device)
    return {
        "input_ids": ids.reshape(1, -1),
        "labels": labels.reshape(-1).masked_fill(begins, IGNORED).unsqueeze(0),
        "position_ids": places.unsqueeze(0),
        "cu_seq_lens_q": torch.cat([starts, end]),
        # Or transformers would write one of tokens x tokens, which nobody reads. A kernel that did
        # read it would refuse its shape.
        "attention_mask": torch.empty(1, 1, 0, 0),
    }


@cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ROW_BY_ROW, _attention)
    AttentionMaskInterface.register(ROW_BY_ROW, sdpa_mask)


def _attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **given: Any
) -> tuple[Any, None]:
    """PyTorch's attention, of each row apart if it is told where rows begin; else as always.

    Query, key and value are of shape (1, heads, tokens, width), the result (1, tokens, heads,
    width). A causal kernel reads half of what one with a mask reads, and none of another row.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    borders = given.pop("cu_seq_lens_q", None)
    if borders is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    lengths = borders.diff().tolist()
    rows = zip(*(whole.split(lengths, dim=2) for whole in (query, key, value)), strict=True)
    found = [sdpa_attention_forward(module, *row, None, **given)[0] for row in rows]
    return torch.cat(found, dim=1), None
