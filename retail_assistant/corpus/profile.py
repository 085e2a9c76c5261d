"""How the corpus is made: one YAML file of policies, every section of which may be left out."""

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retail_assistant.corpus.approval import ApprovalPolicy
from retail_assistant.corpus.generators.policy import GenerationPolicy, GeneratorChoice
from retail_assistant.corpus.labelled_texts import LabellingPolicy
from retail_assistant.corpus.planning import DialoguePolicy
from retail_assistant.corpus.screens.policy import ScreenPolicy
from retail_assistant.corpus.tasks import RenderingPolicy
from retail_assistant.profiles import load_profile
from retail_assistant.settings import SettingsError, get_settings


class CorpusProfile(BaseModel):
    """What is asked, how a model is asked to write it, what is screened out, what is rendered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dialogues: DialoguePolicy = Field(
        default=DialoguePolicy(), description="how much is asked about each product"
    )
    generation: GenerationPolicy = Field(
        default=GenerationPolicy(), description="how a model is asked: speed, retries, cost"
    )
    screens: ScreenPolicy = Field(
        default=ScreenPolicy(), description="which dialogues are rejected"
    )
    approval: ApprovalPolicy = Field(
        default=ApprovalPolicy(), description="how much the data steward is shown"
    )
    rendering: RenderingPolicy = Field(
        default=RenderingPolicy(), description="how texts become prompts"
    )
    sentiment: LabellingPolicy = Field(
        default=LabellingPolicy(), description="what a file of labelled texts holds"
    )


def get_corpus_profile() -> CorpusProfile:
    """The profile that the settings name (`RETAIL_CORPUS_PROFILE`)."""
    path = get_settings().corpus_profile
    return _at(path, path.stat().st_mtime_ns if path.is_file() else 0)


def generator_choice() -> GeneratorChoice:
    """Who writes the dialogues, by the settings `RETAIL_GENERATOR…`.

    Raises:
        SettingsError: they do not go together.
    """
    settings = get_settings()
    try:
        return GeneratorChoice(
            kind=settings.generator,
            model=settings.generator_model,
            url=settings.generator_url,
            location=settings.generator_location,
        )
    except ValidationError as error:
        problem = error.errors()[0]
        field = "_".join(("RETAIL_GENERATOR", *map(str, problem["loc"]))).upper()
        raise SettingsError(f"{field}: {problem['msg']}") from None


@cache
def _at(path: Path, _changed: int) -> CorpusProfile:
    return load_profile(path, CorpusProfile)
