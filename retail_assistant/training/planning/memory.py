"""What memory a training takes: an upper estimate, device by device, before anything is loaded.

Counted from what autograd really keeps for LoRA on a frozen transformer block (read in the code of
transformers 5 and peft 0.21, checked against measured peaks): a frozen layer keeps nothing, an
adapted one its input, the attention its queries, keys, values and result, the feed-forward block
the factors of its product, a norm its input in float32. Rows are taken as full (`max_seq_length`
tokens each, every token learned), so that a real run stays below.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, computed_field

from retail_assistant.model_shape import LinearGroup, ModelShape
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.devices import GIB
from retail_assistant.training.planning.targets import adapted, lora_parameters, target_names
from retail_assistant.training.resources import Strategy

FLOAT32, BFLOAT16, INT8 = 4, 2, 1
# nf4 with double quantization: 4 bits a weight, an 8-bit scale for 64 of them, a float32 for 256
# scales (Dettmers et al. 2023, section 3).
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
ADAM_MOMENTS = 2
# TRL's fused head: tiles of so many tokens by so many entries of the vocabulary.
HEAD_TILE = 4096 * 8192
# Backward through a feed-forward block holds so many gradients of its inner width at a time.
INNER_GRADIENTS = 4
# DeepSpeed's stage3_max_live_parameters, by default.
ZERO3_LIVE_PARAMETERS = 1_000_000_000
# FSDP gathers the next block while one computes.
GATHERED_BLOCKS = 2
# Measured: 0.54 GiB with torch, transformers, trl and peft imported; tables, tracking and samples.
CPU_PROCESS = 0.8 * GIB
# CUDA context, cuBLAS workspaces and, between processes, NCCL's buffers.
CUDA_CONTEXT, NCCL_BUFFERS = 0.6 * GIB, 0.4 * GIB
# What the allocators hold in pieces too small to use. The C library's keeps far more than torch's:
# of what passes through it 0.8 to 1.7 times as much again at the peak, measured with the embedded
# model. Told to give large pieces back at once (MALLOC_MMAP_THRESHOLD_) it keeps far less; what
# that costs in time was not measured.
GPU_FRAGMENTS, CPU_FRAGMENTS = 0.05, 1.4


class MemoryEstimate(BaseModel):
    """GiB at the peak of a training step, on one device (of a CPU: in one process)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: float = Field(description="Base model and adapter; of a sharded one what is gathered.")
    gradients: float
    optimizer: float = Field(description="AdamW's moments (ZeRO-3: and the float32 copy).")
    activations: float
    logits: float = Field(description="The vocabulary head's results and their gradients.")
    overhead: float = Field(description="Libraries, communication, fragmentation.")
    host: float = Field(default=0.0, description="Main memory that offloading takes, a process.")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> float:
        """GiB on the device."""
        return (
            self.weights
            + self.gradients
            + self.optimizer
            + self.activations
            + self.logits
            + self.overhead
        )

    @classmethod
    def of_bytes(cls, **parts: float) -> Self:
        """From bytes."""
        return cls(**{name: size / GIB for name, size in parts.items()})


