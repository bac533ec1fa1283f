import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engines.network.entries import FaceEntry, FrameEntry
from engines.network.features import anchor_points
from engines.network.network import Network, build_network
from engines.spec import NetworkSettings, TaskName, output_names
from engines.tasks.faces.decode import MAX_ROWS as MAX_FACES
from engines.tasks.objects.decode import MAX_ROWS as MAX_OBJECTS

OBJECTS, SCENES = 3, 4
SIZE = (64, 96)  # height, width
ANCHORS = 8 * 12 + 4 * 6 + 2 * 3


@pytest.fixture(scope="module")
def network() -> Network:
    """Fresh weights but for louder predictions, so that no two anchor points say nearly the same."""
    torch.manual_seed(1)
    settings = NetworkSettings(channels=(8, 8, 8, 8, 8), neck=8, towers=1, embedding=16)
    network = build_network(settings, OBJECTS, SCENES).eval()
    with torch.no_grad():
        for head in (network.objects, network.faces):
            for layer in head.predict:
                layer.weight.mul_(20)  # type: ignore[operator,union-attr]
    return network


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (2, *SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def assert_same(ours: Tensor, wanted: Tensor, name: str = "") -> None:
    """Equal but for float32 rounding: it differs between processors, and the exponential of a box magnifies it."""
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4, msg=lambda text: f"{name}: {text}")


