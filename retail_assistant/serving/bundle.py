"""The deployment bundle: the champion's files, and how each kind of server is started with them.

`python -m retail_assistant.serving.bundle --spec spec.json` leaves:

    bundle.json          what it is: champion, index, prompt renderer, model (read from its folder)
    model/               base and adapter merged
    adapters/<name>/     the adapter alone, under the name that it is asked by
    start-<variant>.sh   a command for each kind of server
    nim.yaml             a NIM for Kubernetes: deployment and service
    README.md            what to do with it
    SHA256SUMS           hashes of all of these, which the commands compare before they start

Nothing describes the model beside its own files: architecture, precision, vocabulary and where
answers stop are read from there. The sizes and hashes of all files are in `manifest.json`.
"""

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.corpus.rendering import PROMPT_VERSION
from retail_assistant.evaluation.adapter_weights import adapter_config, rank_step
from retail_assistant.evaluation.registry import Champion
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec
from retail_assistant.launch.workload import Workload, workload
from retail_assistant.serving.model_servers.commands import adapter_arguments, options
from retail_assistant.serving.served import ServedModel
from retail_assistant.settings import Settings
from retail_assistant.storage import file_sha256, write_atomically

BUNDLE = "deployment_bundle"
TEMPLATES = Path(__file__).parent / "templates" / "bundle"
SUMS = "SHA256SUMS"
NO_IMAGE = "nvcr.io/nim/nvidia/IMAGE:TAG"


class BundleConfig(BaseModel):
    """What goes into a bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    champion: Champion
    name: str = Field(description="What the model is asked by; never used for another.")
    style: str = Field(description="How prompts are rendered.")
    index: str = Field(description="Fingerprint of the catalog index.")
    prompt: str = Field(description="Version of the prompt renderer.")
    max_context_tokens: int
    nim_image: str


class ModelFacts(BaseModel):
    """What a model's own folder says of it."""

    model_config = ConfigDict(frozen=True)

    architecture: str
    precision: str
    context_length: int | None
    vocabulary_size: int
    end_tokens: list[int]
    has_chat_template: bool
    bytes: int


def model_facts(folder: Path) -> ModelFacts:
    """Read a model folder's configuration; no weights are loaded."""
    config = json.loads((folder / "config.json").read_text())
    generation = json.loads((folder / "generation_config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    return ModelFacts(
        architecture=", ".join(config.get("architectures") or [config["model_type"]]),
        precision=config.get("dtype") or config.get("torch_dtype") or "float32",
        context_length=config.get("max_position_embeddings"),
        vocabulary_size=config["vocab_size"],
        end_tokens=ends if isinstance(ends, list) else [ends],
        has_chat_template=(folder / "chat_template.jinja").is_file()
        or bool(tokenizer.get("chat_template")),
        bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
    )


def bundle_spec(
    served: ServedModel,
    merged: ArtefactRef,
    index: ArtefactRef,
    settings: Settings,
    *,
    max_context_tokens: int,
    nim_image: str = NO_IMAGE,
) -> LaunchSpec:
    """The work that lays out a bundle."""
    config = BundleConfig(
        champion=served.champion,
        name=served.name,
        style=served.style,
        index=index.fingerprint,
        prompt=PROMPT_VERSION,
        max_context_tokens=max_context_tokens,
        nim_image=nim_image,
    )
    return LaunchSpec(
        name=BUNDLE,
        module="retail_assistant.serving.bundle",
        config=config.model_dump(mode="json"),
        inputs={
            "champion": served.champion.adapter.fingerprint,
            "base_model": served.champion.base_model,
            "model": merged.fingerprint,
            "catalog_index": index.fingerprint,
        },
        paths={"adapter": served.adapter, "model": merged.part("model")},
        code_version="2",
        root=settings.storage,
    )


def lay_out(folder: Path, model: Path, adapter: Path, config: BundleConfig) -> list[Path]:
    """Fill a folder; the files that it then holds."""
    facts = model_facts(model)
    _take(model, folder / "model")
    _take(adapter, folder / "adapters" / config.name)
    told = {**config.model_dump(mode="json"), "model": facts.model_dump(mode="json")}
    write_atomically(folder / "bundle.json", json.dumps(told, indent=2))
    shown = {
        **told,
        "base": adapter_config(adapter).get("base_model_name_or_path") or "the base model",
        "facts": facts,
        "adapter_options": shlex.join(options(adapter_arguments([adapter]))),
        "rank": rank_step(adapter),
        "gib": f"{facts.bytes / 2**30:.2f}",
    }
    for template in sorted(TEMPLATES.glob("*.j2")):
        path = folder / template.stem
        write_atomically(path, _filled(template, shown))
        if path.suffix == ".sh":
            path.chmod(0o755)
    files = sorted(_files(folder))
    # As sha256sum (GNU coreutils) writes and reads them.
    lines = [f"{file_sha256(path)}  {path.relative_to(folder)}\n" for path in files]
    write_atomically(folder / SUMS, "".join(lines))
    return [*files, folder / SUMS]


def _take(source: Path, folder: Path) -> None:
    """The files of a folder in another one; on the same disk they are not written again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_file():
            try:
                os.link(path.resolve(), folder / path.name)
            except OSError:
                shutil.copyfile(path, folder / path.name)


def _files(folder: Path) -> Iterator[Path]:
    yield folder / "bundle.json"
    yield from (folder / template.stem for template in TEMPLATES.glob("*.j2"))
    for part in ("model", "adapters"):
        yield from (path for path in (folder / part).rglob("*") if path.is_file())


def _filled(template: Path, shown: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # nosec B701
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (shell, YAML and Markdown: names are fit for all of them)
    )
    environment.filters["quoted"] = shlex.quote
    return environment.get_template(template.name).render(shown)


def _run(work: Workload, config: BundleConfig) -> None:
    paths = work.spec.paths
    for path in lay_out(work.folder, paths["model"], paths["adapter"], config):
        work.output(str(path.relative_to(work.folder)), path)
    facts = model_facts(work.folder / "model")
    work.metrics = {"size_mib": round(facts.bytes / 2**20, 1), "model_name": config.name}


def main() -> None:
    """Entry point of the workload."""
    with workload("Lay out what servers of the champion need.") as work:
        _run(work, BundleConfig.model_validate(work.spec.config))


if __name__ == "__main__":
    main()