class Setup(BaseModel):
    """How a training is spread and what it does to save memory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: Strategy = "single"
    ranks: int = Field(default=1, ge=1, description="Processes on all nodes.")
    gradient_checkpointing: bool = False
    offload: bool = False
    on_gpu: bool = False
    bf16: bool = Field(default=False, description="Whether it computes in bfloat16.")

    @property
    def sharded(self) -> bool:
        """Whether each device holds a part of the model only."""
        return self.strategy in ("fsdp2", "zero3")

    @property
    def compute_bytes(self) -> int:
        """Bytes of an unquantized weight, and of an activation."""
        return BFLOAT16 if self.bf16 else FLOAT32


def estimate_memory(shape: ModelShape, job: HyperparameterJob, setup: Setup) -> MemoryEstimate:
    """What one step of a job takes at its peak.

    Raises:
        TargetError: the model has not the job's target modules.
    """
    trained = lora_parameters(shape, target_names(shape, job.target_modules), job.lora_r)
    size = adapter_bytes(setup)
    shards = setup.ranks if setup.sharded else 1
    base = base_bytes(shape, job, setup)
    held = {
        "weights": (base + trained * size) / shards,
        "gradients": trained * size / shards,
        "optimizer": trained * _optimizer_bytes(size, setup) / shards,
    }
    host = sum(held.values()) if setup.offload else 0.0
    if setup.offload:
        held = dict.fromkeys(held, 0.0)
    if setup.sharded:
        held["weights"] += _gathered_bytes(shape, job, setup)
    held["weights"] += _unquantized_bytes(shape, job, setup)
    if setup.strategy == "ddp":
        # Buckets of gradients, apart from the gradients themselves.
        held["gradients"] += trained * size
    passing = {
        "activations": activation_bytes(shape, job, setup),
        "logits": logit_bytes(shape, job, setup),
    }
    overhead = _process_bytes(setup) + _unused_bytes(held, passing, setup)
    return MemoryEstimate.of_bytes(host=host, **held, **passing, overhead=overhead)


def _unused_bytes(held: dict[str, float], passing: dict[str, float], setup: Setup) -> float:
    """What the allocator holds and nobody uses."""
    if setup.on_gpu:
        return GPU_FRAGMENTS * (sum(held.values()) + sum(passing.values()))
    return CPU_FRAGMENTS * sum(passing.values())


def adapter_bytes(setup: Setup) -> int:
    """Bytes of an adapter's weight while it is trained.

    In float32 (the trainer sees to that beside a quantized model, too), but for ZeRO-3, which keeps
    it in the model's type.
    """
    return setup.compute_bytes if setup.strategy == "zero3" else FLOAT32


def _optimizer_bytes(size: int, setup: Setup) -> int:
    moments = ADAM_MOMENTS * (FLOAT32 if setup.strategy == "zero3" else size)
    return moments + (FLOAT32 if setup.strategy == "zero3" else 0)


def base_bytes(shape: ModelShape, job: HyperparameterJob, setup: Setup) -> float:
    """Bytes of the frozen model; quantization leaves embeddings, norms and the head as they are."""
    rest = shape.parameters - shape.linear_parameters
    if job.quantization == "4bit":
        return shape.linear_parameters * NF4 + rest * setup.compute_bytes
    if job.quantization == "8bit":
        scales = sum(group.outputs * group.count for group in shape.linears) * FLOAT32
        return shape.linear_parameters * INT8 + scales + rest * setup.compute_bytes
    return shape.parameters * setup.compute_bytes


def _unquantized_bytes(shape: ModelShape, job: HyperparameterJob, setup: Setup) -> float:
    """What there is beside quantized weights: the largest layer as it is when it computes, and on a
    CPU the file that they were made from, which stays mapped.
    """
    if job.quantization == "none":
        return 0.0
    largest = max(group.inputs * group.outputs for group in shape.linears)
    mapped = 0 if setup.on_gpu else shape.parameters
    return (largest + mapped) * setup.compute_bytes


def _gathered_bytes(shape: ModelShape, job: HyperparameterJob, setup: Setup) -> float:
    """What of a sharded model is whole on each device at a time."""
    blocks = shape.parameters - shape.embedding_parameters
    of_block = base_bytes(shape, job, setup) / shape.parameters * blocks / shape.layers
    if setup.strategy == "zero3":
        return min(ZERO3_LIVE_PARAMETERS * setup.compute_bytes, of_block * shape.layers)
    return GATHERED_BLOCKS * of_block + shape.embedding_parameters * setup.compute_bytes


def tokens_a_pass(job: HyperparameterJob) -> int:
    """Tokens of a forward pass at most."""
    return job.batch_size * job.max_seq_length


def activation_bytes(shape: ModelShape, job: HyperparameterJob, setup: Setup) -> float:
    """What is kept for the backward pass, and what that works with."""
    working = tokens_a_pass(job) * setup.compute_bytes * INNER_GRADIENTS * shape.intermediate
    recomputed = _block_bytes(shape, job, setup) if setup.gradient_checkpointing else 0.0
    return kept_bytes(shape, job, setup) + recomputed + working


def kept_bytes(shape: ModelShape, job: HyperparameterJob, setup: Setup) -> float:
    """What the forward pass of the layers keeps for the backward pass; with gradient checkpointing
    the blocks' inputs only.
    """
    inputs = tokens_a_pass(job) * shape.hidden
    of_block = (
        inputs * setup.compute_bytes
        if setup.gradient_checkpointing
        else _block_bytes(shape, job, setup)
    )
    return shape.layers * of_block + inputs * FLOAT32  # and the last norm's input


def _block_bytes(shape: ModelShape, job: HyperparameterJob, setup: Setup) -> float:
    return (
        tokens_a_pass(job) * block_bytes_a_token(shape, job, setup)
        + _score_bytes(shape, job, setup)
        + _mask_bytes(shape, job, setup)
    )


def block_bytes_a_token(shape: ModelShape, job: HyperparameterJob, setup: Setup) -> float:
    """What a transformer block keeps of a token for its backward pass, attention scores apart."""
    size = setup.compute_bytes
    heads = shape.heads * shape.head_dim
    norms = shape.norms * shape.hidden * FLOAT32
    if shape.query_key_norms:
        norms += (shape.heads + shape.kv_heads) * shape.head_dim * FLOAT32
    # Keys and values are kept repeated for every query head where a mask is given; the log-sum-exp
    # of every head is float32.
    attention = 4 * heads * size + shape.heads * FLOAT32
    # Activation's input and output and what they are multiplied with.
    feed_forward = (3 if shape.gated else 1) * shape.intermediate * size
    return norms + attention + feed_forward + _adapter_bytes_a_token(shape, job, setup)


def _adapter_bytes_a_token(shape: ModelShape, job: HyperparameterJob, setup: Setup) -> float:
    """Inputs of the adapted layers, and of the second halves of their adapters."""
    size = setup.compute_bytes
    groups = adapted(shape, job)
    modules = sum(group.count for group in groups) / shape.layers
    rank = job.lora_r * modules * size
    widths = sum(group.inputs * group.count for group in groups) / shape.layers
    if job.lora_dropout > 0:
        # Each keeps its own, and what was dropped: on a CPU as factors in the adapter's type.
        return widths * (size + (INT8 if setup.on_gpu else adapter_bytes(setup))) + rank
    # peft casts to the adapter's float32 and autocast back: every layer keeps a copy of its own.
    if size < adapter_bytes(setup):
        return widths * size + rank
    # The layers of a block but its last read the same tensor; the attention's last reads what the
    # attention keeps anyway.
    read = {_block(group): group.inputs for group in groups if not _is_last(group, shape)}
    inner = sum(g.inputs for g in groups if _is_last(g, shape) and not g.in_attention)
    return (sum(read.values()) + inner) * size + rank


def _block(group: LinearGroup) -> str:
    return group.name.rpartition(".")[0]


def _is_last(group: LinearGroup, shape: ModelShape) -> bool:
    """Whether it is its block's way out, such as `o_proj` and `down_proj`."""
    return [other for other in shape.linears if _block(other) == _block(group)][-1] == group


