"""A frozen linear layer and its LoRA update as one operation, for a CPU."""

from functools import cache
from typing import Any


def fuse_adapters(model: Any) -> int:
    """Compute plain LoRA layers of a PEFT model in one operation each; how many there are.

    The result and the gradients are PEFT's, to rounding. PEFT writes four arrays of the layer's
    output size forward (the product, the update, the scaled update, their sum) and two backward,
    which a CPU waits for; here the update is added where the product stands, and the scale goes to
    the narrow array between the two factors.

    Parameters, their names and what is saved stay PEFT's. Layers on quantized weights, and variants
    (DoRA), are left as they are; dropout, merged or several adapters take PEFT's own path.
    """
    from peft.tuners.lora import Linear
    from torch import nn

    fused = 0
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is nn.Linear:
            module.__class__ = _layer_class()
            fused += 1
    return fused


@cache
def _layer_class() -> Any:
    """`FusedLoraLinear`; made on first use, for its base class takes seconds to import."""
    from peft.tuners.lora import Linear

    apply = _operation().apply

    class FusedLoraLinear(Linear):
        """PEFT's layer, whose plain case is one operation."""

        def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
            name = self.active_adapters[0] if len(self.active_adapters) == 1 else ""
            if args or kwargs or name not in self.lora_A or not self._is_plain(x, name):
                return super().forward(x, *args, **kwargs)
            base = self.base_layer
            a, b = self.lora_A[name].weight, self.lora_B[name].weight
            return apply(x, base.weight, base.bias, a, b, self.scaling[name])

        def _is_plain(self, x: Any, name: str) -> bool:
            """Whether the layer is now `W x + bias + scale B A x` with W and bias frozen."""
            dropout, base = self.lora_dropout[name], self.base_layer
            drops = dropout.training and getattr(dropout, "p", 0.0) > 0
            learns = base.weight.requires_grad or (
                base.bias is not None and base.bias.requires_grad
            )
            precisions = {x.dtype, base.weight.dtype, self.lora_A[name].weight.dtype}
            return not (
                drops
                or learns
                or self.merged
                or self.disable_adapters
                or self.lora_bias[name]
                or name in self.lora_variant
                or len(precisions) > 1
            )

    return FusedLoraLinear


@cache
def _operation() -> Any:
    import torch
    from torch.autograd.function import once_differentiable

    class FrozenLinearWithLora(torch.autograd.Function):
        """`W x + bias + scale B A x`; gradients of x, A and B.

        Shapes: x (..., in), W (out, in), A (rank, in), B (out, rank).
        """

        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float) -> Any:
            rows = x.reshape(-1, x.shape[-1])
            narrow = (rows @ a.t()).mul_(scale)
            result = torch.nn.functional.linear(rows, weight, bias).addmm_(narrow, b.t())
            ctx.save_for_backward(rows, weight, a, b, narrow)
            ctx.scale = scale
            return result.view(*x.shape[:-1], -1)

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: Any) -> Any:
            rows, weight, a, b, narrow = ctx.saved_tensors
            above = gradient.reshape(-1, gradient.shape[-1])
            of_narrow = (above @ b).mul_(ctx.scale)
            of_x = None
            if ctx.needs_input_grad[0]:
                of_x = (above @ weight).addmm_(of_narrow, a)
                of_x = of_x.view(*gradient.shape[:-1], -1)
            # Transposed it runs over `above` row by row, which is twice as fast.
            return of_x, None, None, of_narrow.t() @ rows, (narrow.t() @ above).t(), None

    return FrozenLinearWithLora
