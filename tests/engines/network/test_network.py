import itertools
import math
from typing import cast

import msgspec
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engines.network.features import Grid, anchor_points
from engines.network.layers import ConvNorm, normalise_pixels
from engines.network.network import Network, build_network
from engines.spec import TASKS, USUAL_TASKS, NetworkSettings, TaskName

OBJECTS, SCENES = 3, 4
TINY = NetworkSettings(channels=(8, 8, 8, 8, 8), neck=8, towers=1, embedding=16)
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # of float32, which differs between processors


def pictures(count: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8)


def wide_awake(settings: NetworkSettings = TINY) -> Network:
    """Residual blocks start as identities, which would hide whether their convolutions matter; here they do."""
    torch.manual_seed(0)
    network = build_network(settings, OBJECTS, SCENES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.ones_(module.weight)
    return network.eval()


def trunk_convolutions(network: Network) -> dict[str, nn.Parameter]:
    return {f"{n}.weight": m.weight for n, m in network.trunk.named_modules() if isinstance(m, nn.Conv2d)}


@pytest.fixture
def network() -> Network:
    return wide_awake()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 96), (32, 32)])
def test_the_frame_entry_says_something_at_every_anchor_point(network: Network, height: int, width: int) -> None:
    raw = network.frame(pictures(2, height, width))
    anchors = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
    assert raw["objects"].shape == (2, anchors, OBJECTS + 4)
    assert raw["faces"].shape == (2, anchors, 1 + 4 + 10)
    assert raw["scene"].shape == (2, SCENES)
    assert anchor_points(height, width)[0].shape == (anchors, 2)


def test_the_face_entry_gives_unit_embeddings_and_qualities(network: Network) -> None:
    embedding, quality = network.face(pictures(3, 112, 112))["identity"]
    assert embedding.shape == (3, TINY.embedding) and quality.shape == (3,)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
    assert ((quality >= 0) & (quality <= 1)).all()


def scene_of(network: Network, batch: Tensor) -> Tensor:
    return cast("Tensor", network.run("frame", ("scene",), batch)["scene"])


def test_the_scene_alone_is_the_scene_of_the_frame_entry(network: Network) -> None:
    batch = pictures(2, 64, 64)
    torch.testing.assert_close(
        network.run("frame", ("scene",), batch)["scene"], network.frame(batch)["scene"], **ROUNDING
    )


def test_gradients_of_both_entries_reach_the_same_convolutions(network: Network) -> None:
    weights = trunk_convolutions(network)
    assert len(weights) == 1 + 4 * 3
    raw = network.frame(pictures(2, 64, 64))
    frame = torch.autograd.grad(raw["objects"].sum() + raw["faces"].sum() + raw["scene"].sum(), list(weights.values()))
    embedding, _ = network.face(pictures(2, 112, 112))["identity"]
    face = torch.autograd.grad(embedding[:, 0].sum(), list(weights.values()))
    for name, of_frame, of_face in zip(weights, frame, face, strict=True):
        assert of_frame.abs().sum() > 0, f"the frame entry does not train {name}"
        assert of_face.abs().sum() > 0, f"the face entry does not train {name}"


def test_changing_any_convolution_of_the_trunk_changes_what_both_entries_say(network: Network) -> None:
    frames, faces = pictures(1, 64, 64), pictures(1, 112, 112)
    with torch.no_grad():
        scene, (embedding, _) = network.frame(frames)["scene"], network.face(faces)["identity"]
        for name, weight in trunk_convolutions(network).items():
            before = weight.clone()
            weight.mul_(-1)
            assert not torch.equal(network.frame(frames)["scene"], scene), f"the frame entry does not use {name}"
            assert not torch.equal(network.face(faces)["identity"][0], embedding), f"the face entry does not use {name}"
            weight.copy_(before)
        torch.testing.assert_close(network.frame(frames)["scene"], scene, **ROUNDING)


def test_no_convolution_belongs_to_one_entry_alone(network: Network) -> None:
    """Whatever convolves in the trunk is there once, and each entry has its own normalisation around it."""
    for module in network.trunk.modules():
        if isinstance(module, ConvNorm):
            assert set(module.norms) == {"frame", "face"}
            frame, face = (list(module.norms[entry].parameters()) for entry in ("frame", "face"))
            assert len(frame) == len(face) == 2
            assert all(a is not b for a, b in zip(frame, face, strict=True))
    assert all(set(m.norms) == {"frame"} for m in network.neck.modules() if isinstance(m, ConvNorm))


