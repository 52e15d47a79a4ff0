"""What the pack's own templates ask of a scene, and what a planner should answer: data for the toy world's planner.

An `Example` names the template, what the user says, and the reply with its reasoning, piece by piece. Requests of
`requests.py` are among them, with their own form (`PLAIN`: nothing but the instruction).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from replan.planner.plan import KEEP_UNCHANGED

from .drawing import COLOURS, SHAPES
from .edits import RECOLOUR, REMOVE, REPATTERN, RESHAPE, Instruction, Reference, about
from .naming import (
    KNOWN_COLOURS,
    KNOWN_SHAPES,
    Piece,
    Pieces,
    box,
    edges,
    in_order,
    joined,
    listed,
    name,
    place,
    plain,
    plural,
    shown,
)
from .requests import Request, request
from .scenes import (
    HELD_OUT_SEEDS,
    MOST,
    SIZE,
    TRAINING_SEEDS,
    Object,
    Scene,
    SceneError,
    held_out_scene,
    held_out_seed,
    random_state,
    training_scene,
)
from .situations import outcome, situation_for
from .tasks import CHANGES, Task

PLAIN = ""  # the template that holds nothing but the instruction
EDITS = ("edit", "edit_no_reasoning", "hypothetical", "context")  # templates whose reply is a plan
LOOKS = ("detection", "unified")  # templates that ask to find things; `unified` also asks questions and edits
# How often each template comes in training.
SHARES: Mapping[str, float] = {
    PLAIN: 0.1, "edit": 0.28, "edit_no_reasoning": 0.08, "hypothetical": 0.28, "context": 0.06, "detection": 0.1,
    "unified": 0.1,
}  # fmt: skip
OWN_WORDS = 0.35  # of the edits, the share that is worded as in `requests.py`
COUNTS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MOST_FOUND = 5  # boxes in an answer that finds things

FIND_ONE = ("find the {words}", "where is the {words}?", "locate the {words}")
FIND_ALL = ("find every {words}", "find all {plural}", "where are the {plural}?")
HOW_MANY, IS_THERE = "how many {plural} are there?", "is there a {words}?"
WHICH_COLOUR, WHICH_SHAPE = "what colour is the {words}?", "which shape has the {words}?"
WHETHER = "is the {words} {value}?"
BECOMES: Mapping[str, str] = {
    RECOLOUR: " turns {value}", RESHAPE: " becomes a {value}", REPATTERN: " becomes {value}", "shrink": " gets smaller",
    REMOVE: " is taken away",
}  # fmt: skip
OTHER_WORDS = (
    "first", "then", ". after that", "it is at the", "there is no", "there are", "done", "yes no",
    "the colour of", "an",
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """One question and its right answer.

    template: of the pack, or PLAIN. text: what the user says. reply: in pieces. task: what is to be edited, None where
    nothing is. kind: of a hypothetical instruction. found: the objects that a search should find, in order. answer:
    the words that answer a question.
    """

    template: str
    scene: Scene
    text: str
    reply: Pieces
    task: Task | None = None
    kind: str = ""
    found: tuple[int, ...] = ()
    answer: str = ""

    @property
    def wanted(self) -> str:
        return joined(self.reply)


def training_examples(run: int, number: int, count: int, size: int = SIZE) -> list[Example]:
    """`count` examples about scene `number` of a training run: always the same ones."""
    random = random_state(run, f"run {run}, examples {number}")
    templates, shares = tuple(SHARES), tuple(SHARES.values())
    found: list[Example] = []
    scene = training_scene(int(random.randint(len(TRAINING_SEEDS))), size)
    while len(found) < count:
        made = example(scene, templates[int(random.choice(len(templates), p=shares))], random)
        found += [made] if made else []
    return found


def held_out_example(template: str, seed: int, size: int = SIZE) -> Example:
    """The example of a held-out seed for a template; its scene has a look-alike of object 0."""
    if seed not in HELD_OUT_SEEDS:
        raise SceneError(f"the seed {seed} is not a held-out one (held_out_seed gives one)")
    random = random_state(seed, f"example {template}")
    scene = held_out_scene(seed, size, count=int(random.randint(3, MOST + 1)), twins=1)
    while True:
        if made := example(scene, template, random):
            return made


def held_out_examples(template: str, seed: int, count: int, size: int = SIZE) -> list[Example]:
    """Examples that no training saw."""
    return [held_out_example(template, held_out_seed(seed, index), size) for index in range(count)]


def example(scene: Scene, template: str, random: np.random.RandomState) -> Example | None:
    """A question about a scene and its answer; None where what was drawn does not fit the scene."""
    if template == PLAIN:
        asked = request(scene, random)
        return asked and from_request(asked, PLAIN)
    if template == "hypothetical":
        return _hypothetical(scene, random)
    if template == "detection" or template == "unified" and random.random_sample() < 0.8:
        ways = (_find, _find, _find_all) if template == "detection" else (_find, _find_all, _question, _question)
        return ways[random.randint(len(ways))](scene, template, random)
    if random.random_sample() < OWN_WORDS:
        asked = request(scene, random)
        return asked and from_request(asked, template)
    return _edit(scene, template, random)


def from_request(asked: Request, template: str) -> Example:
    """A request as a template asks it: the meant objects are named, and what becomes of them."""
    thoughts = [_change(asked.task.scene, identity, one) for identity, one in asked.task.instructions]
    return _planned(template, asked.text, asked.task, _sentences(thoughts))


# ---- edits -----------------------------------------------------------------------------------------------------------


def _edit(scene: Scene, template: str, random: np.random.RandomState) -> Example | None:
    """Up to three edits, one after the other, each object named in a way of its own."""
    wanted = (1, 1, 2, 2, 3)[random.randint(5)]
    kinds = [CHANGES[index] for index in random.permutation(len(CHANGES))]
    texts, thoughts, instructions = [], [], []
    for identity in random.permutation(list(scene.ids))[:wanted]:
        thing = scene.object(int(identity))
        named = name(scene, thing, random)
        if named is None:
            continue
        reference = Reference(thing.shape, thing.colour)
        instruction = about(thing, reference, kinds[len(instructions)], random)
        instruction = replace(instruction, text=instruction.text.replace("every ", "the "))
        text = instruction.text.replace(f"the {reference.words}", f"the {named.words}", 1)
        text, reason = _with_known_value(scene, thing, instruction, text, random)
        texts.append(text)
        thoughts.append((*named.reason, *reason, *_change(scene, thing.id, instruction)))
        instructions.append((thing.id, instruction))
    if not instructions:
        return None
    return _planned(template, _in_steps(texts, random), Task(scene, tuple(instructions)), _sentences(thoughts))


def _with_known_value(
    scene: Scene, thing: Object, instruction: Instruction, text: str, random: np.random.RandomState
) -> tuple[str, Pieces]:
    """Sometimes with the new colour or shape told by what one knows of it, or as that of another object."""
    chance, value = random.random_sample(), instruction.value
    known = {RECOLOUR: KNOWN_COLOURS, RESHAPE: KNOWN_SHAPES}.get(instruction.kind, {}).get(value)
    ending = value if instruction.kind == RECOLOUR else f"a {value}"
    if not known or not text.endswith(ending) or chance > 0.4:
        return text, ()
    stem = text.removesuffix(ending)
    others = [one for one in scene.objects if one.id != thing.id and one.colour == value]
    if instruction.kind == RECOLOUR and others and chance < 0.15:
        other = others[random.randint(len(others))]
        named = name(scene, other, random, "shape")
        if named:
            seen = (*named.reason, shown(scene, other.id), Piece(f" is {value}. "))
            return f"{stem}the colour of the {named.words}", seen
    words = known[random.randint(len(known))]
    return f"{stem}{words}", plain(f"{words} is {ending}. ")


def _in_steps(texts: list[str], random: np.random.RandomState) -> str:
    forms = (" and ", ", then ", ", and then ", ". after that ")
    form = forms[random.randint(len(forms))]
    first = "first " if form == ", then " and len(texts) > 1 else ""
    return first + form.join(texts)


def _hypothetical(scene: Scene, random: np.random.RandomState) -> Example | None:
    thing = scene.objects[random.randint(len(scene.objects))]
    named = name(scene, thing, random)
    if named is None:
        return None
    situation = situation_for(thing, random)
    text, instruction = outcome(situation, thing, named.words, random)
    change = _change(scene, thing.id, instruction)
    thought = (*named.reason, Piece(f"{situation.why}. "), *change)
    return _planned("hypothetical", text, Task(scene, ((thing.id, instruction),)), thought, situation.kind)


def _change(scene: Scene, identity: int, instruction: Instruction) -> Pieces:
    """What becomes of an object: "the red circle at the top turns blue"."""
    return (shown(scene, identity), Piece(BECOMES[instruction.kind].format(value=instruction.value)))


def _sentences(thoughts: list[Pieces]) -> Pieces:
    return tuple(piece for n, one in enumerate(thoughts) for piece in ((*plain(". "), *one) if n else one))


def _planned(template: str, text: str, task: Task, thought: Pieces, kind: str = "") -> Example:
    """The reply in the tags that the template asks for."""
    scene, plan = task.scene, task.plan
    result = _sentences([_change(scene, identity, one) for identity, one in task.instructions])
    head: Pieces = ()
    if template == "context":
        head = (*plain("<scene>"), *_description(scene), *plain("</scene>"))
    if template not in (PLAIN, "edit_no_reasoning"):
        head = (*head, *plain("<think>"), *thought, *plain("</think>"))
    if template == "hypothetical":
        head = (*head, *plain(f"<kind>{kind}</kind><outcome>"), *result, *plain("</outcome>"))
    regions: list[Piece] = [Piece(f"<gen_image>{KEEP_UNCHANGED}</gen_image><region>[")]
    for number, (region, identity) in enumerate(zip(plan.regions, task.meant, strict=True)):
        regions += plain(f'{", " if number else ""}{{"bbox_2d": ')
        regions += edges([round(edge) for edge in region.box], identity)
        if template == "unified":
            regions += (Piece(', "point_2d": '), *_point(scene, identity))
        if template == "context":
            regions += (Piece(', "description": "'), shown(scene, identity), Piece('"'))
        regions.append(Piece(f', "hint": "{region.hint}"}}'))
    regions += plain("]</region>")
    if template == "unified":
        regions += plain("<answer>done</answer>")
    return Example(template, scene, text, (*head, *regions), task, kind)


def _description(scene: Scene) -> Pieces:
    """Everything, from the left."""
    order = sorted(scene.ids, key=lambda identity: scene.box(identity)[0])
    pieces = [(Piece(", "), shown(scene, one, "a")) for one in order]
    return tuple(piece for pair in pieces for piece in pair)[1:]


# ---- finding and answering -------------------------------------------------------------------------------------------


def _find(scene: Scene, template: str, random: np.random.RandomState) -> Example | None:
    thing = scene.objects[random.randint(len(scene.objects))]
    named = name(scene, thing, random)
    if named is None:
        return None
    text = FIND_ONE[random.randint(len(FIND_ONE))].format(words=named.words)
    thought = (*named.reason, shown(scene, thing.id))
    return _found(template, scene, text, thought, (thing.id,), f"it is {place(scene, thing.id)}")


def _find_all(scene: Scene, template: str, random: np.random.RandomState) -> Example | None:
    reference = _group(scene, random)
    alike = in_order(scene, reference)
    if len(alike) > MOST_FOUND:
        return None
    form = FIND_ALL[random.randint(len(FIND_ALL))]
    text = form.format(words=reference.words, plural=plural(reference))
    thought, answer = _counted(scene, reference, alike)
    return _found(template, scene, text, thought, tuple(thing.id for thing in alike), answer)


def _counted(scene: Scene, reference: Reference, alike: list[Object]) -> tuple[Pieces, str]:
    if not alike:
        nothing = f"there is no {reference.words}"
        return plain(nothing), nothing
    count = f"there {'is' if len(alike) == 1 else 'are'} {COUNTS[len(alike)]}"
    return (*listed(scene, reference, alike), Piece(count)), count


def _group(scene: Scene, random: np.random.RandomState) -> Reference:
    """Of something that is there, or that may not be."""
    if random.random_sample() < 0.25:
        return Reference(str(random.choice(SHAPES)), str(random.choice(tuple(COLOURS))))
    thing = scene.objects[random.randint(len(scene.objects))]
    references = (Reference(thing.shape, thing.colour), Reference(shape=thing.shape), Reference(colour=thing.colour))
    return references[random.randint(3)]


def _found(template: str, scene: Scene, text: str, thought: Pieces, found: tuple[int, ...], answer: str) -> Example:
    pieces: list[Piece] = [Piece("<think>"), *thought, Piece("</think><region>[")]
    for number, identity in enumerate(found):
        thing = scene.object(identity)
        pieces += (Piece(f'{", " if number else ""}{{"bbox_2d": '), *box(scene, identity), Piece(', "point_2d": '))
        pieces += (*_point(scene, identity), Piece(f', "label": "{thing.colour} {thing.shape}"}}'))
    pieces += plain(f"]</region><answer>{answer}</answer>")
    return Example(template, scene, text, tuple(pieces), found=found, answer=answer)


def _point(scene: Scene, identity: int) -> Pieces:
    """A point on the object: of all that it shows, the nearest to the middle of its box."""
    rows, columns = np.nonzero(scene.shown(identity) == scene.shown(identity).max())
    x1, y1, x2, y2 = scene.box(identity)
    nearest = np.argmin(np.abs(columns - (x1 + x2) / 2) + np.abs(rows - (y1 + y2) / 2))
    return edges((int(columns[nearest]), int(rows[nearest])), identity)


def _question(scene: Scene, template: str, random: np.random.RandomState) -> Example | None:
    ways: tuple[Callable[..., tuple[str, Pieces, str] | None], ...] = (_how_many, _is_there, _which, _which, _whether)
    made = ways[random.randint(len(ways))](scene, random)
    if made is None:
        return None
    text, thought, answer = made
    reply = (Piece("<think>"), *thought, Piece(f"</think><answer>{answer}</answer>"))
    return Example(template, scene, text, reply, answer=answer)


def _how_many(scene: Scene, random: np.random.RandomState) -> tuple[str, Pieces, str]:
    reference = _group(scene, random)
    alike = in_order(scene, reference)
    return HOW_MANY.format(plural=plural(reference)), _counted(scene, reference, alike)[0], COUNTS[len(alike)]


def _is_there(scene: Scene, random: np.random.RandomState) -> tuple[str, Pieces, str]:
    thing = scene.objects[random.randint(len(scene.objects))]
    reference = Reference(thing.shape, thing.colour)
    if random.randint(2):
        reference = Reference(str(random.choice(SHAPES)), str(random.choice(tuple(COLOURS))))
    alike = in_order(scene, reference)
    seen = (shown(scene, alike[0].id),) if alike else plain(f"there is no {reference.words}")
    return IS_THERE.format(words=reference.words), seen, "yes" if alike else "no"


def _which(scene: Scene, random: np.random.RandomState) -> tuple[str, Pieces, str] | None:
    said, asked, form = (("shape", "colour", WHICH_COLOUR), ("colour", "shape", WHICH_SHAPE))[random.randint(2)]
    thing = scene.objects[random.randint(len(scene.objects))]
    named = name(scene, thing, random, said)
    if named is None:
        return None
    return form.format(words=named.words), (*named.reason, shown(scene, thing.id)), getattr(thing, asked)


def _whether(scene: Scene, random: np.random.RandomState) -> tuple[str, Pieces, str] | None:
    thing = scene.objects[random.randint(len(scene.objects))]
    named = name(scene, thing, random)
    if named is None:
        return None
    value = "striped" if random.randint(2) else "plain"
    thought = (*named.reason, shown(scene, thing.id), Piece(f" is {thing.pattern}"))
    return WHETHER.format(words=named.words, value=value), thought, "yes" if thing.pattern == value else "no"


def texts() -> list[str]:
    """Every text that the words of questions and answers come from, for a tokenizer."""
    return [
        *FIND_ONE, *FIND_ALL, HOW_MANY, IS_THERE, WHICH_COLOUR, WHICH_SHAPE, WHETHER, *BECOMES.values(), *COUNTS,
        *OTHER_WORDS, *COLOURS, *SHAPES,
    ]  # fmt: skip
