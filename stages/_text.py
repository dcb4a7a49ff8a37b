"""What several commands do with text."""

from __future__ import annotations

import re


def first_sentence(text: str) -> str:
    """Up to the first full stop before a capital letter, which is left out; lines become one."""
    return re.split(r"\.(?: +(?=[A-Z])|$)", " ".join(text.split()))[0]
