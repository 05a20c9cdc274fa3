#!/usr/bin/env python3
"""What a user would pick instead of `riser evaluate`: `generate` of transformers with a beam under a catalog constraint.

    pip install torch transformers
    python3 tests/peers/hf_beam.py WORKLOAD --users 128 --space catalog --lists beam.json
    riser bench evaluate --workload WORKLOAD --users 128 --space catalog --lists beam.json

WORKLOAD holds a causal-LM checkpoint, items.json ({"eos", "items": [[token, ...], ...]}: every item's tokens, end token included) and
prompts.json ([{"prompt": [token, ...], "target": item index}, ...]). Prints one line of JSON; --lists writes each user's list, best
first, as [{"item": index, "score": summed log-probability}, ...], an item standing for all that are spelled like it.

The law of the scores: generate takes log_softmax over the whole vocabulary and then masks what prefix_allowed_tokens_fn does not
allow, so scores are in vocabulary space; with renormalize_logits it takes log_softmax once more behind the mask: catalog space.
Its order is by the sum divided by length ** length_penalty; 0 ranks by probability, the library's default is 1.
"""
import argparse
import json
import pathlib
import resource
import time

import torch
import transformers
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList


class CatalogMask(LogitsProcessor):
    """The same constraint with one lookup per beam and one scatter per step: a kinder opponent than the callback."""

    def __init__(self, allowed, start):
        self.allowed, self.start = allowed, start

    def __call__(self, ids, scores):
        rows = [self.allowed(0, row) for row in ids]
        at = torch.tensor([beam for beam, tokens in enumerate(rows) for _ in tokens])
        tokens = torch.tensor([token for tokens in rows for token in tokens])
        mask = torch.full_like(scores, -torch.inf)
        mask[at, tokens] = 0.0
        return scores + mask


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=pathlib.Path)
    parser.add_argument("--users", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16, help="prompts per call of generate")
    parser.add_argument("--beams", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="how often all users are searched for; the fastest counts")
    parser.add_argument("--space", choices=["vocabulary", "catalog"], default="vocabulary")
    parser.add_argument("--length-penalty", type=float, default=0.0)
    parser.add_argument("--fast-mask", action="store_true", help="a constraint of our own instead of prefix_allowed_tokens_fn")
    parser.add_argument("--lists", type=pathlib.Path)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    model = AutoModelForCausalLM.from_pretrained(a.workload, dtype=torch.float32).eval()
    catalog = json.loads((a.workload / "items.json").read_text())
    prompts = [entry["prompt"] for entry in json.loads((a.workload / "prompts.json").read_text())[: a.users]]
    eos, items = catalog["eos"], catalog["items"]
    children, item_of = {}, {}
    for index, tokens in enumerate(items):
        item_of.setdefault(tuple(tokens), index)
        for t, token in enumerate(tokens):
            children.setdefault(tuple(tokens[:t]), set()).add(token)
    children = {prefix: sorted(tokens) for prefix, tokens in children.items()}
    pad = model.config.pad_token_id if model.config.pad_token_id is not None else eos
    longest = max(map(len, items))
    constraint = {"seconds": 0.0}

    def search(batch):
        start = max(map(len, batch))
        ids = torch.tensor([[pad] * (start - len(prompt)) + prompt for prompt in batch])
        attention = torch.tensor([[0] * (start - len(prompt)) + [1] * len(prompt) for prompt in batch])

        def allowed(_, row):
            began = time.perf_counter()
            tokens = children.get(tuple(row[start:].tolist()), [pad])
            constraint["seconds"] += time.perf_counter() - began
            return tokens

        kind = {"prefix_allowed_tokens_fn": allowed}
        if a.fast_mask:
            kind = {"logits_processor": LogitsProcessorList([CatalogMask(allowed, start)])}
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=attention, do_sample=False, num_beams=a.beams, num_return_sequences=a.beams,
                max_new_tokens=longest, eos_token_id=eos, pad_token_id=pad, length_penalty=a.length_penalty,
                renormalize_logits=a.space == "catalog", return_dict_in_generate=True, output_scores=True, **kind,
            )
        found = []
        for tokens, score in zip(out.sequences[:, start:].tolist(), out.sequences_scores.tolist(), strict=True):
            length = tokens.index(eos) + 1 if eos in tokens else len(tokens)
            found.append({"item": item_of.get(tuple(tokens[:length])), "score": score * length**a.length_penalty})
        lists = [found[k * a.beams : (k + 1) * a.beams] for k in range(len(batch))]
        return [[entry for entry in entries if entry["item"] is not None] for entries in lists]

    def processor():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    search(prompts[:2])
    best = None
    for _ in range(a.rounds):
        constraint["seconds"] = 0.0
        wall, busy, lists = time.perf_counter(), processor(), []
        for at in range(0, len(prompts), a.batch):
            lists += search(prompts[at : at + a.batch])
        figures = (time.perf_counter() - wall, processor() - busy, constraint["seconds"])
        best = min(best or figures, figures)
    wall, busy, lookups = best
    if a.lists:
        a.lists.write_text(json.dumps(lists))
    print(json.dumps({
        "users": len(prompts), "beams": a.beams, "space": a.space, "length_penalty": a.length_penalty, "batch": a.batch,
        "threads": a.threads, "fast_mask": a.fast_mask, "users_per_second": len(prompts) / wall,
        "users_per_processor_second": len(prompts) / busy, "seconds_in_lookups": lookups, "seconds": wall,
        "short_lists": sum(len(found) < a.beams for found in lists),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "torch": torch.__version__, "transformers": transformers.__version__,
    }))


if __name__ == "__main__":
    main()
