"""The typed schema of conf/: what every key is, may be, and means. Imports nothing heavy.

Hydra checks names and types against these dataclasses while it composes; `check` adds what a type cannot say
(choices, ranges, sums) and what keys say about each other. Both together take well under two seconds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from cosmos_exp.config.measures import MARGINS


def key(default: Any, help: str, **limits: Any) -> Any:
    """A field with its meaning and limits: `choices`, `gt`, `ge`, `le`."""
    metadata = {"help": help, **limits}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    if dataclasses.is_dataclass(default) and isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]


@dataclass
class Adapter:
    """What is trained."""

    kind: str = key("lora", "lora, dora, or none for the base model", choices=("lora", "dora", "none"))
    rank: int = key(32, "r of the update B A", gt=0)
    alpha: float = key(32.0, "the update is scaled by alpha/rank (rslora: alpha/sqrt(rank))", gt=0)
    scaling: str = key("standard", "standard or rslora", choices=("standard", "rslora"))
    target_modules: list[str] = key(TARGETS, "linear layers that get an adapter, by name or end of name")
    dropout: float = key(0.0, "dropout on the adapter's input", ge=0, le=0.99)
    bias: bool = key(False, "also train a bias on each adapted layer (LoRA only)")
    init: str = key("gaussian", "how A starts; B is zero", choices=("gaussian", "kaiming"))


@dataclass
class Hardware:
    """Where it runs. None of this changes the result beyond rounding."""

    device: str = key("cpu", "cpu or cuda", choices=("cpu", "cuda"))
    num_processes: int = key(1, "processes, one a GPU", gt=0)
    mixed_precision: str = key("no", "no: fp32; bf16: base weights and activations", choices=("no", "bf16"))
    samples_per_forward: int = key(1, "samples a process takes at once", gt=0)
    checkpointing: str = key(
        "none",
        "what is computed again to save memory: none; pointwise: all but matrix products and attention; selective: all "
        "but self-attention; full: all; auto: as little as memory_gb allows",
        choices=("none", "pointwise", "selective", "full", "auto"),
    )
    compile: bool = key(False, "torch.compile of the transformer's blocks; takes a minute or two at the start")
    guidance: str = key(
        "two_passes",
        "prompt and negative prompt in a generation step: two forward passes, or one of two samples",
        choices=("two_passes", "one_batch"),
    )
    attention: str = key(
        "auto",
        "kernel of scaled dot-product attention on a GPU; auto: PyTorch's choice, recorded",
        choices=("auto", "cudnn", "flash", "efficient", "math"),
    )
    num_threads: int | None = key(None, "CPU threads a process; null: all cores shared evenly", gt=0)
    memory_gb: float | None = key(None, "memory of one device: the plan's warning, and what auto plans with", gt=0)


@dataclass
class Approximate:
    """Options that change numbers for speed or memory. All off by default, part of the run's hash, recorded."""

    tf32: bool = key(False, "fp32 matrix products of the base and adapter in TF32 on a GPU")
    fp8_base: bool = key(False, "frozen linear weights kept in 8-bit floating point (torchao, extra [approximate])")
    adamw_8bit: bool = key(False, "AdamW's moments in 8 bits (torchao, extra [approximate])")


@dataclass
class Transformer:
    """CosmosTransformer3DModel's configuration; a folder's own config.json wins over it."""

    in_channels: int = key(17, "latent channels and the condition mask", gt=1)
    out_channels: int = key(16, "latent channels", gt=0)
    num_attention_heads: int = key(16, "heads", gt=0)
    attention_head_dim: int = key(128, "channels a head", gt=0)
    num_layers: int = key(28, "blocks", gt=0)
    mlp_ratio: float = key(4.0, "width of the feed-forward layer over the hidden width", gt=0)
    text_embed_dim: int = key(1024, "channels of a projected prompt token", gt=0)
    adaln_lora_dim: int = key(256, "width inside the adaptive norms", gt=0)


@dataclass
class Model:
    """The frozen world model."""

    name: str = key("tabletop", "for tables and records")
    source: str = key("embedded", "hub repository, folder, or embedded")
    revision: str | None = key(None, "branch, tag or commit on the hub")
    builder: str | None = key(None, "function that returns the embedded model's folder")
    weights: str = key("trained", "embedded: the shipped weights, or random ones", choices=("trained", "random"))
    height: int = key(96, "pixels, divisible by 16", gt=0)
    width: int = key(160, "pixels, divisible by 16", gt=0)
    num_frames: int = key(17, "4k + 1", gt=0)
    fps: float = key(8.0, "frames a second of its videos", gt=0)
    prompt_tokens: int = key(512, "tokens a prompt is padded or cut to", gt=0)
    guardrail: str = key("cosmos_guardrail", "cosmos_guardrail, or off (recorded)", choices=("cosmos_guardrail", "off"))
    max_first_loss: float | None = key(None, "a first loss above it stops the run: the base is broken")
    z_dim: int = key(16, "latent channels", gt=0)
    text_channels: int = key(100352, "channels of a prompt token before the projection", gt=0)
    transformer: Transformer = key(Transformer, "architecture")


