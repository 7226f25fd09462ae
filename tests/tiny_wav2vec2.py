"""A tiny wav2vec2 of the real class with random weights, made by the interpreter of WhisperX' environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

TINY_MODEL = """
import json, sys, torch
from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC
from transformers import Wav2Vec2Processor
torch.manual_seed(0)
folder = sys.argv[1]
letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"]
json.dump({letter: number for number, letter in enumerate(letters)}, open(folder + "/vocab.json", "w"))
config = Wav2Vec2Config(
    vocab_size=len(letters), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
    num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, conv_dim=(32,) * 7, pad_token_id=0,
)
Wav2Vec2ForCTC(config).save_pretrained(folder)
tokenizer = Wav2Vec2CTCTokenizer(folder + "/vocab.json")
Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
"""


def make_tiny_model(python: str, folder: Path) -> None:
    """Write the model and its processor into `folder`."""
    subprocess.run([python, "-c", TINY_MODEL, str(folder)], check=True, capture_output=True)
