"""The keys of conf/: names, types, ranges, meaning. Hydra composes the files, these pydantic models check the result once.

Everything below gets a frozen `Config`; `updated` makes a changed copy. `config/checks.py` adds what the model's layers and the
cameras' tiles allow. Imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from cosmos_exp.config.measures import LOSSES, MARGINS, MEASURES
from cosmos_exp.config.registry import REGISTRIES, unknown_name
from cosmos_exp.errors import UserError
from cosmos_exp.files import inside_by_name

LARGEST_SEED = 2**63 - 1
LARGEST_NOISE_SEED = 2**32 - 1  # numpy's RandomState takes no larger one
MOST_PIXELS = 16384  # of a side; no model is near it
MOST_FRAMES = 1_000_000
OVERLAP = 5  # frames in two latent frames: what a chunk is conditioned on, the last ones of the chunk before it


def _whole_latents(num_frames: int) -> int:
    """Check that a number of frames is that of whole latent frames: the first frame alone, then four each."""
    if num_frames % 4 != 1:
        raise ValueError(f"must be 4k+1 (17, 93 …), e.g. {max(1, num_frames // 4 * 4 + 1)}")
    return num_frames


def _absolute(path: str) -> str:
    """Return the absolute path: a run's processes and a resumed run may have another current directory."""
    return str(Path(path).expanduser().absolute())


Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
NoiseSeed = Annotated[int, Field(ge=0, le=LARGEST_NOISE_SEED)]
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Side = Annotated[int, Field(gt=0, le=MOST_PIXELS, multiple_of=16)]
FrameCount = Annotated[int, Field(gt=0, le=MOST_FRAMES), AfterValidator(_whole_latents)]
Folder = Annotated[str, AfterValidator(_absolute)]


class Group(BaseModel):
    """Keys that belong together. A name, type or range that does not fit is a `pydantic.ValidationError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)

    def updated(self, values: Mapping[str, object]) -> Self:
        """Return a copy with other values, which are not checked, e.g. `config.updated({"adapter.rank": 8})`."""
        changed = self
        for key, value in values.items():
            name, _, inner = key.partition(".")
            if inner:
                value = getattr(changed, name).updated({inner: value})
            changed = changed.model_copy(update={name: value})
        return changed


class Adapter(Group):
    """The adapter that is trained."""

    kind: str = Field("lora", description="lora, dora, or none (the base model)")
    rank: int = Field(32, gt=0, description="r, the rank of the update B A")
    alpha: float = Field(32.0, gt=0, description="the update is scaled by alpha/rank (rslora: alpha/sqrt(rank))")
    scaling: Literal["standard", "rslora"] = Field("standard", description="standard or rslora")
    target_modules: list[str] = Field(
        ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"],
        description="linear layers that get an adapter, by name or end of the name",
    )
    dropout: float = Field(0.0, ge=0, le=0.99, description="dropout on the adapter's input")
    bias: bool = Field(False, description="also train a bias on each adapted layer (LoRA only)")
    init: Literal["gaussian", "kaiming"] = Field("gaussian", description="initialisation of A; B starts at zero")
    rank_pattern: dict[str, Positive] = Field(
        {}, description="other ranks for some layers: end of the layer's name (a regular expression, as in peft): rank"
    )
    alpha_pattern: dict[str, PositiveFloat] = Field(
        {},
        description="other alphas for some layers, likewise. A layer with another rank keeps alpha, so its scale changes, "
        "unless it is here too",
    )
    truncate_from: str | None = Field(
        None,
        description="no training: the adapter of this run folder, cut to `rank` (best approximation of each layer's update); "
        "relative to the run's own folder",
    )

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.truncate_from and self.kind == "none":
            raise ValueError(
                "adapter.truncate_from: adapter=none has no adapter. Set the kind of the truncated adapter."
            )
        if self.bias and self.kind == "dora":
            raise ValueError(
                "adapter.bias=true: peft supports it for LoRA only. Set adapter=lora or adapter.bias=false."
            )
        if self.bias and self.init != "kaiming":
            raise ValueError(f"adapter.bias=true: peft supports it with adapter.init=kaiming only, not {self.init}")
        return self


class Hardware(Group):
    """Where the run happens. None of this changes the result beyond rounding."""

    device: Literal["cpu", "cuda"] = Field("cpu", description="cpu or cuda")
    num_processes: int = Field(1, gt=0, description="processes on each machine, one per GPU")
    mixed_precision: Literal["no", "bf16"] = Field(
        "no", description="no: fp32; bf16: base weights and activations in bf16"
    )
    samples_per_forward: int = Field(1, gt=0, description="samples per forward pass of a process")
    checkpointing: Literal["none", "pointwise", "selective", "full", "auto"] = Field(
        "none",
        description="what is computed again to save memory: none; pointwise: all but matrix products and attention; "
        "selective: all but self-attention; full: all; auto: as little as memory_gb allows",
    )
    compile: bool = Field(
        False, description="torch.compile of the transformer's blocks; takes one to two minutes at the start"
    )
    guidance: Literal["two_passes", "one_batch"] = Field(
        "two_passes",
        description="prompt and negative prompt in a generation step: two forward passes, or one of two samples",
    )
    attention: Literal["auto", "cudnn", "flash", "efficient", "math"] = Field(
        "auto", description="kernel of scaled dot-product attention on a GPU; auto: PyTorch's choice, which is recorded"
    )
    num_threads: int | None = Field(None, gt=0, description="CPU threads per process; null: all cores, divided evenly")
    memory_gb: float | None = Field(
        None, gt=0, description="memory of one device in GB; the dry run warns by it, and checkpointing=auto needs it"
    )
    num_machines: int = Field(
        1, gt=0, description="machines, each with num_processes; the same command starts on each of them"
    )

    @property
    def all_processes(self) -> int:
        """Processes of a run on all machines."""
        return self.num_processes * self.num_machines

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.checkpointing == "auto" and self.memory_gb is None:
            raise ValueError(
                "hardware.memory_gb: not set. checkpointing=auto needs the device's memory, e.g. hardware.memory_gb=24"
            )
        return self


class Approximate(Group):
    """Options that trade exact numbers for speed or memory. Off by default, recorded, part of the run's hash."""

    tf32: bool = Field(False, description="fp32 matrix products of the base and adapter in TF32 on a GPU")
    fp8_base: bool = Field(
        False, description="frozen linear weights in 8-bit floating point (torchao, extra [approximate])"
    )
    adamw_8bit: bool = Field(False, description="AdamW's moments in 8 bits (torchao, extra [approximate])")


