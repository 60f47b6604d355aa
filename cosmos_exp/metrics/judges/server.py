"""A judge behind an OpenAI-compatible endpoint (vLLM, `transformers serve`, …), through the openai package."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypedDict

import cv2
import numpy as np
import openai
from openai.types.chat import ChatCompletionMessageParam
from openai.types.chat.chat_completion import Choice

from cosmos_exp.config.schema import Judge as JudgeSettings
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.metrics.judges.answers import parse_score
from cosmos_exp.metrics.judges.deadline import DeadlineClient
from cosmos_exp.metrics.judges.frames import shown_frames
from cosmos_exp.metrics.judges.interface import Answer, BatchError, Question, question_text
from cosmos_exp.metrics.judges.replies import expected_in_reply, first_choice, model_names
from cosmos_exp.text import one_line, redact

if TYPE_CHECKING:
    import torch

KEY_VARIABLE = "OPENAI_API_KEY"  # the only one whose content is sent
_CHECK = "Check that judge.url is the address of an OpenAI-compatible endpoint, up to /v1."


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
            api_key=os.environ.get(KEY_VARIABLE) or "none",
            timeout=settings.timeout,
            max_retries=settings.retries,
            http_client=DeadlineClient(settings.timeout),  # type: ignore[arg-type]  # openai 3 names httpx2, and takes both
        )
        self.model = settings.source or self._only_model()
        self.name = str(self.model).rstrip("/").rsplit("/", 1)[-1]

    def _only_model(self) -> str:
        try:
            names = model_names(self.client.models.with_raw_response.list().text)
        except openai.OpenAIError as error:
            raise UserError(_unreachable(self.settings, error)) from error
        except ValueError as error:
            raise UserError(f"judge.url={redact(str(self.settings.url))}: {error}. {_CHECK}") from error
        if len(names) != 1:
            raise UserError(
                f"judge.source: {redact(str(self.settings.url))} serves {', '.join(names) or 'no model'}; set it to one model's name"
            )
        return names[0]

    def identity(self) -> dict[str, object]:
        """The model's name (the weights behind it are not known here) and the settings of what the model is shown."""
        s = self.settings
        return {
            "server": redact(str(s.url)),
            "model": self.model,
            "fps": s.fps,
            "max_frames": s.max_frames,
            "media": s.media,
            "max_total_pixels": s.max_total_pixels,
            "max_new_tokens": s.max_new_tokens,
            "reasoning": s.reasoning,
        }

    def chunk_fault(self, number: int) -> None:
        """None: it scores any part of a video."""

    def ask(self, questions: Sequence[Question], temperature: float, seed: int) -> list[Answer]:
        """Send all questions at once, one thread each.

        Raises:
            BatchError: the server still fails for a question after all retries.
        """
        with ThreadPoolExecutor(len(questions)) as pool:
            asked = [pool.submit(self._ask, q, temperature, seed) for q in questions]
        failures = [error for a in asked if (error := a.exception())]
        unexpected = [error for error in failures if not isinstance(error, RunError)]
        if unexpected:
            raise unexpected[0]
        if failures:
            raise BatchError(str(failures[0]), [None if a.exception() else a.result() for a in asked]) from failures[0]
        return [a.result() for a in asked]

    def _ask(self, question: Question, temperature: float, seed: int) -> Answer:
        frames, rate = shown_frames(question.video, self.settings, question.span)
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
        url = redact(str(self.settings.url))
        try:
            if self.logprobs:
                try:
                    choice = self._complete(request, logprobs=True, top_logprobs=20)
                    if choice.logprobs is None:
                        self._no_probabilities()
                    return choice
                except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                    if "logprobs" not in str(error):
                        raise
                    self._no_probabilities()
            return self._complete(request)
        except openai.APIStatusError as error:
            if error.status_code in (401, 403):
                raise RunError(
                    f"{url} rejects the API key ({error.status_code}). Set the environment variable {KEY_VARIABLE}."
                ) from error
            raise RunError(f"{url} answers {error.status_code}: {one_line(error.message)[:300]}") from error
        except openai.OpenAIError as error:
            raise RunError(_unreachable(self.settings, error)) from error
        except ValueError as error:
            raise RunError(f"judge.url={url}: {error}. {_CHECK}") from error

    def _complete(self, request: Request, **options: Any) -> Choice:
        return first_choice(self.client.chat.completions.with_raw_response.create(**request, **options).text)

    def _no_probabilities(self) -> None:
        if self.logprobs:
            url = redact(str(self.settings.url))
            print(f"{url} returns no token probabilities: scores have no expected value", file=sys.stderr)
        self.logprobs = False


def _unreachable(settings: JudgeSettings, error: Exception) -> str:
    url = redact(str(settings.url))
    if isinstance(error, openai.APITimeoutError):
        return (
            f"judge.url={url}: no complete answer within judge.timeout={settings.timeout:g} s, {settings.retries + 1} times. "
            "Check the server, or set a longer judge.timeout."
        )
    return f"judge.url={url}: no answer ({type(error).__name__}: {one_line(error)[:120]}). Check that the server runs there."


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
