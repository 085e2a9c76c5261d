"""Dockerfiles, read as Docker reads them: instructions, stages, environment, command."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from retail_assistant_tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "images"
HOME, ENVIRONMENT = "/var/lib/retail-assistant", "/opt/venv"
_PAIR = re.compile(r'([A-Za-z_.]+)=("[^"]*"|\S+)')


@dataclass
class Stage:
    """A stage: what it is from, and its instructions, those that it inherits not included."""

    source: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """The arguments of every such instruction."""
        return [arguments for name, arguments in self.instructions if name == instruction]


@dataclass
class Image:
    """What a target becomes: its stage and those that it inherits from, the first one first."""

    arguments: dict[str, str]
    lineage: list[Stage]

    def all(self, instruction: str) -> list[str]:
        """The arguments of every such instruction, inherited ones first."""
        return [one for stage in self.lineage for one in stage.all(instruction)]

    @property
    def base(self) -> str:
        """The image of a registry that it begins with."""
        source = self.lineage[0].source
        return re.sub(r"\$\{(\w+)\}", lambda found: self.arguments[found[1]], source)

    @property
    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        return {name: value for text in self.all("ENV") for name, value in pairs(text).items()}

    @property
    def labels(self) -> dict[str, str]:
        """What LABEL sets."""
        return {name: value for text in self.all("LABEL") for name, value in pairs(text).items()}

    @property
    def command(self) -> list[str]:
        """The whole command line: ENTRYPOINT, then CMD; both in their exec form."""
        return [
            word
            for instruction in ("ENTRYPOINT", "CMD")
            for text in self.all(instruction)[-1:]
            for word in json.loads(text)
        ]


def pairs(text: str) -> dict[str, str]:
    """`NAME=value NAME="a value"`."""
    return {name: value.strip('"') for name, value in _PAIR.findall(text)}


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and arguments, continued lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name.upper(), arguments) for name, arguments in found]


def stages(path: Path) -> tuple[dict[str, str], dict[str, Stage]]:
    """The arguments before the first stage, and the stages by name (the last one also as "")."""
    arguments: dict[str, str] = {}
    found: dict[str, Stage] = {}
    latest: Stage | None = None
    for name, text in instructions(path):
        if name == "FROM":
            source, _, alias = re.sub(r"--platform=\S+\s+", "", text).partition(" AS ")
            latest = Stage(source.strip(), alias.strip())
            found[alias.strip()] = latest
        elif latest is None:
            arguments |= pairs(text)
        else:
            latest.instructions.append((name, text))
    assert latest is not None, f"{path} has no stage"
    found[""] = latest
    return arguments, found


def image(file: str, target: str = "") -> Image:
    """What `docker build --file deploy/images/<file> --target <target>` makes."""
    arguments, found = stages(FOLDER / file)
    lineage = [found[target]]
    while lineage[0].source in found:
        lineage.insert(0, found[lineage[0].source])
    return Image(arguments, lineage)


IMAGES = {
    "retail-assistant-code": image("code.Dockerfile"),
    "retail-assistant-gpu": image("gpu.Dockerfile", "gpu"),
    "retail-assistant-serve": image("gpu.Dockerfile", "serve"),
    "retail-assistant-cpu": image("cpu.Dockerfile"),
}
LOCKS = {
    "retail-assistant-code": "code",
    "retail-assistant-gpu": "gpu-image",
    "retail-assistant-serve": "gpu-image",
    "retail-assistant-cpu": "cpu-image",
}
