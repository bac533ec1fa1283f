"""Everything Trunkline refuses, as one tree of exceptions.

TrunklineError                 base: one plain sentence, safe to show to a person
├── ConfigError                a configuration file or a command-line value
├── ModelError                 a model folder that is damaged or does not match its spec
├── EngineError                an engine that fails while it runs
│   └── BackendUnavailable     a named backend that cannot run on this machine
├── DataError                  training or evaluation data
├── TrainingError              a training run that cannot go on
├── SourceError                a stream that cannot be opened or read
├── GalleryError               the gallery file, or a person in it
│   ├── DamagedGallery         pages of the file cannot be read
│   └── EnrollError            a photo that cannot be enrolled
├── StoreError                 the event store
├── RequestError               a request to the page's server, which is answered with its status
├── MessageError               a message that does not follow the schema
└── StageError                 a stage that crashed too often; the run ends

The command line turns a TrunklineError into its sentence and a non-zero exit status; anything else is a bug
and keeps its traceback.
"""


class TrunklineError(Exception):
    """Base of all errors that Trunkline raises on purpose."""


class ConfigError(TrunklineError):
    """A configuration or command-line value is not allowed."""


class ModelError(TrunklineError):
    """A model folder is damaged or does not match its spec."""


class EngineError(TrunklineError):
    """An engine failed while it ran."""


class BackendUnavailable(EngineError):
    """A backend was asked for by name and cannot run here."""


class DataError(TrunklineError):
    """Training or evaluation data is missing or unreadable."""


class TrainingError(TrunklineError):
    """A training run cannot go on."""


class SourceError(TrunklineError):
    """A stream cannot be opened or read."""


class GalleryError(TrunklineError):
    """The gallery cannot be used, or has no such person."""


class DamagedGallery(GalleryError):
    """Pages of the gallery's file cannot be read."""


class EnrollError(GalleryError):
    """A photo cannot be enrolled."""


class StoreError(TrunklineError):
    """The event store cannot be used, or has no such event."""


class MessageError(TrunklineError):
    """A message does not follow the schema."""


class RequestError(TrunklineError):
    """A request to the page's server is refused; ``status`` is HTTP's."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class StageError(TrunklineError):
    """A stage crashed too often."""


def kind_and_line(error: BaseException) -> str:
    """Return the kind of an error that nobody expected, and what it says."""
    return f"{type(error).__name__}: {one_line(error)}"


def one_line(error: BaseException) -> str:
    """What another library's error says, without its line breaks and cut to a length that a person reads."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:297]}..."
