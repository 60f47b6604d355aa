"""The keys of conf/: names, types, ranges, meaning. Hydra composes the files, these pydantic models check the result once.

Everything below gets a frozen `Config`; `updated` makes a changed copy. `config/checks.py` adds what several keys mean together.
The text below a key is its description. Imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from pydantic.fields import FieldInfo

from cosmos_exp.config.measures import MARGINS
from cosmos_exp.run_folder import RunFolder


def _whole_latents(num_frames: int) -> int:
    """Check that a number of frames is that of whole latent frames: the first frame alone, then four each."""
    if num_frames % 4 != 1:
        raise ValueError(f"must be 4k+1 (17, 93 …), e.g. {max(1, num_frames // 4 * 4 + 1)}")
    return num_frames


def _absolute(path: str) -> str:
    """Return the absolute path: a run's processes and a resumed run may have another current directory."""
    return str(Path(path).expanduser().absolute())


def _pattern(text: str) -> str:
    """Check that a text is a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from error
    return text


Seed = Annotated[int, Field(ge=0, lt=2**63)]
NoiseSeed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # numpy's RandomState takes no larger one
Side = Annotated[int, Field(gt=0, le=16384, multiple_of=16)]
FrameCount = Annotated[int, Field(gt=0, le=1_000_000), AfterValidator(_whole_latents)]
Folder = Annotated[str, AfterValidator(_absolute)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Share = Annotated[float, Field(ge=0, le=1)]
Sigma = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(gt=0, le=1024)]
Channels = Annotated[int, Field(gt=0, le=2**24)]


class Group(BaseModel):
    """Keys that belong together. A name, type or range that does not fit is a `pydantic.ValidationError`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

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

    kind: str = "lora"
    """lora, dora, full (all weights of the transformer), peft (another method of peft), or none (the base model)"""
    method: str | None = None
    """kind=peft: peft's name of the method, e.g. oft or lokr"""
    options: dict[str, Any] = {}
    """kind=peft: keys of the method's configuration in peft"""
    rank: PositiveInt = 32
    """r, the rank of the update B A"""
    alpha: PositiveFloat = 32.0
    """the update is scaled by alpha/rank (rslora: alpha/sqrt(rank))"""
    scaling: Literal["standard", "rslora"] = "standard"
    """standard or rslora"""
    target_modules: list[str] = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]
    """linear layers that get an adapter, by name or end of the name"""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """dropout on the adapter's input"""
    bias: bool = False
    """also train a bias on each adapted layer (LoRA only)"""
    init: Literal["gaussian", "kaiming", "pissa"] = "gaussian"
    """initialisation of A; B starts at zero. pissa: A and B start as the base's largest singular values"""
    rank_pattern: dict[Pattern, PositiveInt] = {}
    """other ranks for some layers: end of the layer's name (a regular expression, as in peft): rank"""
    alpha_pattern: dict[Pattern, PositiveFloat] = {}
    """other alphas for some layers, likewise. A layer with another rank keeps alpha, so its scale changes, unless
    it is here too"""
    truncate_from: str | None = None
    """no training: the adapter, or the update of the full fine-tuning, of this run folder, cut to `rank` (best
    approximation of each layer's update); relative to the run's own folder"""

    @property
    def is_trained(self) -> bool:
        """Whether a run trains it: the base model has none, and a truncated one is another run's."""
        return self.kind != "none" and not self.truncate_from


