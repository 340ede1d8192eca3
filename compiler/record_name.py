"""What something is kept under in the store."""

from __future__ import annotations

import json
from hashlib import blake2b


def record_name(what: object) -> str:
    """A name for plain data: equal for equal data, in whatever order its words stand."""
    return blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=20).hexdigest()
