"""Whatever a configuration says, `check-config` allows it or refuses it with one sentence that tells no secret."""

import time
from pathlib import Path

import pytest

from engines.errors import ConfigError
from pipeline.settings.load import parse
from tests.faults.made_configurations import SECRET, configurations
from tests.faults.made_mutations import SEED, TIMES
from tools.check_config import check_config

COUNT = 400  # FUZZ=5: 2,000
LONGEST_S = 1.0  # for any one of them, in time of this process
LONGEST = 4000  # letters of a sentence


def test_generated_configurations_are_allowed_or_refused_with_a_sentence() -> None:
    allowed, sentences = 0, set()
    for text in configurations(COUNT * TIMES, SEED):
        began_s = time.process_time()
        try:
            parse(text, "site.toml", {"SECRET": SECRET})
            allowed += 1
        except ConfigError as refusal:
            said = str(refusal)
            assert said.startswith("site.toml: ") and "\n" not in said and len(said) < LONGEST, (text, said)
            assert SECRET not in said, (text, said)
            sentences.add(said)
        assert time.process_time() - began_s < LONGEST_S, text
    assert allowed > COUNT // 10 and len(sentences) > COUNT // 10, "they are all of one kind"


def test_the_command_refuses_them_likewise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    file = tmp_path / "site.toml"
    for text in configurations(100 * TIMES, SEED + 1):
        file.write_text(text, errors="replace")
        try:
            check_config(file)
        except ConfigError as refusal:
            assert str(refusal).startswith(f"{file}: ") and "\n" not in str(refusal) and SECRET not in str(refusal)
    assert SECRET not in capsys.readouterr().out


def test_a_variable_that_is_no_text_is_refused() -> None:
    text = '[[streams]]\nname = "door"\nsource = "x"\npassword = "${SECRET}"\n'
    with pytest.raises(ConfigError) as caught:
        parse(text, "site.toml", {"SECRET": b"hunter2\xff".decode(errors="surrogateescape")})
    needs = "streams[0].password needs the environment variable SECRET, which is not text in UTF-8"
    assert str(caught.value) == f"site.toml: {needs}"
