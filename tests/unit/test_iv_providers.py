"""What OpenAI's client gets instead of a reply: each is told in words, and no other edit suffers. Real HTTP."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from replan.tools.iv_edit.providers import PACKAGES
from replan.tools.own_environment import ensure_beside

pytestmark = pytest.mark.full  # the client is in an environment of its own
TOOLS = Path(__file__).resolve().parents[2] / "tools"
BODIES = {
    "page": ("text/html", "<html>log in</html>"), "empty": ("application/json", ""),
    "half": ("application/json", '{"choices": [{"mess'), "null": ("application/json", "null"),
    "list": ("application/json", "[1]"), "none": ("application/json", "{}"),
    "message": ("application/json", '{"choices": [{"message": null}]}'),
    "number": ("application/json", '{"choices": [{"message": {"content": 5}}]}'),
    "parts": ("application/json", '{"choices": [{"message": {"content": [{"type": "text", "text": "5"}]}}]}'),
}  # fmt: skip
ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from bench import import_pack
import_pack()
import torch
from replan.evaluation.judge_questions import build_questions
from replan.tools.iv_edit import providers
question = build_questions(torch.rand(1, 16, 16, 3), torch.rand(1, 16, 16, 3), "x")[0]
told = {}
for name, (url, key) in json.loads(sys.argv[2]).items():
    try:
        told[name] = ["Answer", providers.OpenAIJudge("m", url, key, 5).ask(question).text]
    except Exception as error:
        told[name] = [type(error).__name__, str(error)]
print(json.dumps(told))
"""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        kind, body = BODIES[self.path.split("/")[1]]
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def test_what_is_no_reply_is_told_in_words():
    python = ensure_beside("judge", PACKAGES)
    assert not isinstance(python, str), python
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    cases = {name: (f"{address}/{name}", "k") for name in BODIES}
    cases |= {"port": ("http://a:b", "k"), "address": ("http://[a", "k")}
    cases |= {"key": (f"{address}/parts", "sk-\u2192"), "line": (f"{address}/parts", "sk\nx")}
    command = [str(python), "-c", ASK, str(TOOLS), json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    server.shutdown()
    told = json.loads(done.stdout.splitlines()[-1])
    assert told.pop("parts") == ["Answer", "5"]
    wrong = {name: told.pop(name) for name in ("port", "address", "key", "line")}
    assert {kind for kind, _ in wrong.values()} == {"JudgeError"} and "\u2192" not in str(wrong)
    assert {kind for kind, _ in told.values()} == {"Busy"}
    assert all("something else than a chat completion" in text or "no message" in text for _, text in told.values())
