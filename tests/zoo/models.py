"""The zoo: published architectures from their `transformers` configurations, two layers deep, with seeded weights.

`small` is width 64 (dispatch-bound), `real` the width of the smallest published member of the family. Vocabularies are
cut to 8,192 at `real`: beside two layers instead of dozens, a full output matrix would be most of the work.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn

from .unet import UNet

Scale = Literal["small", "real"]
Entry = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
Factory = Callable[[Scale], Entry]

hf: Any = transformers  # its configurations take more than their signatures say
_FACTORIES: dict[str, Factory] = {}


def zoo() -> dict[str, Factory]:
    """Every model by name; a factory gives `(module in eval mode, args, kwargs)`, with the same weights each time."""
    return dict(_FACTORIES)


def _entry(build: Callable[[Scale], Entry]) -> Callable[[Scale], Entry]:
    """Register `build` under its name, seeded, and with its normalisation made non-trivial."""

    def seeded(scale: Scale) -> Entry:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module, args, kwargs = build(scale)
            _season(module)
            _calibrate(module, args, kwargs)
        return module.eval(), args, kwargs

    _FACTORIES[build.__name__] = seeded
    return seeded


def _season(module: nn.Module) -> None:
    """Move scales and shifts off 1 and 0: a rewrite that drops one must show in the result."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)
            elif isinstance(part, nn.BatchNorm2d):
                part.weight.fill_(1)
        for name, tensor in module.named_parameters():
            if tensor.ndim == 1 and name.endswith(("weight", "bias")):
                tensor.add_(0.1 * torch.randn_like(tensor))


