"""The typed schema of conf/: the type, the limits and the meaning of every key. Imports nothing heavy.

Hydra checks names and types against these dataclasses while it composes; config/checks.py adds what a
type cannot say: choices, ranges, and how keys depend on each other."""

from __future__ import annotations

from dataclasses import dataclass

from cosmos_exp.config.key import key
from cosmos_exp.config.measures import MARGINS
from cosmos_exp.config.registry import DATA_BUILDERS, MODEL_BUILDERS, READERS
from cosmos_exp.config.schema_scores import Judge as Judge
from cosmos_exp.config.schema_scores import Measures as Measures
from cosmos_exp.config.schema_scores import Sampson as Sampson
from cosmos_exp.config.schema_sweep import Sweep as Sweep
from cosmos_exp.config.schema_sweep import Tune as Tune

LARGEST_SEED = 2**63 - 1
LARGEST_NOISE_SEED = 2**32 - 1  # numpy's RandomState takes no larger one
MOST_PIXELS = 16384  # of a side; no model is near it
MOST_FRAMES = 1_000_000
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]


@dataclass
class Adapter:
    """The adapter that is trained."""

    kind: str = key("lora", "lora, dora, or none (the base model)", choices=("lora", "dora", "none"))
    rank: int = key(32, "r, the rank of the update B A", gt=0)
    alpha: float = key(32.0, "the update is scaled by alpha/rank (rslora: alpha/sqrt(rank))", gt=0)
    scaling: str = key("standard", "standard or rslora", choices=("standard", "rslora"))
    target_modules: list[str] = key(TARGETS, "linear layers that get an adapter, by name or end of the name")
    dropout: float = key(0.0, "dropout on the adapter's input", ge=0, le=0.99)
    bias: bool = key(False, "also train a bias on each adapted layer (LoRA only)")
    init: str = key("gaussian", "initialisation of A; B starts at zero", choices=("gaussian", "kaiming"))
    rank_pattern: dict[str, int] = key(
        {}, "other ranks for some layers: end of the layer's name (a regular expression, as in peft): rank", added=True
    )
    alpha_pattern: dict[str, float] = key(
        {},
        "other alphas for some layers, likewise. A layer with another rank keeps alpha, so its scale changes, unless it "
        "is here too",
        added=True,
    )
    truncate_from: str | None = key(
        None,
        "no training: the adapter of this run folder, cut to `rank` (best approximation of each layer's update); relative "
        "to the run's own folder",
        added=True,
    )


@dataclass
class Hardware:
    """Where the run happens. None of this changes the result beyond rounding."""

    device: str = key("cpu", "cpu or cuda", choices=("cpu", "cuda"))
    num_processes: int = key(1, "processes on each machine, one per GPU", gt=0)
    mixed_precision: str = key("no", "no: fp32; bf16: base weights and activations in bf16", choices=("no", "bf16"))
    samples_per_forward: int = key(1, "samples per forward pass of a process", gt=0)
    checkpointing: str = key(
        "none",
        "what is computed again to save memory: none; pointwise: all but matrix products and attention; selective: all "
        "but self-attention; full: all; auto: as little as memory_gb allows",
        choices=("none", "pointwise", "selective", "full", "auto"),
    )
    compile: bool = key(False, "torch.compile of the transformer's blocks; takes one to two minutes at the start")
    guidance: str = key(
        "two_passes",
        "prompt and negative prompt in a generation step: two forward passes, or one of two samples",
        choices=("two_passes", "one_batch"),
    )
    attention: str = key(
        "auto",
        "kernel of scaled dot-product attention on a GPU; auto: PyTorch's choice, which is recorded",
        choices=("auto", "cudnn", "flash", "efficient", "math"),
    )
    num_threads: int | None = key(None, "CPU threads per process; null: all cores, divided evenly", gt=0)
    memory_gb: float | None = key(
        None, "memory of one device in GB; the dry run warns by it, and checkpointing=auto needs it", gt=0
    )
    num_machines: int = key(
        1, "machines, each with num_processes; the same command starts on each of them", gt=0, added=True
    )

    @property
    def all_processes(self) -> int:
        """Processes of a run on all machines."""
        return self.num_processes * self.num_machines


