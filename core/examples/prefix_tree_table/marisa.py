"""Builds a marisa-trie of the spellings on standard input and measures it: one line of figures, as measure.rs reads them.

A token is one character, as in the tries of GENRE and of recommenders after it. A step asks whether any item goes on
that way; the mask is the set of next characters of all items below, which is the only way the package has to list children.
Masks are taken behind the second token, since GENRE keeps those before in a table, and only of some items, since they are slow.
"""

import array
import random
import resource
import statistics
import struct
import sys
import time

import marisa_trie


def character(token):
    # Surrogates are no characters.
    return chr(token + 1 if token + 1 < 0xD800 else token + 0x800 + 1)


read = sys.stdin.buffer.read
keys = []
lengths = []
while head := read(4):
    tokens = array.array("I", read(4 * struct.unpack("<I", head)[0]))
    keys.append("".join(map(character, tokens)))
    lengths.append(len(tokens))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started, cpu = time.perf_counter(), time.process_time()
trie = marisa_trie.Trie(keys)
seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024

draw = random.Random(2)
walks = [keys[draw.randrange(len(keys))] for _ in range(min(20_000, len(keys)))]


def walk():
    for key in walks:
        for end in range(1, len(key) + 1):
            if not trie.has_keys_with_prefix(key[:end]):
                raise SystemExit("an item is lost")
    return sum(map(len, walks))


def masks(walks):
    steps = 0
    for key in walks:
        for end in range(2, len(key)):
            {other[end] for other in trie.keys(key[:end])}
            steps += 1
    return steps


def nanoseconds(call, rounds):
    figures = []
    for _ in range(rounds):
        started = time.process_time()
        steps = call()
        figures.append((time.process_time() - started) / steps)
    return statistics.median(figures) * 1e9


few = walks[: 1000 if len(keys) < 1_000_000 else 20]
print(seconds, cpu_seconds, peak, len(trie.tobytes()), 0, nanoseconds(walk, 5), nanoseconds(lambda: masks(few), 3))
