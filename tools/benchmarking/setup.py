"""What every run of a benchmark is made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines.spec import load_model
from pipeline.settings.schema import (
    Config,
    IdentitySettings,
    InferenceSettings,
    ModelSettings,
    PublishSettings,
    StreamSettings,
)

Links = Literal["queue", "zmq"]


@dataclass(frozen=True, slots=True)
class Setup:
    """Files to play, and what with."""

    sources: tuple[str, ...]  # long enough to be played for a while
    model: ModelSettings
    links: Links
    folder: Path  # for what a run needs
    preprocess: Literal["cpu", "gpu"] = "cpu"
    decode: Literal["ffmpeg", "nvdec", "vaapi"] = "ffmpeg"

    def config(self, streams: int, pace: Literal["fast", "camera"]) -> Config:
        """A run of so many streams, which play the files in turn, over and over."""
        files = self.sources
        return Config(
            streams=tuple(
                StreamSettings(
                    name=f"s{number:03}",
                    source=files[number % len(files)],
                    pace=pace,
                    loop=True,
                    decode=self.decode,
                    decode_gpu=self.model.gpu or 0,
                )
                for number in range(streams)
            ),
            model=self.model,
            inference=InferenceSettings(preprocess=self.preprocess),
            identity=IdentitySettings(gallery=self._gallery()),
            publish=PublishSettings(address="tcp://127.0.0.1:*"),
            links=self.links,
        )

    def _gallery(self) -> str | None:
        # An empty gallery: nobody is known, and the faces go through the face entry all the same.
        tells_people = {"faces", "identity"} <= set(load_model(self.model.path).spec.network.tasks)
        return str(self.folder / "gallery.sqlite") if tells_people else None
