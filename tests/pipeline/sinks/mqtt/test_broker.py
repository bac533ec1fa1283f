"""The sink against a real Mosquitto: what it retains is what is true, whatever happens to the connection."""

import os
import random
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from engines.errors import ConfigError
from pipeline.settings.schema import Config, IdentitySettings, RecordSettings, StreamSettings
from pipeline.sinks.base import SinkThread
from pipeline.sinks.mqtt import MqttSettings, MqttSink
from tests.pipeline.sinks.mqtt.made_broker import Broker, Listener, cuttable, retained
from tests.pipeline.sinks.mqtt.made_messages import CROP, event, frame, health
from tests.waiting import until

pytestmark = pytest.mark.integration
DOOR = Config(streams=(StreamSettings(name="door", source="0"),))
STORM_S = float(os.environ.get("TRUNKLINE_STORM_S", "10"))


def settings(port: int, **keys: object) -> MqttSettings:
    return msgspec.convert({"host": "127.0.0.1", "port": port, **keys}, MqttSettings)


def told(sink: MqttSink, port: int, **options: object) -> None:
    """Wait until a broker keeps what it should, and nothing else."""
    until(lambda: retained(port, **options) == sink.state)


def test_state_events_and_snapshots_arrive_and_the_last_word_is_offline(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        sink = MqttSink(settings(broker.port))
        sink.attach(DOOR, Switched())
        sink.send(health())
        sink.send(frame("door", "person", "person", "dog", names=("Ada", None), scene="street"))
        sink.send(event("zone", "enter", name="mat", counts={"present": {"person": 2}}))
        sink.send(event("object", "ended", best_crop=CROP))
        told(sink, broker.port)
        until(lambda: len(listener.of("trunkline/door/event")) == 2)
        listener.catch_up()
        last = listener.last
        assert (last["trunkline/door/count/person"], last["trunkline/door/count/dog"]) == (b"2", b"1")
        assert msgspec.json.decode(last["trunkline/door/people"]) == {"names": ["Ada"], "unknown": 1}
        assert msgspec.json.decode(last["trunkline/door/zone/mat"]) == {"present": {"person": 2}, "total": 2}
        assert last["trunkline/door/snapshot/person"] == CROP.jpeg
        assert [msgspec.json.decode(body)["event"] for body in listener.of("trunkline/door/event")] == [
            "enter",
            "ended",
        ]
        assert last["trunkline/status"] == b"online"
        sink.close()
        until(lambda: retained(broker.port)["trunkline/status"] == b"offline")
        assert sink.lost == {}


def test_a_sink_that_dies_leaves_the_last_will(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, cuttable(broker.port) as wire:
        sink = MqttSink(settings(wire.port))
        until(lambda: retained(broker.port).get("trunkline/status") == b"online")
        wire.cut()
        until(lambda: retained(broker.port).get("trunkline/status") == b"offline")
        wire.mend()
        until(lambda: retained(broker.port).get("trunkline/status") == b"online")
        sink.close()


def test_what_an_earlier_run_left_behind_is_taken_away_and_that_of_others_stays(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker.port) as other:
        for topic in ("trunkline/door/count/zebra", "trunkline/yard/count/person", "else/where"):
            other.publish(topic, "3", retain=True)
        sink = MqttSink(settings(broker.port, discovery=""))
        sink.attach(DOOR, Switched())
        kept = {"trunkline/yard/count/person": b"3", "else/where": b"3"}
        until(lambda: retained(broker.port) == {**sink.state, **kept})
        sink.close()


def test_a_will_that_comes_late_does_not_stay(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker.port) as other:
        sink = MqttSink(settings(broker.port))
        until(lambda: retained(broker.port).get("trunkline/status") == b"online")
        other.publish("trunkline/status", "offline", retain=True)
        until(lambda: retained(broker.port).get("trunkline/status") == b"online")
        sink.close()


def test_a_removed_stream_leaves_nothing(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        sink = MqttSink(settings(broker.port))
        sink.send(health(stream="yard"))
        sink.send(frame("yard", "person"))
        told(sink, broker.port)
        sink.send(health("ended", "removed", stream="yard"))
        until(lambda: set(retained(broker.port)) == {"trunkline/status"})
        sink.close()


def zoned(*zones: str) -> StreamSettings:
    rows = [{"name": zone, "points": [[0, 0], [1, 0], [1, 1]]} for zone in zones]
    return msgspec.convert({"name": "door", "source": "0", "zones": rows}, StreamSettings)


def zone_entities(port: int) -> dict[str, bool]:
    """Of the device that a broker has: whether each entity of a zone is there, or is to be taken away."""
    message = retained(port).get("homeassistant/device/trunkline_door/config", b'{"components": {}}')
    components = msgspec.json.decode(message)["components"]
    return {key: len(each) > 1 for key, each in components.items() if key.startswith("zone_") and "count" not in key}


def test_home_assistant_is_told_to_take_zones_away_that_a_stream_has_no_more(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        thread = SinkThread("mqtt", MqttSink(settings(broker.port)), 1000)
        thread.attach(Config(streams=(zoned("mat", "step"),)), Switched())
        until(lambda: zone_entities(broker.port) == {"zone_mat": True, "zone_step": True})
        thread.begin(zoned("mat", "lawn"))
        until(lambda: zone_entities(broker.port) == {"zone_mat": True, "zone_step": False, "zone_lawn": True})
        assert "trunkline/door/zone/step" not in retained(broker.port)
        thread.begin(zoned("step"))
        until(lambda: zone_entities(broker.port) == {"zone_mat": False, "zone_step": True, "zone_lawn": False})
        thread.finish()
        assert thread.join(time.monotonic() + 10)


def test_home_assistant_is_told_to_take_away_what_an_earlier_run_had(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        kept = [{"zone_mat": True, "zone_step": True}, {"zone_mat": True, "zone_step": False}, {"zone_mat": True}]
        for zones, expected in zip((("mat", "step"), ("mat",), ("mat",)), kept, strict=True):
            thread = SinkThread("mqtt", MqttSink(settings(broker.port)), 1000)
            thread.attach(Config(streams=(zoned(*zones),)), Switched())
            until(lambda: retained(broker.port).get("trunkline/status") == b"online")
            until(lambda expected=expected: zone_entities(broker.port) == expected)
            time.sleep(1.0)  # what comes late may still change it
            assert zone_entities(broker.port) == expected
            thread.finish()
            assert thread.join(time.monotonic() + 10)
        assert listener.of("homeassistant/device/trunkline_door/config")


def test_home_assistant_is_told_again_when_it_is_born(tmp_path: Path) -> None:
    topic = "homeassistant/device/trunkline_door/config"
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        sink = MqttSink(settings(broker.port))
        sink.attach(DOOR, Switched())
        until(lambda: topic in listener.last)
        told(sink, broker.port)
        count = len(listener.of(topic))
        listener.publish("homeassistant/status", "online")
        until(lambda: len(listener.of(topic)) > count)
        sink.close()


class Switched:
    """Switches of the stream ``door``."""

    def __init__(self) -> None:
        self.off: set[str] = set()
        self.calls: list[tuple[str, str, bool]] = []

    def switch(self, stream: str, what: str, on: bool) -> None:
        if stream != "door":
            raise ConfigError("there is none of this name")
        self.calls.append((stream, what, on))
        (self.off.discard if on else self.off.add)(what)

    def is_on(self, stream: str, what: str) -> bool:
        return stream != "door" or what not in self.off


def test_detection_is_switched_off_and_on_where_commands_are_allowed(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        switched = Switched()
        sink = MqttSink(settings(broker.port, commands=["detect"]))
        sink.attach(DOOR, switched)
        state = "trunkline/door/detect/state"
        until(lambda: listener.last.get(state) == b"ON")
        listener.publish("trunkline/door/detect/set", "OFF")
        until(lambda: listener.last[state] == b"OFF")
        sink.send(health("ended", "removed"))  # as the run says then
        listener.publish("trunkline/door/detect/set", "off")
        until(lambda: b"must be ON or OFF" in listener.last.get("trunkline/door/detect/refused", b""))
        assert state in retained(broker.port), "a stream that is off can be switched on again"
        listener.publish("trunkline/door/detect/set", "ON")
        until(lambda: listener.last[state] == b"ON")
        listener.publish("trunkline/street/detect/set", "OFF")  # of another run, perhaps
        sink.close()
        assert switched.calls == [("door", "detect", False), ("door", "detect", True)]


def test_recording_is_switched_by_the_dialect_s_topics_and_what_others_switch_is_told(tmp_path: Path) -> None:
    config = msgspec.structs.replace(DOOR, record=RecordSettings(directory=str(tmp_path)))
    for dialect, name in (("trunkline", "record"), ("frigate", "recordings")):
        with Broker(tmp_path) as broker, Listener(broker.port) as listener:
            switched = Switched()
            sink = MqttSink(settings(broker.port, commands=["detect", "record"], dialect=dialect))
            sink.attach(config, switched)
            state = f"{dialect}/door/{name}/state"
            until(lambda state=state: listener.last.get(state) == b"ON")
            listener.publish(f"{dialect}/door/{name}/set", "OFF")
            until(lambda state=state: listener.last[state] == b"OFF")
            switched.off = {"detect"}  # by somebody else
            sink.look()
            until(lambda dialect=dialect: listener.last[f"{dialect}/door/detect/state"] == b"OFF")
            until(lambda state=state: listener.last[state] == b"ON")
            sink.close()
            assert switched.calls == [("door", "record", False)]


def test_a_run_that_records_nothing_has_no_switch_for_it(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        sink = MqttSink(settings(broker.port, commands=["record"]))
        with capture_logs() as lines:
            sink.attach(DOOR, Switched())
        assert [line["commands"] for line in lines] == [["record"]]
        assert not [topic for topic in sink.state if "record" in topic]
        sink.close()


def test_commands_that_are_not_allowed_or_were_retained_do_nothing(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        listener.publish("trunkline/door/detect/set", "OFF", retain=True)
        switched = Switched()
        allowed, other = (
            MqttSink(settings(broker.port, commands=["detect"])),
            MqttSink(settings(broker.port, prefix="b")),
        )
        for sink in (allowed, other):
            sink.attach(DOOR, switched)
        told_state = {"trunkline/door/detect/state", "b/door/count/person"}
        until(lambda: told_state <= set(listener.last))
        listener.publish("b/door/detect/set", "OFF")
        until(lambda: "trunkline/door/detect/set" not in retained(broker.port))
        for sink in (allowed, other):
            sink.close()
        assert switched.calls == []


def test_enrolling_without_a_single_unnamed_face_is_refused_with_a_sentence(tmp_path: Path) -> None:
    config = msgspec.structs.replace(DOOR, identity=IdentitySettings(gallery=str(tmp_path / "people.sqlite")))
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        sink = MqttSink(settings(broker.port, commands=["enroll"]))
        sink.attach(config, Switched())
        sink.send(frame("door", "person", "person", names=(None, None)))
        until(lambda: "trunkline/door/people" in listener.last)
        listener.publish("trunkline/door/enroll/set", "Ada")
        until(lambda: b"2 faces without a name" in listener.last.get("trunkline/door/enroll/refused", b""))
        listener.publish("trunkline/door/enroll/set", '{"name": "Ada", "track": 50}')
        until(lambda: b"people.sqlite" in listener.last["trunkline/door/enroll/refused"])
        sink.close()


def test_a_password_lets_in_and_is_in_no_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "passwords"
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed (Debian: mosquitto)")
    subprocess.run([tool, "-b", "-c", str(file), "ada", "s3cret-word"], check=True, capture_output=True)
    file.chmod(0o644)
    with Broker(tmp_path, "allow_anonymous false", f"password_file {file}") as broker:
        known = {"username": "ada", "password": "s3cret-word"}
        wrong = MqttSink(settings(broker.port, user="ada", password="wr0ng-word"))
        sink = MqttSink(settings(broker.port, user="ada", password="s3cret-word"))
        told(sink, broker.port, **known)
        wrong.close()
        sink.close()
    said = "".join(capfd.readouterr())
    assert "MQTT broker cannot be reached" in said
    assert "s3cret-word" not in said and "wr0ng-word" not in said


def certificates(folder: Path) -> None:
    """A CA, and what it signed for the broker and for a client."""
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("openssl is not installed")

    def run(*arguments: str) -> None:
        subprocess.run([tool, *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=made CA")
    for name in ("broker", "client"):
        run("req", *key[:-2], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
        run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
        (folder / f"{name}.key").chmod(0o644)


def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    certificates(tmp_path)
    tls = [f"{key} {tmp_path / file}" for key, file in (("cafile", "ca.pem"), ("certfile", "broker.pem"))]
    tls += [f"keyfile {tmp_path / 'broker.key'}", "require_certificate true", "allow_anonymous true"]
    with Broker(tmp_path, *tls) as broker:
        ca, mine = {"tls": True, "ca_file": str(tmp_path / "ca.pem")}, {"cert_file": str(tmp_path / "client.pem")}
        nobody = MqttSink(settings(broker.port, prefix="nobody", **ca))
        sink = MqttSink(settings(broker.port, **ca, **mine, key_file=str(tmp_path / "client.key")))
        sink.send(frame("door", "person"))
        import aiomqtt

        options = aiomqtt.TLSParameters(ca["ca_file"], mine["cert_file"], str(tmp_path / "client.key"))  # type: ignore[arg-type]
        told(sink, broker.port, tls_params=options)
        sink.close()
        nobody.close()


def test_a_broker_that_is_not_there_costs_the_oldest_events_alone_and_they_are_counted(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        broker.kill()
        thread = SinkThread("mqtt", MqttSink(settings(broker.port, events_kept=5)), 1000)
        for track in range(12):
            thread.send(event(track=track))
        until(lambda: thread.counts.lost == {"unsent": 7})
        broker.start()
        with Listener(broker.port) as listener:
            until(lambda: len(listener.of("trunkline/door/event")) >= 5)
        tracks = {msgspec.json.decode(body)["track"] for body in listener.of("trunkline/door/event")}
        assert tracks == {7, 8, 9, 10, 11}
        thread.finish()
        assert thread.join(time.monotonic() + 10)
        assert (thread.counts.sent, thread.counts.lost) == (5, {"unsent": 7})


@pytest.mark.timeout(300)
def test_no_state_is_stuck_after_a_storm_of_reconnects(tmp_path: Path) -> None:
    """TRUNKLINE_STORM_S=60 lets it go on for a minute; both dialects have theirs at the same time."""
    with ThreadPoolExecutor() as dialects:
        assert list(dialects.map(partial(stormed, tmp_path), ("trunkline", "frigate"))) == ["offline", "offline"]


def stormed(tmp_path: Path, dialect: str) -> str:
    """Send through a storm, assert that the broker keeps what is true after it; what it keeps of the sink at last."""
    dice = random.Random(7)
    with Broker(tmp_path) as broker, cuttable(broker.port) as wire:
        sink = MqttSink(settings(wire.port, dialect=dialect, events_kept=100_000))
        sink.attach(DOOR, Switched())
        over = threading.Event()

        def run() -> None:
            track = 0
            while not over.wait(0.01):
                track += 1
                labels = dice.choices(("person", "car", "zebra"), k=dice.randrange(4))
                sink.send(frame("door", *labels, names=dice.choices(("Ada", "Bob", None), k=dice.randrange(3))))
                present = {"person": dice.randrange(3)}
                sink.send(event("zone", "enter", track=track, name="mat", counts={"present": present}))
                sink.send(event("object", "new", track=track, best_crop=CROP))
                sink.send(event("object", "ended", track=track))

        runs = threading.Thread(target=run)
        runs.start()
        end, cuts = time.monotonic() + STORM_S, 0
        while time.monotonic() < end:
            time.sleep(dice.uniform(0.0, 1.0))
            wire.cut()
            if restarted := dice.random() < 0.2:
                broker.kill()  # and with it all that it kept
            time.sleep(dice.uniform(0.0, 0.3))
            if restarted:
                broker.start()
            wire.mend()
            cuts += 1
        over.set()
        runs.join()
        assert cuts > STORM_S / 3
        told(sink, broker.port)
        sink.close()
        status = {"trunkline": "trunkline/status", "frigate": "frigate/available"}[dialect]
        until(lambda: retained(broker.port)[status] == b"offline")
        return retained(broker.port)[status].decode()
