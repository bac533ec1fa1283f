"""On what a study was done."""

import msgspec
import torch

from engines.hardware import cpu


class TrainingMachine(msgspec.Struct, frozen=True, kw_only=True):
    """The kind of a machine, and how much of it was used."""

    cpu: str
    cores: int  # usable ones
    instructions: tuple[str, ...]
    device: str  # that trained
    threads: int  # of PyTorch, on the CPU
    pytorch: str  # version

    @classmethod
    def of(cls, device: torch.device) -> "TrainingMachine":
        """The one that this runs on, training on ``device``."""
        here = cpu()
        return cls(
            cpu=here.name,
            cores=here.usable_cores,
            instructions=here.instructions,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            threads=torch.get_num_threads(),
            pytorch=str(torch.__version__),
        )

    def __str__(self) -> str:
        trained = f"{self.threads} thread{'s' if self.threads > 1 else ''}" if self.device == "cpu" else self.device
        return f"{self.cpu}, {self.cores} usable core{'s' if self.cores > 1 else ''}, PyTorch {self.pytorch}, {trained}"