class Hardware(Group):
    """Where the run happens. None of this changes the result beyond rounding."""

    device: Literal["cpu", "cuda"] = "cpu"
    """cpu or cuda"""
    num_processes: PositiveInt = 1
    """processes on each machine, one per GPU"""
    mixed_precision: Literal["no", "bf16"] = "no"
    """no: fp32; bf16: base weights and activations in bf16"""
    samples_per_forward: PositiveInt = 1
    """samples per forward pass of a process"""
    checkpointing: Literal["none", "pointwise", "selective", "full", "auto"] = "none"
    """what is computed again to save memory: none; pointwise: all but matrix products and attention; selective: all
    but self-attention; full: all; auto: as little as memory_gb allows"""
    compile: bool = False
    """torch.compile of the transformer's blocks; takes one to two minutes at the start"""
    guidance: Literal["two_passes", "one_batch"] = "two_passes"
    """prompt and negative prompt in a generation step: two forward passes, or one of two samples"""
    attention: Literal["auto", "cudnn", "flash", "efficient", "math"] = "auto"
    """kernel of scaled dot-product attention on a GPU; auto: PyTorch's choice, which is recorded. cudnn: only with
    training.deterministic=false"""
    num_threads: PositiveInt | None = None
    """CPU threads per process; null: OMP_NUM_THREADS (one process; Ray sets it), else all cores, divided evenly"""
    memory_gb: PositiveFloat | None = None
    """memory of one device in GB; the dry run warns by it, and checkpointing=auto needs it"""
    num_machines: PositiveInt = 1
    """machines, each with num_processes; torchrun starts the run on each of them"""

    @property
    def all_processes(self) -> int:
        """Processes of a run on all machines."""
        return self.num_processes * self.num_machines


class Approximate(Group):
    """Options that trade exact numbers for speed or memory. Off by default, recorded, part of the run's hash."""

    tf32: bool = False
    """fp32 matrix products of the base and adapter in TF32 on a GPU"""
    fp8_base: bool = False
    """frozen linear weights in 8-bit floating point (torchao, extra [approximate])"""
    adamw_8bit: bool = False
    """AdamW's moments in 8 bits (torchao, extra [approximate])"""


class Transformer(Group):
    """CosmosTransformer3DModel's configuration; a model folder's config.json takes precedence."""

    in_channels: Channels = 17
    """latent channels plus the condition mask"""
    out_channels: Channels = 16
    """latent channels"""
    num_attention_heads: Count = 16
    """heads"""
    attention_head_dim: Count = 128
    """channels per head"""
    num_layers: Count = 28
    """blocks"""
    mlp_ratio: PositiveFloat = 4.0
    """width of the feed-forward layer relative to the hidden width"""
    text_embed_dim: Channels = 1024
    """channels of a projected prompt token"""
    adaln_lora_dim: Channels = 256
    """width inside the adaptive norms"""


class Model(Group):
    """The frozen world model."""

    name: str = "tabletop"
    """for tables and records"""
    source: str = "embedded"
    """hub repository, folder, or embedded"""
    revision: str | None = None
    """branch, tag or commit on the hub"""
    builder: str | None = None
    """name of the function that returns the embedded model's folder"""
    weights: Literal["trained", "random"] = "trained"
    """embedded: the shipped weights, or random ones"""
    height: Side = 96
    """pixels, divisible by 16"""
    width: Side = 160
    """pixels, divisible by 16"""
    num_frames: FrameCount = 17
    """4k + 1"""
    fps: PositiveFloat = 8.0
    """frames per second of its videos"""
    prompt_tokens: PositiveInt = 512
    """tokens to which a prompt is padded or cut"""
    guardrail: Literal["cosmos_guardrail", "off"] = "cosmos_guardrail"
    """cosmos_guardrail, or off (recorded)"""
    max_first_loss: float | None = None
    """a first loss above this stops the run (the base was not loaded correctly)"""
    z_dim: Channels = 16
    """latent channels"""
    text_channels: Channels = 100352
    """channels of a prompt token before the projection"""
    transformer: Transformer = Transformer()
    """architecture"""


