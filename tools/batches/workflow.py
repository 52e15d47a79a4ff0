"""A workflow in ComfyUI's API format as what every item runs: which of its inputs an item fills, and what it gives.

Nothing is written into the file's own nodes but values. What is recorded beside a result (plan, reply, scores) comes
from text previews that are added behind the nodes that give it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .items import BatchError, Item, ItemError, file_of, plan_text, short

ROLES = ("image", "instruction", "plan", "seed", "original")
# The inputs that a node titled by a role may take it by, best first.
_TITLED = {
    "image": ("image",),
    "original": ("image",),
    "instruction": ("instruction", "value", "text", "prompt"),
    "plan": ("text", "value", "plan"),
    "seed": ("seed", "noise_seed", "value"),
}
_LOADERS = ("LoadImage", "LoadImageMask")
_PREFIX = "replan_batch_"


class Place(NamedTuple):
    """One input of one node."""

    node: str
    input: str


class Job(NamedTuple):
    """One prompt, ready but for its images. uploads: file and place of each. output: the node whose images count."""

    prompt: dict[str, dict]
    uploads: Sequence[tuple[Place, bytes, str]]
    output: str
    seeds: Mapping[str, int]


class Workflow:
    """An API-format file, read and checked. digest: SHA-256 of its nodes without their titles.

    Raises BatchError for a file that is none, and says how to export one.
    """

    def __init__(self, file: Path) -> None:
        self.file = Path(file)
        try:
            graph = json.loads(self.file.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise BatchError(f"the workflow {file} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise BatchError(f"the workflow {file} is no JSON: {error}") from None
        if isinstance(graph, dict) and isinstance(graph.get("nodes"), list):
            raise BatchError(
                f"{file} is a saved workflow; a batch needs the API format: open it in ComfyUI, menu File, Export (API)"
            )
        if isinstance(graph, dict) and isinstance(graph.get("prompt"), dict):
            graph = graph["prompt"]  # the body that POST /prompt takes
        if not isinstance(graph, dict) or not graph or not all(_is_node(node) for node in graph.values()):
            raise BatchError(f"{file} is no workflow in API format: {{id: {{class_type, inputs}}}} was expected")
        self.graph: dict[str, dict] = graph
        bare = {key: [node["class_type"], node["inputs"]] for key, node in graph.items()}
        self.digest = hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()

    def title(self, node: str) -> str:
        return str((self.graph[node].get("_meta") or {}).get("title") or "")

    def told(self, place: Place) -> str:
        title = self.title(place.node)
        named = f' "{title}"' if title else ""
        return f"{self.graph[place.node]['class_type']}{named} (node {place.node}).{place.input}"

    def literals(self, kinds: type | tuple[type, ...]) -> list[Place]:
        """All inputs that hold a value of these types, not a link."""
        return [
            Place(key, name)
            for key, node in self.graph.items()
            for name, value in node["inputs"].items()
            if isinstance(value, kinds)
        ]

    def find(self, role: str) -> list[Place]:
        """The inputs that take a role: of the node titled so, else those of its known classes. May be empty."""
        titled = [key for key in self.graph if self.title(key).strip().casefold() == role]
        places = []
        for key in titled:
            inputs = self.graph[key]["inputs"]
            fitting = [name for name in _TITLED[role] if name in inputs and not _is_link(inputs[name])]
            places.extend(Place(key, name) for name in fitting[:1])
        if (
            role == "instruction"
        ):  # also where a text node has the title: a judge may hold the instruction a second time
            classes = {node["class_type"] for node in self.graph.values() if node["class_type"].startswith("RePlan")}
            return list(dict.fromkeys([*places, *self._of(classes, "instruction")]))
        if places:
            return places
        if role == "image":
            return [one for one in self._of(_LOADERS[:1], "image") if self.title(one.node).casefold() != "original"]
        if role == "plan":
            return self._of(("RePlanPlanFromText",), "text")
        if role == "seed":
            return [place for place in self.literals(int) if place.input in ("seed", "noise_seed")]
        return []

    def place(self, text: str) -> Place:
        """`NODE.INPUT`, the node by id, title or class. Raises BatchError with the candidates."""
        named, dot, name = text.rpartition(".")
        keys = [key for key in self.graph if key == named] or [
            key for key in self.graph if named in (self.title(key), self.graph[key]["class_type"])
        ]
        if not dot or len(keys) != 1:
            found = f"{len(keys)} nodes are called so" if keys else "there is no such node"
            raise BatchError(f"--set {text}: {found}; the workflow has {self._listed(self.graph)}")
        inputs = self.graph[keys[0]]["inputs"]
        if name not in inputs:
            raise BatchError(f"--set {text}: the node has no input {name!r}, only {', '.join(inputs) or 'none'}")
        if _is_link(inputs[name]):
            raise BatchError(f"--set {text}: the input comes from node {inputs[name][0]}; set a value there instead")
        return Place(keys[0], name)

    def result(self, named: str = "") -> str:
        """The node whose images are the result: as named, titled "result", or the only one that saves or previews."""
        if named:
            keys = [key for key in self.graph if named in (key, self.title(key))]
            if len(keys) != 1:
                raise BatchError(f"--result {named}: one node was expected; there are {self._listed(self.graph)}")
            if not _is_link(self.graph[keys[0]]["inputs"].get("images")):
                raise BatchError(f"--result {named}: nothing is connected to an input 'images' of that node")
            return keys[0]
        saving = [key for key in self.graph if _is_link(self.graph[key]["inputs"].get("images"))]
        for keys in (
            [key for key in saving if self.title(key).strip().casefold() in ("result", "final_result")],
            [key for key in saving if self.graph[key]["class_type"].startswith("SaveImage")],
            [key for key in saving if self.graph[key]["class_type"] == "PreviewImage"],
        ):
            if len(keys) == 1:
                return keys[0]
        if not saving:
            raise BatchError(f"{self.file} saves no image: add Save Image and export it again")
        raise BatchError(
            f'{self.file} saves several images; title one node "result" or choose by --result: {self._listed(saving)}'
        )

    def _of(self, classes: Iterable[str], name: str) -> list[Place]:
        return [
            Place(key, name)
            for key, node in self.graph.items()
            if node["class_type"] in classes and name in node["inputs"] and not _is_link(node["inputs"][name])
        ]

    def _listed(self, keys: Iterable[str]) -> str:
        listed = [f"{key} {self.graph[key]['class_type']}" for key in keys]
        return ", ".join(listed[:20]) + (f" and {len(listed) - 20} more" if len(listed) > 20 else "")


class Filling:
    """Which inputs of a workflow the columns of the items fill, found once for a batch.

    columns: what the items have. chosen: `NODE.INPUT=COLUMN`, for what is not found by class and title. unused: the
    columns that only the record gets.
    Raises BatchError when a column has nowhere to go, or an image would go to several nodes.
    """

    def __init__(
        self, workflow: Workflow, columns: Iterable[str], chosen: Sequence[str] = (), result: str = ""
    ) -> None:
        self.workflow, columns = workflow, set(columns)
        self.output = workflow.result(result)
        self.places: list[tuple[Place, str]] = []
        self.unused: list[str] = []
        for text in chosen:
            place, equals, column = text.partition("=")
            if not equals or column.strip() not in columns:
                raise BatchError(
                    f"--set {text}: NODE.INPUT=COLUMN with one of the columns {', '.join(sorted(columns))}"
                )
            self.places.append((workflow.place(place.strip()), column.strip()))
        taken = {column for _, column in self.places}
        for role in ROLES:
            if role in taken:
                continue
            found = [place for place in workflow.find(role) if place not in [one for one, _ in self.places]]
            if role == "instruction" and role in columns and not found and "plan" in columns:
                self.unused.append(role)  # the plan says what to do
            elif role in columns or role == "image":
                self._check(role, found)
            if role in columns or role in ("image", "original"):
                self.places.extend((place, role) for place in found)
        self.graph, self.texts = self._reduced(), {}

    def _check(self, role: str, found: Sequence[Place]) -> None:
        one = role in ("image", "original", "plan")
        if len(found) == 1 or (found and not one):
            return
        if found:
            listed = "; ".join(self.workflow.told(place) for place in found)
            raise BatchError(
                f'the {role} could go to several nodes: {listed}. Title one of them "{role}", '
                f"or say --set {found[0].node}.{found[0].input}={role}"
            )
        kinds = int if role == "seed" else str
        listed = "; ".join(self.workflow.told(place) for place in self.workflow.literals(kinds)[:12])
        known = {
            "image": "no Load Image node",
            "instruction": "no RePlan node with an instruction",
            "plan": "no RePlan Plan from Text",
            "seed": "no input called seed",
        }.get(role, "no such node")
        raise BatchError(
            f'the items have a column "{role}" and {self.workflow.file} no place for it: {known}, and no node titled '
            f'"{role}". Say --set NODE.INPUT={role}, with one of: {listed or "(none)"}'
        )

    def _reduced(self) -> dict[str, dict]:
        """The graph without titles; the result is previewed, so that the server's output folder does not fill."""
        graph = {
            key: {"class_type": node["class_type"], "inputs": node["inputs"]}
            for key, node in self.workflow.graph.items()
        }
        graph[self.output] = {
            "class_type": "PreviewImage", "inputs": {"images": self.workflow.graph[self.output]["inputs"]["images"]}
        }  # fmt: skip
        return graph

    def record_texts(self, describe: Callable[[str], Mapping[str, Any]]) -> None:
        """Add previews of plan, reply and scores. describe: a class's entry of ComfyUI's /object_info, {} for none.

        Raises BatchError for nodes that this ComfyUI lacks.
        """
        classes = {node["class_type"] for node in self.graph.values()}
        known = {name: describe(name) for name in sorted(classes)}
        missing = [name for name, entry in known.items() if not entry]
        if missing:
            raise BatchError(f"this ComfyUI lacks the nodes {', '.join(missing)} that {self.workflow.file} uses")
        wanted: list[tuple[str, list]] = []
        plan = self._plan_link(known)
        if plan:
            self.graph[f"{_PREFIX}plan_text"] = {
                "class_type": "RePlanPlanToText", "inputs": {"plan": plan, "format": "json"}
            }  # fmt: skip
            wanted.append(("plan", [f"{_PREFIX}plan_text", 0]))
        for key, node in list(self.graph.items()):
            if key.startswith(_PREFIX):
                continue
            outputs = known[node["class_type"]]
            if node["class_type"] == "RePlanPlanner":
                wanted.append(("reply", [key, outputs["output_name"].index("reply")]))
            if node["class_type"] == "RePlanPlanFromText" and _is_link(node["inputs"].get("text")):
                wanted.append(("reply", node["inputs"]["text"]))
            wanted.extend(
                ("scores", [key, number]) for number, kind in enumerate(outputs["output"]) if kind == "REPLAN_SCORES"
            )
        for number, (what, link) in enumerate(wanted):
            key = f"{_PREFIX}{what}_{number}"
            self.graph[key] = {"class_type": "PreviewAny", "inputs": {"source": link}}
            self.texts[key] = what

    def _plan_link(self, known: Mapping[str, Mapping[str, Any]]) -> list | None:
        """Where the plan comes from: the one edited by, else the one judged, else what any node takes or gives."""
        linked = [node for node in self.graph.values() if _is_link(node["inputs"].get("plan"))]
        edited = [node for node in linked if node["class_type"] == "RePlanRegionConditioning"]
        judged = [node for node in linked if "REPLAN_SCORES" in known[node["class_type"]]["output"]]
        others = [node for node in linked if node["class_type"].startswith("RePlan")]
        for node in (*edited, *judged, *others):
            return node["inputs"]["plan"]
        for key, node in self.graph.items():
            outputs = known[node["class_type"]]["output"]
            if "REGION_PLAN" in outputs:
                return [key, outputs.index("REGION_PLAN")]
        return None

    def instruction(self) -> str | None:
        """The workflow's own instruction, for items that have none."""
        values = [self.workflow.graph[place.node]["inputs"][place.input] for place in self.workflow.find("instruction")]
        return values[0] if values and isinstance(values[0], str) else None

    def rules(self) -> dict[str, Any] | None:
        """What the workflow's rules say: the values of RePlan Rules, or the preset 'auto' where there are none."""
        for node in self.workflow.graph.values():
            if node["class_type"] == "RePlanRules":
                return {name: value for name, value in node["inputs"].items() if not _is_link(value)}
        applied = any(node["class_type"] == "RePlanApplyRegionRules" for node in self.workflow.graph.values())
        return {"preset": "auto"} if applied else None

    def job(self, item: Item, images: Mapping[str, bytes] | None = None) -> Job:
        """The prompt for one item. images: contents that stand for a column, instead of the file it names.

        Raises ItemError for a file that is not there and a value that does not fit its input.
        """
        prompt, uploads = dict(self.graph), []
        for place, column in self.places:
            given = (images or {}).get(column)
            value = item.values.get("image" if column == "original" else column)
            if given is None and value is None:
                if column in ("image", "original", "instruction", "plan"):
                    raise ItemError(f"it has no {column}")
                continue
            node = prompt[place.node]
            if node["class_type"] in _LOADERS and place.input == "image":
                file = None if given is not None else file_of(item, value)
                uploads.append((place, given if file is None else file.read_bytes(), file.suffix if file else ".png"))
                continue
            if column == "plan":
                value = plan_text(item)
            value = _as(value, node["inputs"][place.input], column)
            prompt[place.node] = {**node, "inputs": {**node["inputs"], place.input: value}}
        seeds = {
            f"{place.node}.{place.input}": prompt[place.node]["inputs"][place.input]
            for place in self.workflow.find("seed")
        }
        return Job(prompt, uploads, self.output, seeds)


def _as(value: Any, like: Any, column: str) -> Any:
    """A cell as the type of the value it replaces. Raises ItemError."""
    if isinstance(like, bool):
        text = str(value).strip().lower()
        if text in ("true", "1", "yes", "on", "false", "0", "no", "off"):
            return text in ("true", "1", "yes", "on")
        raise ItemError(f"its {column} is {short(str(value))}, expected true or false")
    if isinstance(like, (int, float)):
        for kind in (int, float):
            try:
                return kind(str(value))
            except ValueError:
                continue
        raise ItemError(f"its {column} is {short(str(value))}, expected a number")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)
