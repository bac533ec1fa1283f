"""Users, sessions, tokens and what was done: pure state behind a clock."""

import sqlite3
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from structlog.testing import capture_logs

from engines.errors import ConfigError, RequestError
from pipeline.service.accounts import FAILURES, FAILURES_S, SESSION_S, Accounts

OWN = "correct horse battery"


class MadeClock:
    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> MadeClock:
    return MadeClock()


@pytest.fixture
def accounts(tmp_path: Path, clock: MadeClock) -> Accounts:
    return Accounts(tmp_path / "accounts.sqlite", clock, PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


def refused(status: int, accounts: Accounts, name: str, password: str, new: str | None = None) -> None:
    with pytest.raises(RequestError) as refusal:
        accounts.login(name, password, new, "10.0.0.9")
    assert refusal.value.status == status


def test_what_is_no_name_of_a_stream_gives_no_right(accounts: Accounts) -> None:
    with pytest.raises(RequestError, match=r"streams must be names of streams, got 'yard\\ndoor'"):
        accounts.add_token("script", "viewer", ["yard\ndoor"], 1.0)
    with pytest.raises(RequestError, match="streams must be names"):
        accounts.add_user("eve", "viewer", [""])


def test_the_printed_password_is_good_for_one_login_and_there_is_one_alone(accounts: Accounts) -> None:
    printed = accounts.first_password()
    assert printed is not None and accounts.first_password() is None
    refused(409, accounts, "admin", printed)
    refused(400, accounts, "admin", printed, "short")
    refused(400, accounts, "admin", printed, printed)
    _, who = accounts.login("admin", printed, OWN, "10.0.0.9")
    assert (who.name, who.role) == ("admin", "admin")
    refused(401, accounts, "admin", printed)
    accounts.login("admin", OWN, None, "10.0.0.9")


def test_a_session_is_its_users_until_it_ends(accounts: Accounts, clock: MadeClock) -> None:
    password = accounts.add_user("eve", "viewer", ("door", "yard"))
    secret, who = accounts.login("eve", password, OWN, "10.0.0.9")
    assert accounts.session(secret) == who and who.streams == ("door", "yard") and who.csrf
    clock.now_s += SESSION_S + 1
    assert accounts.session(secret) is None


@pytest.mark.parametrize("end", ["logout", "password", "removed"])
def test_a_session_ends_before(end: str, accounts: Accounts) -> None:
    accounts.first_password()
    secret, _ = accounts.login("eve", accounts.add_user("eve", "viewer", ()), OWN, "10.0.0.9")
    if end == "logout":
        accounts.logout(secret)
    elif end == "password":
        accounts.login("eve", OWN, f"{OWN} 2", "10.0.0.9")
    else:
        accounts.remove_user("eve")
    assert accounts.session(secret) is None


def test_logins_that_fail_are_limited_by_address_then_by_user(accounts: Accounts, clock: MadeClock) -> None:
    accounts.login("eve", accounts.add_user("eve", "viewer", ()), OWN, "10.0.0.1")
    for _ in range(FAILURES["from"]):
        refused(401, accounts, "eve", "wrong")
    refused(429, accounts, "eve", OWN)
    accounts.login("eve", OWN, None, "10.0.0.1")  # from elsewhere
    clock.now_s += FAILURES_S + 1
    accounts.login("eve", OWN, None, "10.0.0.9")


def test_whoever_fails_from_many_addresses_is_limited_too(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "_fits", lambda name, stored, password: False)
    for row in range(FAILURES["user"]):
        with pytest.raises(RequestError, match="do not fit"):
            accounts.login("admin", "wrong", None, f"10.0.1.{row}")
    with pytest.raises(RequestError, match="try again in 300 s"):
        accounts.login("admin", "wrong", None, "10.0.2.1")


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        ("password = 'nothing of the kind'", "it is no hash of Argon2"),
        ("password = ''", "it is no hash of Argon2"),
        ("password = replace(password, '$v=19$', '$v=1z$')", "Decoding failed"),
        ("password = substr(password, 1, 40) || 'ÿ' || substr(password, 42)", "it is no hash of Argon2"),
    ],
)
def test_a_damaged_password_is_told_in_the_log_once_and_to_whoever_tries_as_a_wrong_one(
    damage: str, cause: str, accounts: Accounts, tmp_path: Path
) -> None:
    good, password = accounts.add_user("ada", "admin", ()), accounts.add_user("eve", "viewer", ())
    with sqlite3.connect(tmp_path / "accounts.sqlite") as db:
        db.execute(f"UPDATE users SET {damage} WHERE name = 'eve'")
        ((stored,),) = db.execute("SELECT password FROM users WHERE name = 'eve'").fetchall()
    with capture_logs() as lines:
        refused(401, accounts, "eve", password, OWN)
        refused(401, accounts, "eve", "wrong")
        refused(401, accounts, "ada", "wrong")
        refused(409, accounts, "ada", good)
    (told,) = lines
    assert (told["log_level"], told["user"], told["cause"]) == ("error", "eve", cause)
    assert str(tmp_path / "accounts.sqlite") in told["path"] and "remove the user" in told["remedy"]
    assert not [value for value in told.values() if password in value or (stored and stored[9:] in value)]


def test_the_last_administrator_stays(accounts: Accounts) -> None:
    accounts.first_password()
    with pytest.raises(RequestError, match="last administrator"):
        accounts.remove_user("admin")
    accounts.add_user("ada", "admin", ())
    accounts.remove_user("admin")
    assert [user.name for user in accounts.users()] == ["ada"]


def test_a_token_gives_its_scope_until_its_end(accounts: Accounts, clock: MadeClock) -> None:
    number, token = accounts.add_token("phone", "viewer", ("door",), 1.0)
    who = accounts.token(token)
    assert (who.role, who.streams, who.login) == ("viewer", ("door",), "token")
    clock.now_s += 86_401
    with pytest.raises(RequestError, match="the token ended at 2027-01-16"):
        accounts.token(token)
    accounts.remove_token(number)
    with pytest.raises(RequestError, match="not known"):
        accounts.token(token)


@pytest.mark.parametrize("days", [0.0, -1.0, 1e9, float("nan")])
def test_a_token_ends_within_ten_years(days: float, accounts: Accounts) -> None:
    with pytest.raises(RequestError, match="days must be above 0"):
        accounts.add_token("phone", "viewer", (), days)


def test_no_secret_stands_in_the_file(accounts: Accounts, tmp_path: Path) -> None:
    printed = accounts.first_password()
    assert printed is not None
    session, _ = accounts.login("admin", printed, OWN, "10.0.0.9")
    _, token = accounts.add_token("phone", "viewer", (), 1.0)
    accounts.close()
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for secret in (printed, OWN, session, token):
        assert secret.encode() not in written
    assert b"$argon2id$" in written


def test_a_file_of_something_else_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.sqlite") as db:
        db.execute("CREATE TABLE a (b)")
    with pytest.raises(ConfigError, match="not an accounts file"):
        Accounts(tmp_path / "other.sqlite")


def test_what_was_done_is_kept_the_latest_first(accounts: Accounts) -> None:
    accounts.record("eve", "10.0.0.9", "POST /api/people")
    accounts.record("ada", "10.0.0.9", "DELETE /api/people/Bob")
    assert [(deed.who, deed.action) for deed in accounts.deeds()] == [
        ("ada", "DELETE /api/people/Bob"),
        ("eve", "POST /api/people"),
    ]
    assert [deed.who for deed in accounts.deeds(before=accounts.deeds()[0].id)] == ["eve"]