def statistics(network: Network, entry: str) -> dict[str, Tensor]:
    return {n: b.clone() for n, b in network.named_buffers() if f"norms.{entry}." in n and "running" in n}


@pytest.mark.parametrize(("entry", "other"), [("frame", "face"), ("face", "frame")])
def test_training_one_entry_leaves_the_others_statistics_alone(network: Network, entry: str, other: str) -> None:
    before, others = statistics(network, entry), statistics(network, other)
    network.train()
    if entry == "frame":
        network.frame(pictures(2, 64, 64))
    else:
        network.face(pictures(2, 112, 112))
    assert all(not torch.equal(value, before[name]) for name, value in statistics(network, entry).items())
    assert all(torch.equal(value, others[name]) for name, value in statistics(network, other).items())


def test_the_quality_reads_the_features_and_does_not_train_them(network: Network) -> None:
    nn.init.ones_(network.identity.quality.weight)
    _, quality = network.face(pictures(2, 112, 112))["identity"]
    quality.sum().backward()
    assert network.identity.quality.weight.grad is not None
    assert all(weight.grad is None for weight in trunk_convolutions(network).values())


@pytest.mark.parametrize("activation", ["relu", "silu", "hardswish"])
@pytest.mark.parametrize("normalisation", ["batch", "group"])
def test_activations_and_normalisations_build_and_train(activation: str, normalisation: str) -> None:
    settings = NetworkSettings(
        channels=(8, 16, 24, 32, 56),  # 56 is no multiple of the channels of a group
        neck=16,
        towers=1,
        embedding=16,
        activation=activation,  # type: ignore[arg-type]
        normalisation=normalisation,  # type: ignore[arg-type]
    )
    network = build_network(settings, OBJECTS, SCENES).train()
    raw = network.frame(pictures(2, 64, 64))
    embedding, quality = network.face(pictures(2, 112, 112))["identity"]
    (raw["objects"].sum() + raw["faces"].sum() + raw["scene"].sum() + embedding[:, 0].sum() + quality.sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    kinds = {"batch": nn.BatchNorm2d, "group": nn.GroupNorm}
    assert {type(m) for m in network.trunk.modules() if isinstance(m, tuple(kinds.values()))} == {kinds[normalisation]}


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": (8, 12, 16, 20, 24)},
        {"depths": (1, 2, 1, 3)},
        {"neck": 12},
        {"towers": 3},
        {"embedding": 7},
    ],
    ids=["widths", "depths", "neck", "towers", "embedding"],
)
def test_every_size_is_a_setting(changes: dict[str, object]) -> None:
    settings = NetworkSettings(**{"channels": (8, 8, 8, 8, 8), "neck": 8, "towers": 1, "embedding": 16} | changes)  # type: ignore[arg-type]
    network = build_network(settings, OBJECTS, SCENES).eval()
    assert network.frame(pictures(1, 64, 64))["objects"].shape == (1, 84, OBJECTS + 4)
    assert network.face(pictures(1, 112, 112))["identity"][0].shape == (1, settings.embedding)
    assert [len(stage.blocks) for stage in network.trunk.stages] == list(settings.depths)  # type: ignore[arg-type]
    assert len(network.objects.towers[0]) == settings.towers  # type: ignore[arg-type]


def test_dropout_acts_in_training_alone() -> None:
    settings = NetworkSettings(channels=(8, 8, 8, 8, 8), neck=8, towers=1, normalisation="group", dropout=0.5)
    network, batch = wide_awake(settings), pictures(1, 64, 64)
    assert torch.equal(
        network.run("frame", ("scene",), batch)["scene"], network.run("frame", ("scene",), batch)["scene"]
    )
    network.train()
    assert not torch.equal(
        network.run("frame", ("scene",), batch)["scene"], network.run("frame", ("scene",), batch)["scene"]
    )


def test_scores_start_at_the_prior_and_boxes_at_four_strides() -> None:
    network = build_network(TINY, OBJECTS, SCENES).eval()
    points, strides, _ = anchor_points(64, 64)
    logits, boxes, landmarks = network.objects.split(
        network.frame(pictures(1, 64, 64))["objects"], Grid(points, strides, len(points))
    )
    assert landmarks is None
    assert logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.2)
    sides = (boxes[..., 2:] - boxes[..., :2]) / strides[:, None]
    assert sides.mean().item() == pytest.approx(4.0, rel=0.2)


