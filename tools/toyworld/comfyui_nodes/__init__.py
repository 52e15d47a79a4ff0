"""Custom nodes for ComfyUI: a CLIP vision model of any size, such as the toy world's, and scores from outside.

ComfyUI's CLIPVisionLoader knows the published sizes only. `dual_encoder.ensure_dual_encoder` writes such files, with
what ComfyUI's ClipVisionModel is made from in their metadata. Link this folder into ComfyUI's custom_nodes.
"""

import json
import sys

import folder_paths
from comfy.clip_vision import ClipVisionModel
from comfy_api.latest import ComfyExtension, io
from safetensors import safe_open

import nodes


class ToyWorldLoadClipVision(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyWorldLoadClipVision",
            display_name="Toy World Load CLIP Vision",
            category="RePlan/toy world",
            inputs=[io.Combo.Input("clip_name", options=folder_paths.get_filename_list("clip_vision"))],
            outputs=[io.ClipVision.Output()],
        )

    @classmethod
    def execute(cls, clip_name) -> io.NodeOutput:
        return io.NodeOutput(load(folder_paths.get_full_path_or_raise("clip_vision", clip_name)))


def load(file) -> ClipVisionModel:
    """The CLIP vision model of a file. Raises ValueError for one whose metadata does not describe it."""
    with safe_open(file, "pt") as opened:
        config = (opened.metadata() or {}).get("config")
        if config is None:
            raise ValueError(f"{file} does not say what model it is; use ComfyUI's Load CLIP Vision for it")
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no dict)
    model = ClipVisionModel(json.loads(config))
    missing, _ = model.load_sd(weights)
    if missing:
        raise ValueError(f"{file} lacks {', '.join(missing[:3])}; write it again")
    return model


class ToyWorldScores(io.ComfyNode):
    """What the exact scorer found, which no node can know, for RePlan Failed Regions."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyWorldScores",
            display_name="Toy World Scores",
            category="RePlan/toy world",
            inputs=[io.String.Input("scores", tooltip="The JSON of `Scores.to_json`.")],
            outputs=[io.Custom("REPLAN_SCORES").Output()],
        )

    @classmethod
    def execute(cls, scores) -> io.NodeOutput:
        # The value's class must be that of the pack as ComfyUI has loaded it, under whatever name.
        module = nodes.NODE_CLASS_MAPPINGS["RePlanFailedRegions"].__module__
        pack = module.removesuffix(".nodes.evaluation")
        return io.NodeOutput(sys.modules[f"{pack}.evaluation.scores"].Scores.from_json(scores))


class ToyWorld(ComfyExtension):
    async def get_node_list(self):
        return [ToyWorldLoadClipVision, ToyWorldScores]


async def comfy_entrypoint():
    return ToyWorld()
