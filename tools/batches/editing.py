"""One item from its prompt to its folder, with what is written down about it, and its regions edited again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .items import BatchError, Item
from .places import Edited, EditPlace, PromptError
from .results import IMAGE, Results
from .workflow import Filling, Job

# Main scores that are means over the regions that were scored; a redo is scored by the failed ones alone.
_OF_REGIONS = ("edited_and_kept", "alignment")


class Redo(NamedTuple):
    """Regions that scored below `threshold` are edited again on the result, up to `rounds` times."""

    filling: Filling
    rounds: int
    threshold: float


class Editor:
    """Edits items by one workflow and keeps what comes of it. timeout: seconds for one prompt, waiting included.

    not_redone: why items could not be edited again, an entry for each; their first edit is kept.
    """

    def __init__(
        self, filling: Filling, results: Results | None, timeout: float = 3600, redo: Redo | None = None
    ) -> None:
        self.filling, self.results, self.timeout, self.redo = filling, results, timeout, redo
        self.not_redone: list[str] = []

    def check(self, place: EditPlace) -> None:
        """Look up the workflows' nodes on a server, once. Raises BatchError for what is missing."""
        self.filling.record_texts(place.describe)
        if not self.redo:
            return
        self.redo.filling.record_texts(place.describe)
        missing = {"plan", "scores"} - set(self.filling.texts.values())
        if missing:
            raise BatchError(
                f"--redo needs the {' and the '.join(sorted(missing))} of {self.filling.workflow.file}: add "
                "a node that scores regions (RePlan Judge with per_region) and one that plans"
            )

    def edit(self, item: Item, place: EditPlace, tries: int) -> None:
        """Edit an item and keep it. Raises ItemError, PromptError; OSError or ServerError where the place is lost."""
        begun = time.monotonic()
        job = self.filling.job(item)
        edited = place.run(job, self.timeout)
        if self.results is None:
            return
        record = {**self.record(item, place, tries, job), **self.told(self.filling, edited)}
        files = {IMAGE: edited.images[0]}
        files.update({f"final_result_{number}.png": one for number, one in enumerate(edited.images[1:], 2)})
        if self.redo:
            self._edit_again(item, place, record, files)
        record["seconds"] = round(edited.seconds, 3)
        record["seconds_in_all"] = round(time.monotonic() - begun, 3)
        self.results.save(item, files, record)

    def record(self, item: Item, place: EditPlace | None, tries: int, job: Job | None = None) -> dict[str, Any]:
        """What is known of an item without its edit. job: None where it came to none."""
        seeds = dict(job.seeds) if job else {}
        different = set(seeds.values())
        extra = {
            key: value
            for key, value in item.values.items()
            if key not in ("id", "image", "instruction", "plan", "seed")
        }
        return {
            "id": item.name,
            "row": item.row,
            "image": str(item.values.get("image", "")),
            "instruction": item.values.get("instruction") or self.filling.instruction(),
            "plan": None,
            "reply": None,
            "rules": self.filling.rules(),
            "seed": different.pop() if len(different) == 1 else seeds or None,
            "scores": [],
            "workflow": {"file": self.filling.workflow.file.name, "sha256": self.filling.workflow.digest},
            "columns": extra,
            "server": place.about if place else None,
            "tries": tries,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "error": None,
        }

    def told(self, filling: Filling, edited: Edited) -> dict[str, Any]:
        """Plan, reply and scores out of a prompt's text previews."""
        found: dict[str, list] = {"plan": [], "reply": [], "scores": []}
        for key, what in filling.texts.items():
            shown = edited.texts.get(key, [])
            found[what].extend(shown if what == "reply" else [_parsed(text) for text in shown])
        one = {what: values[0] if len(values) == 1 else values or None for what, values in found.items()}
        return {**one, "scores": found["scores"]}

    def _edit_again(self, item: Item, place: EditPlace, record: dict, files: dict[str, bytes]) -> None:
        """Edit what failed on the result, with the second workflow; what each round did goes into the record."""
        from replan.evaluation.choose import failed_regions
        from replan.planner.plan import PlanError
        from replan.planner.plans.plan_json import plan_from_json, plan_to_json

        rounds: list[dict[str, Any]] = []
        record["redo"] = rounds
        now = {"plan": record["plan"], "scores": record["scores"]}
        for number in range(1, self.redo.rounds + 1):
            told: dict[str, Any] = {"round": number}
            rounds.append(told)
            try:
                scores = _of_regions(now["scores"])
                failed = failed_regions(plan_from_json(now["plan"]), scores, self.redo.threshold)
                told["report"], told["failed"] = failed.report, [one.id for one in failed.plan.active.regions]
                if not failed.count:
                    told["stopped"] = "no region failed"
                    return
                values = {**item.values, "plan": plan_to_json(failed.plan, None)}
                job = self.redo.filling.job(item._replace(values=values), {"image": files[IMAGE]})
                edited = place.run(job, self.timeout)
            except (PlanError, PromptError) as error:
                told["stopped"] = f"{error}"
                self.not_redone.append(told["stopped"])
                return
            again = self.told(self.redo.filling, edited)
            told.update(again, seconds=round(edited.seconds, 3), workflow=self.redo.filling.workflow.digest)
            worse = _worse(again["scores"], now["scores"])
            told["kept"] = not worse
            if worse:
                told["stopped"] = worse
                files[f"redo_{number}_rejected.png"] = edited.images[0]
                return
            files[f"before_redo_{number}.png"] = files[IMAGE]
            files[IMAGE] = edited.images[0]
            if not again["scores"] and number < self.redo.rounds:
                told["stopped"] = f"{self.redo.filling.workflow.file.name} gives no scores to go on from"
                return
            now = {"plan": again["plan"] or json.loads(values["plan"]), "scores": again["scores"]}


def _of_regions(scores: Sequence[Mapping[str, Any]]):
    """The first scores that say something about regions. Raises PlanError when there are none."""
    from replan.evaluation.scores import Scores
    from replan.planner.plan import PlanError

    found = [Scores.from_json(json.dumps(one)) for one in scores]
    if not found:
        raise PlanError("the prompt gave no scores")
    return next((one for one in found if one.regions and one.region_main), found[0])


def _worse(after: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> str:
    """Why an edit is worse than the one before it, by the first score that fell; "" where none did.

    The main score that both have counts; where it is a mean over regions, and these are not the same, the score that
    says whether a region is done does, over those that both have.
    """
    from replan.evaluation.scores import Scores

    old = {(one.by, one.main): one for one in (Scores.from_json(json.dumps(each)) for each in before)}
    for one in (Scores.from_json(json.dumps(each)) for each in after):
        same = old.get((one.by, one.main))
        if same is None:
            continue
        if one.main in _OF_REGIONS and set(one.regions) != set(same.regions):
            name, values = one.region_main, _means_of_both(one, same)
        else:
            name, values = one.main, [one.ranked(), same.ranked()]
        if values and None not in values and values[0] < values[1]:
            return f"{name} of the {one.by} fell from {values[1]:.4g} to {values[0]:.4g}"
    return ""


def _means_of_both(one, other) -> list[float]:
    """Means of the score that says whether a region is done, over the regions of which both have it; [] for none."""
    name = one.region_main
    both = [region for region in one.regions if name in one.regions[region] and name in other.regions.get(region, {})]
    return [sum(scores.regions[region][name] for region in both) / len(both) for scores in (one, other)] if both else []


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