def _kernel(shape: ModelShape, job: HyperparameterJob) -> str:
    """The attention kernel, at worst: whether flash attention is there is seen where it trains."""
    if job.attention != "auto":
        return job.attention
    return "eager" if shape.caps_scores else "sdpa"


def _score_bytes(shape: ModelShape, job: HyperparameterJob, setup: Setup) -> float:
    """Attention scores of every pair of tokens, which only eager attention keeps.

    As float32, cast where it computes in less, and once more where they were capped.
    """
    if _kernel(shape, job) != "eager":
        return 0.0
    copies = int(setup.bf16) + int(shape.caps_scores)
    size = FLOAT32 + copies * setup.compute_bytes
    return tokens_a_pass(job) * _mask_width(job) * shape.heads * size


def _mask_bytes(shape: ModelShape, job: HyperparameterJob, setup: Setup) -> float:
    """The attention mask as numbers, of which scaled dot product attention makes and keeps one a
    layer where rows of a batch differ in length or are joined; flash attention needs none.
    """
    if _kernel(shape, job) == "flash_attention_2" or _is_one_row(job):
        return 0.0
    return tokens_a_pass(job) * _mask_width(job) * setup.compute_bytes


def _mask_width(job: HyperparameterJob) -> int:
    """Tokens that each token's scores are for: those of its row, or of all joined rows."""
    return tokens_a_pass(job) if job.packing or job.padding_free else job.max_seq_length


def _is_one_row(job: HyperparameterJob) -> bool:
    return job.batch_size == 1 and not job.packing


def logit_bytes(shape: ModelShape, job: HyperparameterJob, setup: Setup) -> float:
    """The head's results: on a GPU in tiles and never whole, on a CPU logits, log-probabilities
    and gradients of every learned position.
    """
    tokens = tokens_a_pass(job)
    if setup.on_gpu:
        return HEAD_TILE * setup.compute_bytes + tokens * shape.hidden * (FLOAT32 + BFLOAT16)
    return 3 * tokens * shape.vocabulary * FLOAT32


def _process_bytes(setup: Setup) -> float:
    if not setup.on_gpu:
        return CPU_PROCESS
    return CUDA_CONTEXT + (NCCL_BUFFERS if setup.ranks > 1 else 0.0)