def test_a_wild_distance_stays_finite() -> None:
    network = build_network(TINY, OBJECTS, SCENES)
    points, strides, _ = anchor_points(32, 32)
    raw = torch.full((1, len(points), OBJECTS + 4), 1e4)
    _, boxes, _ = network.objects.split(raw, Grid(points, strides, len(points)))
    assert boxes.isfinite().all()


def test_anchor_points_are_cell_centres_level_by_level() -> None:
    points, strides, _ = anchor_points(32, 64)
    assert strides.tolist() == [8.0] * 32 + [16.0] * 8 + [32.0] * 2
    assert points[:3].tolist() == [[4, 4], [12, 4], [20, 4]]
    assert points[8].tolist() == [4, 12], "rows follow one another"
    assert points[-2:].tolist() == [[16, 16], [48, 16]]


def test_pixels_come_out_about_zero_mean_and_unit_variance() -> None:
    noise = normalise_pixels(pictures(4, 32, 32))
    assert noise.shape == (4, 3, 32, 32)
    assert abs(noise.mean().item()) < 0.05
    assert noise.std().item() == pytest.approx(256 / math.sqrt(12) / 64, rel=0.05)


def test_the_default_size_is_n() -> None:
    with torch.device("meta"), torch.no_grad():
        network = build_network(NetworkSettings(), 23, 11).eval()
        images = torch.zeros(1, 320, 320, 3, dtype=torch.uint8)
        with FlopCounterMode(display=False) as frame:
            network.frame(images)
        with FlopCounterMode(display=False) as face:
            network.face(torch.zeros(1, 112, 112, 3, dtype=torch.uint8))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == pytest.approx(1.15e6, rel=0.1)
    assert 0.44e9 < frame.get_total_flops() / 2 < 0.5e9  # two operations a MAC
    assert face.get_total_flops() / 2 < 50e6


SUBSETS = [subset for count in (1, 2, 3, 4) for subset in itertools.combinations(USUAL_TASKS, count)]


def with_tasks(*tasks: TaskName) -> Network:
    return build_network(msgspec.structs.replace(TINY, tasks=tasks), OBJECTS, SCENES).eval()


@pytest.mark.parametrize("tasks", SUBSETS, ids=lambda tasks: "+".join(tasks))
def test_a_network_is_built_of_what_its_tasks_need_and_no_more(network: Network, tasks: tuple[TaskName, ...]) -> None:
    part = with_tasks(*tasks)
    heads = {name for name, _ in part.named_children()} - {"trunk", "neck"}
    assert heads == set(tasks)
    assert (part.neck is not None) == bool({"objects", "faces"} & heads)
    entries = {"frame"} if heads - {"identity"} else set()
    entries |= {"face"} if "identity" in heads else set()
    for module in part.trunk.modules():
        if isinstance(module, ConvNorm):
            assert set(module.norms) == entries
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    assert {name: value.shape for name, value in part.state_dict().items()}.items() <= shapes.items()


@pytest.mark.parametrize("tasks", SUBSETS, ids=lambda tasks: "+".join(tasks))
def test_what_a_network_says_of_its_tasks_does_not_depend_on_the_others(
    network: Network, tasks: tuple[TaskName, ...]
) -> None:
    part = with_tasks(*tasks)
    whole = network.state_dict()
    part.load_state_dict({name: whole[name] for name in part.state_dict()})
    frames, faces = pictures(2, 64, 64), pictures(2, 112, 112)
    with torch.no_grad():
        if tasks != ("identity",):
            said, expected = part.frame(frames), network.frame(frames)
            assert set(said) == set(tasks) - {"identity"}
            for name in set(tasks) - {"identity"}:
                torch.testing.assert_close(said[name], expected[name], **ROUNDING)
        if "identity" in tasks:
            torch.testing.assert_close(part.face(faces)["identity"], network.face(faces)["identity"], **ROUNDING)


def test_the_order_of_the_tasks_does_not_matter() -> None:
    one, other = with_tasks("scene", "objects"), with_tasks("objects", "scene")
    assert list(one.state_dict()) == list(other.state_dict())


@pytest.mark.parametrize("tasks", [(), ("faces", "faces")], ids=["no task", "one of them twice"])
def test_tasks_are_at_least_one_and_each_once(tasks: tuple[TaskName, ...]) -> None:
    with pytest.raises(ValueError, match=f"tasks must name at least one of {', '.join(TASKS)}, each once"):
        NetworkSettings(tasks=tasks)


def test_settings_of_an_earlier_time_name_no_tasks_and_mean_all() -> None:
    assert msgspec.json.decode(b'{"neck": 8}', type=NetworkSettings).tasks == USUAL_TASKS