@pytest.fixture(scope="module")
def rows(network: Network, images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return dict(zip(output_names("frame"), FrameEntry(network, SIZE)(images), strict=True))


def test_shapes(rows: dict[str, Tensor]) -> None:
    objects, faces = min(MAX_OBJECTS, ANCHORS), min(MAX_FACES, ANCHORS)
    assert {name: tuple(value.shape[1:]) for name, value in rows.items()} == {
        "object_boxes": (objects, 4),
        "object_scores": (objects,),
        "object_labels": (objects,),
        "face_boxes": (faces, 4),
        "face_scores": (faces,),
        "face_landmarks": (faces, 5, 2),
        "scene": (SCENES,),
    }
    assert rows["object_labels"].dtype == torch.int32


def test_rows_are_sorted_by_score(rows: dict[str, Tensor]) -> None:
    for name in ("object_scores", "face_scores"):
        assert (rows[name].diff(dim=1) <= 0).all()
        assert ((rows[name] > 0) & (rows[name] < 1)).all()


def test_objects_are_those_of_plain_decoding(network: Network, images: Tensor, rows: dict[str, Tensor]) -> None:
    points, strides, _ = anchor_points(*SIZE)
    with torch.no_grad():
        raw = network.frame(images)["objects"]
    for picture in range(len(images)):
        rank = sorted(range(ANCHORS), key=lambda a: -float(raw[picture, a, :OBJECTS].max()))
        for row, anchor in enumerate(rank[: rows["object_boxes"].shape[1]]):
            values, (x, y), stride = raw[picture, anchor], points[anchor], strides[anchor]
            left, top, right, bottom = values[OBJECTS:].exp() * stride
            assert rows["object_labels"][picture, row] == values[:OBJECTS].argmax()
            assert_same(rows["object_scores"][picture, row], values[:OBJECTS].max().sigmoid())
            wanted = torch.stack([x - left, y - top, x + right, y + bottom])
            assert_same(rows["object_boxes"][picture, row], wanted)


def test_faces_keep_their_own_landmarks(network: Network, images: Tensor, rows: dict[str, Tensor]) -> None:
    points, strides, _ = anchor_points(*SIZE)
    with torch.no_grad():
        raw = network.frame(images)["faces"]
    for picture in range(len(images)):
        rank = raw[picture, :, 0].argsort(descending=True)
        for row, anchor in enumerate(rank[: rows["face_boxes"].shape[1]].tolist()):
            values = raw[picture, anchor]
            offsets = values[5:].view(5, 2) * strides[anchor]
            assert_same(rows["face_scores"][picture, row], values[0].sigmoid())
            assert_same(rows["face_landmarks"][picture, row], points[anchor] + offsets)
            assert_same(rows["face_boxes"][picture, row, :2], points[anchor] - values[1:3].exp() * strides[anchor])


def test_scenes_are_probabilities(rows: dict[str, Tensor], network: Network, images: Tensor) -> None:
    assert_same(rows["scene"].sum(1), torch.ones(2))
    with torch.no_grad():
        assert torch.equal(rows["scene"].argmax(1), network.run("frame", ("scene",), images)["scene"].argmax(1))


@pytest.mark.parametrize(("size", "objects", "faces"), [((32, 32), 21, 21), ((64, 64), 84, 84), ((160, 160), 300, 100)])
def test_no_more_rows_than_anchor_points(network: Network, size: tuple[int, int], objects: int, faces: int) -> None:
    with torch.no_grad():
        found = dict(
            zip(output_names("frame"), FrameEntry(network, size)(torch.zeros(1, *size, 3).byte()), strict=True)
        )
    assert (found["object_boxes"].shape[1], found["face_boxes"].shape[1]) == (objects, faces)


def test_the_face_entry_is_the_networks(network: Network) -> None:
    faces = torch.randint(0, 256, (2, 112, 112, 3), dtype=torch.uint8)
    with torch.no_grad():
        served, plain = FaceEntry(network)(faces), network.face(faces)["identity"]
    assert len(served) == len(output_names("face"))
    assert torch.equal(served[0], F.normalize(plain[0], dim=1)) and torch.equal(served[1], plain[1])


def test_a_mirrored_face_entry_says_the_mean_of_a_face_and_its_mirror_image() -> None:
    torch.manual_seed(3)
    settings = NetworkSettings(channels=(8, 8, 8, 8, 8), neck=8, towers=1, embedding=16, tasks=("identity", "mask"))
    network = build_network(settings, 0, 0).eval()
    faces = torch.randint(0, 256, (3, 112, 112, 3), dtype=torch.uint8)
    with torch.no_grad():
        network.get_submodule("identity").quality.weight.normal_()  # type: ignore[operator,union-attr]
        served = FaceEntry(network, mirrored=True)(faces)
        turned = FaceEntry(network, mirrored=True)(faces.flip(2))
        (one, quality), logits = (network.face(faces)[name] for name in ("identity", "mask"))
        (other, mirrored), theirs = (network.face(faces.flip(2))[name] for name in ("identity", "mask"))
    assert not torch.allclose(one, other, atol=1e-2) and not torch.equal(quality, mirrored)
    wanted = (F.normalize(one + other, dim=1), (quality + mirrored) / 2, ((logits + theirs) / 2).softmax(1))
    for name, found, mean, back in zip(output_names("face", settings.tasks), served, wanted, turned, strict=True):
        assert_same(found, mean, name)
        assert_same(back, found, name)


def test_both_entries_hold_the_same_trunk_tensors(network: Network) -> None:
    frame, face = FrameEntry(network, SIZE), FaceEntry(network)
    ours, theirs = (dict(entry.network.trunk.named_parameters()) for entry in (frame, face))
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
    held = {id(p) for entry in (frame, face) for p in entry.parameters()}
    assert len(held) == len(list(network.parameters())), "an entry has weights that the network does not know"


@pytest.mark.parametrize(
    ("tasks", "names"),
    [
        (("objects",), ["object_boxes", "object_scores", "object_labels"]),
        (("scene", "faces"), ["face_boxes", "face_scores", "face_landmarks", "scene"]),
        (("scene", "identity"), ["scene"]),
    ],
    ids=["objects", "scene and faces", "scene, and identity in the other entry"],
)
def test_the_frame_entry_gives_its_tasks_alone(
    network: Network, images: Tensor, rows: dict[str, Tensor], tasks: tuple[TaskName, ...], names: list[str]
) -> None:
    settings = NetworkSettings(channels=(8, 8, 8, 8, 8), neck=8, towers=1, embedding=16)
    part = build_network(msgspec.structs.replace(settings, tasks=tasks), OBJECTS, SCENES).eval()
    whole = network.state_dict()
    part.load_state_dict({name: whole[name] for name in part.state_dict()})
    assert list(output_names("frame", tasks)) == names
    with torch.no_grad():
        found = FrameEntry(part, SIZE)(images)
    for name, value in zip(names, found, strict=True):
        assert_same(value, rows[name], name)
