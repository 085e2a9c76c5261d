"""Profiles: YAML files of policies, each section a model of its own, every one of them optional."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from retail_assistant.yaml_files import YamlError, parsed_yaml

Profile = TypeVar("Profile", bound=BaseModel)


class ProfileError(ValueError):
    """A profile that cannot be used: file, section, field, value and what is allowed."""


def load_profile(path: Path, model: type[Profile]) -> Profile:
    """The profile in the YAML file `path`.

    Raises ProfileError for a file that is absent or no YAML, and for unknown or wrong fields.
    """
    try:
        content = parsed_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YamlError) as error:
        cause = " ".join(str(error).split())[:300]
        raise ProfileError(f"profile {path} cannot be read ({cause}); allowed: YAML") from error
    try:
        return model.model_validate({} if content is None else content)
    except ValidationError as error:
        raise ProfileError(f"profile {path}: {_problems(error, model)}") from error


def _problems(error: ValidationError, model: type[BaseModel]) -> str:
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"]) or "the file"
        given = "" if problem["type"] == "missing" else f" (given: {str(problem['input'])[:80]})"
        lines.append(f"{place}: {problem['msg']}{given}")
    return f"{'; '.join(lines)}; sections: {', '.join(model.model_fields)}"
