"""Edits against their targets by encoders of your own, through torchmetrics: `python tools/iv_edit/metrics.py RUN`.

CLIP-T (edited image and the caption of what it should show), CLIP-I and DINO (edited image and target), LPIPS, FID, IS.
Only what is asked for is measured. A folder is a model as transformers keeps it; nothing is downloaded for one. FID and
IS on other features than Inception's are no published FID and IS, and are named after their encoder. Writes
RUN/<method>/metrics.json, which report.py shows. Not run on real weights.

Examples:  python tools/iv_edit/metrics.py runs/magic --clip models/clip-vit-base-patch32 --dino models/dinov2-base
           python tools/iv_edit/metrics.py runs/magic --lpips alex --fid inception --is inception     (these download)
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path.insert(0, str(TOOLS))
    from bench import import_pack

    import_pack(needs="torch")

import torch  # noqa: E402
from replan.planner.plan import PlanError  # noqa: E402
from replan.tools.batches.config import parse, print_anything  # noqa: E402
from replan.tools.batches.items import BatchError  # noqa: E402
from replan.tools.batches.results import write_whole  # noqa: E402
from replan.tools.iv_edit.asking import read_image  # noqa: E402
from replan.tools.iv_edit.records import Record, read_records  # noqa: E402
from replan.tools.iv_edit.report import IMAGE, METRICS, methods_of  # noqa: E402
from replan.tools.own_environment import run_there  # noqa: E402

# Without what they need themselves: torch and numpy are this Python's.
PACKAGES = ("--no-deps", "torchmetrics==1.9.0", "lightning-utilities==0.15.2", "torch-fidelity==0.3.0")
INCEPTION = "inception"


class Pair:
    """One edit: pixels as torchmetrics takes them, (3, H, W) uint8. target: None where the record has none."""

    def __init__(self, record: Record, folder: Path) -> None:
        self.after = _bytes(folder / record.id / IMAGE)
        self.target = _bytes(Path(record.target)) if record.target else None
        self.caption = record.caption_after


class Folder(torch.nn.Module):
    """An image encoder of transformers as torchmetrics' FID and IS take one: (N, 3, H, W) uint8 to (N, C).

    logits: of a classifier, for IS. Raises BatchError for a folder with another kind of model.
    """

    def __init__(self, folder: Path, logits: bool = False) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification

        known = AutoConfig.from_pretrained(folder, local_files_only=True).architectures or []
        # Without this, transformers would give another model a classifier of random weights.
        if logits and not any(name.endswith("ForImageClassification") for name in known):
            raise BatchError(f"--is {folder}: a classifier of images was expected, found {', '.join(known) or 'none'}")
        kind = AutoModelForImageClassification if logits else AutoModel
        self.model = kind.from_pretrained(folder, local_files_only=True).eval()
        self.processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        self.logits = logits
        try:
            self.num_features = self(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape[1]
        except (AttributeError, TypeError, ValueError) as error:
            raise BatchError(
                f"{folder} gives no features of an image alone ({type(error).__name__}); give an image model, such as "
                "a DINOv2"
            ) from None

    @torch.inference_mode()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.processor(images=list(images), return_tensors="pt")
        out = self.model(**seen)
        return out.logits if self.logits else out.last_hidden_state[:, 0]


class Clip(torch.nn.Module):
    """A CLIP of transformers as torchmetrics takes one: since transformers 5 features come inside an output."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from transformers import CLIPModel

        self.model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
        self.config = self.model.config

    @torch.inference_mode()
    def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        found = self.model.get_image_features(pixel_values=pixels)
        return found if isinstance(found, torch.Tensor) else found.pooler_output

    @torch.inference_mode()
    def get_text_features(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = self.model.get_text_features(input_ids=tokens, attention_mask=mask)
        return found if isinstance(found, torch.Tensor) else found.pooler_output


def measures(args: argparse.Namespace) -> tuple[dict[str, Callable[[Pair], float | None]], dict[str, str]]:
    """What is measured of each edit, by name, and by which encoder."""
    from torchmetrics.functional import pairwise_cosine_similarity
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
    from torchmetrics.functional.multimodal import clip_score

    found: dict[str, Callable[[Pair], float | None]] = {}
    by: dict[str, str] = {}
    if args.clip:
        from transformers import CLIPProcessor

        model = Clip(args.clip)
        processor = CLIPProcessor.from_pretrained(args.clip, local_files_only=True)

        def clip(one, other) -> float:
            return float(clip_score(one, other, lambda: (model, processor))) / 100

        found["clip_t"] = lambda pair: clip(pair.after, pair.caption) if pair.caption else None
        found["clip_i"] = lambda pair: clip(pair.after, pair.target) if pair.target is not None else None
        by["clip_t"] = by["clip_i"] = str(args.clip)
    if args.dino:
        encoder = Folder(args.dino)
        found["dino"] = lambda pair: (
            None
            if pair.target is None
            else float(pairwise_cosine_similarity(encoder(pair.after[None]), encoder(pair.target[None])))
        )
        by["dino"] = str(args.dino)
    if args.lpips:
        found["lpips"] = lambda pair: (
            None
            if pair.target is None
            else float(
                learned_perceptual_image_patch_similarity(
                    _unit(pair.after, pair.target.shape), _unit(pair.target, pair.target.shape), args.lpips,
                    normalize=True,
                )
            )
        )  # fmt: skip
        by["lpips"] = args.lpips
    return found, by


def sets(args: argparse.Namespace) -> dict[str, tuple[object, str]]:
    """What is measured of all edits together: the metric and its encoder."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore

    found = {}
    if args.fid:
        features = 2048 if args.fid == INCEPTION else Folder(Path(args.fid))
        found["fid"] = (FrechetInceptionDistance(feature=features), args.fid)
    if args.inception_score:
        inception = args.inception_score == INCEPTION
        features = "logits_unbiased" if inception else Folder(Path(args.inception_score), logits=True)
        found["is"] = (InceptionScore(feature=features), args.inception_score)
    return found


def measure(records: Sequence[Record], folder: Path, args: argparse.Namespace) -> dict:
    """All measures of one method's edits. `images`: SHA-256 of each edit, so that a report tells when one changed."""
    each, by = measures(args)
    whole = sets(args)
    rows: dict[str, dict[str, float]] = {}
    images: dict[str, str] = {}
    with_target = 0
    for record in records:
        try:
            if not (folder / record.id / IMAGE).is_file():
                continue
            pair = Pair(record, folder)
        except PlanError as error:
            print(f"{folder.name}/{record.id}: {error}")
            continue
        images[record.id] = hashlib.sha256((folder / record.id / IMAGE).read_bytes()).hexdigest()
        values = {name: call(pair) for name, call in each.items()}
        rows[record.id] = {name: value for name, value in values.items() if value is not None}
        if "is" in whole:
            whole["is"][0].update(pair.after[None])
        if "fid" in whole and pair.target is not None:
            with_target += 1
            whole["fid"][0].update(pair.after[None], real=False)
            whole["fid"][0].update(pair.target[None], real=True)
    together = {}
    for name, (metric, encoder) in whole.items():
        count = with_target if name == "fid" else len(rows)
        if count < 2:
            wanted = " with a target" if name == "fid" else ""
            print(f"{folder.name}: no {name.upper()}: it needs two edits{wanted}, found {count}")
        else:
            torch.manual_seed(0)  # IS shuffles the images before it splits them
            value = metric.compute()
            value = float(value[0] if isinstance(value, tuple) else value)
            together[name] = {"value": value, "n": count, "encoder": encoder}
    return {"records": rows, "images": images, "encoders": by, "together": together}


def _counts(found: dict) -> str:
    """Of how many edits each measure is: one that needs a target or a caption is of those that have it."""
    counts = {name: sum(name in row for row in found["records"].values()) for name in found["encoders"]}
    counts |= {name: one["n"] for name, one in found["together"].items()}
    return ", ".join(f"{name} of {count}" for name, count in counts.items()) or "nothing"


def _bytes(file: Path) -> torch.Tensor:
    return (read_image(file)[0] * 255).round().to(torch.uint8).permute(2, 0, 1).contiguous()


def _unit(image: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """(1, 3, H, W) in 0..1 at the size of `shape`."""
    found = image[None].float() / 255
    if image.shape == shape:
        return found
    return torch.nn.functional.interpolate(found, shape[-2:], mode="bilinear", antialias=True).clamp(0, 1)


def main(arguments: list[str] | None = None) -> int:
    print_anything()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML or JSON with these options")
    parser.add_argument("--results", action="append", default=[], metavar="NAME=FOLDER", help="results from elsewhere")
    parser.add_argument("--clip", type=Path, metavar="FOLDER", help="a CLIP model: CLIP-T and CLIP-I")
    parser.add_argument("--dino", type=Path, metavar="FOLDER", help="a DINO model: likeness by its class token")
    parser.add_argument("--lpips", choices=["alex", "vgg", "squeeze"], help="LPIPS by torchvision's network")
    parser.add_argument("--fid", metavar="FOLDER", help=f"FID on a model's features, or '{INCEPTION}'")
    parser.add_argument("--is", dest="inception_score", metavar="FOLDER", help=f"IS by a classifier, or '{INCEPTION}'")
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        args, _ = parse(parser, arguments)
        folders = [
            one for one in (args.clip, args.dino, args.fid, args.inception_score) if one and str(one) != INCEPTION
        ]
        for folder in folders:
            if not (Path(folder) / "config.json").is_file():
                raise BatchError(f"{folder} holds no model (config.json); give a folder as transformers keeps one")
        if not (folders or args.lpips or INCEPTION in (args.fid, args.inception_score)):
            raise BatchError("say what to measure by: --clip, --dino, --lpips, --fid, --is")
        if importlib.util.find_spec("torchmetrics") is None:
            return run_there(__file__, arguments, "metrics", PACKAGES, beside=True)
        records = read_records(args.run)
        for name, folder in methods_of(args.run, args.results).items():
            found = measure(records, folder, args)
            write_whole(folder / METRICS, json.dumps(found, indent=1).encode())
            print(f"{name}: {len(found['records'])} edits, measured {_counts(found)}: {folder / METRICS}")
    except (BatchError, OSError) as error:
        print(f"metrics.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
