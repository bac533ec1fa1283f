"""A live RTSP server for the tests: one H.264 clip, over and over, at rtsp://127.0.0.1:PORT/stream.

Run by the system's Python, which has GStreamer's bindings:
``/usr/bin/python3 rtsp_server.py CLIP PORT [USER PASSWORD]``.
Prints one line when it listens.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

CAPS = "video/x-h264,stream-format=byte-stream,alignment=au"
READ = f"filesrc name=file ! qtdemux ! h264parse ! {CAPS} ! appsink name=sink sync=false"
SERVE = (
    f"appsrc name=source is-live=true format=time caps={CAPS}"
    " ! h264parse config-interval=-1 ! video/x-h264,alignment=au ! rtph264pay name=pay0 pt=96"
)


def read(clip):
    """The clip's pictures, still coded, and how long each is shown (ns)."""
    pipeline = Gst.parse_launch(READ)
    pipeline.get_by_name("file").set_property("location", clip)
    sink = pipeline.get_by_name("sink")
    pipeline.set_state(Gst.State.PLAYING)
    pictures = []
    while (sample := sink.emit("pull-sample")) is not None:
        buffer = sample.get_buffer()
        pictures.append(buffer.extract_dup(0, buffer.get_size()))
        rate = sample.get_caps().get_structure(0).get_fraction("framerate")
    pipeline.set_state(Gst.State.NULL)
    return pictures, Gst.SECOND * rate.value_denominator // rate.value_numerator


def feed(media, pictures, period_ns):
    """Let a new media begin the clip at its first picture."""
    sent = 0

    def push(source, _length):
        nonlocal sent
        buffer = Gst.Buffer.new_wrapped(pictures[sent % len(pictures)])
        buffer.pts = buffer.dts = sent * period_ns
        buffer.duration = period_ns
        sent += 1
        source.emit("push-buffer", buffer)

    media.get_element().get_child_by_name("source").connect("need-data", push)


def protect(server, factory, user, password):
    """Let nobody else see it."""
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    permissions = GstRtspServer.RTSPPermissions()
    for permission in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("viewer", permission, True)
    factory.set_permissions(permissions)
    server.set_auth(auth)


def main():
    clip, port, *secret = sys.argv[1:]
    Gst.init(None)
    pictures, period_ns = read(clip)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(SERVE)
    factory.set_shared(True)
    factory.connect("media-configure", lambda _factory, media: feed(media, pictures, period_ns))
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    if secret:
        protect(server, factory, *secret)
    server.get_mount_points().add_factory("/stream", factory)
    server.attach(None)
    print(f"listening on {port}", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
