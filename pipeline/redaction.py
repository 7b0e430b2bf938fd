"""Secrets in addresses: no message and no file repeats them."""

import re

HIDDEN = "***"
USER = re.compile(r"(?<=://)(?:[^/\s@]*:\S*|[^/\s@]*)@")
"""`user:password@` or `token@` of an address; a password may hold / and @."""
VALUE = re.compile(r"(?i)([?&][^=&\s]*(?:password|passwd|token|secret|key)[^=&\s]*=)[^&\s)'\"]+")


def redact(text: str) -> str:
    """A text with `***` for what only its owner may know: users and passwords of addresses, keys and tokens."""
    return VALUE.sub(rf"\1{HIDDEN}", USER.sub(f"{HIDDEN}@", text))


def has_secret(address: str) -> bool:
    """Whether an address holds a user, a password, a key or a token."""
    return redact(address) != address
