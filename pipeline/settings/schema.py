"""The configuration of a run: frozen structs, which :func:`pipeline.settings.load.load` reads from a file.

Relative paths in a configuration (``model.path``, ``identity.gallery``, ``record.directory``, sources that are
files) are relative to the current directory, not to the file they stand in.
"""

from typing import Annotated, Any, Final, Literal

import msgspec

from engines.engine import Backend, Precision
from engines.nms import Suppression

Positive = Annotated[int, msgspec.Meta(gt=0)]
Index = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(gt=0.0)]
InferenceRate = Annotated[float, msgspec.Meta(gt=0.0)] | Literal["full", "auto"]  # frames a second, docs/rates.md
Crops = Annotated[int, msgspec.Meta(ge=0, le=16)]  # of a picture, docs/crops.md
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
StreamName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z",
        description="1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first",
    ),
]

Point = Annotated[
    tuple[Share, Share],
    msgspec.Meta(description="two numbers [x, y] from 0 to 1, shares of the picture's width and height"),
]
GALLERY: Final = "people.sqlite"  # which the command line takes unless told otherwise

STANDARD_INPUT: Final = "-"  # as a source

HostPort = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:/\[\]\s]+):\d{1,5}\Z",
        description="HOST:PORT, such as 127.0.0.1:8080 or 0.0.0.0:8443",
    ),
]
POLYGON = "an array of 3 to 64 points [x, y]"
Labels = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, description="an array of one label or more")]
# Of a stream, while a run goes on. detect: it is captured at all. record: its annotated video is written.
Switch = Literal["detect", "record"]
Anchor = Literal[
    "foot", "centre"
]  # what of an object's box must be inside: the middle of its lower edge, or its middle


InputSize = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(model|auto|[1-9]\d{0,4}x[1-9]\d{0,4})\Z",
        description="'model', 'auto' or WIDTHxHEIGHT in pixels, such as 384x224",
    ),
]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class ZoneSettings(_Section, frozen=True):
    """A named polygon in the picture of a stream; docs/zones.md."""

    name: StreamName
    points: Annotated[tuple[Point, ...], msgspec.Meta(min_length=3, max_length=64, description=POLYGON)]
    labels: Labels | None = None  # of the objects that may enter; None: all
    anchor: Anchor = "foot"
    margin: Share = 0.01  # share of the picture's height that an object must be outside before it has left
    dwell_s: Seconds | None = None  # stream time inside after which there is an event; None: none


class LineSettings(_Section, frozen=True):
    """A named line in the picture of a stream; docs/zones.md."""

    name: StreamName
    points: Annotated[tuple[Point, Point], msgspec.Meta(description="an array of two points [x, y], from and to")]
    labels: Labels | None = None  # of the objects that are counted; None: all
    anchor: Anchor = "foot"
    margin: Share = 0.01  # share of the picture's height that an object must be away before it can cross back


class CameraSettings(_Section, frozen=True):
    """What a camera of this host is asked for; None: what it gives by itself. What it gives instead is told."""

    width: Positive | None = None  # pixels
    height: Positive | None = None
    rate_hz: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    pixel_format: (
        Annotated[str, msgspec.Meta(pattern=r"^[ -~]{4}\Z", description="four letters, such as MJPG")] | None
    ) = None  # its code in Video4Linux, and of other systems


class StreamSettings(_Section, frozen=True):
    """One camera, RTSP address or file."""

    name: StreamName
    # An address that FFmpeg reads, a file, a folder or a pattern of pictures, "-", or a camera's index as text ("0").
    source: str
    # A smaller stream of the same camera: frames, and all that is seen, come from it; from the source packets alone.
    detect_source: str | None = None
    user: str | None = None  # of an address; it and the password may have any characters
    password: str | None = None
    live: bool | None = None  # None: as the source is, docs/sources.md
    # Files only: as fast as it goes, at its own pace, or as a camera's, which waits for nobody: newest wins.
    pace: Literal["realtime", "fast", "camera"] = "fast"
    loop: bool = False  # files only: begin again at the end (time goes on)
    transport: Literal["tcp", "udp"] = "tcp"  # RTSP only
    verify_tls: bool = False  # refuse servers whose certificate is not valid for their name
    timeout_s: Seconds = 5.0  # opening and reading
    decode: Literal["ffmpeg", "nvdec", "vaapi"] = "ffmpeg"  # else: on a GPU's video decoder, docs/gpu.md ...
    decode_gpu: Index = 0  # ... of this index
    damaged: Literal["leave_out", "show"] = "leave_out"  # pictures of which parts could not be decoded
    # Interlaced video: as it is; a picture of each field, at twice the rate; or one of both, combed nowhere.
    deinterlace: Literal["off", "bob", "weave"] = "off"
    rate_hz: Annotated[float, msgspec.Meta(gt=0.0)] | None = None  # pictures a second of a source that tells no times
    camera: CameraSettings = CameraSettings()  # cameras of this host only
    reconnect_min_s: Seconds = 0.5  # live sources: backoff, doubled each time, jittered
    reconnect_max_s: Seconds = 3.0  # short: a source that comes back is seen again within 5 s
    # Frames between hosts, docs/hosts.md. From here: to that address, and nothing else is done with them here.
    forward: str | None = None  # tcp://HOST:PORT, where the other host has the source zmq+tcp://...:PORT
    encoding: Literal["jpeg", "raw"] = "jpeg"
    jpeg_quality: Annotated[int, msgspec.Meta(ge=1, le=100)] = 90
    server_key: str | None = None  # the other host's public CURVE key
    client_key: str | None = None  # this host's own CURVE key, which the other host has among its clients
    curve_secret_file: str | None = None  # zmq+tcp:// only: this host's CURVE key
    clients: str | None = None  # zmq+tcp:// only: folder with the public keys of who may send
    insecure: bool = False  # to or from other hosts without keys
    inference_fps: InferenceRate | None = None  # None: inference.fps
    inference_crops: Crops | None = None  # None: inference.crops
    node: StreamName | None = None  # with --ray: only on nodes that have this resource, docs/cluster.md; None: any
    zones: tuple[ZoneSettings, ...] = ()
    lines: tuple[LineSettings, ...] = ()