def _calibrate(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Give batch norms the statistics of what reaches them, as training does.

    With those of the configurations, 0 and 1, the signal dies out within a dozen layers, and the result would not
    depend on the image any more.
    """
    norms = [part for part in module.eval().modules() if isinstance(part, nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        module(*args, **kwargs)


def _pick(scale: Scale, small: dict[str, Any], real: dict[str, Any]) -> dict[str, Any]:
    return small if scale == "small" else real


def _tokens(scale: Scale, batch: int = 1) -> Tensor:
    return torch.randint(3, 512, (batch, 16 if scale == "small" else 128))


def _image(side: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, side, side)


def _decoder(scale: Scale, **real: Any) -> dict[str, Any]:
    """The common part of a decoder's configuration: grouped-query attention, two layers, no cache."""
    small = {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    common = {"num_hidden_layers": 2, "use_cache": False, "pad_token_id": 0, "max_position_embeddings": 512}
    return common | (small if scale == "small" else {"vocab_size": 8192} | real)


def _masked(scale: Scale) -> dict[str, Tensor]:
    """Two rows, the second padded on the right."""
    ids = _tokens(scale, batch=2)
    mask = torch.ones_like(ids)
    mask[1, -5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@_entry
def bert(scale: Scale) -> Entry:
    """bert-base: 768 wide, 12 heads."""
    size = _pick(
        scale,
        {"vocab_size": 512, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256},
        {"vocab_size": 8192},
    )
    return hf.BertModel(hf.BertConfig(num_hidden_layers=2, **size)), (), _masked(scale)


@_entry
def distilbert(scale: Scale) -> Entry:
    """distilbert-base with a classifier: 768 wide, 12 heads."""
    size = _pick(scale, {"vocab_size": 512, "dim": 64, "n_heads": 4, "hidden_dim": 256}, {"vocab_size": 8192})
    return hf.DistilBertForSequenceClassification(hf.DistilBertConfig(n_layers=2, **size)), (), _masked(scale)


@_entry
def gpt2(scale: Scale) -> Entry:
    """gpt2: 768 wide, 12 heads, tanh-GELU, output tied to the embedding."""
    size = _pick(scale, {"vocab_size": 512, "n_embd": 64, "n_head": 4}, {"vocab_size": 8192})
    config = hf.GPT2Config(n_layer=2, use_cache=False, bos_token_id=0, eos_token_id=0, **size)
    return hf.GPT2LMHeadModel(config), (), _masked(scale)


@_entry
def opt(scale: Scale) -> Entry:
    """opt-125m: 768 wide, 12 heads, ReLU, learned positions from the mask."""
    size = _pick(
        scale,
        {"vocab_size": 512, "hidden_size": 64, "num_attention_heads": 4, "ffn_dim": 256, "word_embed_proj_dim": 64},
        {"vocab_size": 8192},
    )
    config = hf.OPTConfig(num_hidden_layers=2, use_cache=False, max_position_embeddings=512, **size)
    return hf.OPTForCausalLM(config), (), _masked(scale)


@_entry
def llama(scale: Scale) -> Entry:
    """TinyLlama-1.1B: 2048 wide, 32 heads over 4, SwiGLU."""
    size = _decoder(scale, hidden_size=2048, intermediate_size=5632, num_attention_heads=32, num_key_value_heads=4)
    return hf.LlamaForCausalLM(hf.LlamaConfig(**size)), (), {"input_ids": _tokens(scale)}


@_entry
def qwen2(scale: Scale) -> Entry:
    """Qwen2-0.5B: 896 wide, 14 heads over 2, biases on Q, K and V, tied output."""
    size = _decoder(scale, hidden_size=896, intermediate_size=4864, num_attention_heads=14, num_key_value_heads=2)
    return hf.Qwen2ForCausalLM(hf.Qwen2Config(tie_word_embeddings=True, **size)), (), _masked(scale)


@_entry
def qwen3(scale: Scale) -> Entry:
    """Qwen3-0.6B: 1024 wide, 16 heads of 128 over 8, RMSNorm on Q and K."""
    size = _decoder(scale, hidden_size=1024, intermediate_size=3072, num_attention_heads=16, num_key_value_heads=8)
    size["head_dim"] = 32 if scale == "small" else 128
    return hf.Qwen3ForCausalLM(hf.Qwen3Config(**size)), (), {"input_ids": _tokens(scale)}


@_entry
def gemma(scale: Scale) -> Entry:
    """Gemma-2B's attention (2048 wide, 8 heads of 256 over 1) with a quarter of its MLP; RMSNorm by 1 + weight."""
    size = _decoder(scale, hidden_size=2048, intermediate_size=4096, num_attention_heads=8, num_key_value_heads=1)
    size["head_dim"] = 32 if scale == "small" else 256
    return hf.GemmaForCausalLM(hf.GemmaConfig(**size)), (), {"input_ids": _tokens(scale)}


@_entry
def gemma3(scale: Scale) -> Entry:
    """Gemma-3-270M: 640 wide, 4 heads of 256 over 1, alternating sliding windows, four norms a layer."""
    size = _decoder(scale, hidden_size=640, intermediate_size=2048, num_attention_heads=4, num_key_value_heads=1)
    size |= {"head_dim": 32 if scale == "small" else 256, "sliding_window": 8 if scale == "small" else 64}
    config = hf.Gemma3TextConfig(layer_types=["sliding_attention", "full_attention"], **size)
    return hf.Gemma3ForCausalLM(config), (), {"input_ids": _tokens(scale)}


@_entry
def phi(scale: Scale) -> Entry:
    """phi-1.5: 2048 wide, 32 heads, parallel attention and MLP, rotary over half of each head."""
    size = _decoder(scale, hidden_size=2048, intermediate_size=8192, num_attention_heads=32, num_key_value_heads=32)
    return hf.PhiForCausalLM(hf.PhiConfig(**size)), (), {"input_ids": _tokens(scale)}


@_entry
def mistral(scale: Scale) -> Entry:
    """Mistral at half of 7B's width (2048, 16 heads of 128 over 4), with a sliding window."""
    size = _decoder(scale, hidden_size=2048, intermediate_size=7168, num_attention_heads=16, num_key_value_heads=4)
    config = hf.MistralConfig(sliding_window=8 if scale == "small" else 64, **size)
    return hf.MistralForCausalLM(config), (), {"input_ids": _tokens(scale)}


@_entry
def mixtral(scale: Scale) -> Entry:
    """Mixtral at a quarter of 8x7B's width (1024, 8 experts, 2 chosen): one full layer alone is 1.4 G parameters."""
    size = _decoder(scale, hidden_size=1024, intermediate_size=3584, num_attention_heads=8, num_key_value_heads=2)
    return hf.MixtralForCausalLM(hf.MixtralConfig(num_local_experts=8, **size)), (), {"input_ids": _tokens(scale)}


@_entry
def granite_moe(scale: Scale) -> Entry:
    """Granite-3.0-1B-A400M: 1024 wide, 32 experts of 512, 8 chosen."""
    size = _decoder(scale, hidden_size=1024, intermediate_size=512, num_attention_heads=16, num_key_value_heads=8)
    experts = {"num_local_experts": 8, "num_experts_per_tok": 2}
    experts = experts if scale == "small" else {"num_local_experts": 32, "num_experts_per_tok": 8}
    return hf.GraniteMoeForCausalLM(hf.GraniteMoeConfig(**experts, **size)), (), {"input_ids": _tokens(scale)}


@_entry
def t5(scale: Scale) -> Entry:
    """t5-small: 512 wide, 8 heads, relative position buckets, encoder and decoder."""
    size = _pick(
        scale,
        {"vocab_size": 512, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_heads": 4},
        {"vocab_size": 8192, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_heads": 8},
    )
    config = hf.T5Config(num_layers=2, num_decoder_layers=2, use_cache=False, decoder_start_token_id=0, **size)
    inputs = _masked(scale) | {"decoder_input_ids": _tokens(scale, batch=2)[:, :8]}
    return hf.T5ForConditionalGeneration(config), (), inputs


@_entry
def vit(scale: Scale) -> Entry:
    """ViT-B/16: 768 wide, 12 heads, 197 tokens at 224 pixels."""
    size = _pick(
        scale,
        {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256, "image_size": 64},
        {"image_size": 224},
    )
    return hf.ViTForImageClassification(hf.ViTConfig(num_hidden_layers=2, **size)), (_image(size["image_size"]),), {}


@_entry
def swin(scale: Scale) -> Entry:
    """Swin-T: 96 channels doubling over four stages; one pair (plain, shifted window) in each."""
    size = _pick(
        scale,
        {"embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "image_size": 64},
        {"embed_dim": 96, "depths": [2, 2, 2, 2], "num_heads": [3, 6, 12, 24], "window_size": 7, "image_size": 224},
    )
    return hf.SwinForImageClassification(hf.SwinConfig(**size)), (_image(size["image_size"]),), {}


@_entry
def clip(scale: Scale) -> Entry:
    """CLIP ViT-B/32: text (512 wide) and image (768 wide) towers, quick-GELU, and their similarity."""
    text = {"vocab_size": 8192, "num_hidden_layers": 2, "eos_token_id": 511, "bos_token_id": 510}
    vision: dict[str, Any] = {"num_hidden_layers": 2, "image_size": 224}
    if scale == "small":
        tower = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4}
        text |= tower | {"vocab_size": 512}
        vision |= tower | {"image_size": 64, "patch_size": 16}
    config = hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=64 if scale == "small" else 512)
    ids = torch.randint(3, 510, (2, 16 if scale == "small" else 77))
    ids[:, -1] = 511
    return hf.CLIPModel(config), (), {"input_ids": ids, "pixel_values": _image(vision["image_size"], batch=2)}


@_entry
def whisper_encoder(scale: Scale) -> Entry:
    """whisper-tiny's encoder (384 wide, 6 heads): two convolutions over the spectrogram, then attention."""
    size = _pick(
        scale,
        {
            "d_model": 64,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 256,
            "max_source_positions": 32,
            "decoder_attention_heads": 4,
        },
        {"d_model": 384, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536, "max_source_positions": 1500},
    )
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = hf.WhisperConfig(encoder_layers=2, decoder_layers=1, vocab_size=512, **tokens, **size)
    frames = torch.randn(1, config.num_mel_bins, 2 * size["max_source_positions"])
    return hf.WhisperModel(config).get_encoder(), (frames,), {}


@_entry
def convnext(scale: Scale) -> Entry:
    """ConvNeXt-T's widths, one block a stage: depthwise 7x7, LayerNorm in channels-last, GELU, layer scale."""
    size = _pick(
        scale,
        {"hidden_sizes": [32, 64], "depths": [1, 1], "num_stages": 2},
        {"hidden_sizes": [96, 192, 384, 768], "depths": [1, 1, 1, 1]},
    )
    return hf.ConvNextForImageClassification(hf.ConvNextConfig(**size)), (_image(64 if scale == "small" else 224),), {}


@_entry
def resnet(scale: Scale) -> Entry:
    """ResNet-50's widths with bottlenecks, one block a stage."""
    size = _pick(
        scale,
        {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1]},
        {"embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048], "depths": [1, 1, 1, 1]},
    )
    return hf.ResNetForImageClassification(hf.ResNetConfig(**size)), (_image(64 if scale == "small" else 224),), {}


@_entry
def mobilenet_v2(scale: Scale) -> Entry:
    """MobileNetV2: inverted residuals, depthwise convolutions, ReLU6, TensorFlow's asymmetric padding."""
    config = hf.MobileNetV2Config(depth_multiplier=0.35 if scale == "small" else 1.0)
    return hf.MobileNetV2ForImageClassification(config), (_image(64 if scale == "small" else 224),), {}


@_entry
def efficientnet(scale: Scale) -> Entry:
    """EfficientNet-B0: squeeze-and-excitation, swish, depthwise convolutions."""
    side = 64 if scale == "small" else 224
    depth = {"num_block_repeats": [1] * 7} if scale == "small" else {}
    config = hf.EfficientNetConfig(
        width_coefficient=0.35 if scale == "small" else 1.0,
        depth_coefficient=1.0,
        hidden_dim=448 if scale == "small" else 1280,
        image_size=side,
        dropout_rate=0.2,
        **depth,
    )
    return hf.EfficientNetForImageClassification(config), (_image(side),), {}


@_entry
def segformer(scale: Scale) -> Entry:
    """SegFormer-B0: overlapping patches, attention over reduced keys, an all-MLP decoder that resizes four maps."""
    size = _pick(scale, {"decoder_hidden_size": 64, "depths": [1, 1, 1, 1]}, {"depths": [1, 1, 1, 1]})
    config = hf.SegformerConfig(num_labels=19, **size)
    return hf.SegformerForSemanticSegmentation(config), (_image(64 if scale == "small" else 512),), {}


@_entry
def mamba(scale: Scale) -> Entry:
    """mamba-130m: 768 wide, state 16; its scan is written out step by step on CPU, so the sequence is short."""
    size = _pick(scale, {"vocab_size": 512, "hidden_size": 64, "state_size": 8}, {"vocab_size": 8192})
    config = hf.MambaConfig(num_hidden_layers=2, use_cache=False, **size)
    return hf.MambaForCausalLM(config), (), {"input_ids": _tokens("small")}


@_entry
def unet(scale: Scale) -> Entry:
    """A diffusion denoiser: GroupNorm, SiLU, skips by concatenation, attention at the bottom."""
    width, side = (32, 16) if scale == "small" else (128, 32)
    return UNet(width), (torch.randn(1, 4, side, side), torch.tensor([37])), {}


class Tagger(nn.Module):
    """Embedding, a bidirectional LSTM of two layers, and a classifier for each position."""

    def __init__(self, width: int, words: int, tags: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, bidirectional=True, batch_first=True)
        self.classifier = nn.Linear(2 * width, tags)

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        """Map `[N, T]` ids to logits `[N, T, tags]` and the last hidden state `[4, N, width]`."""
        features, (hidden, _) = self.lstm(self.embedding(input_ids))
        return {"logits": self.classifier(features), "hidden": hidden}


@_entry
def lstm(scale: Scale) -> Entry:
    """A bidirectional LSTM tagger: 64 or 512 wide."""
    return Tagger(64 if scale == "small" else 512, words=512, tags=17), (_tokens(scale),), {}
