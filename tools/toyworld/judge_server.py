"""The exact scorer behind the interface that judges have: `python tools/toyworld/judge_server.py --scenes 12`.

Not a model. It answers POST /v1/chat/completions as OpenAI's servers do, and NAME:generateContent as Google's. It finds
the toy scene by the original's pixels and the question by the JSON key that it asks for, and gives the published scales
by what `scoring.py` measures. So the whole way of a judge (images, questions, replies, retries, tables) can be tried
where the right answer is known.
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

    import_pack()

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from replan.tools.toyworld.requests import Request, held_out_requests  # noqa: E402
from replan.tools.toyworld.scoring import BEST, WORST, score  # noqa: E402
from replan.tools.toyworld.tasks import Task  # noqa: E402

MODEL = "toyworld-exact-scorer"
_KEY = re.compile(r'"(target|effect|consistency|quality)_score"')
# dB between an edited image and the nearest of what it could be, from which Quality is 2, 3, 4 and 5.
_QUALITY = (18.0, 22.0, 26.0, 30.0)


def exact_answers(task: Task, result: np.ndarray) -> dict[str, int]:
    """The published questions on their published scales, out of exact measures. result: (size, size, 3) uint8.

    Target: every meant object changed. Effect: all, some or none became what was asked. Consistency: by thirds of the
    way from 15 to 30 dB outside the regions. Quality, which pixels cannot tell: how near the image is to the nearest
    of three that are well made, the scene, what is wanted, and what the words alone ask for.
    """
    found = score(task, result)
    drawn = (task.scene, task.wanted, task.literal)
    errors = [np.square(result.astype(float) - one.pixels.astype(float)).mean() for one in drawn]
    kept = (found.consistency_psnr - WORST) / (BEST - WORST)
    nearest = 10 * np.log10(255**2 / max(min(errors), 1e-3))
    return {
        "target": 5 if found.target == 1 else 1,
        "effect": 5 if found.effect == 1 else 3 if found.effect > 0 else 1,
        "consistency": 5 if kept >= 2 / 3 else 3 if kept >= 1 / 3 else 1,
        "quality": 1 + sum(bool(nearest >= bound) for bound in _QUALITY),
    }


class ExactJudge:
    """Knows the scenes of some requests; answers the body of a request as either server would."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self.by_pixels = {_digest(one.task.scene.pixels): one.task for one in requests}

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
        keys = _KEY.findall(text)
        if not keys or not files:
            raise ValueError("no published question with images")
        images = [_pixels(file) for file in files]
        task = self.by_pixels.get(_digest(images[0])) if len(images) > 1 else self._nearest(images[0])
        if task is None:
            raise ValueError("the original is no scene of this server")
        size, after = task.scene.size, images[-1]
        if after.shape[:2] != (size, size):
            after = np.asarray(Image.fromarray(after).resize((size, size)))
        value = exact_answers(task, after)[keys[-1]]
        return json.dumps({"reasoning": "measured on pixels", f"{keys[-1]}_score": value})

    def _nearest(self, after: np.ndarray) -> Task | None:
        """The scene that an edited image alone is most likely of."""
        fitting = [task for task in self.by_pixels.values() if task.scene.pixels.shape == after.shape]
        return min(
            fitting,
            key=lambda task: np.square(task.scene.pixels.astype(float) - after.astype(float)).mean(),
            default=None,
        )


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