class ModelSettings(_Section, frozen=True):
    """Which model, and what runs it."""

    path: str = "s"  # a released model's name, or a model folder
    backend: Backend = "auto"  # or the name of one that is installed, docs/extending.md
    precision: Precision = "auto"
    gpu: Index | None = None  # as CUDA counts them, from 0; None: the first, where the backend runs on one
    torch_compile: bool = False  # backend = "torch": let torch.compile make its kernels, in minutes, at every start


class InferenceSettings(_Section, frozen=True):
    """How frames are batched across streams, how many are inferred, and which detections count."""

    max_batch: Positive = 8  # pictures, crops counted
    max_queue_delay_ms: Annotated[float, msgspec.Meta(ge=0.0)] = 50.0  # see Batcher
    fps: InferenceRate = "full"  # of each stream that has none of its own: while something moves, and ...
    min_rate_hz: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0  # ... while nothing does; "full": all frames
    crops: Crops = 0  # of each large picture that the network sees larger, beside the whole, for small and far things
    object_score: Share | None = None  # None: the model's own thresholds
    face_score: Share | None = None
    size: InputSize = "model"  # of the network's input; "auto": in the shape of the streams, at the model's cost
    preprocess: Literal["cpu", "gpu"] = "cpu"  # where pictures are scaled; "gpu": where the engine runs
    nms: Suppression = "class-aware"  # of objects; soft: overlapping ones lose score in place of being removed


class TrackingSettings(_Section, frozen=True):
    """Both trackers. Times are stream time."""

    low_score_ratio: Share = (
        0.4  # detections down to this share of the threshold's odds carry a track on, but start none
    )
    min_iou: Share = 0.2
    confirm_frames: Positive = 2  # detections before a track is shown, more where they are weak
    max_lost_s: Seconds = 1.5
    camera_motion: bool = False  # tell it from the picture, for cameras that pan or shake


class SmoothingSettings(_Section, frozen=True):
    """Labels over frames."""

    half_life_s: Seconds = 0.2
    margin: Share = 0.1  # a new label must lead by this much
    hold_s: Annotated[float, msgspec.Meta(ge=0.0)] = 0.05  # for this long


class IdentitySettings(_Section, frozen=True):
    """Faces and the gallery."""

    # SQLite file; None: GALLERY in the current directory, where `trunkline run` finds one; "": no names.
    gallery: str | None = None
    similarity: Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)] | None = None  # None: the model's threshold
    min_views: Positive = 3  # face-entry views of a track before a name is given
    min_face_px: Positive = 24  # smaller faces are not embedded
    reload_s: Seconds = 0.25  # how often the gallery is looked at for changes


class PostprocessSettings(_Section, frozen=True):
    """All after the network: detections, tracks, names and smoothed labels."""

    # Of the streams, each with a thread of its own or, with links = "zmq", a process; "auto": by streams and cores.
    shards: Annotated[int, msgspec.Meta(ge=1, le=16)] | Literal["auto"] = "auto"


class PublishSettings(_Section, frozen=True):
    """The results socket."""

    address: str = "tcp://127.0.0.1:5555"
    encoding: Literal["json", "msgpack"] = "json"
    curve_secret_file: str | None = None  # server's CURVE key, see docs/messages.md
    clients: str | None = None  # folder with the public keys of who may subscribe; None, on this host: everybody
    insecure: bool = False  # publish beyond this host without keys
    high_water_mark: Annotated[int, msgspec.Meta(gt=0, le=1_000_000)] = 1000  # messages kept for a slow subscriber


class EventSettings(_Section, frozen=True):
    """What events carry."""

    best_crops: bool = False  # the best view of a track as a JPEG; leave it out where pictures of people must not go


