"""A judge behind an OpenAI-compatible endpoint (vLLM, `transformers serve`, …), through the openai package."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypedDict

import cv2
import numpy as np
import openai
from openai.types.chat import ChatCompletionMessageParam
from openai.types.chat.chat_completion import Choice

from cosmos_exp.config.schema import Judge as JudgeSettings
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.metrics.judges.answers import expected_score, find_score, parse_score
from cosmos_exp.metrics.judges.frames import shown_frames
from cosmos_exp.metrics.judges.interface import Answer, Question, question_text

if TYPE_CHECKING:
    import torch


class Part(TypedDict, total=False):
    """One part of a message: text, an image or a video."""

    type: str
    text: str
    image_url: dict[str, str]
    video_url: dict[str, str]


class Request(TypedDict):
    """Arguments of a chat completion."""

    model: str
    messages: list[ChatCompletionMessageParam]
    temperature: float
    seed: int
    max_tokens: int


class ServerJudge:
    """Sends `judge.batch` questions at a time. The openai package retries failed requests with growing pauses.

    Args:
        device, precision, seed: not used; the server has its own.

    Raises:
        UserError: the server does not answer, or it serves several models and `judge.source` names none.
    """

    def __init__(
        self, settings: JudgeSettings, device: torch.device | None = None, precision: str = "no", seed: int = 0
    ):
        self.settings, self.batch = settings, settings.batch
        self.logprobs = True
        self.client = openai.OpenAI(
            base_url=settings.url,
            api_key=os.environ.get(settings.api_key_env) or "none",
            timeout=settings.timeout,
            max_retries=settings.retries,
        )
        self.model = settings.source or self._only_model()
        self.name = str(self.model).rstrip("/").rsplit("/", 1)[-1]

    def _only_model(self) -> str:
        try:
            names = [m.id for m in self.client.models.list()]
        except openai.OpenAIError as error:
            raise UserError(_unreachable(self.settings.url, error)) from error
        if len(names) != 1:
            raise UserError(
                f"judge.source: {self.settings.url} serves {', '.join(names) or 'no model'}; set it to one model's name"
            )
        return names[0]

    def identity(self) -> dict[str, object]:
        """The model's name (the weights behind it are not known here) and the settings of what the model is shown."""
        s = self.settings
        return {
            "server": s.url,
            "model": self.model,
            "fps": s.fps,
            "max_frames": s.max_frames,
            "media": s.media,
            "max_total_pixels": s.max_total_pixels,
            "max_new_tokens": s.max_new_tokens,
            "reasoning": s.reasoning,
        }

    def ask(self, questions: Sequence[Question], temperature: float, seed: int) -> list[Answer]:
        """Send all questions at once, one thread each.

        Raises:
            RunError: the server still fails after all retries.
        """
        with ThreadPoolExecutor(len(questions)) as pool:
            return list(pool.map(lambda q: self._ask(q, temperature, seed), questions))

    def _ask(self, question: Question, temperature: float, seed: int) -> Answer:
        frames, rate = shown_frames(question.video, self.settings)
        media = [_video_part(frames, rate)] if self.settings.media == "video" else [_image_part(f) for f in frames]
        content = [*media, Part(type="text", text=question_text(question, self.settings))]
        request: Request = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": question.rubric.system_prompt},
                {"role": "user", "content": content},  # type: ignore[list-item, misc]  # openai has no video part
            ],
            "temperature": temperature,
            "seed": seed,
            "max_tokens": self.settings.max_new_tokens,
        }
        reply = self._send(request)
        text = reply.message.content or ""
        return Answer(parse_score(text), expected_in_reply(reply, text), text)

    def _send(self, request: Request) -> Choice:
        """The reply, with token probabilities if the server gives them."""
        try:
            if self.logprobs:
                try:
                    choice = self.client.chat.completions.create(**request, logprobs=True, top_logprobs=20).choices[0]
                    if choice.logprobs is None:
                        self._no_probabilities()
                    return choice
                except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                    if "logprobs" not in str(error):
                        raise
                    self._no_probabilities()
            return self.client.chat.completions.create(**request).choices[0]
        except openai.APIStatusError as error:
            if error.status_code in (401, 403):
                raise RunError(
                    f"{self.settings.url} rejects the API key ({error.status_code}). Set the environment variable "
                    f"{self.settings.api_key_env}."
                ) from error
            raise RunError(f"{self.settings.url} answers {error.status_code}: {str(error.message)[:300]}") from error
        except openai.OpenAIError as error:
            raise RunError(_unreachable(self.settings.url, error)) from error

    def _no_probabilities(self) -> None:
        if self.logprobs:
            print(f"{self.settings.url} returns no token probabilities: scores have no expected value")
        self.logprobs = False


def _unreachable(url: str | None, error: Exception) -> str:
    return f"judge.url={url}: no answer ({type(error).__name__}: {str(error)[:120]}). Check that the server runs there."


def _image_part(frame: np.ndarray) -> Part:
    data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}


def _video_part(frames: np.ndarray, rate: float) -> Part:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
        write_video(file, even, rate, crf=8)
        data = base64.b64encode(file.read_bytes()).decode()
    return {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{data}"}}


def expected_in_reply(reply: Choice, text: str) -> float | None:
    """Mean of 1 to 5 under the token probabilities at the position of the score; None without score or probabilities.

    Servers list the most likely tokens only. A digit that is not listed has probability 0.
    """
    tokens = reply.logprobs.content if reply.logprobs else None
    found = find_score(text)
    if not tokens or found is None:
        return None
    end = 0  # of the token in the text
    for token in tokens:
        end += len(token.token)
        if end > found[1]:
            listed = {t.token.strip(): t.logprob for t in token.top_logprobs or []}
            if token.token.strip() not in listed:
                return None
            return expected_score(np.array([listed.get(str(d), -np.inf) for d in range(1, 6)]))
    return None
