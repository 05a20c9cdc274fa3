#!/usr/bin/env python3
"""Checks that transformers loads an exported model folder and computes the same logits as riser (1e-4 absolute).

    pip install torch transformers
    riser export runs/quickstart/rl /tmp/exported
    python3 tests/transformers_parity.py /tmp/exported
"""
import json
import pathlib
import random
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-4


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1]).resolve()
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            sys.exit(f"{kind}: {info[kind]}")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "An item title: Part 2"
    if tokenizer.decode(tokenizer(text)["input_ids"]).strip() != text:
        sys.exit("the tokenizer does not give its text back")
    draw = random.Random(1)
    sequences = [[draw.randrange(model.config.vocab_size) for _ in range(length)] for length in (1, 2, 17, 64)]
    root = pathlib.Path(__file__).resolve().parent.parent
    command = ["cargo", "run", "--quiet", "-p", "riser-tests", "--example", "logits", "--", str(folder)]
    run = subprocess.run(command, cwd=root, input=json.dumps(sequences), text=True, capture_output=True)
    if run.returncode:
        sys.exit(run.stderr)
    worst = 0.0
    for tokens, rows in zip(sequences, json.loads(run.stdout), strict=True):
        with torch.no_grad():
            expected = model(torch.tensor([tokens])).logits[0]
        worst = max(worst, (torch.tensor(rows) - expected).abs().max().item())
    print(f"largest difference of {sum(map(len, sequences))} rows of logits: {worst:.2e} (tolerance {TOLERANCE:.0e})")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
