"""A model's own words on what it is: the README.md that goes with its weights."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.launch.workload import package_versions

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"
CARD_NAME = "README.md"
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")
SAMPLES_SHOWN = 3
SAMPLE_LENGTH = 600
MARKDOWN = re.compile(r"([\\`*_\[\]|#~!])")
# The hub's names of licences that it does not know by SPDX identifiers: told as "other".
UNKNOWN_LICENCES = ("", "unknown", "None")

INTENDED = {
    "assistant": "To answer a shopper's questions about the products of one retailer's catalog,"
    " in the prompts that this project renders; a person or a shop's own checks stand between its"
    " answers and a purchase.",
    "product_description": "To draft descriptions of products of one retailer's catalog from their"
    " attributes; a person reads them before shoppers do.",
    "sentiment": "To label short texts with one of two labels, by which of them it finds likelier"
    " after `[Text]: … [Sentiment]:`; see its classification report for how far its probabilities"
    " can be trusted.",
}
LIMITS = (
    "It knows the catalog version that it was trained on, and none after; prices and stock change.",
    "Asked about products that do not exist, it may make up an answer; see the hallucination and"
    " abstention rates of its evaluation report.",
    "It was trained on prompts of one style and language; other styles were not measured.",
    "It inherits whatever biases its base model has; fine-tuning measured none of them.",
)
# Manifest metric -> its words; in this order.
MEASURES = {
    "train_rows": "training rows",
    "rows_too_long": "rows left out as too long",
    "train_tokens": "tokens seen",
    "learned_tokens": "tokens learned from",
    "steps": "optimizer steps",
    "train_loss": "training loss (nats a token)",
    "eval_loss": "validation loss (nats a token)",
    "best_step": "best step by validation loss",
    "trainable_parameters": "trainable parameters",
    "parameters": "parameters in all",
    "train_seconds": "seconds of training",
    "tokens_per_second": "tokens a second",
    "mfu": "model FLOP utilisation (4N FLOP a token)",
    "peak_memory_mib": "peak memory (MiB)",
    "gpu_peak_memory_mib": "peak GPU memory (MiB)",
    "energy_kwh": "energy (kWh, the whole machine)",
    "processes": "processes",
    "max_logit_difference": "largest difference of a logit, merged and unmerged",
}


class Sample(BaseModel):
    """An answer that shows how the model speaks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    answer: str


class ModelCardFacts(BaseModel):
    """What a model card says; every text may come from a catalog, and is escaped."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["adapter", "merged"] = "adapter"
    fingerprint: str
    job: str | None = Field(default=None, description="The job that made it first.")
    study: str | None = None
    task: str = "assistant"
    base_model: str
    base_revision: str = "unknown"
    base_licence: str = "unknown"
    inputs: dict[str, str] = {}
    hyperparameters: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    samples: tuple[Sample, ...] = ()


def card_facts(
    spec: LaunchSpec, metrics: Mapping[str, Any], samples: Sequence[Sample] = ()
) -> ModelCardFacts:
    """The facts of a training's card, from its specification and what it measured."""
    base = base_model_facts(spec)
    return ModelCardFacts(
        fingerprint=spec.fingerprint,
        job=spec.tracking.get("tag.job"),
        study=spec.tracking.get("tag.study"),
        task=str(spec.config.get("task", "assistant")),
        base_model=str(base.get("name", spec.paths["base_model"].name)),
        base_revision=str(base.get("revision", spec.inputs["base_model"])),
        base_licence=str(base.get("licence", "unknown")),
        inputs=spec.inputs,
        hyperparameters=dict(spec.config.get("hyperparameters", {})),
        metrics=dict(metrics),
        samples=tuple(samples),
    )


