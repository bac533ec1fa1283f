"""What of a network stays as a run begins with it."""

from torch import nn

from engines.network.network import Network
from engines.training.settings import TrainingSettings


def still_parts(network: Network, settings: TrainingSettings) -> nn.ModuleList:
    """Freeze what the settings say, and return what must not be in training mode while the rest learns.

    With ``frozen_statistics`` these are all normalisations: each set's pictures have statistics of their own, and a
    network that is used sees them by those of all sets together. Their scales and shifts still learn.
    """
    trunk, stages = network.trunk, settings.frozen_stages
    frozen = nn.ModuleList([trunk.stem, *trunk.stages[:stages]] if stages else []).requires_grad_(False)
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d)]
    return nn.ModuleList([*frozen, *(norms if settings.frozen_statistics else [])])
