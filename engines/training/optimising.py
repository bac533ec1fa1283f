"""What moves the weights: AdamW, and Muon for the filters of convolutions where the settings say so."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from engines.training.settings import TrainingSettings

LEAST_CHANNELS = 9  # in and out, of the filters that Muon moves: depthwise ones and those of pixels are no matrices
MUON = "muon"


class Optimiser:
    """Updates of a network's weights and of what its losses learn, at one learning rate.

    AdamW (Loshchilov & Hutter 2019) decays matrices alone: norms, biases and what losses learn are left. With the
    setting ``optimiser = "muon"`` the filters of convolutions are moved by :class:`FilterMuon` in its place.
    """

    def __init__(self, network: nn.Module, further: Iterable[nn.Parameter], settings: TrainingSettings) -> None:
        rate, decay = settings.learning_rate, settings.weight_decay
        own = list(network.parameters())
        banks = [each for each in own if settings.optimiser == MUON and _is_bank(each)]
        matrices = [each for each in own if each.ndim > 1 and not any(each is bank for bank in banks)]
        self.adamw = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": decay},
                {"params": [each for each in own if each.ndim <= 1], "weight_decay": 0.0},
                {"params": list(further), "weight_decay": 0.0},
            ],
            lr=rate,
        )
        self.muon = FilterMuon(banks, rate, decay) if banks else None
        moved = [each for group in self.adamw.param_groups for each in group["params"]]
        self.parameters = [each for each in [*moved, *banks] if each.requires_grad]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The groups of parameters with their rates and decays."""
        return [*self.adamw.param_groups, *(self.muon.param_groups if self.muon else [])]

    def set_rate(self, rate: float) -> None:
        """Take this learning rate for all parameters."""
        for group in self.groups:
            group["lr"] = rate

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for each in self.parameters:
            each.grad = None

    def step(self) -> None:
        """Move the weights by their gradients."""
        self.adamw.step()
        if self.muon:
            self.muon.step()

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs."""
        return {**self.adamw.state_dict(), **({MUON: self.muon.state_dict()} if self.muon else {})}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the :meth:`state` of an optimiser with the same settings."""
        self.adamw.load_state_dict({name: value for name, value in state.items() if name != MUON})
        if self.muon:
            self.muon.load_state_dict(state[MUON])


class FilterMuon(torch.optim.Muon):
    """Muon (Jordan et al. 2024) of convolutions: filters (O, I, H, W) are moved as the matrix (O, H W I).

    A step is the momentum with all its singular values brought to about 1, as large on the root of the mean square as
    AdamW's steps are (Liu et al. 2025, "Muon is scalable for LLM training"), so that AdamW's rate and decay suit it.

    Args:
        banks: the filters, in channels-last order.
        rate: learning rate.
        decay: weight decay.
    """

    def __init__(self, banks: list[nn.Parameter], rate: float, decay: float) -> None:
        self.banks = banks
        self.matrices = [nn.Parameter(_matrix(bank.detach())) for bank in banks]
        if any(bank.data_ptr() != matrix.data_ptr() for bank, matrix in zip(banks, self.matrices, strict=True)):
            raise ValueError("banks must be in channels-last order, got others")
        super().__init__(self.matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move the filters by their gradients."""
        for bank, matrix in zip(self.banks, self.matrices, strict=True):
            matrix.grad = None if bank.grad is None else _matrix(bank.grad)
        found = super().step(closure)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for matrix in self.matrices:
            matrix.grad = None
        return found


def _is_bank(weights: nn.Parameter) -> bool:
    """Whether these are filters between several channels that learn."""
    return weights.requires_grad and weights.ndim == 4 and min(weights.shape[:2]) >= LEAST_CHANNELS


def _matrix(bank: Tensor) -> Tensor:
    """Filters (O, I, H, W) as (O, H W I), over the same memory where they are in channels-last order."""
    return bank.permute(0, 2, 3, 1).reshape(len(bank), -1)