@dataclass
class Data:
    """What it is trained and tested on."""

    reader: str = key("folder", "layout on disk", choices=("folder", "gr1_100", "lerobot"))
    path: str | None = key(None, "folder of the data")
    builder: str | None = key(None, "function that makes the data on first use and returns its folder")
    test_path: str | None = key(None, "folder of test pairs: NAME.png with NAME.txt")
    repo_id: str | None = key(None, "hub data set, fetched when there is no path")
    test_repo_id: str | None = key(None, "hub data set with the test pairs")
    camera: str | None = key(None, "lerobot: which camera, e.g. observation.images.ego_view")
    episodes: list[int] | None = key(None, "lerobot: only these episodes")
    skip_tasks: list[str] = key([], "lerobot: task texts that are no instruction")
    prompt_prefix: str = key("", "put before every prompt made from metadata")
    caption_model: str | None = key(None, "captions/*.json: whose captions; null: the first")
    caption_length: str | None = key(None, "captions/*.json: long, short or medium; null: the first of them there")
    height: int = key(96, "pixels, divisible by 16", gt=0)
    width: int = key(160, "pixels, divisible by 16", gt=0)
    num_frames: int = key(17, "4k + 1", gt=0)
    fps: float | None = key(None, "convert to this rate; null: frames as they come", gt=0)
    resize: str = key("stretch", "stretch the whole frame, or scale and crop the middle", choices=("stretch", "crop"))
    windows_per_video: int = key(4, "windows of num_frames a video that are cached", gt=0)
    cache: bool = key(True, "encode once and keep; false: at every visit, any window, as the reference does")
    skip_bad: bool = key(False, "leave bad files out (listed, recorded) instead of stopping")
    validation_videos: int = key(0, "videos held out for the validation loss", ge=0)
    test_videos: int = key(0, "videos held out as test pairs when there is no test_path", ge=0)
    expected_videos: int | None = key(None, "what a dry run plans with before the data is here", gt=0)
    train_clips: int = key(32, "tabletop: robot clips to make", gt=0)
    look: str = key("robot", "tabletop: whose hands", choices=("robot", "human"))
    views: list[str] = key([], "cameras whose pictures stand side by side in a frame; empty: one picture")
    test_pairs: int = key(4, "tabletop: test scenes, each asked for with either hand", ge=0)


@dataclass
class Schedule:
    """Linear warm-up, linear decay; counted in samples, so that hardware does not change it."""

    warmup_samples: int = key(1000, "samples until f_max", ge=0)
    total_samples: int = key(100000, "samples until f_min", gt=0)
    f_max: float = key(0.5, "highest multiple of learning_rate", gt=0)
    f_min: float = key(0.2, "last multiple of learning_rate", ge=0)


@dataclass
class Validation:
    """Loss on held-out clips at fixed sigmas and noise."""

    every_steps: int = key(100, "optimizer steps between; also before the first and after the last", gt=0)
    sigmas: list[float] = key([0.2, 0.5, 0.8], "each clip is scored at each")


@dataclass
class Training:
    """How the adapter is trained."""

    epochs: int = key(100, "visits of each video", gt=0)
    max_steps: int | None = key(None, "stop after so many optimizer steps", gt=0)
    global_batch_size: int = key(8, "samples an optimizer step, over all processes", gt=0)
    learning_rate: float = key(2**-14.5, "AdamW, before the schedule", gt=0)
    weight_decay: float = key(0.001, "AdamW", ge=0)
    max_grad_norm: float = key(1.0, "gradient norm is clipped to it", gt=0)
    zero_nonfinite_grads: bool = key(False, "set non-finite gradient entries to zero instead of stopping")
    condition_frames: dict[int, float] = key({1: 0.5, 2: 0.5}, "latent frames given: probability")
    condition_timestep: float | None = key(0.0001, "timestep of given frames; null: the sample's sigma", ge=0)
    text_dropout: float = key(0.2, "share of samples without text", ge=0, le=1)
    sigma_shift: float = key(5.0, "sigma = s u / (1 + (s - 1) u), u logit-normal", gt=0)
    ema_power: float | None = key(None, "power EMA of the adapter, e.g. 0.10", gt=0, le=0.28)
    checkpoint_every_steps: int = key(100, "optimizer steps between checkpoints", gt=0)
    keep_checkpoints: int = key(2, "newest checkpoints kept", gt=0)
    schedule: Schedule = key(Schedule, "learning rate over samples")
    validation: Validation = key(Validation, "held-out loss")