class Data(Group):
    """The data for training and test."""

    reader: str = "folder"
    """layout on disk: folder, gr1_100, lerobot, or a plugin's"""
    path: Folder | None = None
    """folder of the data"""
    builder: str | None = None
    """name of the function that renders the data on first use and returns its folder"""
    test_path: Folder | None = None
    """folder of test pairs: NAME.png with NAME.txt"""
    repo_id: str | None = None
    """hub data set, downloaded if path is not set"""
    test_repo_id: str | None = None
    """hub data set with the test pairs"""
    camera: str | None = None
    """lerobot: camera, e.g. observation.images.ego_view"""
    episodes: list[int] | None = None
    """lerobot: only these episodes"""
    skip_tasks: list[str] = []
    """lerobot: task texts that are not instructions"""
    prompt_prefix: str = ""
    """put before every prompt made from metadata"""
    caption_model: str | None = None
    """captions/*.json: model whose captions are used; null: the first"""
    caption_length: str | None = None
    """captions/*.json: long, short or medium; null: the file's first"""
    height: Side = 96
    """pixels, divisible by 16"""
    width: Side = 160
    """pixels, divisible by 16"""
    num_frames: FrameCount = 17
    """4k + 1"""
    fps: PositiveFloat | None = None
    """convert to this frame rate; null: keep the frames of the file"""
    resize: Literal["stretch", "crop", "reference"] = "stretch"
    """stretch the whole frame, or scale and crop the centre; reference: stretch as the blog post's scripts do, videos
    by Pillow's bilinear filter, first frames by nearest neighbour"""
    windows_per_video: PositiveInt = 4
    """cached windows of num_frames frames per video"""
    cache: bool = True
    """encode once and cache; false: encode at every visit, any window, as the reference does"""
    skip_bad: bool = False
    """skip bad files (listed and recorded) instead of stopping"""
    validation_videos: NonNegativeInt | None = 0
    """videos held out for the validation loss; null: a tenth, 1 to 32"""
    test_videos: NonNegativeInt | None = 0
    """videos held out as test pairs when there is no test_path; null: a tenth, 1 to 50, with a test_path
    none"""
    expected_videos: PositiveInt | None = None
    """number of videos that a dry run assumes before the data is downloaded"""
    train_clips: PositiveInt = 32
    """tabletop: robot clips to render"""
    look: Literal["robot", "human"] = "robot"
    """tabletop: appearance of the hands"""
    views: list[str] = []
    """cameras placed side by side in a frame; empty: one view"""
    test_pairs: NonNegativeInt = 4
    """tabletop: test scenes, each with a left-hand and a right-hand prompt"""
    first_pair: NonNegativeInt = 0
    """tabletop: number of the first test scene. A study that was planned on some scenes is tested on others"""
    cameras: list[str] = []
    """lerobot: several synchronous cameras of an episode, tiled row by row into one frame"""
    tiling: str = "auto"
    """lerobot: tiles of data.cameras, ROWSxCOLUMNS (1x2, 2x2 …); spare tiles are black; auto: as square as
    possible"""
    prompt: str | None = None
    """the prompt of every video that has no caption; file_name: the video's own name, with spaces for _ and -"""
    selection_pairs: NonNegativeInt = 0
    """scenes kept apart from the test to choose hyperparameters on: of test_path (its folder selection/, or drawn
    from its pairs by their first frames), else held-out videos; tabletop: further rendered scenes"""
    split_seed: Seed = 0
    """seed that decides which videos are held out and which scenes are for selection. It is not the run's seed:
    runs with other seeds are tested on the same videos"""
    recordings: Pattern | None = None
    """pattern (regular expression) of the recording in a clip's name, e.g. '^(.*)_[0-9]+$': clips of one recording
    are on one side of every split and one scene of the test; null: each clip is a recording"""
    swaps: list[tuple[str, str]] = []
    """word pairs, e.g. [[left,right]]: each test prompt also runs with the other word, for word_effect"""
    kept_prompts: Folder | None = None
    """folder of pairs of the base's own domain, NAME.png with NAME.txt, for kept: what the adapter changed there"""
    kept_pairs: NonNegativeInt = 0
    """tabletop: scenes with human hands, for kept"""


