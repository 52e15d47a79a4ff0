"""Nodes for tests only: a text encoder as wide as Qwen-Image's, without its 7 G parameters."""

import zlib

import torch
from comfy_api.latest import ComfyExtension, io

WIDTH = 3584  # fixed in ComfyUI's loader of Qwen-Image


class StandInEncoder:
    """Answers as ComfyUI's CLIP does; a word's state is random, and the same wherever the word stands."""

    tokenizer = cond_stage_model = None

    def tokenize(self, text, **_):
        words = text.split() or [""]
        return {"stand_in": [[(zlib.crc32(word.encode()), 1.0) for word in words]]}

    def encode_from_tokens_scheduled(self, tokens, **_):
        states = [
            torch.randn(WIDTH, generator=torch.Generator().manual_seed(number)) for number, _ in tokens["stand_in"][0]
        ]
        return [[torch.stack(states)[None], {"pooled_output": None}]]


class StandInTextEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="TestStandInTextEncoder", category="tests", inputs=[], outputs=[io.Clip.Output()])

    @classmethod
    def execute(cls):
        return io.NodeOutput(StandInEncoder())


class StandIns(ComfyExtension):
    async def get_node_list(self):
        return [StandInTextEncoder]


async def comfy_entrypoint():
    return StandIns()
