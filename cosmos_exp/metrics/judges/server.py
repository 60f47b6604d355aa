"""A judge behind an OpenAI-compatible endpoint (vLLM, `transformers serve`, …), through the openai package."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import openai
from openai.types.chat.chat_completion import Choice

from cosmos_exp.config.schema import Judge as JudgeSettings
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.metrics.judges.interface import (
    THINKING,
    Answer,
    BatchError,
    Question,
    expected_score,
    find_score,
    parse_score,
    question_text,
    shown_frames,
    shown_settings,
)
from cosmos_exp.text import one_line, redact

if TYPE_CHECKING:
    import torch

KEY_VARIABLE = "OPENAI_API_KEY"  # the only one whose content is sent
# vLLM shows 32 frames of a video unless it is told otherwise: all frames, and no second choice among them.
VLLM_VIDEO = {"media_io_kwargs": {"video": {"num_frames": -1}}, "mm_processor_kwargs": {"do_sample_frames": False}}


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
        self.settings, self.batch, self.url = settings, settings.batch, redact(str(settings.url))
        self.logprobs = True
        self.client = openai.OpenAI(
            base_url=settings.url,
            api_key=os.environ.get(KEY_VARIABLE) or "none",
            timeout=settings.timeout,
            max_retries=settings.retries,
        )
        self.model = settings.source or self._only_model()
        self.name = str(self.model).rstrip("/").rsplit("/", 1)[-1]

    def _only_model(self) -> str:
        try:
            names = [one_line(model.id) for model in self.client.models.list().data]
        except Exception as error:  # the openai package does not check what it gets
            raise UserError(self._explained(error)) from error
        if len(names) != 1:
            raise UserError(
                f"judge.source: {self.url} serves {', '.join(names) or 'no model'}; set it to one model's name"
            )
        return names[0]

    def identity(self) -> dict[str, object]:
        """The model's name (the weights behind it are not known here) and the settings of what the model is shown."""
        media = self.settings.media
        return {"server": self.url, "model": self.model, "media": media, **shown_settings(self.settings)}

    def chunk_fault(self, number: int) -> None:
        """None: it scores any part of a video."""

    def ask(self, questions: Sequence[Question], temperature: float, seed: int) -> list[Answer]:
        """Send all questions at once, one thread each.

        Raises:
            BatchError: the server still fails for a question after all retries.
        """
        with ThreadPoolExecutor(len(questions)) as pool:
            asked = [pool.submit(self._ask, q, temperature, seed) for q in questions]
        answers: list[Any] = []  # None for a question that failed, in BatchError only
        failure = None
        for future in asked:
            try:
                answers.append(future.result())
            except RunError as error:
                failure = error
                answers.append(None)
        if failure:
            raise BatchError(str(failure), answers) from failure
        return answers

    def _ask(self, question: Question, temperature: float, seed: int) -> Answer:
        frames, rate = shown_frames(question, self.settings)
        content = list(map(_image_part, frames)) if self.settings.media == "frames" else [_video_part(frames, rate)]
        content.append({"type": "text", "text": question_text(question, self.settings)})
        request = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": question.rubric.system_prompt},
                {"role": "user", "content": content},
            ],
            "temperature": temperature,
            "seed": seed,
            "max_tokens": self.settings.max_new_tokens,
        }
        if self.settings.media == "video":
            request["extra_body"] = VLLM_VIDEO
        try:
            choice = self._send(request)
            text = choice.message.content or ""
            extra = choice.message.model_extra or {}  # vLLM's and DeepSeek's names
            reasoning = extra.get("reasoning") or extra.get("reasoning_content")
            if reasoning and not text:
                text = f"(reasoning without an answer; raise judge.max_new_tokens) {THINKING}{reasoning}"
            return Answer(parse_score(text), expected_in_reply(choice, text), text)
        except Exception as error:
            raise RunError(self._explained(error)) from error

    def _send(self, request: dict[str, Any]) -> Choice:
        """The reply, with token probabilities if the server gives them."""
        create, choice = self.client.chat.completions.create, None
        if not self.logprobs:
            return create(**request).choices[0]
        try:
            choice = create(**request, logprobs=True, top_logprobs=20).choices[0]
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if "logprobs" not in str(error):
                raise
        if choice is None or choice.logprobs is None:
            if self.logprobs:  # another thread may have said so
                print(f"{self.url} returns no token probabilities: scores have no expected value", file=sys.stderr)
            self.logprobs = False
        return choice or self._send(request)

    def _explained(self, error: Exception) -> str:
        """What is wrong and what to do."""
        if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
            return f"{self.url} rejects the API key ({error.status_code}). Set the environment variable {KEY_VARIABLE}."
        if isinstance(error, openai.APIStatusError) and any(key in str(error) for key in VLLM_VIDEO):
            return f"{self.url} does not take vLLM's {', '.join(VLLM_VIDEO)}, so that it may show other frames. Set judge.media=frames."
        if isinstance(error, openai.APITimeoutError):
            return (
                f"judge.url={self.url}: no answer within judge.timeout={self.settings.timeout:g} s. Set a longer one."
            )
        return (
            f"judge.url={self.url}: no usable answer ({type(error).__name__}: {one_line(error)[:300]}). Check that the server runs "
            "there. Check that judge.url is the address of the endpoint, up to /v1."
        )


def expected_in_reply(reply: Choice, text: str) -> float | None:
    """Mean of 1 to 5 under the token probabilities at the position of the score; None without score or probabilities.

    Servers list the most likely tokens only. A digit that is not listed has probability 0.
    """
    scored = find_score(text)
    if scored is None:
        return None
    try:
        tokens = reply.logprobs.content  # type: ignore[union-attr]
        end = 0  # of the token in the text
        for token in tokens:  # type: ignore[union-attr]
            end += len(token.token)
            if end > scored[1]:
                listed = {t.token.strip(): t.logprob for t in token.top_logprobs}
                logarithms = np.array([listed.get(digit, -np.inf) for digit in "12345"])
                return expected_score(logarithms) if token.token.strip() in listed else None
    except (TypeError, AttributeError, ValueError):  # the probabilities are missing, or not as the API has them
        pass
    return None


def _image_part(frame: np.ndarray) -> dict[str, Any]:
    data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}


def _video_part(frames: np.ndarray, rate: float) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
        write_video(file, even, rate, crf=8)
        data = base64.b64encode(file.read_bytes()).decode()
    return {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{data}"}}
