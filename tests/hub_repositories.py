"""The repositories of a real run with random weights: real names, branches, layouts, classes and settings, small sizes.

Every function writes one repository as a folder ROOT/KIND/OWNER/NAME/BRANCH, a slash in the branch as `@`.
"""

import json

import torch

# Qwen2.5's and Qwen3's, without tools.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% elif content['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VISION_MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
REAL_BRANCHES = ("diffusers@base@post-trained", "diffusers@base@pre-trained")
PLACEHOLDER = "What the real repository has here.\n"


def tokenizer_of_qwen():
    """A byte-level BPE tokenizer with the marks and the chat template of Qwen's."""
    from cosmos_exp.tabletop.build import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": list(VISION_MARKS)})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def let_answer(model, answers, end):
    """Change a random language model so that it answers with one of the tokens `answers`, then ends."""
    embeddings, head = model.get_input_embeddings().weight, model.lm_head.weight
    with torch.no_grad():
        asked, answered = torch.eye(embeddings.shape[1])[:2]
        embeddings.mul_(0.2).add_(asked)
        embeddings[answers] = answered
        head[answers] += 10 * asked
        head[end] += 20 * answered
        if len(answers) > 1:  # which of them depends on what is asked
            head[answers] += 3 * torch.randn(len(answers), embeddings.shape[1]) * (1 - asked - answered)


def model_2b(root):
    """The world model: diffusers folders on two branches, and main without one."""
    from diffusers import AutoencoderKLWan, CosmosTransformer3DModel

    from cosmos_exp.tabletop.build import build_scheduler, build_text_encoder

    main = root / "models" / "nvidia" / "Cosmos-Predict2.5-2B" / "main"
    (main / "base" / "post-trained").mkdir(parents=True)
    (main / "README.md").write_text(PLACEHOLDER)
    (main / "base" / "post-trained" / "81edfebe_ema_bf16.pt").write_text(PLACEHOLDER)
    tokenizer = tokenizer_of_qwen()
    for seed, branch in enumerate(REAL_BRANCHES):
        torch.manual_seed(seed)
        folder = main.with_name(branch)
        transformer = CosmosTransformer3DModel(
            in_channels=17,
            out_channels=16,
            num_attention_heads=2,
            attention_head_dim=32,
            num_layers=2,
            mlp_ratio=4.0,
            text_embed_dim=64,
            adaln_lora_dim=16,
            max_size=(128, 240, 240),
            patch_size=(1, 2, 2),
            rope_scale=(1.0, 3.0, 3.0),
            concat_padding_mask=True,
            extra_pos_embed_type=None,
            use_crossattn_projection=True,
            crossattn_proj_in_channels=128,
            encoder_hidden_states_channels=64,
        )
        transformer.to(torch.bfloat16).save_pretrained(folder / "transformer", max_shard_size="500KB")
        vae = AutoencoderKLWan(base_dim=16, num_res_blocks=1)
        vae.save_pretrained(folder / "vae")
        encoder = build_text_encoder(len(tokenizer), 128)
        encoder.to(torch.bfloat16).save_pretrained(folder / "text_encoder", max_shard_size="100KB")
        tokenizer.save_pretrained(folder / "tokenizer")
        build_scheduler().save_pretrained(folder / "scheduler")
        parts = {
            "transformer": ["diffusers", "CosmosTransformer3DModel"],
            "vae": ["diffusers", "AutoencoderKLWan"],
            "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
            "tokenizer": ["transformers", "Qwen2TokenizerFast"],
            "scheduler": ["diffusers", "UniPCMultistepScheduler"],
            "safety_checker": [None, None],
        }
        index = {"_class_name": "Cosmos2_5_PredictBasePipeline", "_diffusers_version": "0.36.0", **parts}
        (folder / "model_index.json").write_text(json.dumps(index))


def guardrail(root, sees_faces=False):
    """The guardrail's two repositories: blocklist with NLTK's data, RetinaFace at its one size, Qwen3Guard.

    Args:
        sees_faces: RetinaFace finds a face everywhere; else nowhere.
    """
    folder = root / "models" / "nvidia" / "Cosmos-1.0-Guardrail" / "main"
    for part, words in (("custom", "bomb"), ("exact_match", "grenade"), ("whitelist", "shot")):
        (folder / "blocklist" / part).mkdir(parents=True)
        (folder / "blocklist" / part / "en").write_text(f"{words}\n")
    for part in ("aegis", "video_content_safety_filter"):
        (folder / part).mkdir()
        (folder / part / "safety_filter.pt").write_text(PLACEHOLDER)
    _nltk_data(folder / "blocklist" / "nltk_data")
    _face_detector(folder / "face_blur_filter", sees_faces)
    _qwen3_guard(root / "models" / "Qwen" / "Qwen3Guard-Gen-0.6B" / "main")