class Transformer(Group):
    """CosmosTransformer3DModel's configuration; a model folder's config.json takes precedence."""

    in_channels: int = Field(17, gt=1, le=4096, description="latent channels plus the condition mask")
    out_channels: int = Field(16, gt=0, le=4096, description="latent channels")
    num_attention_heads: int = Field(16, gt=0, le=1024, description="heads")
    attention_head_dim: int = Field(128, gt=0, le=1024, description="channels per head")
    num_layers: int = Field(28, gt=0, le=1024, description="blocks")
    mlp_ratio: float = Field(
        4.0, gt=0, le=64, description="width of the feed-forward layer relative to the hidden width"
    )
    text_embed_dim: int = Field(1024, gt=0, le=1048576, description="channels of a projected prompt token")
    adaln_lora_dim: int = Field(256, gt=0, le=1048576, description="width inside the adaptive norms")


class Model(Group):
    """The frozen world model."""

    name: str = Field("tabletop", description="for tables and records")
    source: str = Field("embedded", description="hub repository, folder, or embedded")
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    builder: str | None = Field(None, description="name of the function that returns the embedded model's folder")
    weights: Literal["trained", "random"] = Field(
        "trained", description="embedded: the shipped weights, or random ones"
    )
    height: Side = Field(96, description="pixels, divisible by 16")
    width: Side = Field(160, description="pixels, divisible by 16")
    num_frames: FrameCount = Field(17, description="4k + 1")
    fps: float = Field(8.0, gt=0, description="frames per second of its videos")
    prompt_tokens: int = Field(512, gt=0, description="tokens to which a prompt is padded or cut")
    guardrail: Literal["cosmos_guardrail", "off"] = Field(
        "cosmos_guardrail", description="cosmos_guardrail, or off (recorded)"
    )
    max_first_loss: float | None = Field(
        None, description="a first loss above this stops the run (the base was not loaded correctly)"
    )
    z_dim: int = Field(16, gt=0, le=4096, description="latent channels")
    text_channels: int = Field(
        100352, gt=0, le=16777216, description="channels of a prompt token before the projection"
    )
    transformer: Transformer = Field(Transformer(), description="architecture")