@dataclass
class Generation:
    """Test videos."""

    mode: str = key("image2world", "from a first frame, or from a clip's", choices=("image2world", "video2world"))
    seeds: list[int] = key([0], "start noises for each test pair")
    num_steps: int = key(36, "denoising steps", gt=0)
    guidance_scale: float = key(7.0, "v + g (v - v_negative); at most 1: none", ge=0)
    negative_prompt: str | None = key("default", "default: the pipeline's; a text; null: the zero embedding")
    merge_adapter: bool = key(True, "merge in fp32 before sampling; false: keep it separate")
    max_prompts: int | None = key(None, "only the first so many test pairs", gt=0)
    fps: float = key(16.0, "frames a second in the file", gt=0)
    crf: int = key(12, "H.264 quality, 0 is lossless", ge=0, le=51)


@dataclass
class Sampson:
    """Sampson error, temporal and across views."""

    enabled: bool = key(True, "measure it")
    layout: str | None = key(None, "tiles of a frame, ROWSxCOLUMNS; null: as the data's views say, else one picture")
    views: list[str] = key([], "names of the tiles, row by row; - leaves one out")
    pairs: str | None = key(None, "views to compare, A:B,A:C; null: all pairs")
    calibration: str | None = key(None, "file with each view's camera; null: not known")
    gap: int = key(1, "frames from the first to the second of a pair", gt=0)
    estimator: str = key("magsac", "of our figures' F", choices=("magsac", "ransac", "five_point"))
    matcher: str = key("sift", "feature matcher", choices=("sift", "superpoint_lightglue"))
    matcher_source: str = key("ETH-CVG/lightglue_superpoint", "its hub repository or folder")
    matcher_revision: str | None = key(None, "branch, tag or commit")
    batch_frames: int = key(8, "superpoint_lightglue: frames at once", gt=0)
    max_keypoints: int = key(2048, "a frame", gt=0)
    ratio: float = key(0.8, "sift: Lowe's ratio test", gt=0, le=1)
    threshold: float = key(1.0, "an inlier's largest error, pixels", gt=0)
    min_matches: int = key(15, "fewer in a frame pair: it is counted, not measured", ge=8)
    static_pixels: float = key(0.5, "a match that moves less is static", ge=0)


@dataclass
class Judge:
    """Scores from 1 to 5."""

    name: str = key("none", "which judge", choices=("none", "rules", "reason2", "server"))
    builder: str | None = key(None, "rules: the class that knows the world it judges")
    source: str | None = key(None, "hub repository or folder; server: the model's name there, null: its only one")
    revision: str | None = key(None, "branch, tag or commit")
    url: str | None = key(None, "server: address of an OpenAI-compatible endpoint, up to /v1")
    api_key_env: str = key("OPENAI_API_KEY", "server: environment variable that holds the key, if it wants one")
    media: str = key("video", "server: send one video, or frames as pictures", choices=("video", "frames"))
    timeout: float = key(600.0, "server: seconds until a request counts as failed", gt=0)
    retries: int = key(6, "server: further tries of a failed request, with growing pauses", ge=0)
    fps: float = key(16.0, "frames a second it is shown", gt=0)
    max_frames: int = key(256, "frames it is shown at most", gt=1)
    max_total_pixels: int = key(6_400_000, "pixels of all frames together", gt=0)
    max_new_tokens: int = key(2048, "length of an answer", gt=0)
    reasoning: bool = key(False, "let it think before it answers")
    samples: int = key(1, "answers to each question; their mean is the score", gt=0)
    temperature: float | None = key(None, "0 is greedy; null: 0 for one sample, 0.7 for several", ge=0)
    batch: int = key(1, "questions at once", gt=0)
    rubrics: list[str] = key(["physics", "instruction"], "our names, or paths of YAML files")


@dataclass
class Tracking:
    """wandb mirrors the run folder; it never stops a run."""

    mode: str = key("auto", "auto, online, offline or off", choices=("auto", "online", "offline", "off"))
    project: str = key("cosmos_exp", "wandb project")
    entity: str | None = key(None, "wandb entity")
    group: str | None = key(None, "wandb group; null: name")


@dataclass
class Config:
    """A whole run."""

    name: str = key("run", "outputs/<name>/<timestamp>")
    seed: int = key(0, "everything random follows from it", ge=0)
    tags: list[str] = key([], "for the dashboard")
    dry_run: bool = key(False, "print what the run would do and stop")
    run_dir: str | None = key(None, "folder of the run; one that exists is gone on with")
    cache_dir: str | None = key(None, "latents and prompts; null: ~/.cache/cosmos_exp or COSMOS_EXP_CACHE")
    adapter: Adapter = key(Adapter, "what is trained")
    hardware: Hardware = key(Hardware, "where")
    approximate: Approximate = key(Approximate, "what may change numbers")
    model: Model = key(Model, "the world model")
    data: Data = key(Data, "on what")
    training: Training = key(Training, "how")
    generation: Generation = key(Generation, "test videos")
    sampson: Sampson = key(Sampson, "geometry")
    judge: Judge = key(Judge, "scores")
    tracking: Tracking = key(Tracking, "dashboard")
    margins: dict[str, float] = key(
        MARGINS, "two adapters are alike in a measure when they differ by less; the report tests against it"
    )