@dataclass
class Approximate:
    """Options that trade exact numbers for speed or memory. Off by default, recorded, part of the run's hash."""

    tf32: bool = key(False, "fp32 matrix products of the base and adapter in TF32 on a GPU")
    fp8_base: bool = key(False, "frozen linear weights in 8-bit floating point (torchao, extra [approximate])")
    adamw_8bit: bool = key(False, "AdamW's moments in 8 bits (torchao, extra [approximate])")


@dataclass
class Transformer:
    """CosmosTransformer3DModel's configuration; a model folder's config.json takes precedence."""

    in_channels: int = key(17, "latent channels plus the condition mask", gt=1, le=4096)
    out_channels: int = key(16, "latent channels", gt=0, le=4096)
    num_attention_heads: int = key(16, "heads", gt=0, le=1024)
    attention_head_dim: int = key(128, "channels per head", gt=0, le=1024)
    num_layers: int = key(28, "blocks", gt=0, le=1024)
    mlp_ratio: float = key(4.0, "width of the feed-forward layer relative to the hidden width", gt=0, le=64)
    text_embed_dim: int = key(1024, "channels of a projected prompt token", gt=0, le=1048576)
    adaln_lora_dim: int = key(256, "width inside the adaptive norms", gt=0, le=1048576)


@dataclass
class Model:
    """The frozen world model."""

    name: str = key("tabletop", "for tables and records")
    source: str = key("embedded", "hub repository, folder, or embedded")
    revision: str | None = key(None, "branch, tag or commit on the hub")
    builder: str | None = key(
        None, "name of the function that returns the embedded model's folder", registry=MODEL_BUILDERS
    )
    weights: str = key("trained", "embedded: the shipped weights, or random ones", choices=("trained", "random"))
    height: int = key(96, "pixels, divisible by 16", gt=0, le=MOST_PIXELS)
    width: int = key(160, "pixels, divisible by 16", gt=0, le=MOST_PIXELS)
    num_frames: int = key(17, "4k + 1", gt=0, le=MOST_FRAMES)
    fps: float = key(8.0, "frames per second of its videos", gt=0)
    prompt_tokens: int = key(512, "tokens to which a prompt is padded or cut", gt=0)
    guardrail: str = key("cosmos_guardrail", "cosmos_guardrail, or off (recorded)", choices=("cosmos_guardrail", "off"))
    max_first_loss: float | None = key(
        None, "a first loss above this stops the run (the base was not loaded correctly)"
    )
    z_dim: int = key(16, "latent channels", gt=0, le=4096)
    text_channels: int = key(100352, "channels of a prompt token before the projection", gt=0, le=16777216)
    transformer: Transformer = key(Transformer, "architecture")