def _nltk_data(folder):
    """Files of the forms that NLTK reads: a sentence splitter that knows no abbreviation, a WordNet of one noun."""
    punkt = folder / "tokenizers" / "punkt_tab" / "english"
    wordnet = folder / "corpora" / "wordnet"
    for part in (punkt, wordnet):
        part.mkdir(parents=True)
    for name in ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab"):
        (punkt / name).write_text("")
    for kind in ("adj", "adv", "noun", "verb"):
        for name in (f"index.{kind}", f"data.{kind}", f"{kind}.exc"):
            (wordnet / name).write_text("")
    for name in ("cntlist.rev", "index.sense"):
        (wordnet / name).write_text("")
    (wordnet / "index.noun").write_text("cup n 1 0 1 0 00000000\n")
    (wordnet / "lexnames").write_text("00\tnoun.Tops\t3\n")


def _face_detector(folder, sees_faces):
    """Resnet50_Final.pth: the names and shapes of RetinaFace, zeros in half precision; 54 MB, the one large file."""
    from retinaface.data import cfg_re50
    from retinaface.models.retinaface import RetinaFace

    weights = {}
    for name, tensor in RetinaFace(cfg={**cfg_re50, "pretrain": False}, phase="test").state_dict().items():
        weights[f"module.{name}"] = torch.zeros(tensor.shape, dtype=torch.half)
    for level in range(3):
        bias = torch.tensor([0.0, 4.0] * 2) if sees_faces else torch.tensor([4.0, 0.0] * 2)
        weights[f"module.ClassHead.{level}.conv1x1.bias"] = bias  # background and face, for two anchors
    folder.mkdir()
    torch.save(weights, folder / "Resnet50_Final.pth")


def _qwen3_guard(folder):
    """A Qwen3 that calls every prompt safe."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = tokenizer_of_qwen()
    tokenizer.chat_template = CHAT_TEMPLATE.replace("if add_generation_prompt", "if true")  # as that repository's own
    tokenizer.add_tokens(["Safety: Safe\nCategories: None"])
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    model = Qwen3ForCausalLM(Qwen3Config(**TEXT, vocab_size=len(tokenizer), eos_token_id=end, pad_token_id=0))
    let_answer(model, [len(tokenizer) - 1], end)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def reason2(root, name):
    """A judge that answers with a digit from 1 to 5, and its processor."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    folder = root / "models" / name / "main"
    tokenizer = tokenizer_of_qwen()
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(VISION_MARKS))
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True, "rope_theta": 5e6}
    config = Qwen3VLConfig(
        text_config={**TEXT, "vocab_size": len(tokenizer), "rope_parameters": rope},
        vision_config={**VISION, "patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config)
    let_answer(model, tokenizer.convert_tokens_to_ids(list("12345")), tokenizer.eos_token_id)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def lightglue(root):
    """SuperPoint and LightGlue in one model."""
    from transformers import LightGlueConfig, LightGlueForKeypointMatching, SuperPointConfig

    torch.manual_seed(0)
    points = SuperPointConfig(
        encoder_hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16, keypoint_decoder_dim=65, descriptor_decoder_dim=16
    )
    sizes = {"descriptor_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "filter_threshold": 0.0}
    model = LightGlueForKeypointMatching(LightGlueConfig(keypoint_detector_config=points, **sizes))
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)  # the class's own initialisation gives no distinct keypoints
    folder = root / "models" / "ETH-CVG" / "lightglue_superpoint" / "main"
    model.save_pretrained(folder)
    return folder


def robot_data(root, frames, videos, prompts):
    """nvidia/GR1-100 and nvidia/EVAL-175: metadata.csv with gr1/*.mp4; folders with pairs of first frame and prompt."""
    from PIL import Image

    from cosmos_exp.data.video import write_video
    from cosmos_exp.tabletop.scene import Scene

    train = root / "datasets" / "nvidia" / "GR1-100" / "main"
    test = root / "datasets" / "nvidia" / "EVAL-175" / "main"
    (train / "gr1").mkdir(parents=True)
    lines = ["file_name,text"]
    for k in range(videos):
        scene = Scene.sample(k, "robot", num_frames=frames)
        write_video(train / "gr1" / f"{k}.mp4", scene.clip().frames, 16)
        lines.append(f'gr1/{k}.mp4,"{scene.prompt}"')
    (train / "metadata.csv").write_text("\n".join(lines) + "\n")
    for group in ("gr1_object", "gr1_behavior"):
        (test / group).mkdir(parents=True)
        for k in range(prompts):
            scene = Scene.sample(100 + k, "robot", num_frames=2)
            Image.fromarray(scene.clip().frames[0]).save(test / group / f"{k:02}.png")
            (test / group / f"{k:02}.txt").write_text(scene.prompt)
