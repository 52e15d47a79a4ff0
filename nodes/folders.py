"""What nodes offer of the models folder: a user's templates, the models that plan, and weights of the fusion."""

import os
from pathlib import Path

import folder_paths

from ..planner.asking.templates import LONGEST, TEMPLATES, Template, load_template
from ..planner.models.files import PUBLISHED_TEMPLATE, models_below
from ..planner.models.interface import PlannerModel
from ..planner.plan import Notice, PlanError

# Also the key of extra_model_paths.yaml for templates that lie elsewhere.
FOLDER = "replan_templates"
_SUFFIXES = (".txt", ".md", ".jinja")
# Where people keep whole language-model folders, besides ComfyUI's own text_encoders.
_MODEL_FOLDERS = ("LLM", "VLM")
NO_MODEL = "(no model found)"
# The template that fits the planner.
AUTO = "auto"

# The same for weights of the gated fusion.
FUSION_FOLDER = "replan_fusion"

for _folder in (FOLDER, FUSION_FOLDER):
    folder_paths.add_model_folder_path(_folder, os.path.join(folder_paths.models_dir, _folder))


def template_names() -> list[str]:
    """What a node offers: the pack's templates by name, then the user's files."""
    return [*TEMPLATES, *_files()]


def chosen_template(name: str) -> Template:
    """The template of that name. Raises PlanError for a file that is gone, is no text in UTF-8, or is no template."""
    return load_template(name) if name in TEMPLATES else _read(name, _path(name))


def template_for(name: str, planner: PlannerModel) -> tuple[Template, tuple[Notice, ...]]:
    """The template that a planner is asked with, and what there is to tell of the choice.

    `auto` is the one that the planner was trained on, a file of the user's in the templates folder or beside the model;
    `edit` for a planner without one, or when it is in neither place, which is told.
    """
    if name != AUTO:
        return chosen_template(name), ()
    beside = planner.trained_template
    if beside is None:
        return load_template("edit"), ()
    for file in _named(beside.name):
        return _read(file, _path(file)), ()
    if beside.is_file():
        return _read(beside.name, str(beside)), ()
    missing = Notice(
        "trained_template_missing",
        f"{planner.label} was trained on the wording of {beside.name}, which is neither in models/{FOLDER} nor beside "
        "the model: 'edit' was used",
        f"put {beside.name} there; it is in replan/pipelines/prompt_template of the published code "
        "(JIA-Lab-research/RePlan)",
    )
    return load_template("edit"), (missing,)


def template_stamp(name: str) -> str:
    """What changes when the user saves the template again, so that ComfyUI then runs its node again."""
    if name in TEMPLATES:
        return name
    files = _named(PUBLISHED_TEMPLATE) if name == AUTO else [name]
    return " ".join([name, *(f"{file} {os.stat(_path(file)).st_mtime_ns}" for file in files)])


def _files() -> list[str]:
    return [name for name in folder_paths.get_filename_list(FOLDER) if name.lower().endswith(_SUFFIXES)]


def _named(name: str) -> list[str]:
    """The user's templates of that name, in whatever folder."""
    return [file for file in _files() if Path(file).name.casefold() == name]


def _read(name: str, path: str) -> Template:
    if os.path.getsize(path) > 4 * LONGEST:
        raise PlanError(
            f"the template '{name}' has {os.path.getsize(path)} bytes; a template has at most {LONGEST} characters, "
            "shorten it"
        )
    try:
        with open(path, encoding="utf-8") as file:
            return load_template(name, file.read())
    except UnicodeDecodeError:
        raise PlanError(f"the template '{name}' is not a text file; save it as plain text in UTF-8") from None


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
            f"there is no model '{name}' below models/text_encoders, models/LLM or models/VLM; put a Qwen2.5-VL or "
            "Qwen3-VL file, or a whole model folder with config.json, there and press R"
        )
    return path


def _models() -> dict[str, Path]:
    places = folder_paths.get_folder_paths("text_encoders")
    for name in _MODEL_FOLDERS:
        if name in folder_paths.folder_names_and_paths:
            places += folder_paths.get_folder_paths(name)
        places.append(os.path.join(folder_paths.models_dir, name))
    return models_below(list(dict.fromkeys(places)))


def fusion_names() -> list[str]:
    """The files with weights of a gated fusion that RePlan Alignment offers."""
    return [name for name in folder_paths.get_filename_list(FUSION_FOLDER) if name.lower().endswith(".safetensors")]


def fusion_path(name: str) -> str:
    """The place of such a file. Raises PlanError when there is none of that name."""
    path = folder_paths.get_full_path(FUSION_FOLDER, name)
    if path is None:
        raise PlanError(
            f"there are no fusion weights '{name}' in models/{FUSION_FOLDER}; put the file there and press R, or "
            "choose 'mean'"
        )
    return path


def fusion_stamp(name: str) -> str:
    """What changes when the file does, so that ComfyUI then runs its node again."""
    return f"{name} {os.stat(fusion_path(name)).st_mtime_ns}"
