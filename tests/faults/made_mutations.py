"""Bytes that are nearly right: what a bad disk, a bad line or somebody with time makes of good ones."""

import os
import random
from collections.abc import Iterator
from typing import Final

# How many times as long the fuzzers run: FUZZ=10 python -m pytest tests/faults
TIMES: Final = int(os.environ.get("FUZZ", "1"))
SEED: Final = int(os.environ.get("FUZZ_SEED", "22"))


def mutations(originals: list[bytes], count: int, seed: int = SEED, most: int = 8) -> Iterator[bytes]:
    """``count`` times TIMES variants of these, with up to ``most`` changes each: bits flipped, bytes replaced, cut,
    repeated or joined; by a seed."""
    rng = random.Random(seed)
    for _ in range(count * TIMES):
        body = bytearray(rng.choice(originals))
        for _ in range(rng.randint(1, most)):
            place = rng.randrange(len(body)) if body else 0
            match rng.randrange(8):
                case 0 | 1 | 2 if body:
                    body[place] ^= 1 << rng.randrange(8)
                case 3 | 4 if body:
                    body[place] = rng.randrange(256)
                case 5:
                    del body[place : place + rng.randint(1, 16)]
                case 6:
                    body[place:place] = body[place : place + rng.randint(1, 16)] * rng.randint(1, 4)
                case _:
                    other = rng.choice(originals)
                    body[place:] = other[min(place, len(other)) :]
        yield bytes(body)


def bits_flipped(original: bytes, count: int) -> Iterator[bytes]:
    """``count`` times TIMES variants of the same length, each with 1 to 20 bits flipped; by SEED."""
    rng = random.Random(SEED)
    for _ in range(count * TIMES):
        body = bytearray(original)
        for _ in range(rng.randint(1, 20)):
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        yield bytes(body)
