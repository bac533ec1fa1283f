import msgspec
import pytest
import torch

from engines.network.network import build_network
from engines.training.adopting import adopt_classes, part_scores
from tests.engines.training.made_data import TINY


def test_what_both_know_is_taken_over_and_the_rest_begins_anew() -> None:
    torch.manual_seed(0)
    theirs = build_network(TINY, 3, 2).state_dict()
    ours = build_network(TINY, 4, 3).state_dict()
    found = adopt_classes(
        theirs,
        ours,
        (("sofa", "person", "unicorn"), ("street", "shop")),
        (("person", "dog", "couch", "tv"), ("bar", "shop", "yard")),
    )
    assert found.keys() == ours.keys()
    assert torch.equal(found["trunk.stem.conv.weight"], theirs["trunk.stem.conv.weight"])
    for part in ("weight", "bias"):
        rows, old, fresh = (state[f"objects.predict.0.{part}"] for state in (found, theirs, ours))
        assert torch.equal(rows[0], old[1]), "person"
        assert torch.equal(rows[2], old[0]), "Pascal VOC's sofa is COCO's couch"
        assert torch.equal(rows[[1, 3]], fresh[[1, 3]]), "dog and tv are new"
        assert torch.equal(rows[4:], old[3:]), "boxes have no classes"
    scenes, old, fresh = (state["scene.linear.weight"] for state in (found, theirs, ours))
    assert torch.equal(scenes[1], old[1]) and torch.equal(scenes[[0, 2]], fresh[[0, 2]])
    build_network(TINY, 4, 3).load_state_dict(found)


@pytest.mark.parametrize("towers", [1, 2])
def test_scores_are_parted_from_boxes_without_a_change_of_what_is_found(towers: int) -> None:
    settings = msgspec.structs.replace(TINY, towers=towers)
    torch.manual_seed(0)
    joined = build_network(settings, 3, 2)
    parted = build_network(msgspec.structs.replace(settings, class_width=20), 3, 2)
    fresh = parted.state_dict()
    found = part_scores(joined.state_dict(), fresh)
    assert found.keys() == fresh.keys()
    parted.load_state_dict(found)
    pictures = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    for mode in (True, False):  # with the statistics of these pictures, and with those that the network keeps
        before, after = (each.train(mode).frame(pictures)["objects"] for each in (joined, parted))
        torch.testing.assert_close(after, before)
    width = settings.neck
    assert torch.equal(
        found["objects.class_towers.0.conv.weight"][width:], fresh["objects.class_towers.0.conv.weight"][width:]
    )
    loss = parted.train().frame(pictures)["objects"][..., :3].square().sum()
    loss.backward()
    for layer in parted.get_submodule("objects").scores:
        assert bool((layer.weight.grad[:, width:] != 0).any()), "what is new is learnt"


def test_parted_scores_are_taken_over_class_by_class() -> None:
    settings = msgspec.structs.replace(TINY, class_width=20)
    torch.manual_seed(0)
    names = (("person", "dog"), ("street",)), (("dog", "tv", "person"), ("street",))
    ours = build_network(settings, 3, 1).state_dict()
    for theirs in (build_network(each, 2, 1).state_dict() for each in (settings, TINY)):
        found = adopt_classes(theirs, ours, *names)
        known = part_scores(theirs, build_network(settings, 2, 1).state_dict())
        rows, fresh = found["objects.scores.1.weight"], ours["objects.scores.1.weight"]
        assert torch.equal(rows[[2, 0]], known["objects.scores.1.weight"])
        assert torch.equal(rows[1], fresh[1])
        assert torch.equal(found["objects.predict.1.weight"], known["objects.predict.1.weight"])
        build_network(settings, 3, 1).load_state_dict(found)
