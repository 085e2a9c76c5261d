"""The champion as a model server gets it: its adapter beside the base, or both merged."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retail_assistant.corpus.encoding import Encoder, PromptStyle
from retail_assistant.evaluation.champion_history import require_trusted
from retail_assistant.evaluation.registry import Champion
from retail_assistant.launch.spec import (
    ArtefactRef,
    LaunchSpec,
    Resources,
    artefact_at,
    require_intact,
)
from retail_assistant.settings import Settings
from retail_assistant.training.planning.devices import local_devices

MERGED = "served_model"
SPARE_GIB = 2.0

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class ServedModel:
    """The files of a champion, and the name that servers know it by, which never changes."""

    champion: Champion
    base: Path
    style: PromptStyle

    @property
    def name(self) -> str:
        """As `served_name`."""
        return served_name(self.champion)

    @property
    def adapter(self) -> Path:
        """Folder of its PEFT adapter."""
        return self.champion.adapter.part("adapter")

    def intact_base(self) -> Path:
        """Folder of the base model, as it was made: asked whenever a server starts.

        Raises:
            StorageError: it was altered; says which file.
        """
        require_intact(self.base.parent, self.base.name)
        return self.base

    def encoder(self) -> Encoder:
        """What makes tokens of its prompts, as in training (loads the tokenizer)."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.base, trust_remote_code=False)
        return Encoder(tokenizer, self.style)


def served_name(champion: Champion) -> str:
    """`<job>-<fingerprint>`, fit for a file name: never used for two models."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', champion.job)}-{champion.adapter.fingerprint}"


def served_model(champion: Champion, settings: Settings) -> ServedModel:
    """What is served of a champion.

    Raises:
        LaunchError: its adapter is gone.
        StorageError: a file of it was altered, or it is not signed as is asked for.
    """
    require_trusted(champion, settings)
    base = artefact_at(settings.storage, "base_model", champion.base_model).part("model")
    # As it was trained; what was trained before there was a choice says nothing of it.
    style = champion.adapter.manifest().metrics.get("prompt_style", "chat")
    return ServedModel(champion, base, style)


def own_precision() -> Precision:
    """How models are computed with on this machine (see `vllm_options`)."""
    return "bfloat16" if local_devices().kind == "cuda" else "float32"


def merge_spec(served: ServedModel, settings: Settings, precision: Precision) -> LaunchSpec:
    """The work that merges a champion for serving; its result is the folder `model`."""
    size = sum(path.stat().st_size for path in served.base.glob("*.safetensors"))
    return LaunchSpec(
        name=MERGED,
        module="retail_assistant.serving.merge_served",
        config={"precision": precision, "style": served.style},
        inputs={
            "adapter": served.champion.adapter.fingerprint,
            "base_model": served.champion.base_model,
        },
        paths={"adapter": served.adapter, "base_model": served.base},
        code_version="1",
        root=settings.storage,
        resources=Resources(memory_gib=3 * size / 2**30 + SPARE_GIB),
    )


def merged_folder(ref: ArtefactRef) -> Path:
    """The model folder of a finished merge."""
    return ref.part("model")
