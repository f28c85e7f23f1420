"""The systems of the field that are built here, as a table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """One row.

    Attributes:
        name: as its paper calls it.
        types: model types of config.json; () where transformers has none and the paper's equations
            (`zoo.parity.equations`) are the reference.
        task: what it does.
        senses: modalities that go in.
        fusion: how they meet; "" where there is one alone.
        fits: checkpoints of the hub of these types, by what is known of their configs and names.
    """

    name: str
    types: tuple[str, ...]
    task: str
    senses: str
    fusion: str
    fits: tuple[str, ...]


SYSTEMS = (
    System("BERT", ("bert",), "encode", "text", "", ("google-bert/bert-base-uncased",)),
    System("GPT-2", ("gpt2",), "write", "text", "", ("openai-community/gpt2",)),
    System("LLaMA", ("llama",), "write", "text", "", ("meta-llama/Llama-3.2-1B", "HuggingFaceTB/SmolLM2-135M")),
    System("Mistral", ("mistral",), "write", "text", "", ("mistralai/Mistral-7B-v0.1",)),
    System("Qwen", ("qwen2", "qwen3"), "write", "text", "", ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen3-0.6B")),
    System("OPT", ("opt",), "write", "text", "", ()),
    System("T5", ("t5",), "rewrite", "text", "", ("google-t5/t5-small", "google/flan-t5-base")),
    System("ResNet", ("resnet",), "encode, classify", "image", "", ("microsoft/resnet-50",)),
    System("EfficientNet", ("efficientnet",), "encode, classify", "image", "", ("google/efficientnet-b0",)),
    System("ViT", ("vit",), "encode, classify", "image", "", ("google/vit-base-patch16-224",)),
    System(
        "DINOv2",
        ("dinov2", "dinov2_with_registers"),
        "encode",
        "image",
        "",
        ("facebook/dinov2-base", "facebook/dinov2-with-registers-base"),
    ),
    System("CLIP", ("clip", "clip_vision_model"), "match", "image, text", "late", ("openai/clip-vit-base-patch32",)),
    System(
        "SigLIP", ("siglip", "siglip_vision_model"), "match", "image, text", "late", ("google/siglip-base-patch16-224",)
    ),
    System("ALIGN", ("align",), "match", "image, text", "late", ("kakaobrain/align-base",)),
    System("X-CLIP", ("xclip",), "match", "video, text", "late", ("microsoft/xclip-base-patch32",)),
    System("VideoCLIP", ("videoclip",), "match", "video, text", "late", ()),
    System("VisualBERT", ("visual_bert",), "encode", "image, text", "early", ()),
    System("ViLBERT", ("vilbert",), "encode, answer, pre-train", "image, text", "co-attention", ()),
    System("Show and Tell", ("show_and_tell",), "caption", "image, text", "recurrent", ()),
    System(
        "BLIP", ("blip",), "caption, ask, match", "image, text", "cross", ("Salesforce/blip-image-captioning-base",)
    ),
    System(
        "BLIP-2",
        ("blip-2",),
        "caption, ask, match",
        "image, text",
        "qformer",
        ("Salesforce/blip2-opt-2.7b", "Salesforce/blip2-flan-t5-xl", "Salesforce/blip2-itm-vit-g"),
    ),
    System("LLaVA 1.5", ("llava",), "caption, ask", "image, text", "projection", ("llava-hf/llava-1.5-7b-hf",)),
    System(
        "LLaVA-NeXT",
        ("llava_next",),
        "caption, ask",
        "image, text",
        "projection",
        ("llava-hf/llava-v1.6-mistral-7b-hf", "llava-hf/llava-v1.6-vicuna-7b-hf"),
    ),
    System(
        "LLaVA-NeXT-Video",
        ("llava_next_video",),
        "caption, ask",
        "image, video, text",
        "projection",
        ("llava-hf/LLaVA-NeXT-Video-7B-hf",),
    ),
    System(
        "Qwen2-VL",
        ("qwen2_vl",),
        "caption, ask",
        "image, video, text",
        "projection",
        ("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-7B-Instruct"),
    ),
    System(
        "Qwen2.5-VL",
        ("qwen2_5_vl",),
        "caption, ask",
        "image, video, text",
        "projection",
        ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"),
    ),
    System(
        "LLaVA-OneVision",
        ("llava_onevision",),
        "caption, ask",
        "image, video, text",
        "projection",
        ("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "llava-hf/llava-onevision-qwen2-7b-ov-hf"),
    ),
    System(
        "InstructBLIP",
        ("instructblip", "instructblipvideo"),
        "caption, ask",
        "image, video, text",
        "qformer",
        ("Salesforce/instructblip-vicuna-7b", "Salesforce/instructblip-flan-t5-xl"),
    ),
    System(
        "Kosmos-2",
        ("kosmos-2",),
        "caption, ask, ground",
        "image, text",
        "projection",
        ("microsoft/kosmos-2-patch14-224",),
    ),
    System("Flamingo", ("flamingo",), "caption, ask", "image, video, text", "gated cross", ()),
    System("IDEFICS", ("idefics",), "caption, ask", "image, text", "gated cross", ("HuggingFaceM4/idefics-9b",)),
    System(
        "Idefics3", ("idefics3",), "caption, ask", "image, text", "projection", ("HuggingFaceM4/Idefics3-8B-Llama3",)
    ),
    System(
        "SmolVLM",
        ("smolvlm",),
        "caption, ask",
        "image, video, text",
        "projection",
        ("HuggingFaceTB/SmolVLM2-500M-Video-Instruct",),
    ),
    System("VideoMAE", ("videomae",), "encode, classify", "video", "", ("MCG-NJU/videomae-base-finetuned-kinetics",)),
    System(
        "TimeSformer",
        ("timesformer",),
        "encode, classify",
        "video",
        "",
        ("facebook/timesformer-base-finetuned-k400",),
    ),
    System("ViViT", ("vivit",), "encode", "video", "", ("google/vivit-b-16x2-kinetics400",)),
    System(
        "AST",
        ("audio-spectrogram-transformer",),
        "encode, classify",
        "audio",
        "",
        ("MIT/ast-finetuned-audioset-10-10-0.4593",),
    ),
    System(
        "Qwen2-Audio",
        ("qwen2_audio",),
        "caption, ask",
        "audio, text",
        "projection",
        ("Qwen/Qwen2-Audio-7B-Instruct", "Qwen/Qwen2-Audio-7B"),
    ),
    System("Silero VAD", (), "find speech", "audio", "", ()),
    System("Whisper", ("whisper",), "transcribe", "audio", "cross", ("openai/whisper-tiny",)),
    System("3D grounding", (), "ground", "points, text", "early, cross", ()),  # after 3DETR and BUTD-DETR
    System("Point-BERT", (), "encode, classify, pre-train", "points", "", ()),
    System("PointLLM", ("pointllm",), "caption, ask", "points, text", "projection", ()),
    System("PointNet++", (), "encode, classify, segment", "points", "", ()),
    System("CLAP", ("clap",), "match", "audio, text", "late", ("laion/clap-htsat-fused", "laion/clap-htsat-unfused")),
    System(
        "SpeechT5",
        ("speecht5",),
        "transcribe, speak",
        "audio, text",
        "cross",
        ("microsoft/speecht5_asr", "microsoft/speecht5_tts", "microsoft/speecht5_vc"),
    ),
    System(
        "HiFi-GAN",
        ("hifigan", "speecht5_hifigan"),
        "sound of a spectrogram",
        "audio",
        "",
        ("microsoft/speecht5_hifigan",),
    ),
)
