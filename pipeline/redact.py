"""Source addresses as they may be shown: in logs, messages, metrics and errors."""

import re

# From the first colon after the scheme to the *last* @, because people do not escape the @, / and : in their
# passwords. An address with an @ in its path loses more than it must; a password never gets through.
_PASSWORD = re.compile(r"\A((?:[^:]*:/+)?+[^:]*):.*@", re.DOTALL)
# name=value anywhere, not in the query alone: some cameras take /user=admin&password=... as a path.
_SECRET = re.compile(r"([\w.-]*(?:pas|pwd|psw|pw|key|token|secret|auth|sig|cred|session)[\w.-]*=)[^&]*", re.IGNORECASE)


def redact(source: str) -> str:
    """A source address without its password; the user name stays, secret-like query values become ``***``.

    >>> redact("rtsp://ada:pa@ss/word@10.0.0.7:554/live?token=abc&channel=1")
    'rtsp://ada@10.0.0.7:554/live?token=***&channel=1'
    """
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1@", source))