class Schedule(Group):
    """Linear warm-up, linear decay; counted in samples, so that hardware does not change it."""

    warmup_samples: NonNegativeInt = 1000
    """samples until f_max"""
    total_samples: PositiveInt = 100000
    """samples until f_min"""
    f_max: PositiveFloat = 0.5
    """highest multiple of learning_rate"""
    f_min: NonNegativeFloat = 0.2
    """last multiple of learning_rate"""


class Validation(Group):
    """Loss on held-out clips at fixed sigmas and noise."""

    every_steps: PositiveInt = 100
    """optimizer steps between validations; also before the first and after the last step"""
    sigmas: Annotated[list[Sigma], Field(min_length=1)] = [0.2, 0.5, 0.8]
    """noise levels at which each clip is scored"""


class Training(Group):
    """How the adapter is trained."""

    epochs: PositiveInt = 100
    """visits of each video"""
    max_steps: PositiveInt | None = None
    """stop after so many optimizer steps"""
    global_batch_size: PositiveInt = 8
    """samples per optimizer step, over all processes"""
    learning_rate: PositiveFloat = 2**-14.5
    """AdamW learning rate before the schedule"""
    weight_decay: NonNegativeFloat = 0.001
    """AdamW weight decay"""
    max_grad_norm: PositiveFloat = 1.0
    """the gradient norm is clipped to this"""
    zero_nonfinite_grads: bool = False
    """set non-finite gradient entries to zero instead of stopping"""
    condition_frames: dict[NonNegativeInt, Share] = {1: 0.5, 2: 0.5}
    """number of conditioning latent frames: its probability"""
    condition_timestep: NonNegativeFloat | None = 0.0001
    """timestep of the conditioning frames; null: the sample's sigma"""
    text_dropout: Share = 0.2
    """fraction of samples without text"""
    sigma_shift: PositiveFloat = 5.0
    """sigma = s u / (1 + (s - 1) u), u = sigmoid(N(0, sigma_std))"""
    sigma_std: PositiveFloat = 1.0
    """standard deviation of logit(sigma): a larger one also trains low noise levels at a high sigma_shift"""
    ema_power: Annotated[float, Field(gt=0, le=0.28)] | None = None
    """power EMA of the adapter, e.g. 0.10"""
    checkpoint_every_steps: PositiveInt = 100
    """optimizer steps between checkpoints"""
    keep_checkpoints: PositiveInt = 2
    """number of newest checkpoints that are kept"""
    schedule: Schedule = Schedule()
    """learning rate over samples"""
    validation: Validation = Validation()
    """held-out loss"""
    deterministic: bool = True
    """train with torch's deterministic kernels; an operation without one is an error. false: a predicted 1.5 to 2
    times the speed on a GPU"""


class Generation(Group):
    """Test videos."""

    mode: Literal["image2world", "video2world"] = "image2world"
    """condition on one first frame, or on the first frames of a clip"""
    seeds: Annotated[list[NoiseSeed], Field(min_length=1)] = [0]
    """seeds of the start noise, one video per test pair and seed; generation.split=none makes no videos"""
    num_steps: PositiveInt = 36
    """denoising steps"""
    guidance_scale: NonNegativeFloat = 7.0
    """g in v + g (v - v_negative); no guidance if at most 1"""
    negative_prompt: str | None = "default"
    """default: the pipeline's; a text; null: the zero embedding"""
    merge_adapter: bool = True
    """merge in fp32 before sampling; false: keep it separate"""
    max_prompts: PositiveInt | None = None
    """use only the first N test pairs"""
    split: Literal["test", "selection", "none"] = "test"
    """the prompts of the videos: test; selection (data.selection_pairs); none: no video, no score"""
    fps: Annotated[float, Field(ge=0.01, le=1000)] = 16.0
    """frames per second of the file"""
    crf: Annotated[int, Field(ge=0, le=51)] = 12
    """H.264 quality, 0 is lossless"""
    chunks: PositiveInt = 1
    """chunks of data.num_frames per video; each is conditioned on the last 5 frames of the one before"""
    chunk_prompts: Literal["same", "lines"] = "same"
    """same: every chunk has the whole prompt; lines: each chunk has one line of it"""


