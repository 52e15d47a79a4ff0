"""What the planner nodes offer of the models folder: templates that a user writes, and the models that plan."""

import os
from pathlib import Path

import folder_paths

from ..planner.asking.templates import CHOICES, LONGEST, Template, load_template
from ..planner.models.files import models_below
from ..planner.plan import PlanError

# Also the key of extra_model_paths.yaml for templates that lie elsewhere.
FOLDER = "replan_templates"
_SUFFIXES = (".txt", ".md", ".jinja")
# Where people keep whole language-model folders, besides the host's own text_encoders.
_MODEL_FOLDERS = ("LLM", "VLM")
NO_MODEL = "(no model found)"

folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))


def template_names() -> list[str]:
    """What a node offers: the pack's templates by name, then the user's files."""
    files = [name for name in folder_paths.get_filename_list(FOLDER) if name.lower().endswith(_SUFFIXES)]
    return [*CHOICES, *files]


def chosen_template(name: str) -> Template:
    """The template of that name. Raises PlanError for a file that is gone, is no text in UTF-8, or is no template."""
    if name in CHOICES:
        return load_template(name)
    path = _path(name)
    if os.path.getsize(path) > 4 * LONGEST:
        raise PlanError(
            f"the template '{name}' has {os.path.getsize(path)} bytes; a template has at most {LONGEST} characters"
        )
    try:
        with open(path, encoding="utf-8") as file:
            return load_template(name, file.read())
    except UnicodeDecodeError:
        raise PlanError(f"the template '{name}' is not a text file; save it as plain text in UTF-8") from None


def template_stamp(name: str) -> str:
    """What changes when the user saves the template again, so that the host then runs its node again."""
    return name if name in CHOICES else f"{name} {os.stat(_path(name)).st_mtime_ns}"


def _path(name: str) -> str:
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        places = " or ".join(folder_paths.get_folder_paths(FOLDER))
        raise PlanError(f"there is no template file '{name}' in {places}; put it there, or choose another template")
    return path


def model_names() -> list[str]:
    """What the loader node offers: model folders first, then files; NO_MODEL when there is nothing."""
    found = _models()
    return sorted(found, key=lambda name: (found[name].is_file(), name.casefold())) or [NO_MODEL]


def model_path(name: str) -> Path:
    """The place of a model that the loader node offers. Raises PlanError when there is none of that name."""
    path = _models().get(name)
    if path is None:
        raise PlanError(
            f"there is no model '{name}' below models/text_encoders, models/LLM or models/VLM; put a Qwen2.5-VL or Qwen3-VL file, or a "
            "whole model folder with config.json, there and press R"
        )
    return path


def _models() -> dict[str, Path]:
    places = folder_paths.get_folder_paths("text_encoders")
    for name in _MODEL_FOLDERS:
        if name in folder_paths.folder_names_and_paths:
            places += folder_paths.get_folder_paths(name)
        places.append(os.path.join(folder_paths.models_dir, name))
    return models_below(list(dict.fromkeys(places)))