class Data(Group):
    """The data for training and test."""

    reader: str = Field("folder", description="layout on disk: folder, gr1_100, lerobot, or a plugin's")
    path: Folder | None = Field(None, description="folder of the data")
    builder: str | None = Field(
        None, description="name of the function that renders the data on first use and returns its folder"
    )
    test_path: Folder | None = Field(None, description="folder of test pairs: NAME.png with NAME.txt")
    repo_id: str | None = Field(None, description="hub data set, downloaded if path is not set")
    test_repo_id: str | None = Field(None, description="hub data set with the test pairs")
    camera: str | None = Field(None, description="lerobot: camera, e.g. observation.images.ego_view")
    episodes: list[int] | None = Field(None, description="lerobot: only these episodes")
    skip_tasks: list[str] = Field([], description="lerobot: task texts that are not instructions")
    prompt_prefix: str = Field("", description="put before every prompt made from metadata")
    caption_model: str | None = Field(
        None, description="captions/*.json: model whose captions are used; null: the first"
    )
    caption_length: str | None = Field(
        None, description="captions/*.json: long, short or medium; null: the first one present"
    )
    height: Side = Field(96, description="pixels, divisible by 16")
    width: Side = Field(160, description="pixels, divisible by 16")
    num_frames: FrameCount = Field(17, description="4k + 1")
    fps: float | None = Field(None, gt=0, description="convert to this frame rate; null: keep the frames of the file")
    resize: Literal["stretch", "crop"] = Field(
        "stretch", description="stretch the whole frame, or scale and crop the centre"
    )
    windows_per_video: int = Field(4, gt=0, description="cached windows of num_frames frames per video")
    cache: bool = Field(
        True, description="encode once and cache; false: encode at every visit, any window, as the reference does"
    )
    skip_bad: bool = Field(False, description="skip bad files (listed and recorded) instead of stopping")
    validation_videos: int | None = Field(
        0, ge=0, description="videos held out for the validation loss; null: a tenth, at least one"
    )
    test_videos: int | None = Field(
        0,
        ge=0,
        description="videos held out as test pairs when there is no test_path; null: a tenth, at least one, with a test_path "
        "none",
    )
    expected_videos: int | None = Field(
        None, gt=0, description="number of videos that a dry run assumes before the data is downloaded"
    )
    train_clips: int = Field(32, gt=0, description="tabletop: robot clips to render")
    look: Literal["robot", "human"] = Field("robot", description="tabletop: appearance of the hands")
    views: list[str] = Field([], description="cameras placed side by side in a frame; empty: one view")
    test_pairs: int = Field(4, ge=0, description="tabletop: test scenes, each with a left-hand and a right-hand prompt")
    cameras: list[str] = Field(
        [], description="lerobot: several synchronous cameras of an episode, tiled row by row into one frame"
    )
    tiling: str = Field(
        "auto",
        description="lerobot: tiles of data.cameras, ROWSxCOLUMNS (1x2, 2x2 …); spare tiles are black; auto: as square as "
        "possible",
    )
    prompt: str | None = Field(
        None,
        description="the prompt of every video that has no caption; file_name: the video's own name, with spaces for _ and -",
    )
    selection_pairs: int = Field(
        0,
        ge=0,
        description="scenes kept apart from the test to choose hyperparameters on: of test_path (its folder selection/, or "
        "drawn from its pairs by their first frames), else held-out videos; tabletop: further rendered scenes",
    )
    split_seed: Seed = Field(
        0,
        description="seed that decides which videos are held out and which scenes are for selection. It is not the run's seed: "
        "runs with other seeds are tested on the same videos",
    )
    recordings: str | None = Field(
        None,
        description="pattern (regular expression) of the recording in a clip's name, e.g. '^(.*)_[0-9]+$': clips of one "
        "recording are on one side of every split and one scene of the test; null: each clip is a recording",
    )
    swaps: list[tuple[str, str]] = Field(
        [],
        description="word pairs, e.g. [[left,right]]: each test prompt also runs with the other word, for word_effect",
    )

    @field_validator("recordings")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression ({error}), e.g. '^(.*)_[0-9]+$'") from error
        return pattern

    @field_validator("swaps")
    @classmethod
    def _are_two_words(cls, swaps: list[tuple[str, str]]) -> list[tuple[str, str]]:
        for first, second in swaps:
            if not first.strip() or not second.strip() or first == second:
                raise ValueError(f"[{first}, {second}] is no pair of two different words")
        return swaps

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if not self.cameras and self.tiling != "auto":
            raise ValueError(f"data.tiling={self.tiling}: needs several cameras, e.g. data.cameras=[NAME,NAME]")
        if not self.cameras:
            return self
        if self.reader != "lerobot":
            raise ValueError(
                f"data.cameras: data.reader={self.reader} has one camera per video; set data=lerobot or data.cameras=[]"
            )
        if self.camera is not None:
            raise ValueError(f"data.camera={self.camera}: set either data.camera or data.cameras")
        if self.views:
            raise ValueError(
                "data.views: set either data.views (cameras already side by side in the files) or data.cameras"
            )
        if len(set(self.cameras)) < len(self.cameras):
            raise ValueError(f"data.cameras={self.cameras}: a camera appears twice")
        return self


