"""What decoding raises of bytes that may be anybody's; apart from our own errors, which need no other package."""

from typing import Final

import msgspec

# Besides msgspec's own: of text that is no UTF-8, and of what is nested too deeply.
UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
