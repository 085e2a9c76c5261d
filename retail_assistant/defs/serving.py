"""Serving: what the champion is deployed with."""

import dagster as dg
from pydantic import Field

from retail_assistant.defs.resources import Launcher, artefact_result
from retail_assistant.evaluation.registry import read_champion
from retail_assistant.evaluation.signatures import sign_file
from retail_assistant.launch.spec import ArtefactRef
from retail_assistant.serving.bundle import NO_IMAGE, SUMS, bundle_spec, model_facts
from retail_assistant.serving.options import get_serving_settings
from retail_assistant.serving.served import Precision, merge_spec, own_precision, served_model
from retail_assistant.settings import get_settings

GROUP = "serving"
OWNERS = ["team:machine-learning"]


class BundleRequest(dg.Config):
    """How the champion is deployed."""

    precision: str = Field(
        default="",
        description="Of the merged weights: float32 or bfloat16; default: as this machine computes"
        " (bfloat16 on CUDA).",
    )
    nim_image: str = Field(
        default=NO_IMAGE, description="NVIDIA NIM's model-free image, for the manifest."
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"huggingface", "kubernetes"},
    deps=["champion", "base_model"],
    code_version="2",
)
def deployment_bundle(
    context: dg.AssetExecutionContext,
    config: BundleRequest,
    launcher: Launcher,
    catalog_index: ArtefactRef,
) -> dg.MaterializeResult[ArtefactRef]:
    """What a server needs to answer as the champion: merged model, adapter, commands, versions.

    With a command for each kind of server, a Kubernetes manifest for NVIDIA NIM, and hashes of all
    files, which are signed where there is a signing key.
    """
    settings = get_settings()
    served = served_model(read_champion(settings), settings)
    merged = launcher.launch(context, merge_spec(served, settings, _precision(config.precision)))
    spec = bundle_spec(
        served,
        merged,
        catalog_index,
        settings,
        max_context_tokens=get_serving_settings().max_context_tokens,
        nim_image=config.nim_image,
    )
    ref = launcher.launch(context, spec)
    sign_file(ref.folder / SUMS, settings)
    return artefact_result(
        ref,
        model_name=served.name,
        folder=dg.MetadataValue.path(str(ref.folder)),
        readme=dg.MetadataValue.md((ref.local / "README.md").read_text()),
        model=dg.MetadataValue.json(model_facts(ref.part("model")).model_dump()),
    )


def _precision(asked: str) -> Precision:
    if asked == "float32":
        return "float32"
    if asked == "bfloat16":
        return "bfloat16"
    if asked:
        raise dg.Failure(
            f"precision={asked}; allowed: float32, bfloat16, or nothing", allow_retries=False
        )
    return own_precision()