def base_model_facts(spec: LaunchSpec) -> Mapping[str, Any]:
    """What was kept of a spec's base model (`BaseModelFacts`); empty where nothing was.

    A card or a tracked run does without it, and older artefacts know less.
    """
    path = spec.paths["base_model"].parent / "facts.json"
    try:
        told: Mapping[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return told


def write_model_card(folder: Path, facts: ModelCardFacts) -> Path:
    """Write `README.md` into a folder of weights, as the Hugging Face hub reads it."""
    from huggingface_hub import ModelCard

    card = ModelCard.from_template(_card_data(facts), template_path=str(TEMPLATE), **_words(facts))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CARD_NAME
    card.save(path)
    return path


def card_text(path: Path) -> str:
    """A card's words, without the header for machines."""
    from huggingface_hub import ModelCard

    return str(ModelCard.load(path).text).strip()


def _card_data(facts: ModelCardFacts) -> Any:
    from huggingface_hub import ModelCardData

    licence = facts.base_licence
    return ModelCardData(
        license="other" if licence in UNKNOWN_LICENCES else licence,
        license_name=None,
        library_name="peft" if facts.kind == "adapter" else "transformers",
        pipeline_tag="text-generation",
        base_model=facts.base_model,
        tags=["retail", "lora", facts.task],
    )


def _words(facts: ModelCardFacts) -> dict[str, Any]:
    what = "LoRA adapter" if facts.kind == "adapter" else "Merged model"
    shown = [name for name in MEASURES if facts.metrics.get(name) is not None]
    identity = {
        "fingerprint": facts.fingerprint,
        "job": facts.job,
        "study": facts.study,
        "task": facts.task,
        "base model": facts.base_model,
        "revision": facts.base_revision,
        "chat rendering": facts.metrics.get("prompt_style"),
    }
    return {
        "title": f"{what} {escaped(facts.job or facts.fingerprint)}",
        "summary": _summary(facts),
        "identity": [(name, escaped(value)) for name, value in identity.items() if value],
        "intended": INTENDED.get(facts.task, INTENDED["assistant"]),
        "limits": _limits(facts),
        "licence": _licence(facts),
        "inputs": [(escaped(name), escaped(value)) for name, value in facts.inputs.items()],
        "hyperparameters": [
            (escaped(name), escaped(value)) for name, value in facts.hyperparameters.items()
        ],
        "measured": [(MEASURES[name], _shown(facts.metrics[name])) for name in shown],
        "samples": [
            Sample(
                prompt=escaped(one.prompt, SAMPLE_LENGTH), answer=escaped(one.answer, SAMPLE_LENGTH)
            )
            for one in facts.samples[:SAMPLES_SHOWN]
        ],
        "packages": ", ".join(
            f"{name} {version}" for name, version in package_versions(PACKAGES).items()
        ),
    }


def _summary(facts: ModelCardFacts) -> str:
    base = escaped(facts.base_model)
    if facts.kind == "adapter":
        return (
            f"A low-rank update of {base}, trained on a retailer's catalog. The weights alone are"
            " no model: they are loaded on top of the base model's, or merged into them."
        )
    return (
        f"{base} with a low-rank update merged into its weights; the logits agree with those of"
        " base and adapter apart, to the tolerance below."
    )


def _limits(facts: ModelCardFacts) -> list[str]:
    quantization = facts.hyperparameters.get("quantization", "none")
    if facts.kind == "adapter" or quantization == "none":
        return list(LIMITS)
    return [
        *LIMITS,
        f"The adapter was trained on the base in {escaped(quantization)}, and merged into the plain"
        " base: evaluate the merged model itself.",
    ]


def _licence(facts: ModelCardFacts) -> str:
    if facts.base_licence in UNKNOWN_LICENCES:
        return (
            "The base model's licence is not known; find it out before this is used: what is"
            " trained on a model falls under that model's terms."
        )
    return (
        f"The base model is under the licence {escaped(facts.base_licence)}, whose terms hold for"
        " this too. The catalog's owner decides on the data."
    )


def escaped(value: Any, length: int = 2000) -> str:
    """Text of any origin as one line of markdown that means nothing but itself."""
    line = " ".join(str(value).split())
    cut = line if len(line) <= length else line[: length - 1] + "…"
    return MARKDOWN.sub(r"\\\1", html.escape(cut, quote=False))


def _shown(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return escaped(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
