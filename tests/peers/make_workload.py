"""Writes a workload folder of any size (config, weights, items.json, prompts.json), for timing `riser bench` beside other programs.

Items have shared beginnings, a choice after choice and a forced tail, as titles of a real catalog have.

pip install torch transformers;  python tests/peers/make_workload.py FOLDER --hidden 512 --layers 8 --prompt-tokens 250
"""
import argparse, json, pathlib, random

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--hidden", type=int, default=512)
parser.add_argument("--layers", type=int, default=8)
parser.add_argument("--vocabulary", type=int, default=4096)
parser.add_argument("--items", type=int, default=4000)
parser.add_argument("--prompt-tokens", type=int, default=250)
parser.add_argument("--prompts", type=int, default=64)
parser.add_argument("--seed", type=int, default=0)
a = parser.parse_args()
random.seed(a.seed)
torch.manual_seed(a.seed)
heads = max(a.hidden // 64, 1)
config = Qwen2Config(
    vocab_size=a.vocabulary, hidden_size=a.hidden, intermediate_size=3 * a.hidden, num_hidden_layers=a.layers,
    num_attention_heads=heads, num_key_value_heads=(heads + 1) // 2, max_position_embeddings=1024,
    tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0)
Qwen2ForCausalLM(config).save_pretrained(a.folder)


def skewed():
    """A token; the first ones are the most frequent."""
    return 4 + int(random.random() ** 3 * (a.vocabulary - 4))


items = []
for _ in range(a.items):
    # An item goes the way of an earlier one for a while, and has an end of its own.
    start = random.choice(items)[: random.randint(0, 4)] if items else []
    items.append([token for token in start if token != 2] + [skewed() for _ in range(random.randint(3, 20))] + [2])
prompts = [{"prompt": [skewed() for _ in range(a.prompt_tokens)], "target": random.randrange(a.items)} for _ in range(a.prompts)]
(a.folder / "items.json").write_text(json.dumps({"eos": 2, "items": items}))
(a.folder / "prompts.json").write_text(json.dumps(prompts))