@dataclass
class Data:
    """The data for training and test."""

    reader: str = key("folder", "layout on disk: the name of a reader", registry=READERS)
    path: str | None = key(None, "folder of the data")
    builder: str | None = key(
        None, "name of the function that renders the data on first use and returns its folder", registry=DATA_BUILDERS
    )
    test_path: str | None = key(None, "folder of test pairs: NAME.png with NAME.txt")
    repo_id: str | None = key(None, "hub data set, downloaded if path is not set")
    test_repo_id: str | None = key(None, "hub data set with the test pairs")
    camera: str | None = key(None, "lerobot: camera, e.g. observation.images.ego_view")
    episodes: list[int] | None = key(None, "lerobot: only these episodes")
    skip_tasks: list[str] = key([], "lerobot: task texts that are not instructions")
    prompt_prefix: str = key("", "put before every prompt made from metadata")
    caption_model: str | None = key(None, "captions/*.json: model whose captions are used; null: the first")
    caption_length: str | None = key(None, "captions/*.json: long, short or medium; null: the first one present")
    height: int = key(96, "pixels, divisible by 16", gt=0, le=MOST_PIXELS)
    width: int = key(160, "pixels, divisible by 16", gt=0, le=MOST_PIXELS)
    num_frames: int = key(17, "4k + 1", gt=0, le=MOST_FRAMES)
    fps: float | None = key(None, "convert to this frame rate; null: keep the frames of the file", gt=0)
    resize: str = key("stretch", "stretch the whole frame, or scale and crop the centre", choices=("stretch", "crop"))
    windows_per_video: int = key(4, "cached windows of num_frames frames per video", gt=0)
    cache: bool = key(True, "encode once and cache; false: encode at every visit, any window, as the reference does")
    skip_bad: bool = key(False, "skip bad files (listed and recorded) instead of stopping")
    validation_videos: int | None = key(0, "videos held out for the validation loss; null: a tenth, at least one", ge=0)
    test_videos: int | None = key(
        0,
        "videos held out as test pairs when there is no test_path; null: a tenth, at least one, with a test_path none",
        ge=0,
    )
    expected_videos: int | None = key(
        None, "number of videos that a dry run assumes before the data is downloaded", gt=0
    )
    train_clips: int = key(32, "tabletop: robot clips to render", gt=0)
    look: str = key("robot", "tabletop: appearance of the hands", choices=("robot", "human"))
    views: list[str] = key([], "cameras placed side by side in a frame; empty: one view")
    test_pairs: int = key(4, "tabletop: test scenes, each with a left-hand and a right-hand prompt", ge=0)
    cameras: list[str] = key(
        [], "lerobot: several synchronous cameras of an episode, tiled row by row into one frame", added=True
    )
    tiling: str = key(
        "auto",
        "lerobot: tiles of data.cameras, ROWSxCOLUMNS (1x2, 2x2 …); spare tiles are black; auto: as square as possible",
        added=True,
    )
    prompt: str | None = key(
        None,
        "the prompt of every video that has no caption; file_name: the video's own name, with spaces for _ and -",
        added=True,
    )
    selection_pairs: int = key(
        0,
        "scenes kept apart from the test to choose hyperparameters on: of test_path (its folder selection/, or drawn from "
        "its pairs by their first frames), else held-out videos; tabletop: further rendered scenes",
        ge=0,
        added=True,
    )
    split_seed: int | None = key(
        None,
        "seed that decides which videos are held out and which scenes are for selection; null: the run's seed. "
        "Sweeps with several training seeds set it to 0",
        ge=0,
        le=LARGEST_SEED,
        added=True,
    )
    recordings: str | None = key(
        None,
        "pattern (regular expression) of the recording in a clip's name, e.g. '^(.*)_[0-9]+$': clips of one recording are on "
        "one side of every split and one scene of the test; null: each clip is a recording",
        added=True,
    )
    swaps: list[list[str]] = key(
        [],
        "word pairs, e.g. [[left,right]]: each test prompt also runs with the other word, for word_effect",
        added=True,
    )


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

    every_steps: int = key(
        100, "optimizer steps between validations; also before the first and after the last step", gt=0
    )
    sigmas: list[float] = key([0.2, 0.5, 0.8], "noise levels at which each clip is scored")


@dataclass
class Training:
    """How the adapter is trained."""

    epochs: int = key(100, "visits of each video", gt=0)
    max_steps: int | None = key(None, "stop after so many optimizer steps", gt=0)
    global_batch_size: int = key(8, "samples per optimizer step, over all processes", gt=0)
    learning_rate: float = key(2**-14.5, "AdamW learning rate before the schedule", gt=0)
    weight_decay: float = key(0.001, "AdamW weight decay", ge=0)
    max_grad_norm: float = key(1.0, "the gradient norm is clipped to this", gt=0)
    zero_nonfinite_grads: bool = key(False, "set non-finite gradient entries to zero instead of stopping")
    condition_frames: dict[int, float] = key({1: 0.5, 2: 0.5}, "number of conditioning latent frames: its probability")
    condition_timestep: float | None = key(
        0.0001, "timestep of the conditioning frames; null: the sample's sigma", ge=0
    )
    text_dropout: float = key(0.2, "fraction of samples without text", ge=0, le=1)
    sigma_shift: float = key(5.0, "sigma = s u / (1 + (s - 1) u), u logit-normal", gt=0)
    ema_power: float | None = key(None, "power EMA of the adapter, e.g. 0.10", gt=0, le=0.28)
    checkpoint_every_steps: int = key(100, "optimizer steps between checkpoints", gt=0)
    keep_checkpoints: int = key(2, "number of newest checkpoints that are kept", gt=0)
    schedule: Schedule = key(Schedule, "learning rate over samples")
    validation: Validation = key(Validation, "held-out loss")
    deterministic: bool = key(
        True,
        "train with torch's deterministic kernels; an operation without one is an error. false may be faster on a GPU",
        added=True,
    )


