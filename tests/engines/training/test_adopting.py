import torch

from engines.network.network import build_network
from engines.training.adopting import adopt_classes
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
