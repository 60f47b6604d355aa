"""Cosmos-Reason2 as a judge, through transformers' Qwen3-VL classes."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoProcessor, BatchFeature, Qwen3VLForConditionalGeneration
from transformers.utils import logging as transformers_logging

from cosmos_exp.config.schema import Judge as JudgeSettings
from cosmos_exp.hub import ensure_folder
from cosmos_exp.metrics.judges.interface import (
    Answer,
    Question,
    expected_score,
    find_score,
    parse_score,
    question_text,
    shown_frames,
    shown_settings,
)

transformers_logging.disable_progress_bar()  # a run has its own
DIGITS = ("1", "2", "3", "4", "5")


def weights_identity(folder: Path) -> str:
    """16 hex digits of a hash of a model folder: names and contents of its files; of large ones the size and both ends."""
    digest = hashlib.sha256()
    for file in sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith(".")):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder)}\0{size}\0".encode())
        with open(file, "rb") as stream:
            digest.update(stream.read(2**20))
            if size > 2**20:
                stream.seek(max(2**20, size - 2**20))
                digest.update(stream.read())
    return digest.hexdigest()[:16]


class Reason2:
    """A loaded model.

    Args:
        precision: "bf16", or "no" for fp32.
        seed: not used; `ask` gets one.

    Raises:
        UserError: the weights are not on this machine and cannot be downloaded.
    """

    def __init__(self, settings: JudgeSettings, device: torch.device, precision: str, seed: int = 0):
        self.folder = ensure_folder(settings.source, settings.revision, "judge.source")
        self.settings, self.device, self.batch = settings, device, settings.batch
        self.name = str(settings.source).rstrip("/").rsplit("/", 1)[-1]
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.processor = AutoProcessor.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        self.processor.tokenizer.padding_side = "left"
        model = Qwen3VLForConditionalGeneration.from_pretrained(
            self.folder, dtype=self.dtype, local_files_only=True, use_safetensors=True
        )
        self.model = model.requires_grad_(False).eval().to(device)
        self.digit_ids: list[int] = []
        for digit in DIGITS:
            self.digit_ids += self.processor.tokenizer.encode(digit, add_special_tokens=False)

    def identity(self) -> dict[str, object]:
        """The content of the weights, the precision, and the settings of what the model is shown."""
        weights = weights_identity(self.folder)
        return {"weights": weights, "dtype": str(self.dtype), **shown_settings(self.settings)}

    def chunk_fault(self, number: int) -> None:
        """None: it scores any part of a video."""

    @torch.no_grad()
    def ask(self, questions: Sequence[Question], temperature: float, seed: int) -> list[Answer]:
        """Answer all questions in one batch. The same questions, temperature and seed give the same answers."""
        inputs = self._inputs(questions)
        torch.manual_seed(seed)
        sampling = {}
        if temperature:
            sampling["temperature"] = temperature
        out = self.model.generate(
            **inputs,
            **sampling,
            do_sample=temperature > 0,
            max_new_tokens=self.settings.max_new_tokens,
            return_dict_in_generate=True,
            output_logits=True,
        )
        answers = []
        for row, tokens in enumerate(out.sequences[:, inputs["input_ids"].shape[1] :]):
            text = self.processor.tokenizer.decode(tokens, skip_special_tokens=True)
            expected = self.expected(tokens, [step[row] for step in out.logits], text)
            answers.append(Answer(parse_score(text), expected, text))
        return answers

    def _inputs(self, questions: Sequence[Question]) -> BatchFeature:
        texts, videos, metas = [], [], []
        for question in questions:
            frames, rate = shown_frames(question, self.settings)
            content = [{"type": "video"}, {"type": "text", "text": question_text(question, self.settings)}]
            messages = [
                {"role": "system", "content": [{"type": "text", "text": question.rubric.system_prompt}]},
                {"role": "user", "content": content},
            ]
            texts.append(self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
            videos.append(list(frames))
            count = len(frames)
            meta = {"fps": rate, "total_num_frames": count, "frames_indices": list(range(count))}
            metas.append({**meta, "duration": count / rate})
        inputs: BatchFeature = self.processor(
            text=texts, videos=videos, video_metadata=metas, do_sample_frames=False, padding=True, return_tensors="pt"
        )
        return inputs.to(self.device)

    def expected(self, tokens: torch.Tensor, logits: list[torch.Tensor], text: str) -> float | None:
        """Mean of 1 to 5 under the probabilities of the digits at the position of the score.

        Args:
            tokens: of the answer, (T,).
            logits: of each token, (vocabulary,).
            text: the decoded answer.

        Returns:
            None if the answer holds no score, or a digit is not a token of its own.
        """
        scored = find_score(text)
        if scored is None or len(self.digit_ids) > len(DIGITS):
            return None

        def reach(place: int) -> int:
            return len(self.processor.tokenizer.decode(tokens[: place + 1], skip_special_tokens=True))

        first = bisect_right(range(len(tokens) - 1), scored[1], key=reach)  # whose text ends after the digit's position
        if int(tokens[first]) not in self.digit_ids:
            return None
        return expected_score(logits[first][self.digit_ids].float().cpu().numpy())
