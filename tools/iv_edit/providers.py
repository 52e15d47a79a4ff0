"""Who can be asked as a judge: OpenAI's interface at any address, Google's, and a planner model on this machine.

A provider has a `label`, the `spec` of how it sees images, and `ask(question)`, which gives the reply or raises what
went wrong as one of three kinds. How often to try again is `asking`'s. Nothing of a client is imported before it is
used, and no message holds a key.
"""

from __future__ import annotations

import base64
import io
import sys
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from replan.evaluation.judge_questions import ANY_MODEL, Question
from replan.planner.models.interface import Answer, Part, Sampling, VlmSpec
from replan.planner.plan import PlanError

PACKAGES = ("openai==3.57.0", "google-genai==3.6.1")
MODULES = {"openai": "openai", "google-genai": "google.genai"}
MOST_TOKENS = 4096  # as upstream's judge


class JudgeError(RuntimeError):
    """The judge cannot be asked at all (a wrong key, no such model); nobody else's question will do better."""


class Busy(RuntimeError):
    """The judge gave no reply this time: a lost connection, a timeout, a limit. wait: seconds that it asks for."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class Refused(RuntimeError):
    """The judge takes this question not, and would not take it again."""


class Provider(Protocol):
    label: str
    model: str
    spec: VlmSpec

    def ask(self, question: Question) -> Answer:
        """Raises JudgeError, Busy or Refused."""


def png_of(image: torch.Tensor) -> bytes:
    """(1, H, W, 3) in 0..1 as a PNG file, without loss but for the rounding to bytes."""
    pixels = (image[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


class OpenAIJudge:
    """Chat completions at `base_url` (None: OpenAI's own), by the package openai.

    Servers differ in which settings they take: one that refuses a setting is asked again without it.
    """

    spec = ANY_MODEL

    def __init__(
        self, model: str, base_url: str | None, key: str, timeout: float, max_tokens: int = MOST_TOKENS
    ) -> None:
        import openai

        self.openai, self.model, self.label = openai, model, "openai"
        try:
            host = urllib.parse.urlsplit(base_url or "").hostname
            urllib.parse.urlsplit(base_url or "").port  # noqa: B018, raises for one that is no number
        except ValueError:
            raise JudgeError("--base-url is no address; it is http://HOST:PORT/v1") from None
        if not (key.isascii() and key.isprintable()):
            raise JudgeError("the key holds a sign that no key has, such as a line break; copy it again")
        # A proxy for the outside must not stand between us and our own machine.
        inside = (
            {"http_client": openai.DefaultHttpxClient(trust_env=False)} if host in ("127.0.0.1", "localhost") else {}
        )
        self.client = openai.OpenAI(base_url=base_url, api_key=key or "none", timeout=timeout, max_retries=0, **inside)
        self.settings: dict[str, Any] = {"temperature": 0, "max_tokens": max_tokens, "response_format": True}

    def ask(self, question: Question) -> Answer:
        settings = self.settings
        while True:
            try:
                return self._once(question, settings)
            except self.openai.BadRequestError as error:
                # Questions are asked by several threads: each changes a copy.
                settings = settings_without(settings, str(error))
                if settings is None:
                    raise Refused(f"the judge refuses the question: {_short(error)}") from None
                self.settings = settings
            except self.openai.APIStatusError as error:
                raise _by_status(error.status_code, _short(error), error.response.headers, error.code) from None
            except self.openai.APIConnectionError as error:  # timeouts too
                raise Busy(f"no reply from {self.client.base_url.host}: {_short(error)}") from None
            except (ValueError, AttributeError, TypeError, self.openai.OpenAIError) as error:
                raise Busy(
                    f"{self.client.base_url.host} answers something else than a chat completion "
                    f"({type(error).__name__}), such as a proxy's page or half a "
                    "reply; look whether --base-url is the address of its API"
                ) from None

    def _once(self, question: Question, settings: Mapping[str, Any]) -> Answer:
        settings = dict(settings)
        if settings.pop("response_format", False):
            schema = {"name": question.key, "schema": question.schema, "strict": True}
            settings["response_format"] = {"type": "json_schema", "json_schema": schema}
        images = iter(question.images)
        messages = [
            {"role": one.role, "content": [self._part(part, images) for part in one.parts if part != ""]}
            for one in question.messages
        ]
        reply = self.client.chat.completions.create(model=self.model, messages=messages, **settings)
        if not reply.choices:
            raise Busy("the judge's reply holds no message")
        choice, usage = reply.choices[0], reply.usage
        text = choice.message.content or getattr(choice.message, "refusal", None) or ""
        if isinstance(text, list):  # some servers keep the parts of a message apart
            text = "".join(part["text"] for part in text if part.get("type") == "text")
        if not isinstance(text, str):
            raise TypeError("a message is a text")
        counts = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
        return Answer(text, choice.finish_reason != "length", *counts)

    def _part(self, part: str | Part, images) -> dict[str, Any]:
        if part is not Part.IMAGE:
            return {"type": "text", "text": part}
        url = f"data:image/png;base64,{base64.b64encode(png_of(next(images))).decode()}"
        return {"type": "image_url", "image_url": {"url": url}}


class GoogleJudge:
    """Gemini by the package google-genai: with a key, or on Vertex with a project, a location and credentials."""

    spec = ANY_MODEL

    def __init__(
        self, model: str, base_url: str | None, key: str, timeout: float, max_tokens: int = MOST_TOKENS,
        vertex: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        from google import genai

        self.genai, self.model, self.max_tokens = genai, model, max_tokens
        self.label = "google-genai (Vertex)" if vertex else "google-genai"
        options = genai.types.HttpOptions(base_url=base_url, timeout=int(timeout * 1000))
        if not vertex:
            self.client = genai.Client(api_key=key, http_options=options)
            return
        credentials = None
        if file := vertex.get("credential_file"):
            from google.oauth2.service_account import Credentials

            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            credentials = Credentials.from_service_account_file(file, scopes=scopes)
        self.client = genai.Client(
            vertexai=True, project=vertex.get("project"), location=vertex.get("location") or "global",
            credentials=credentials, http_options=options,
        )  # fmt: skip

    def ask(self, question: Question) -> Answer:
        import httpx

        types = self.genai.types
        images = iter(question.images)
        contents = [
            types.Content(
                role="model" if one.role == "assistant" else "user",
                parts=[
                    types.Part.from_bytes(data=png_of(next(images)), mime_type="image/png")
                    if part is Part.IMAGE
                    else types.Part.from_text(text=part)
                    for part in one.parts
                    if part != ""
                ],
            )
            for one in question.messages
        ]
        config = types.GenerateContentConfig(
            temperature=0, max_output_tokens=self.max_tokens, response_mime_type="application/json",
            response_json_schema=question.schema,
        )  # fmt: skip
        try:
            reply = self.client.models.generate_content(model=self.model, contents=contents, config=config)
        except self.genai.errors.APIError as error:
            if error.code == 400:
                raise Refused(f"the judge refuses the question: {_short(error)}") from None
            raise _by_status(error.code, _short(error), {}) from None
        except httpx.HTTPError as error:
            raise Busy(f"no reply: {_short(error) or type(error).__name__}") from None
        usage = reply.usage_metadata
        counts = (usage.prompt_token_count or 0, usage.candidates_token_count or 0) if usage else (0, 0)
        ended = reply.candidates[0].finish_reason if reply.candidates else None
        return Answer(reply.text or "", ended != types.FinishReason.MAX_TOKENS, *counts)


class LocalJudge:
    """A planner model of this machine, loaded as RePlan Load Planner does it. Needs ComfyUI's Python.

    path: its file or folder. comfyui: ComfyUI's folder.
    """

    def __init__(self, path: Path, comfyui: Path, cpu: bool, dtype: str, max_tokens: int = MOST_TOKENS) -> None:
        if not Path(path).exists():
            raise JudgeError(f"--model {path}: there is no such file or folder with a planner model")
        if not (Path(comfyui) / "comfy" / "sd.py").is_file():
            raise JudgeError(f"--comfyui {comfyui} is not ComfyUI's folder (the one with main.py and comfy/)")
        sys.path.insert(0, str(comfyui))
        import comfy.cli_args

        comfy.cli_args.args.cpu = cpu or not torch.cuda.is_available()
        from replan.planner.models.choose import load_planner

        try:
            self.loaded = load_planner(Path(path), dtype)
        except PlanError as error:
            raise JudgeError(str(error)) from None
        self.label, self.model, self.spec = "local", self.loaded.label, self.loaded.spec
        self.sampling = Sampling(max_tokens)

    def ask(self, question: Question) -> Answer:
        try:
            with torch.inference_mode():
                return self.loaded.answer(question.messages, question.images, self.sampling)
        except PlanError as error:
            raise Refused(str(error)) from None


def settings_without(settings: Mapping[str, Any], refusal: str) -> dict[str, Any] | None:
    """A request's settings without those that a server's refusal names; None where it names none."""
    named = [name for name in settings if name in refusal]
    if "response_format" in settings and "schema" in refusal.lower():
        named.append("response_format")
    kept = {name: value for name, value in settings.items() if name not in named}
    if "max_tokens" in named:  # newer models of OpenAI's
        kept["max_completion_tokens"] = settings["max_tokens"]
    return kept if named else None


def _by_status(status: int | None, text: str, headers: Mapping[str, str], code: str | None = None) -> Exception:
    """A server's refusal as one of the three kinds."""
    if status in (401, 403, 404) or code == "insufficient_quota":
        return JudgeError(f"the judge answers {status}: {text}")
    if status is None or status in (408, 409, 425, 429) or status >= 500:
        wait = headers.get("retry-after", "")
        return Busy(f"the judge answers {status}: {text}", float(wait) if wait.isdigit() else None)
    return Refused(f"the judge answers {status}: {text}")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
