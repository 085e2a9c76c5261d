"""How Gemma 2 9B fits the machines of docs/production.md, by the project's own plan.

    .venv/bin/python benchmarks/sizes.py

Counted, not measured: no GPU and no weights are needed, nor torch. The jobs are those of the study
`retail`, the reference's table, and each once more in 4 bits where it does not fit as it is. The
plan takes as few devices as do; with the largest batch where a job's own does not fit.
"""

from collections.abc import Iterator

from retail_assistant.model_shape import LAYER, LinearGroup, ModelShape
from retail_assistant.settings import SHIPPED_STUDIES
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.alternatives import PlanError
from retail_assistant.training.planning.devices import Devices
from retail_assistant.training.planning.plan import ParallelismPlan, plan
from retail_assistant.training.resources import ResourceRequest
from retail_assistant.training.studies import load_registry

STUDY = "retail"
MACHINES = {
    "L4 x 8 (g2-standard-96)": "8 x NVIDIA L4",
    "A100 40 GB x 2 (a2-highgpu-2g)": "2 x NVIDIA A100-SXM4-40GB",
    "H100 x 1 (a3-highgpu-1g)": "1 x NVIDIA H100 80GB",
}
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 3584, 42, 16, 8, 256
INTERMEDIATE, VOCABULARY, NORMS = 14_336, 256_000, 4
_SIZES = {
    "self_attn.q_proj": (HIDDEN, HEADS * HEAD_DIM),
    "self_attn.k_proj": (HIDDEN, KV_HEADS * HEAD_DIM),
    "self_attn.v_proj": (HIDDEN, KV_HEADS * HEAD_DIM),
    "self_attn.o_proj": (HEADS * HEAD_DIM, HIDDEN),
    "mlp.gate_proj": (HIDDEN, INTERMEDIATE),
    "mlp.up_proj": (HIDDEN, INTERMEDIATE),
    "mlp.down_proj": (INTERMEDIATE, HIDDEN),
}
_LINEARS = tuple(
    LinearGroup(name=f"model.layers.{LAYER}.{name}", inputs=i, outputs=o, count=LAYERS)
    for name, (i, o) in _SIZES.items()
)
_EMBEDDINGS = VOCABULARY * HIDDEN
GEMMA_2_9B = ModelShape(
    architecture="Gemma2ForCausalLM",
    hidden=HIDDEN,
    layers=LAYERS,
    heads=HEADS,
    kv_heads=KV_HEADS,
    head_dim=HEAD_DIM,
    intermediate=INTERMEDIATE,
    norms=NORMS,
    query_key_norms=False,
    caps_scores=True,
    vocabulary=VOCABULARY,
    tied=True,
    parameters=sum(g.parameters for g in _LINEARS) + _EMBEDDINGS + (NORMS * LAYERS + 1) * HIDDEN,
    embedding_parameters=_EMBEDDINGS,
    linears=_LINEARS,
    head=LinearGroup(name="lm_head", inputs=HIDDEN, outputs=VOCABULARY),
)
"""google/gemma-2-9b-it, written down; a test compares it with what transformers makes of its
configuration."""


def variants(job: HyperparameterJob) -> Iterator[tuple[str, HyperparameterJob]]:
    """A job as it is, then with what changes its memory and not what it learns, then in 4 bits."""
    small = {
        "batch_size": 1,
        "gradient_accumulation_steps": job.batch_size * job.gradient_accumulation_steps,
    }
    yield "as it is", job
    yield "batch 1", job.model_copy(update=small)
    yield "batch 1, 4-bit", job.model_copy(update={**small, "quantization": "4bit"})


def size_of(job: HyperparameterJob, devices: str) -> tuple[str, ParallelismPlan] | None:
    """The first variant that fits without offloading, and its plan; None: none does."""
    for label, variant in variants(job):
        try:
            found = plan(variant, ResourceRequest(), GEMMA_2_9B, Devices.parsed(devices))
        except PlanError:
            continue
        if not found.offload:
            return label, found
    return None


def sizes_table() -> str:
    """A markdown table: a row for every job and machine."""
    lines = [
        "| job | tokens | machine | job's change | spread | checkpointing | GiB a GPU | of |",
        "|-|-|-|-|-|-|-|-|",
    ]
    for job in load_registry(SHIPPED_STUDIES).jobs.values():
        if job.study == STUDY:
            lines += [_row(job.name, job.hyperparameters, machine) for machine in MACHINES]
    return "\n".join(lines)


def _row(name: str, job: HyperparameterJob, machine: str) -> str:
    found = size_of(job, MACHINES[machine])
    if found is None:
        cells = ["none fits", "", "", "", ""]
    else:
        label, made = found
        spread = made.strategy if made.ranks == 1 else f"{made.strategy} over {made.ranks}"
        cells = [
            label,
            spread,
            "on" if made.gradient_checkpointing else "off",
            f"{made.estimate.total:.1f}",
            f"{made.available_gib:.1f}",
        ]
    return f"| {' | '.join([name, str(job.max_seq_length), machine, *cells])} |"


if __name__ == "__main__":
    print(sizes_table())
