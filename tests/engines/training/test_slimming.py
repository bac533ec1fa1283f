import re

import msgspec
import pytest
import torch

from engines.network.network import Network, build_network
from engines.spec import NetworkSettings
from engines.training.adopting import adopt_classes, part_scores
from engines.training.slimming import narrower, slimmed
from tests.engines.training.made_data import TINY

TASKS = ("objects", "faces", "scene", "identity", "mask")
NARROW = msgspec.structs.replace(
    TINY, tasks=TASKS, channels=(4, 5, 6, 7, 9), neck=8, depths=(1, 2, 0, 1), towers=2, class_width=10
)
WIDE = msgspec.structs.replace(NARROW, channels=(6, 9, 9, 10, 14), neck=13, class_width=17)
# Layers whose maps are added to each other, and how many channels of them the narrow network has
ADDED = [
    (r"trunk\.stem\.", 4),
    *((rf"trunk\.stages\.{k}\.(down|blocks\.\d\.second)\.", NARROW.channels[k + 1]) for k in range(4)),
    *((rf"trunk\.stages\.{k}\.blocks\.{n}\.first\.", NARROW.channels[k + 1]) for k in range(4) for n in (0, 1)),
    (r"neck\.(lateral\.0|top_down\.0|down\.0)\.", 8),
    (r"neck\.(lateral\.1|lateral\.2|down\.1)\.", 8),
    *((rf"neck\.{name}\.", 8) for name in (r"top_down\.1", r"bottom_up\.0", r"bottom_up\.1")),
    *((rf"{head}\.towers\.{k}\.{n}\.", 8) for head in ("objects", "faces") for k in (0, 1, 2) for n in (0, 1)),
    *((rf"objects\.class_towers\.{k}\.", 10) for k in (0, 1, 2)),
]


def partly_dead(settings: NetworkSettings) -> Network:
    """A wide network in which some channels of each map are always 0: what is left is as wide as the narrow one."""
    torch.manual_seed(3)
    network = build_network(settings, 3, 2).eval()
    state = network.state_dict()
    for layers, alive in ADDED:
        norms = [name for name in state if re.match(rf"{layers}norms\.\w+\.(weight|bias)", name)]
        width = len(state[norms[0]]) if norms else 0
        dead = torch.randperm(width)[alive:]
        for name in norms:
            state[name].copy_(torch.rand(width) + 0.5)
            state[name][dead] = 0.0
    for name, value in state.items():
        if name.startswith(("identity.quality", "mask")):
            value.normal_()
    return network


def test_channels_that_are_always_0_are_left_out_and_nothing_changes() -> None:
    wide, narrow = partly_dead(WIDE), build_network(NARROW, 3, 2).eval()
    narrow.load_state_dict(slimmed(wide.state_dict(), narrow.state_dict(), WIDE))
    frames, faces = (torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8) for size in ((64, 96), (112, 112)))
    for entry, pictures in (("frame", frames), ("face", faces)):
        for name, before in getattr(wide, entry)(pictures).items():
            torch.testing.assert_close(getattr(narrow, entry)(pictures)[name], before, msg=f"{entry}: {name}")


def test_a_network_of_the_same_width_stays_as_it_is() -> None:
    state = build_network(WIDE, 3, 2).state_dict()
    found = slimmed(state, state, WIDE)
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


def test_classes_and_parted_scores_are_taken_over_from_a_wider_network() -> None:
    joined = msgspec.structs.replace(WIDE, class_width=None)
    ours = build_network(NARROW, 2, 1).state_dict()
    slim = slimmed(build_network(joined, 2, 1).state_dict(), ours, joined)
    found = adopt_classes(slim, ours, (("dog", "tv"), ("street",)), (("tv", "cat"), ("street",)))
    build_network(NARROW, 2, 1).load_state_dict(found)
    assert torch.equal(found["objects.scores.0.weight"][0], part_scores(slim, ours)["objects.scores.0.weight"][1])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"neck": 14}, False), ({"channels": (4, 5, 6, 7, 15)}, False), ({"class_width": None}, False)],
)
def test_narrower_is_told(changes: dict[str, object], *, expected: bool) -> None:
    assert narrower(msgspec.structs.replace(NARROW, **changes), WIDE) is expected