@dataclass
class Generation:
    """Test videos."""

    mode: str = key(
        "image2world",
        "condition on one first frame, or on the first frames of a clip",
        choices=("image2world", "video2world"),
    )
    seeds: list[int] = key(
        [0], "seeds of the start noise, one video per test pair and seed", ge=0, le=LARGEST_NOISE_SEED
    )
    num_steps: int = key(36, "denoising steps", gt=0)
    guidance_scale: float = key(7.0, "g in v + g (v - v_negative); no guidance if at most 1", ge=0)
    negative_prompt: str | None = key("default", "default: the pipeline's; a text; null: the zero embedding")
    merge_adapter: bool = key(True, "merge in fp32 before sampling; false: keep it separate")
    max_prompts: int | None = key(None, "use only the first N test pairs", gt=0)
    split: str = key(
        "test",
        "the prompts of the videos: test; selection (data.selection_pairs); none: no video, no score",
        choices=("test", "selection", "none"),
        added=True,
    )
    fps: float = key(16.0, "frames per second of the file", ge=0.01, le=1000)
    crf: int = key(12, "H.264 quality, 0 is lossless", ge=0, le=51)
    chunks: int = key(
        1,
        "chunks of data.num_frames per video; each is conditioned on the last 5 frames of the one before",
        ge=1,
        added=True,
    )
    chunk_prompts: str = key(
        "same",
        "same: every chunk has the whole prompt; lines: each chunk has one line of it",
        choices=("same", "lines"),
        added=True,
    )


@dataclass
class Tracking:
    """wandb mirrors the run folder. Its failures never stop a run."""

    mode: str = key("auto", "auto, online, offline or off", choices=("auto", "online", "offline", "off"))
    project: str = key("cosmos_exp", "wandb project")
    entity: str | None = key(None, "wandb entity")
    group: str | None = key(None, "wandb group; null: name")


@dataclass
class Config:
    """A whole run."""

    name: str = key("run", "outputs/<name>/<timestamp>")
    seed: int = key(0, "the seed of every random draw", ge=0, le=LARGEST_SEED)
    tags: list[str] = key([], "tags on the dashboard")
    objective: str = key(
        "validation_loss",
        "what a run returns to a sweeper that searches (hydra/sweeper=optuna): validation_loss, train_loss, or a measure",
        added=True,
    )
    dry_run: bool = key(False, "print the plan and stop")
    run_dir: str | None = key(None, "folder of the run; an existing folder is resumed")
    fail_fast: bool = key(False, "several runs: the first failure stops the others", added=True)
    cache_dir: str | None = key(
        None, "folder of cached data, latents and prompts; null: COSMOS_EXP_CACHE or the user's cache folder"
    )
    adapter: Adapter = key(Adapter, "the adapter")
    hardware: Hardware = key(Hardware, "hardware")
    approximate: Approximate = key(Approximate, "options that change numbers")
    model: Model = key(Model, "the world model")
    data: Data = key(Data, "training and test data")
    training: Training = key(Training, "training")
    generation: Generation = key(Generation, "test videos")
    sampson: Sampson = key(Sampson, "Sampson error")
    measures: Measures = key(Measures, "further measures")
    judge: Judge = key(Judge, "scores")
    tracking: Tracking = key(Tracking, "dashboard")
    sweep: Sweep = key(Sweep, "arms, tuning and claims; only `cosmos-exp sweep` reads it")
    margins: dict[str, float] = key(
        MARGINS, "margins of equivalence per measure; the report tests whether two adapters differ by less"
    )
