"""Shapes of published models, written down: no torch is needed to plan for them."""

from retail_assistant.model_shape import LinearGroup, ModelShape


def llama_shape(
    hidden: int,
    layers: int,
    heads: int,
    intermediate: int,
    vocabulary: int,
    *,
    kv_heads: int | None = None,
    tied: bool = False,
) -> ModelShape:
    """A Llama of these sizes."""
    kv_heads = kv_heads or heads
    head_dim = hidden // heads
    sizes = {
        "self_attn.q_proj": (hidden, heads * head_dim),
        "self_attn.k_proj": (hidden, kv_heads * head_dim),
        "self_attn.v_proj": (hidden, kv_heads * head_dim),
        "self_attn.o_proj": (heads * head_dim, hidden),
        "mlp.gate_proj": (hidden, intermediate),
        "mlp.up_proj": (hidden, intermediate),
        "mlp.down_proj": (intermediate, hidden),
    }
    linears = tuple(
        LinearGroup(name=f"model.layers.{{}}.{name}", inputs=i, outputs=o, count=layers)
        for name, (i, o) in sizes.items()
    )
    embeddings = vocabulary * hidden * (1 if tied else 2)
    norms = (2 * layers + 1) * hidden
    return ModelShape(
        architecture="LlamaForCausalLM",
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=intermediate,
        norms=2,
        query_key_norms=False,
        vocabulary=vocabulary,
        tied=tied,
        parameters=sum(g.parameters for g in linears) + embeddings + norms,
        embedding_parameters=embeddings,
        linears=linears,
        head=LinearGroup(name="lm_head", inputs=hidden, outputs=vocabulary),
    )


OPEN_LLAMA_3B = llama_shape(3200, 26, 32, 8640, 32_000)
LLAMA_8B = llama_shape(4096, 32, 32, 14_336, 128_256, kv_heads=8)
LLAMA_70B = llama_shape(8192, 80, 64, 28_672, 128_256, kv_heads=8)
SMOLLM2 = llama_shape(576, 30, 9, 1536, 49_152, kv_heads=3, tied=True)