class Schedule(Group):
    """Linear warm-up, linear decay; counted in samples, so that hardware does not change it."""

    warmup_samples: int = Field(1000, ge=0, description="samples until f_max")
    total_samples: int = Field(100000, gt=0, description="samples until f_min")
    f_max: float = Field(0.5, gt=0, description="highest multiple of learning_rate")
    f_min: float = Field(0.2, ge=0, description="last multiple of learning_rate")

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.total_samples <= self.warmup_samples:
            raise ValueError(
                f"training.schedule.total_samples={self.total_samples}: must be greater than warmup_samples"
            )
        return self


class Validation(Group):
    """Loss on held-out clips at fixed sigmas and noise."""

    every_steps: int = Field(
        100, gt=0, description="optimizer steps between validations; also before the first and after the last step"
    )
    sigmas: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.2, 0.5, 0.8], min_length=1, description="noise levels at which each clip is scored"
    )


class Training(Group):
    """How the adapter is trained."""

    epochs: int = Field(100, gt=0, description="visits of each video")
    max_steps: int | None = Field(None, gt=0, description="stop after so many optimizer steps")
    global_batch_size: int = Field(8, gt=0, description="samples per optimizer step, over all processes")
    learning_rate: float = Field(2**-14.5, gt=0, description="AdamW learning rate before the schedule")
    weight_decay: float = Field(0.001, ge=0, description="AdamW weight decay")
    max_grad_norm: float = Field(1.0, gt=0, description="the gradient norm is clipped to this")
    zero_nonfinite_grads: bool = Field(False, description="set non-finite gradient entries to zero instead of stopping")
    condition_frames: dict[int, float] = Field(
        {1: 0.5, 2: 0.5}, description="number of conditioning latent frames: its probability"
    )
    condition_timestep: float | None = Field(
        0.0001, ge=0, description="timestep of the conditioning frames; null: the sample's sigma"
    )
    text_dropout: float = Field(0.2, ge=0, le=1, description="fraction of samples without text")
    sigma_shift: float = Field(5.0, gt=0, description="sigma = s u / (1 + (s - 1) u), u logit-normal")
    ema_power: float | None = Field(None, gt=0, le=0.28, description="power EMA of the adapter, e.g. 0.10")
    checkpoint_every_steps: int = Field(100, gt=0, description="optimizer steps between checkpoints")
    keep_checkpoints: int = Field(2, gt=0, description="number of newest checkpoints that are kept")
    schedule: Schedule = Field(Schedule(), description="learning rate over samples")
    validation: Validation = Field(Validation(), description="held-out loss")
    deterministic: bool = Field(
        True,
        description="train with torch's deterministic kernels; an operation without one is an error. false may be faster on "
        "a GPU",
    )

    @field_validator("condition_frames")
    @classmethod
    def _are_probabilities(cls, counts: dict[int, float]) -> dict[int, float]:
        if not counts or abs(sum(counts.values()) - 1) > 1e-6 or min(counts.values()) < 0 or min(counts) < 0:
            raise ValueError("probabilities of 0, 1, … frames must be at least 0 and sum to 1")
        return counts