class Sampson(Group):
    """Sampson error, temporal and across views."""

    enabled: bool = True
    """measure it"""
    layout: str | None = None
    """tiles of a frame, ROWSxCOLUMNS; null: one row of the data's views, or one view"""
    views: list[str] = []
    """names of the tiles, row by row; - skips a tile"""
    pairs: str | None = None
    """views to compare, A:B,A:C; null: all pairs"""
    calibration: str | None = None
    """file with each view's camera; null: unknown"""
    gap: PositiveInt = 1
    """distance in frames between the two frames of a pair"""
    estimator: Literal["magsac", "ransac"] = "magsac"
    """estimator of the fundamental matrix of the robust measures"""
    matcher: str = "sift"
    """feature matcher: sift, superpoint_lightglue, or a plugin's"""
    matcher_source: str = "ETH-CVG/lightglue_superpoint"
    """its hub repository or folder"""
    matcher_revision: str | None = None
    """branch, tag or commit"""
    batch_frames: PositiveInt = 8
    """superpoint_lightglue: frames per batch"""
    max_keypoints: PositiveInt = 2048
    """keypoints per frame"""
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    """sift: Lowe's ratio test"""
    threshold: PositiveFloat = 1.0
    """robust measures: largest error of an inlier, pixels"""
    repeats: Annotated[int, Field(ge=2)] = 3
    """estimates of each fundamental matrix; their spread is the repeatability of a value"""
    min_matches: Annotated[int, Field(ge=8)] = 15
    """a frame pair with fewer matches is counted, not measured"""
    static_pixels: NonNegativeFloat = 0.5
    """a match that moves less than this is static, pixels"""


class Measures(Group):
    """Measures beside the Sampson error and the judge. They need no weights."""

    references: bool = True
    """also score the recorded continuation (real) and the held first frame (frozen)"""
    recording: bool = True
    """compare with the recording, where there is one: PSNR, SSIM, motion masks, motion"""
    motion: bool = True
    """flow warping error, and survival and smoothness of tracks"""
    words: bool = True
    """word_effect and word_side, for test prompts that differ in one word"""


class Judge(Group):
    """Scores from 1 to 5."""

    name: str = "none"
    """which judge: none, reason2, server, rules (tabletop), or a plugin's"""
    source: str | None = None
    """hub repository or folder; server: the model's name, null: its only model"""
    revision: str | None = None
    """branch, tag or commit"""
    url: str | None = None
    """server: address of an OpenAI-compatible endpoint, up to /v1; its key is in OPENAI_API_KEY"""
    media: Literal["video", "frames"] = "video"
    """server: send one video, or the frames as images"""
    timeout: PositiveFloat = 600.0
    """server: seconds until a request fails"""
    retries: NonNegativeInt = 6
    """server: retries of a failed request, with growing pauses"""
    fps: PositiveFloat = 16.0
    """frames per second shown to the judge"""
    max_frames: Annotated[int, Field(gt=1)] = 256
    """largest number of frames shown"""
    max_total_pixels: PositiveInt = 6_422_528
    """largest number of pixels of all frames together; two frames count as one"""
    max_new_tokens: PositiveInt = 2048
    """largest length of an answer"""
    reasoning: bool = False
    """ask the judge to reason before it answers"""
    samples: PositiveInt = 1
    """answers per question; their mean is the score"""
    temperature: NonNegativeFloat | None = None
    """0 is greedy; null: 0 for one sample, 0.7 for several"""
    batch: PositiveInt = 1
    """questions per batch"""
    rubrics: list[str] = ["physics", "instruction"]
    """physics, instruction, or paths of YAML files"""


