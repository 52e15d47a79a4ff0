"""The exact scorer behind the interface that judges have: `python tools/toyworld/judge_server.py --scenes 12`.

Not a model. It answers POST /v1/chat/completions as OpenAI's servers do, and NAME:generateContent as Google's. It finds
the toy scene by the original's pixels and the question by the JSON key that it asks for, and gives the published scales
by what `scoring.py` measures. Of a region it is shown cut-outs: it finds their place in the scenes that the instruction
is of, and says whether the object of the hint is done and the rest kept. So the whole way of a judge (images,
questions, replies, retries, tables) can be tried where the right answer is known.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import re
import sys
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path.insert(0, str(TOOLS))
    from bench import import_pack

    import_pack(needs="PIL")

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from replan.tools.toyworld.requests import Request, held_out_requests  # noqa: E402
from replan.tools.toyworld.scoring import exact_answers, outcomes  # noqa: E402
from replan.tools.toyworld.tasks import Task  # noqa: E402

MODEL = "toyworld-exact-scorer"
_KEY = re.compile(r'"(target|effect|consistency|quality)_score"')
_OF_REGION = re.compile(r'"(done|kept)": "A"')
# How far a cut-out may be from the place where it was cut, in grey values (root mean square): it was scaled twice.
_SAME = 12.0
LEAST_CUT = 112  # pixels: the least side of a cut-out, as of `second_look.cut_around`


class ExactJudge:
    """Knows the scenes of some requests; answers the body of a request as either server would."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self.requests = list(requests)
        self.by_pixels = {_digest(one.task.scene.pixels): one.task for one in self.requests}

    def openai(self, body: dict) -> tuple[int, dict]:
        """A chat completion."""
        parts = [part for message in body["messages"] for part in message["content"]]
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        images = [part["image_url"]["url"].partition("base64,")[2] for part in parts if part["type"] == "image_url"]
        content = self.answer(text, images)
        return 200, {
            "id": "exact", "object": "chat.completion", "created": 0, "model": MODEL,
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
            ],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        }  # fmt: skip

    def google(self, body: dict) -> tuple[int, dict]:
        """What generateContent gives."""
        parts = [part for content in body["contents"] for part in content["parts"]]
        text = "".join(part.get("text", "") for part in parts)
        # Google's client writes the alphabet for URLs.
        files = [part["inlineData"]["data"] for part in parts if "inlineData" in part]
        images = [file.replace("-", "+").replace("_", "/") for file in files]
        content = {"role": "model", "parts": [{"text": self.answer(text, images)}]}
        return 200, {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}]}

    def answer(self, text: str, files: list[str]) -> str:
        """The reply to a question with its images in base 64. Raises ValueError for any other question."""
        keys, of_region = _KEY.findall(text), _OF_REGION.findall(text)
        if of_region and len(files) == 2:
            return self._of_region(of_region[-1], text, *map(_pixels, files))
        if not keys or not files:
            raise ValueError("no question of this judge with its images")
        images = [_pixels(file) for file in files]
        task = self.by_pixels.get(_digest(images[0])) if len(images) > 1 else self._nearest(images[0])
        if task is None:
            raise ValueError("the original is no scene of this server")
        size, after = task.scene.size, images[-1]
        if after.shape[:2] != (size, size):
            after = np.asarray(Image.fromarray(after).resize((size, size)))
        value = exact_answers(task, after)[keys[-1]]
        return json.dumps({"reasoning": "measured on pixels", f"{keys[-1]}_score": value})

    def _of_region(self, key: str, text: str, before: np.ndarray, after: np.ndarray) -> str:
        """The reply about the object of a hint, by the cut-outs around it before and after the edit."""
        asked = [one.task for one in self.requests if f"for the whole image: {one.text}\n" in text]
        places = [(task, *place_of(before, task.scene.pixels)) for task in asked]
        task, box, off = min(places, key=lambda one: one[2], default=(None, None, np.inf))
        if task is None or off > _SAME:
            raise ValueError("the cut-out before the edit is of no scene with this instruction")
        numbers = [number for number, (_, one) in enumerate(task.instructions) if f"\n{one.text}\n" in text]
        if not numbers:
            raise ValueError("the hint is none of the scene's")
        left, top, right, bottom = box
        result = task.scene.pixels.copy()
        result[top:bottom, left:right] = Image.fromarray(after).resize((right - left, bottom - top))
        if key == "done":
            yes = all(outcomes(task, result)[number].reached for number in numbers)
        else:
            yes = exact_answers(task, result)["consistency"] == 5
        return json.dumps({"reasoning": "measured on pixels", key: "yes" if yes else "no"})

    def _nearest(self, after: np.ndarray) -> Task | None:
        """The scene that an edited image alone is most likely of."""
        fitting = [task for task in self.by_pixels.values() if task.scene.pixels.shape == after.shape]
        return min(
            fitting,
            key=lambda task: np.square(task.scene.pixels.astype(float) - after.astype(float)).mean(),
            default=None,
        )


def place_of(cut: np.ndarray, scene: np.ndarray) -> tuple[tuple[int, int, int, int], float]:
    """Where a cut-out, which may have been scaled, was cut: the box in pixels, and how far off it is there (rms)."""
    size = len(scene)
    found = (0, 0, size, size), float("inf")
    pixels = scene.astype(np.float32)
    for width in range(LEAST_CUT, size + 1):
        for height in range(LEAST_CUT, size + 1):
            # The scaled size is rounded, so the shape may be off by one of its pixels on each side.
            if abs(width * cut.shape[0] - height * cut.shape[1]) > width + height:
                continue
            shown = np.asarray(Image.fromarray(cut).resize((width, height)), dtype=np.float32)
            for top in range(size - height + 1):
                for left in range(size - width + 1):
                    there = pixels[top : top + height, left : left + width]
                    off = float(np.sqrt(np.square(there - shown).mean()))
                    if off < found[1]:
                        found = (left, top, left + width, top + height), off
    return found


def serve(requests: Iterable[Request], port: int = 0) -> ThreadingHTTPServer:
    """A server on this machine that has begun to listen; `serve_forever` answers."""
    judge = ExactJudge(requests)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, answer = 404, {"error": {"message": "no such address"}}
            try:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
                if self.path.endswith("/chat/completions"):
                    status, answer = judge.openai(body)
                elif self.path.endswith(":generateContent"):
                    status, answer = judge.google(body)
            except (KeyError, TypeError, ValueError, OSError) as error:
                status, answer = 400, {"error": {"code": 400, "message": str(error), "status": "INVALID_ARGUMENT"}}
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _pixels(file: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(file))) as image:
        return np.asarray(image.convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=12, help="held-out scenes that it knows (12)")
    parser.add_argument("--seed", type=int, default=0, help="which ones, as of iv_records.py (0)")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    server = serve(held_out_requests(args.seed, args.scenes), args.port)
    print(f"{MODEL} answers at http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