class Generation(Group):
    """Test videos."""

    mode: Literal["image2world", "video2world"] = Field(
        "image2world", description="condition on one first frame, or on the first frames of a clip"
    )
    seeds: list[NoiseSeed] = Field(
        [0],
        min_length=1,
        description="seeds of the start noise, one video per test pair and seed; generation.split=none makes no videos",
    )
    num_steps: int = Field(36, gt=0, description="denoising steps")
    guidance_scale: float = Field(7.0, ge=0, description="g in v + g (v - v_negative); no guidance if at most 1")
    negative_prompt: str | None = Field(
        "default", description="default: the pipeline's; a text; null: the zero embedding"
    )
    merge_adapter: bool = Field(True, description="merge in fp32 before sampling; false: keep it separate")
    max_prompts: int | None = Field(None, gt=0, description="use only the first N test pairs")
    split: Literal["test", "selection", "none"] = Field(
        "test",
        description="the prompts of the videos: test; selection (data.selection_pairs); none: no video, no score",
    )
    fps: float = Field(16.0, ge=0.01, le=1000, description="frames per second of the file")
    crf: int = Field(12, ge=0, le=51, description="H.264 quality, 0 is lossless")
    chunks: int = Field(
        1,
        ge=1,
        description="chunks of data.num_frames per video; each is conditioned on the last 5 frames of the one before",
    )
    chunk_prompts: Literal["same", "lines"] = Field(
        "same", description="same: every chunk has the whole prompt; lines: each chunk has one line of it"
    )

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed appears twice")
        return seeds


class Sampson(Group):
    """Sampson error, temporal and across views."""

    enabled: bool = Field(True, description="measure it")
    layout: str | None = Field(
        None, description="tiles of a frame, ROWSxCOLUMNS; null: one row of the data's views, or one view"
    )
    views: list[str] = Field([], description="names of the tiles, row by row; - skips a tile")
    pairs: str | None = Field(None, description="views to compare, A:B,A:C; null: all pairs")
    calibration: str | None = Field(None, description="file with each view's camera; null: unknown")
    gap: int = Field(1, gt=0, description="distance in frames between the two frames of a pair")
    estimator: Literal["magsac", "ransac"] = Field(
        "magsac", description="estimator of the fundamental matrix of the robust measures"
    )
    matcher: str = Field("sift", description="feature matcher: sift, superpoint_lightglue, or a plugin's")
    matcher_source: str = Field("ETH-CVG/lightglue_superpoint", description="its hub repository or folder")
    matcher_revision: str | None = Field(None, description="branch, tag or commit")
    batch_frames: int = Field(8, gt=0, description="superpoint_lightglue: frames per batch")
    max_keypoints: int = Field(2048, gt=0, description="keypoints per frame")
    ratio: float = Field(0.8, gt=0, le=1, description="sift: Lowe's ratio test")
    threshold: float = Field(1.0, gt=0, description="robust measures: largest error of an inlier, pixels")
    repeats: int = Field(
        3, ge=2, description="estimates of each fundamental matrix; their spread is the repeatability of a value"
    )
    min_matches: int = Field(15, ge=8, description="a frame pair with fewer matches is counted, not measured")
    static_pixels: float = Field(0.5, ge=0, description="a match that moves less than this is static, pixels")


class Measures(Group):
    """Measures beside the Sampson error and the judge. They need no weights."""

    references: bool = Field(
        True, description="also score the recorded continuation (real) and the held first frame (frozen)"
    )
    recording: bool = Field(
        True, description="compare with the recording, where there is one: PSNR, SSIM, motion masks, motion"
    )
    motion: bool = Field(True, description="flow warping error, and survival and smoothness of tracks")
    words: bool = Field(True, description="word_effect and word_side, for test prompts that differ in one word")