class Tracking(Group):
    """wandb mirrors the run folder. Its failures never stop a run."""

    mode: Literal["auto", "online", "offline", "off"] = "auto"
    """auto, online, offline or off"""
    project: str = "cosmos_exp"
    """wandb project"""
    entity: str | None = None
    """wandb entity"""
    group: str | None = None
    """wandb group; null: name"""


class Tune(Group):
    """First phase of a sweep: each arm's own values of some keys, chosen on selection prompts or validation clips."""

    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    """values to try per key, e.g. {training.learning_rate: [0.001, 0.003, 0.01]}"""
    grids: dict[str, dict[str, Annotated[list[Any], Field(min_length=1)]]] = {}
    """other values of these keys for some arms, e.g. {full: {training.learning_rate: [0.0001, 0.0003]}}"""
    by: str = "validation_loss"
    """what the best value has the best of: validation_loss, or a measure on the selection prompts"""
    rule: Literal["best", "one_standard_error"] = "best"
    """best: the best mean; one_standard_error: the first value of the grid that is at most one standard error of
    the paired difference over scenes worse than the best (needs a measure)"""
    seeds: list[Seed] = [100]
    """training seeds; none of them may be a test seed"""
    overrides: dict[str, Any] = {}
    """keys of the tuning runs only, e.g. {training.max_steps: 100}"""


class Sweep(Group):
    """A sweep by arms (`cosmos-exp sweep`). It is kept in the sweep's folder, not in its runs."""

    arms: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]*$")], dict[str, Any]] = {}
    """name: {key: value, …} of each arm, or {truncate: {from: arm, rank: [2, 4]}}; empty: the sweeper's product"""
    seeds: list[Seed] = []
    """training seeds of each arm; empty: the value of seed"""
    tune: Tune = Tune()
    """first phase: each arm's own values, e.g. of the learning rate"""
    claims: list[str] = []
    """what is expected, e.g. 'instruction: lora-r32 > base'; frozen when the first run starts"""


class Config(Group):
    """A whole run."""

    name: str = "run"
    """outputs/<name>/<timestamp>"""
    seed: Seed = 0
    """the seed of every random draw"""
    tags: list[str] = []
    """tags on the dashboard"""
    objective: str = "validation_loss"
    """what a run returns to a sweeper that searches (hydra/sweeper=optuna): validation_loss, train_loss, or a
    measure"""
    dry_run: bool = False
    """print the plan and stop"""
    run_dir: Folder | None = None
    """folder of the run; an existing folder is resumed"""
    fail_fast: bool = False
    """several runs: the first failure stops the others"""
    cache_dir: Folder | None = None
    """folder of cached data, latents and prompts; null: COSMOS_EXP_CACHE or the user's cache folder"""
    adapter: Adapter = Adapter()
    """the adapter"""
    hardware: Hardware = Hardware()
    """hardware"""
    approximate: Approximate = Approximate()
    """options that change numbers"""
    model: Model = Model()
    """the world model"""
    data: Data = Data()
    """training and test data"""
    training: Training = Training()
    """training"""
    generation: Generation = Generation()
    """test videos"""
    sampson: Sampson = Sampson()
    """Sampson error"""
    measures: Measures = Measures()
    """further measures"""
    judge: Judge = Judge()
    """scores"""
    tracking: Tracking = Tracking()
    """dashboard"""
    sweep: Sweep = Sweep()
    """arms, tuning and claims; only `cosmos-exp sweep` reads it"""
    margins: dict[str, PositiveFloat] = MARGINS
    """margins of equivalence per measure; the report tests whether two adapters differ by less"""

    @property
    def folder(self) -> RunFolder:
        """The run folder; `run_dir` is set."""
        return RunFolder(str(self.run_dir))


def all_keys(model: type[BaseModel] = Config, where: str = "") -> dict[str, FieldInfo]:
    """Every key of the configuration, dotted, with its field; groups too."""
    keys = {}
    for name, field in model.model_fields.items():
        keys[where + name] = field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys |= all_keys(field.annotation, f"{where}{name}.")
    return keys
