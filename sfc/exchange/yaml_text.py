"""Text as YAML reads it back."""

from __future__ import annotations

import json


def quoted(text: str) -> str:
    """`text` in double quotes, in ASCII alone; for YAML 1.1 and 1.2.

    As JSON, but for characters beyond U+FFFF: JSON writes them as two halves, which YAML leaves apart.
    """
    return '"' + "".join(f"\\U{ord(c):08x}" if ord(c) > 0xFFFF else json.dumps(c)[1:-1] for c in text) + '"'
