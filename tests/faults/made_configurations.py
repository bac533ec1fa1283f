"""Configurations by a seed: allowed, nearly allowed, and made by somebody who means harm."""

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

SECRET: Final = "hunter2"

Table = dict[str, Any]
NUMBERS: Final = (0, 1, -1, 0.5, 1e308, -0.0, 2**63 - 1, -(2**63), 65_536)
TEXTS: Final = (
    "",
    "door",
    "${SECRET}",
    "${",
    "${NOWHERE}",
    "a/b#+",
    "../../etc/passwd",
    "\u202e\u0000x".replace("\u0000", " "),
    "x" * 3000,
    "{{ 7 * 7 }}",
    "tcp://ada:${SECRET}@10.0.0.1:99999",
    "rtsp://ada:${SECRET}@camera/1?a=${SECRET}",
    "tcp://0.0.0.0:5555",
    "concat:/etc/passwd|x",
    "-",
    "0",
    "https://${SECRET}:${SECRET}@[::1",
)
ODD: Final = (*NUMBERS, *TEXTS, True, False, [], {}, [[]], [1, "a"], {"a": {"b": 1}}, [{}], [[0.1, 0.1]] * 3)
KEYS: Final = (
    "name",
    "source",
    "kind",
    "path",
    "address",
    "later",
    "${SECRET}",
    "",
    "staleness_ms",
    "rate",
    "password",
)


def configurations(count: int, seed: int) -> Iterator[str]:
    """``count`` texts in TOML."""
    chance = random.Random(seed)
    for _ in range(count):
        config = _allowed(chance)
        for _ in range(chance.choice((0, 0, 1, 1, 1, 2, 5))):
            _spoil(config, chance)
        text = _toml(config)
        yield _hurt(text, chance) if chance.random() < 0.15 else text


def _allowed(chance: random.Random) -> Table:
    names = chance.sample(("door", "yard", "gate", "hall"), chance.randint(1, 3))
    streams = [_stream(name, chance) for name in names]
    config: Table = {"streams": streams, "publish": {"address": f"tcp://127.0.0.1:{chance.randint(1024, 65_535)}"}}
    sections: Table = {
        "model": {"path": "n", "backend": "auto", "precision": chance.choice(("auto", "f32", "int8"))},
        "inference": {"max_batch": chance.randint(1, 64), "max_queue_delay_ms": chance.uniform(1.0, 500.0)},
        "tracking": {"min_iou": chance.uniform(0.1, 0.9), "confirm_frames": chance.randint(1, 5)},
        "record": {"directory": "recordings", "segment_s": chance.uniform(10.0, 600.0)},
        "metrics": {"address": "127.0.0.1:9464"},
        "web": {"address": "127.0.0.1:8080"},
        "links": chance.choice(("queue", "zmq")),
        "sinks": [
            {"kind": "jsonl", "path": "events.jsonl"},
            {"kind": "store", "directory": "events", "days": 7.0},
            {"kind": "mqtt", "address": "mqtt://127.0.0.1", "username": "ada", "password": "${SECRET}"},
            {"kind": "webhook", "url": "https://ada:${SECRET}@example.org/x", "secret": "${SECRET}", "spool": "spool"},
        ][: chance.randint(1, 4)],
    }
    config.update({key: sections[key] for key in chance.sample(sorted(sections), chance.randint(0, 5))})
    return config


def _stream(name: str, chance: random.Random) -> Table:
    sources = ("clip.mp4", "rtsp://ada:${SECRET}@camera.example/1", "camera:0", "zmq+tcp://127.0.0.1:5600")
    stream: Table = {"name": name, "source": chance.choice(sources)}
    if chance.random() < 0.4:
        stream["zones"] = [{"name": "lawn", "points": [[0.1, 0.1], [0.9, 0.1], [0.5, chance.uniform(0.2, 0.9)]]}]
    if chance.random() < 0.3:
        stream["lines"] = [{"name": "gate", "points": [[0.1, 0.5], [0.9, 0.5]]}]
    if chance.random() < 0.3:
        stream["timeout_s"] = chance.uniform(1.0, 10.0)
    return stream


def _spoil(config: Table, chance: random.Random) -> None:
    """Change, add, copy or take away something somewhere."""
    at: Any = config
    while True:
        below = [
            each for each in (at.values() if isinstance(at, dict) else at) if isinstance(each, (dict, list)) and each
        ]
        if not below or chance.random() < 0.25:
            break
        at = chance.choice(below)
    keys = list(at) if isinstance(at, dict) else list(range(len(at)))
    key = chance.choice(keys)
    match chance.randrange(5):
        case 0 | 1:
            at[key] = deepcopy(chance.choice(ODD))
        case 2:
            del at[key]
        case 3 if isinstance(at, dict):
            at[chance.choice(KEYS)] = deepcopy(chance.choice(ODD))
        case _ if isinstance(at, list):
            at.append(deepcopy(at[key]))


def _hurt(text: str, chance: random.Random) -> str:
    """Something that is hardly TOML any more."""
    place = chance.randrange(len(text))
    return (
        text[:place]
        + chance.choice(('"', "[", "]]", "\n[[streams]]\n", "=", "'''", "${", "\ud800", "\x00", ""))
        + (text[place + chance.randint(0, 5) :])
    )


def _toml(value: Any) -> str:
    return "\n".join(f"{json.dumps(key)} = {_inline(each)}" for key, each in value.items()) + "\n"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)