class Judge(Group):
    """Scores from 1 to 5."""

    name: str = Field("none", description="which judge: none, reason2, server, rules (tabletop), or a plugin's")
    source: str | None = Field(
        None, description="hub repository or folder; server: the model's name, null: its only model"
    )
    revision: str | None = Field(None, description="branch, tag or commit")
    url: str | None = Field(
        None, description="server: address of an OpenAI-compatible endpoint, up to /v1; its key is in OPENAI_API_KEY"
    )
    media: Literal["video", "frames"] = Field("video", description="server: send one video, or the frames as images")
    timeout: float = Field(600.0, gt=0, description="server: seconds until a request fails")
    retries: int = Field(6, ge=0, description="server: retries of a failed request, with growing pauses")
    fps: float = Field(16.0, gt=0, description="frames per second shown to the judge")
    max_frames: int = Field(256, gt=1, description="largest number of frames shown")
    max_total_pixels: int = Field(
        6_422_528, gt=0, description="largest number of pixels of all frames together; two frames count as one"
    )
    max_new_tokens: int = Field(2048, gt=0, description="largest length of an answer")
    reasoning: bool = Field(False, description="ask the judge to reason before it answers")
    samples: int = Field(1, gt=0, description="answers per question; their mean is the score")
    temperature: float | None = Field(None, ge=0, description="0 is greedy; null: 0 for one sample, 0.7 for several")
    batch: int = Field(1, gt=0, description="questions per batch")
    rubrics: list[str] = Field(["physics", "instruction"], description="physics, instruction, or paths of YAML files")

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.name == "server" and not self.url:
            raise ValueError("judge.url: not set. Give the server's address: judge.url=http://HOST:PORT/v1")
        if self.name == "reason2" and not self.source:
            raise ValueError("judge.source: not set. Give a hub repository or a folder.")
        if self.name != "none" and not self.rubrics:
            raise ValueError(
                "judge.rubrics=[]: the judge has no question. Set judge.rubrics=[physics,instruction], or judge=none."
            )
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"judge.samples={self.samples}: at judge.temperature=0 all answers are the same. Set 0.7 or null."
            )
        return self


class Tracking(Group):
    """wandb mirrors the run folder. Its failures never stop a run."""

    mode: Literal["auto", "online", "offline", "off"] = Field("auto", description="auto, online, offline or off")
    project: str = Field("cosmos_exp", description="wandb project")
    entity: str | None = Field(None, description="wandb entity")
    group: str | None = Field(None, description="wandb group; null: name")


class Tune(Group):
    """First phase of a sweep: each arm's own values of some keys, chosen on selection prompts or validation clips."""

    grid: dict[str, Any] = Field(
        {}, description="values to try per key, e.g. {training.learning_rate: [0.001, 0.003, 0.01]}"
    )
    by: str = Field(
        "validation_loss",
        description="what the best value has the best of: validation_loss, or a measure on the selection prompts",
    )
    rule: Literal["best", "one_standard_error"] = Field(
        "best",
        description="best: the best mean; one_standard_error: the first value of the grid that is at most one standard error "
        "of the paired difference over scenes worse than the best (needs a measure)",
    )
    seeds: list[Seed] = Field([100], description="training seeds; none of them may be a test seed")
    overrides: dict[str, Any] = Field({}, description="keys of the tuning runs only, e.g. {training.max_steps: 100}")


class Sweep(Group):
    """A sweep by arms (`cosmos-exp sweep`). It is kept in the sweep's folder, not in its runs."""

    arms: dict[str, Any] = Field(
        {},
        description="name: {key: value, …} of each arm, or {truncate: {from: arm, rank: [2, 4]}}; empty: the sweeper's "
        "product",
    )
    seeds: list[Seed] = Field([], description="training seeds of each arm; empty: the value of seed")
    tune: Tune = Field(Tune(), description="first phase: each arm's own values, e.g. of the learning rate")
    claims: list[str] = Field(
        [], description="what is expected, e.g. 'instruction: lora-r32 > base'; frozen when the first run starts"
    )

    @model_validator(mode="after")
    def _sets_nothing_of_hydra(self) -> Self:
        """A study may come from someone else, and Hydra's own part can run code."""
        settings = {**self.arms, "tune.grid": self.tune.grid, "tune.overrides": self.tune.overrides}
        for where, values in settings.items():
            for key in values if isinstance(values, Mapping) else ():
                if str(key).lstrip("+~").startswith("hydra"):
                    raise ValueError(
                        f"{key}: refused in a study ({where}), as it can run code. Give it on the command line."
                    )
        return self


