"""A merged model: an adapter in its base's weights, where somebody asks for one."""

import dagster as dg
from pydantic import Field

from retail_assistant.base_model import BaseModelFacts
from retail_assistant.defs.adapters import GROUP, OWNERS
from retail_assistant.defs.partitions import REGISTRY, job_partitions
from retail_assistant.defs.resources import Launcher, artefact_result
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec, Resources
from retail_assistant.settings import get_settings
from retail_assistant.training.merge import MergeConfig
from retail_assistant.training.model_card import CARD_NAME, card_text

BYTES_A_PARAMETER = 4
SPARE_GIB = 2.0


class MergeRequest(dg.Config):
    """What the merged model is also written as."""

    gguf: str | None = Field(
        default=None,
        description="Also one GGUF file for llama.cpp: bf16, f16 or q8_0 (Llama-type models).",
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"huggingface"},
    partitions_def=job_partitions,
    code_version="1",
)
def merged_model(
    context: dg.AssetExecutionContext,
    config: MergeRequest,
    launcher: Launcher,
    adapter: ArtefactRef,
    base_model: ArtefactRef,
) -> dg.MaterializeResult[ArtefactRef]:
    """The base model in bfloat16 with the adapter merged in, for servers without LoRA; on demand.

    Its logits are compared with those of base and adapter apart; a merge that changed them fails.
    """
    job = REGISTRY.job(context.partition_key)
    facts = BaseModelFacts.model_validate_json(base_model.path("facts").read_text())
    asked = MergeConfig.model_validate(config.model_dump())
    spec = LaunchSpec(
        name="merged_model",
        module="retail_assistant.training.merge",
        config=asked.model_dump(mode="json"),
        inputs={"adapter": adapter.fingerprint, "base_model": base_model.fingerprint},
        paths={"adapter": adapter.folder / "adapter", "base_model": base_model.folder / "model"},
        code_version="1",
        root=get_settings().storage,
        resources=Resources(
            memory_gib=facts.parameters * BYTES_A_PARAMETER / 2**30 + SPARE_GIB,
        ),
        tracking={"tag.job": job.name, "tag.study": job.study},
    )
    ref = launcher.launch(context, spec)
    metrics = ref.manifest().metrics
    return artefact_result(
        ref,
        study=job.study,
        model_card=dg.MetadataValue.md(card_text(ref.path(CARD_NAME))),
        model=dg.MetadataValue.path(ref.folder / "model"),
        **{name: metrics[name] for name in metrics if isinstance(metrics[name], int | float)},
    )
