"""A judge behind any OpenAI-compatible endpoint (vLLM, `transformers serve`, …), through the openai package."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import openai

from cosmos_exp.data.video import write_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.metrics.judges.answers import expected_score, find_score, parse_score
from cosmos_exp.metrics.judges.frames import shown_frames
from cosmos_exp.metrics.judges.interface import Answer, Question, asked_text


class ServerJudge:
    """Asks `judge.batch` questions at a time; failures are retried with growing pauses by the openai package."""

    def __init__(self, settings: Any):
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
            raise UserError(f"judge.source: name the model; {self.settings.url} serves {', '.join(names) or 'none'}")
        return names[0]

    def identity(self) -> dict[str, Any]:
        """The model's name (what the server loads under it is not known here) and what of the video is shown."""
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
        """Ask all at once, a thread each.

        Raises:
            RunError: the server still fails after the retries.
        """
        with ThreadPoolExecutor(len(questions)) as pool:
            return list(pool.map(lambda q: self._ask(q, temperature, seed), questions))

    def _ask(self, question: Question, temperature: float, seed: int) -> Answer:
        frames, rate = shown_frames(question.video, self.settings)
        media = _as_video(frames, rate) if self.settings.media == "video" else [_as_image(f) for f in frames]
        content: list[dict[str, Any]] = [*media, {"type": "text", "text": asked_text(question, self.settings)}]
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": question.rubric.system_prompt},
            {"role": "user", "content": content},
        ]
        reply = self._send(messages, temperature, seed)
        text = reply.message.content or ""
        return Answer(parse_score(text), _expected(reply, text), text)

    def _send(self, messages: list[dict[str, Any]], temperature: float, seed: int) -> Any:
        words = {
            "model": self.model,
            "messages": messages,
            "temperature": temperature,
            "seed": seed,
            "max_tokens": self.settings.max_new_tokens,
        }
        try:
            if self.logprobs:
                try:
                    choice = self.client.chat.completions.create(**words, logprobs=True, top_logprobs=20).choices[0]
                    if choice.logprobs is None:
                        self._no_probabilities()
                    return choice
                except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                    if "logprobs" not in str(error):
                        raise
                    self._no_probabilities()
            return self.client.chat.completions.create(**words).choices[0]
        except openai.APIStatusError as error:
            if error.status_code in (401, 403):
                raise RunError(
                    f"{self.settings.url} refuses the key in {self.settings.api_key_env} ({error.status_code})"
                ) from error
            raise RunError(f"{self.settings.url} answers {error.status_code}: {str(error.message)[:300]}") from error
        except openai.OpenAIError as error:
            raise RunError(_unreachable(self.settings.url, error)) from error

    def _no_probabilities(self) -> None:
        if self.logprobs:
            print(f"{self.settings.url} gives no token probabilities: scores come without an expected value")
        self.logprobs = False


def _unreachable(url: str, error: Exception) -> str:
    return f"judge.url={url}: no answer ({type(error).__name__}: {str(error)[:120]}); is the server up?"


def _as_image(frame: np.ndarray) -> dict[str, Any]:
    data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}


def _as_video(frames: np.ndarray, rate: float) -> list[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
        write_video(file, even, rate, crf=8)
        data = base64.b64encode(file.read_bytes()).decode()
    return [{"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{data}"}}]


def _expected(reply: Any, text: str) -> float | None:
    """The expected score where the digit was written; a digit that is not among the listed tokens has probability 0."""
    tokens = getattr(reply.logprobs, "content", None) if reply.logprobs else None
    found = find_score(text)
    if not tokens or found is None:
        return None
    reach = 0
    for token in tokens:
        reach += len(token.token)
        if reach > found[1]:
            listed = {t.token.strip(): t.logprob for t in token.top_logprobs or []}
            if token.token.strip() not in listed:
                return None
            return expected_score(np.array([listed.get(str(d), -np.inf) for d in range(1, 6)]))
    return None