class RecordSettings(_Section, frozen=True):
    """Annotated video of each stream, for people to look at."""

    directory: str | None = None  # None: no video
    segment_s: Annotated[float, msgspec.Meta(ge=1.0)] = 600.0  # stream time after which a new file is begun
    keep_days: Annotated[float, msgspec.Meta(gt=0.0)] = 30.0  # files begun longer ago are deleted ...
    keep_gb: Annotated[float, msgspec.Meta(gt=0.0)] = 50.0  # ... and the oldest beyond so many 10^9 bytes of all
    min_free_gb: Annotated[float, msgspec.Meta(ge=0.0)] = 2.0  # nothing is recorded where less would be free


class PacketSettings(_Section, frozen=True):
    """Packets as cameras encoded them, for clips and for whoever looks on; docs/events.md."""

    address: str | None = None  # where readers connect to, ipc://PATH or tcp://127.0.0.1:PORT; None: clips alone read
    jpeg_rate_hz: Annotated[float, msgspec.Meta(gt=0.0, le=60.0)] = 5.0  # of pictures in place of packets ...
    jpeg_quality: Annotated[int, msgspec.Meta(ge=1, le=100)] = 80  # ... of sources other than H.264, HEVC and AV1


class MetricsSettings(_Section, frozen=True):
    """What Prometheus reads of a run; docs/metrics.md."""

    address: str | None = None  # HOST:PORT to serve them at; None: nowhere, unless the command line asks for it
    insecure: bool = False  # beyond this host, where whoever reaches the address reads them


class TracesSettings(_Section, frozen=True):
    """What OpenTelemetry is told of batches and frames; docs/metrics.md."""

    endpoint: str | None = None  # of a collector, OTLP over HTTP: "http://127.0.0.1:4318/v1/traces"; None: no traces
    sample: Share = 0.01  # of the batches


class SinkSettings(_Section, frozen=True):
    """One more place where messages go: ``[[sinks]]``, docs/extending.md."""

    kind: str  # jsonl, zmq, or what another package brings
    name: StreamName | None = None  # in logs, health messages and the summary; None: its kind
    queue: Positive = 1000  # messages that may wait for it; what comes beyond is lost to it alone
    options: Any = None  # the struct of the kind's own keys, which stand beside these in a file

    @property
    def shown_name(self) -> str:
        return self.name or self.kind


class ZmqSettings(_Section, frozen=True):
    """Stages as processes: only with links = "zmq"."""

    capture_processes: Positive | None = None  # None: one for every eight streams
    # So many streams of other names may be added while it runs, removed ones included; shared memory is taken for them.
    spare_streams: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 4
    # Width and height of the largest picture of a live source, which shared memory is taken for; of a file its own is.
    live_picture: tuple[Positive, Positive] = (1920, 1080)


class RaySettings(_Section, frozen=True):
    """Streams on several machines, with ``trunkline run --ray``; docs/cluster.md. A shard is one actor of Ray."""

    streams_per_shard: Positive = 8  # at most; each shard has an engine of its own
    num_cpus: Annotated[float, msgspec.Meta(ge=0.0)] = 1.0  # that a shard takes of its node, as Ray counts them
    num_gpus: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    timeout_s: Seconds = 3.0  # a shard that was not heard of for so long is lost, and its streams go elsewhere


class WebSettings(_Section, frozen=True):
    """The page, served by a process of its own; docs/page.md."""

    address: HostPort = "127.0.0.1:8080"  # beyond this host: with TLS and login
    accounts: str = "accounts.sqlite"  # users, tokens and what was done; made when it is missing
    hosts: tuple[str, ...] = ()  # more names by which browsers reach it; on loopback: through a proxy, and with login
    public_url: str | None = None  # by which receivers of links to pictures reach it, docs/webhooks.md ...
    link_secret: str | None = None  # ... and what those links are signed with: "${LINK_SECRET}"
    certificate: str | None = None  # PEM file; None: one of its own, made beside the accounts
    key: str | None = None  # PEM file of the certificate's key


class Config(_Section, frozen=True):
    """A whole run."""

    streams: Annotated[tuple[StreamSettings, ...], msgspec.Meta(min_length=1)]
    model: ModelSettings = ModelSettings()
    inference: InferenceSettings = InferenceSettings()
    tracking: TrackingSettings = TrackingSettings()
    smoothing: SmoothingSettings = SmoothingSettings()
    identity: IdentitySettings = IdentitySettings()
    postprocess: PostprocessSettings = PostprocessSettings()
    publish: PublishSettings = PublishSettings()
    events: EventSettings = EventSettings()
    record: RecordSettings = RecordSettings()
    packets: PacketSettings = PacketSettings()
    sinks: tuple[SinkSettings, ...] = ()
    web: WebSettings | None = None  # None: no page, unless the command line asks for one
    metrics: MetricsSettings = MetricsSettings()
    traces: TracesSettings = TracesSettings()
    links: Literal["queue", "zmq"] = "queue"  # stages as threads of one process, or as processes
    zmq: ZmqSettings = ZmqSettings()
    ray: RaySettings = RaySettings()

    @property
    def frames_per_batch(self) -> int:
        """Frames that go through the network together, at most: each with as many crops as one may have."""
        crops = [
            self.inference.crops if each.inference_crops is None else each.inference_crops for each in self.streams
        ]
        return max(1, self.inference.max_batch // (1 + max(crops, default=self.inference.crops)))
