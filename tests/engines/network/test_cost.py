import msgspec
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from engines.network.cost import PartCost, cost, share_of_single_tasks
from engines.network.network import build_network
from engines.spec import USUAL_TASKS, NetworkSettings, TaskName

# No two widths are alike, so that no factor can stand in for another.
SMALL = NetworkSettings(channels=(2, 3, 4, 5, 6), neck=7, towers=1, embedding=9)
OBJECTS, SCENES = 3, 4
SIZE = (64, 64)

# Weights of the convolutions, layer by layer: outputs x inputs x 3 x 3, and two in each residual block.
STEM = 2 * 3 * 9
STAGES = [3 * 2 * 9 + 2 * 3 * 3 * 9, 4 * 3 * 9 + 2 * 4 * 4 * 9, 5 * 4 * 9 + 2 * 5 * 5 * 9, 6 * 5 * 9 + 2 * 6 * 6 * 9]
TRUNK_NORMS = 2 * (2 + 3 * (3 + 4 + 5 + 6))  # a weight and a bias for each channel, of one entry
WIDE = 7 * 7 * 9  # a 3x3 convolution of the neck
CELLS = 8 * 8 + 4 * 4 + 2 * 2  # of the three levels at 64x64


def only(*tasks: TaskName) -> NetworkSettings:
    return msgspec.structs.replace(SMALL, tasks=tasks)


def test_a_network_that_was_counted_by_hand() -> None:
    found = cost(SMALL, OBJECTS, SCENES, SIZE)
    on_frames = [STEM * 32**2, *(weights * side**2 for weights, side in zip(STAGES, (16, 8, 4, 2), strict=True))]
    on_faces = [STEM * 56**2, *(weights * side**2 for weights, side in zip(STAGES, (28, 14, 7, 4), strict=True))]
    laterals = 7 * (4 * 8**2 + 5 * 4**2 + 6 * 2**2)
    paths = WIDE * (4**2 + 8**2 + 4**2 + 2**2 + 4**2 + 2**2)  # up to 4x4 and 8x8, down to 4x4 and 2x2, after each
    trunk = STEM + sum(STAGES) + TRUNK_NORMS
    tower = 3 * (WIDE + 2 * 7)
    assert found.entries == {
        "frame": {
            "trunk": PartCost(sum(on_frames), trunk),
            "neck": PartCost(laterals + paths, 7 * (4 + 5 + 6) + 6 * WIDE + 9 * 2 * 7),
            "objects": PartCost(CELLS * (WIDE + 7 * 7), tower + 3 * (7 * 7 + 7)),
            "faces": PartCost(CELLS * (WIDE + 7 * 15), tower + 3 * (7 * 15 + 15)),
            "scene": PartCost((5 + 6) * 4, (5 + 6) * 4 + 4),
        },
        "face": {
            "trunk": PartCost(sum(on_faces), trunk),
            "identity": PartCost(6 * 4**2 * (9 + 1), 6 * 4**2 * 9 + 2 * 9 + 6 * 4**2 + 1),
        },
    }
    parts = {**found.entries["frame"], **found.entries["face"]}
    assert found.parameters == sum(part.parameters for part in parts.values()) + TRUNK_NORMS
    assert found.macs == sum(part.macs for part in parts.values()) + sum(on_frames)


def test_the_counts_are_those_of_pytorch_itself() -> None:
    network = build_network(SMALL, OBJECTS, SCENES).eval()
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        network.frame(torch.zeros(1, 64, 96, 3, dtype=torch.uint8))
        network.face(torch.zeros(1, 112, 112, 3, dtype=torch.uint8))
    found = cost(SMALL, OBJECTS, SCENES, (64, 96))
    assert 2 * found.macs == counted.get_total_flops()
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_a_face_and_its_mirror_image_cost_twice_a_face() -> None:
    settings = (msgspec.structs.replace(SMALL, mirrored_faces=both) for both in (False, True))
    once, twice = (cost(each, OBJECTS, SCENES, (64, 96)) for each in settings)
    for part, plain in once.entries["face"].items():
        assert twice.entries["face"][part] == PartCost(2 * plain.macs, plain.parameters)


@pytest.mark.parametrize(
    ("tasks", "parts"),
    [
        (("objects",), {"frame": {"trunk", "neck", "objects"}}),
        (("scene",), {"frame": {"trunk", "scene"}}),
        (("identity",), {"face": {"trunk", "identity"}}),
        (("faces", "identity"), {"frame": {"trunk", "neck", "faces"}, "face": {"trunk", "identity"}}),
    ],
    ids=["objects", "scene needs no neck", "identity has no frame entry", "faces and identity"],
)
def test_only_what_is_there_is_counted(tasks: tuple[TaskName, ...], parts: dict[str, set[str]]) -> None:
    found = cost(only(*tasks), OBJECTS, SCENES, SIZE)
    assert {entry: set(each) for entry, each in found.entries.items()} == parts
    network = build_network(only(*tasks), OBJECTS, SCENES)
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_a_network_without_a_frame_entry_needs_no_size() -> None:
    assert cost(only("identity"), 0, 0, None) == cost(only("identity"), OBJECTS, SCENES, SIZE)


def test_a_larger_frame_costs_more_and_has_no_more_parameters() -> None:
    small, large = cost(SMALL, OBJECTS, SCENES, (64, 64)), cost(SMALL, OBJECTS, SCENES, (128, 128))
    assert large.entries["frame"]["trunk"].macs == 4 * small.entries["frame"]["trunk"].macs
    assert large.entries["face"] == small.entries["face"]
    assert large.parameters == small.parameters


def test_the_shared_trunk_is_what_is_saved() -> None:
    whole = cost(SMALL, OBJECTS, SCENES, SIZE)
    trunk, neck = (whole.entries["frame"][part].macs for part in ("trunk", "neck"))
    # Apart, objects, faces and scenes each need a trunk, and the first two a neck.
    apart = whole.macs + 2 * trunk + neck
    assert share_of_single_tasks(SMALL, OBJECTS, SCENES, SIZE) == pytest.approx(whole.macs / apart)
    assert [share_of_single_tasks(only(task), OBJECTS, SCENES, SIZE) for task in USUAL_TASKS] == [1.0] * 4


def test_counting_draws_no_random_number() -> None:
    torch.manual_seed(3)
    cost(SMALL, OBJECTS, SCENES, SIZE)
    found = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(found, torch.rand(1))
