"""Cosmos-Reason2 (a Qwen3-VL) through transformers: video before text, greedy, the raw answer kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from cosmos_exp.metrics.judge import Answer, Rubric, judge_folder, parse_score, sample_frames

DIGITS = ("1", "2", "3", "4", "5")


class Reason2:
    """One loaded judge."""

    def __init__(self, settings: Any, device: torch.device, precision: str, seed: int):
        folder = judge_folder(settings)
        self.settings, self.device, self.seed = settings, device, seed
        self.name = str(settings.source).rstrip("/").rsplit("/", 1)[-1]
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self.model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self.model.requires_grad_(False).eval().to(device)
        tokens = [self.processor.tokenizer.encode(d, add_special_tokens=False) for d in DIGITS]
        self.digit_ids = [t[0] for t in tokens] if all(len(t) == 1 for t in tokens) else None

    @torch.no_grad()
    def answer(self, frames: np.ndarray, fps: float, rubric: Rubric, instruction: str | None) -> Answer:
        """Ask once; the same frames, rubric and settings give the same answer."""
        shown = sample_frames(frames, fps, self.settings.fps, self.settings.max_total_pixels)
        messages = [
            {"role": "system", "content": [{"type": "text", "text": rubric.system_prompt}]},
            {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": rubric.text(instruction)}]},
        ]
        text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        rate = min(fps, self.settings.fps)
        meta = {"fps": rate, "total_num_frames": len(shown), "frames_indices": list(range(len(shown))),
                "duration": len(shown) / rate}  # fmt: skip
        inputs = self.processor(
            text=[text], videos=[list(shown)], video_metadata=[meta], do_sample_frames=False, return_tensors="pt"
        ).to(self.device)
        torch.manual_seed(self.seed)
        out = self.model.generate(
            **inputs, max_new_tokens=self.settings.max_new_tokens, do_sample=False, return_dict_in_generate=True,
            output_logits=True,
        )  # fmt: skip
        new = out.sequences[0, inputs["input_ids"].shape[1] :]
        reply = self.processor.tokenizer.decode(new, skip_special_tokens=True)
        return Answer(parse_score(reply), self._expected(new, out.logits), reply)

    def _expected(self, tokens: torch.Tensor, logits: tuple[torch.Tensor, ...]) -> float | None:
        """Mean of 1 to 5 under the probabilities of the digits, where the first digit was written."""
        if self.digit_ids is None:
            return None
        for token, scores in zip(tokens.tolist(), logits, strict=False):
            if token in self.digit_ids:
                return expected_score(scores[0, self.digit_ids].float().cpu().numpy())
        return None


def expected_score(digit_logits: np.ndarray) -> float:
    """sum_k k p_k over k = 1 to 5, p the softmax of the five logits."""
    weights = np.exp(digit_logits - digit_logits.max())
    return float((weights / weights.sum() * np.arange(1, 6)).sum())