class Config(Group):
    """A whole run."""

    name: str = Field("run", description="outputs/<name>/<timestamp>")
    seed: Seed = Field(0, description="the seed of every random draw")
    tags: list[str] = Field([], description="tags on the dashboard")
    objective: str = Field(
        "validation_loss",
        description="what a run returns to a sweeper that searches (hydra/sweeper=optuna): validation_loss, train_loss, or a "
        "measure",
    )
    dry_run: bool = Field(False, description="print the plan and stop")
    run_dir: Folder | None = Field(None, description="folder of the run; an existing folder is resumed")
    fail_fast: bool = Field(False, description="several runs: the first failure stops the others")
    cache_dir: Folder | None = Field(
        None,
        description="folder of cached data, latents and prompts; null: COSMOS_EXP_CACHE or the user's cache folder",
    )
    adapter: Adapter = Field(Adapter(), description="the adapter")
    hardware: Hardware = Field(Hardware(), description="hardware")
    approximate: Approximate = Field(Approximate(), description="options that change numbers")
    model: Model = Field(Model(), description="the world model")
    data: Data = Field(Data(), description="training and test data")
    training: Training = Field(Training(), description="training")
    generation: Generation = Field(Generation(), description="test videos")
    sampson: Sampson = Field(Sampson(), description="Sampson error")
    measures: Measures = Field(Measures(), description="further measures")
    judge: Judge = Field(Judge(), description="scores")
    tracking: Tracking = Field(Tracking(), description="dashboard")
    sweep: Sweep = Field(Sweep(), description="arms, tuning and claims; only `cosmos-exp sweep` reads it")
    margins: dict[str, PositiveFloat] = Field(
        MARGINS, description="margins of equivalence per measure; the report tests whether two adapters differ by less"
    )

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, name: str) -> str:
        if not name.strip(" ."):
            raise ValueError("is no name of a folder in outputs/. Give one, e.g. name=my_run")
        try:
            inside_by_name(Path("outputs"), name)
        except UserError as error:
            raise ValueError(f"is the name of a folder in outputs/. {error}") from error
        return name

    @field_validator("objective")
    @classmethod
    def _is_measured(cls, objective: str) -> str:
        known = [*LOSSES, *MEASURES]
        if objective not in known:
            raise ValueError(unknown_name(objective, known))
        return objective

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        for registry in REGISTRIES:
            group, _, key = registry.key.partition(".")
            name = getattr(getattr(self, group), key)
            if name is not None and name not in registry.names:
                raise ValueError(f"{registry.key}={name}: {unknown_name(name, registry.names)}")
        counts, latent_frames = self.training.condition_frames, (self.data.num_frames - 1) // 4 + 1
        if max(counts) >= latent_frames:
            raise ValueError(
                f"training.condition_frames={counts}: counts must lie from 0 to {latent_frames - 1}; "
                f"{self.data.num_frames} frames are {latent_frames} latent frames"
            )
        if self.generation.chunks > 1 and self.data.num_frames <= OVERLAP:
            raise ValueError(
                f"generation.chunks={self.generation.chunks}: a chunk of data.num_frames={self.data.num_frames} has no frame "
                f"besides its {OVERLAP} conditioning frames. Set data.num_frames to at least {OVERLAP + 4}."
            )
        if self.adapter.dropout > 0 and self.hardware.compile and self.hardware.checkpointing != "none":
            raise ValueError(
                "adapter.dropout: with compiled blocks, recomputed activations would draw another dropout (peft #3020). "
                "Set hardware.compile=false or adapter.dropout=0."
            )
        return self


def all_keys(model: type[BaseModel] = Config, where: str = "") -> dict[str, Any]:  # Any: pydantic's FieldInfo
    """Every key of the configuration, dotted, with its field; groups too."""
    keys: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        keys[where + name] = field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys |= all_keys(field.annotation, f"{where}{name}.")
    return keys
