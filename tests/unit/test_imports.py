"""Who may import whom, read from the sources: the packages of the pack, the parts of the host, heavy libraries."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("nodes", "planner", "attention", "evaluation")
FILES = [
    ROOT / "__init__.py",
    *(file for folder in PACKAGES for file in sorted((ROOT / folder).rglob("*.py"))),
]

# What is there at no cost once the host runs.
LIGHT = {"numpy", "torch", "PIL", "comfy", "comfy_api", "comfy_extras", "comfy_execution"}
# The host: what any file of `attention` that touches it may use, and its two sides.
COMMON = ("comfy.model_management", "comfy.utils")
DIFFUSION = (
    "comfy.model", "comfy.sample", "comfy.patcher_extension", "comfy.ldm", "comfy.k_diffusion", "comfy.conds",
    "comfy.controlnet",
    "comfy.hooks", "comfy.latent_formats", "comfy.lora", "comfy.ops", "comfy.supported_models", "comfy.weight_adapter",
    "comfy.cldm",
)  # fmt: skip
TEXT = ("comfy.text_encoders", "comfy.sd", "comfy.clip", "comfy_extras")
DIFFUSION_FILES = {"attention/wrappers.py", "attention/override.py", "attention/families.py"}
# The one file that knows where a user's files lie.
FOLDER_FILES = {"nodes/folders.py"}
# The one that answers the page on ComfyUI's server, and the one that knows which node is being executed.
SERVER_FILES = {"nodes/page_routes.py"}
RUN_FILES = {"nodes/notices.py"}
# The readers of planning models, and what of the host they may use: its language models and its memory.
MODEL_FILES = {
    f"planner/models/{name}.py" for name in ("host", "host_weights", "folder", "folder_model", "memory", "spread")
}
LANGUAGE = (*COMMON, *TEXT, "comfy.model_patcher", "comfy.ops")
TEXT_FOLDER = "attention/hints/"

# What each room of `planner` may use besides itself; what lies beside the rooms is `plan` and the cells of its boxes.
ROOMS = {
    "": ("geometry",),
    "plans": ("plan", "geometry"),
    "replies": ("plan", "geometry", "plans"),
    "pictures": ("plan", "geometry", "plans"),
    "models": ("plan", "geometry", "plans"),
    "asking": ("plan", "geometry", "plans", "replies", "pictures", "models"),
}

# What a judge and a report need of the planner: plans, images cut and drawn, templates filled, a model asked and read.
EVALUATION_USES = (
    "planner.plan.", "planner.geometry.", "planner.plans.", "planner.pictures.", "planner.replies.",
    "planner.models.interface.", "planner.asking.templates.", "planner.asking.second_look.",
)  # fmt: skip


def imports(file: str, source: str) -> list[tuple[str, bool]]:
    """Absolute names of all that a file of the pack imports, and whether it does when it is itself imported.

    Parts of the pack are named 'replan....'; `from a import b` counts as a.b. What only a type checker imports
    counts as imported.
    """
    found = []
    package = ["replan", *file.removesuffix(".py").split("/")[:-1]]

    def visit(node: ast.AST, top: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [] if node.level == 0 else package[: len(package) - node.level + 1]
            start = ".".join([*base, *([node.module] if node.module else [])])
            found.extend((f"{start}.{alias.name}", top) for alias in node.names)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, top and not inside)

    visit(ast.parse(source), True)
    return found


def faults(file: str, source: str) -> list[str]:
    """What a file imports though it may not."""
    folder = file.split("/")[0] if "/" in file else ""
    wrong = []
    for name, top in imports(file, source):
        root, _, rest = name.partition(".")
        part = rest.split(".")[0]
        if root == "replan":
            allowed = {
                "": part == "nodes" and not top,
                "nodes": True,
                "planner": part == "planner",
                "attention": part == "attention" or rest.startswith("planner.plan."),
                "evaluation": part == "evaluation" or rest.startswith(EVALUATION_USES),
            }[folder]
            # In a package's own __init__ or beside it, a part of the pack may be named without more.
            if folder == "planner" and part == "planner":
                room = file.split("/")[1] if file.count("/") > 1 else ""
                used = rest.split(".")[1] if "." in rest else room
                allowed = used == room or used in ROOMS[room]
            if not allowed and rest:
                wrong.append(f"{file}: {name}")
        elif root in ("comfy", "comfy_extras", "folder_paths", "server", "execution", "comfy_execution"):
            if file in MODEL_FILES:
                fine = name.startswith(LANGUAGE)
            elif name.startswith(COMMON):
                fine = file in DIFFUSION_FILES or file.startswith(TEXT_FOLDER)
            elif name.startswith(DIFFUSION):
                fine = file in DIFFUSION_FILES
            elif name.startswith(TEXT):
                fine = file.startswith(TEXT_FOLDER)
            elif root == "folder_paths":
                fine = file in FOLDER_FILES
            elif root == "server":
                fine = file in SERVER_FILES and not top
            elif root == "comfy_execution":
                fine = file in RUN_FILES
            else:
                fine = False
            if not fine:
                wrong.append(f"{file}: {name}")
        elif root in ("comfy_api", "comfy_execution"):
            if folder != "nodes":
                wrong.append(f"{file}: {name}")
        elif top and root not in LIGHT and root not in sys.stdlib_module_names:
            wrong.append(f"{file}: {name} when imported")
    return wrong


@pytest.mark.parametrize("file", [file.relative_to(ROOT).as_posix() for file in FILES])
def test_a_file_imports_only_what_it_may(file):
    assert faults(file, (ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "line", "allowed"),
    [
        ("nodes/plans.py", "from ..planner.plans.tags import write_tags", True),
        ("nodes/rules.py", "from ..attention import rules", True),
        ("planner/plans/tags.py", "from ..plan import RegionPlan", True),
        ("planner/plans/tags.py", "from .resize import fit_plan", True),
        ("planner/plans/tags.py", "from ..replies.items import Item", False),
        ("planner/plans/tags.py", "from ...attention.rules import Rules", False),
        ("planner/plans/tags.py", "from ... import attention", False),
        ("planner/plan.py", "from .plans import tags", False),
        ("planner/models/host.py", "from ..asking.templates import Template", False),
        ("planner/replies/items.py", "from ..pictures.draw import draw_plan", False),
        ("planner/asking/planning.py", "from ..replies.build import read_plan", True),
        ("planner/models/qwen.py", "from ...nodes import plans", False),
        ("planner/models/qwen.py", "from ..plan import RegionPlan", True),
        ("attention/grid.py", "from ..planner.plan import RegionPlan", True),
        ("attention/grid.py", "from ..planner.plans.tags import write_tags", False),
        ("attention/grid.py", "from ..planner.plans import plan_json", False),
        ("attention/grid.py", "from ..nodes.sockets import CATEGORY", False),
        ("attention/grid.py", "def f():\n    import comfy.utils", False),
        ("attention/wrappers.py", "from comfy.patcher_extension import WrappersMP", True),
        ("attention/wrappers.py", "import comfy.text_encoders.flux", False),
        ("attention/hints/attach.py", "import comfy.model_management", True),
        ("attention/hints/attach.py", "from comfy import samplers", False),
        ("attention/hints/qwen_edit.py", "from comfy_extras.nodes_qwen import TextEncodeQwenImageEdit", True),
        ("planner/models/host.py", "import comfy.text_encoders.llama as llama", True),
        ("planner/models/host.py", "import comfy.ldm.flux.model", False),
        ("planner/models/folder.py", "import transformers", False),
        ("planner/models/folder.py", "def f():\n    import transformers", True),
        ("planner/asking/planning.py", "import comfy.utils", False),
        ("nodes/plans.py", "import folder_paths", False),
        ("nodes/folders.py", "import folder_paths", True),
        ("nodes/page_routes.py", "def f():\n    from server import PromptServer, web", True),
        ("nodes/page_routes.py", "from server import PromptServer, web", False),
        ("nodes/plans.py", "from comfy_execution.utils import get_executing_context", False),
        ("planner/plan.py", "from comfy_api.latest import io", False),
        ("planner/pictures/masks.py", "from scipy.ndimage import label", False),
        ("planner/pictures/masks.py", "def f():\n    from scipy.ndimage import label", True),
        (
            "planner/pictures/masks.py",
            "try:\n    import transformers\nexcept ImportError:\n    transformers = None",
            False,
        ),
        ("__init__.py", "from .nodes import RePlanExtension", False),
        ("__init__.py", "def f():\n    from .nodes import RePlanExtension", True),
    ],
)
def test_the_check_tells_right_from_wrong(file, line, allowed):
    assert (faults(file, line) == []) == allowed
