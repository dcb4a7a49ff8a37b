"""What several commands do with text."""

from __future__ import annotations

import re


def first_sentence(text: str) -> str:
    """Up to the first full stop before a capital letter, which is left out; lines become one."""
    return re.split(r"\.(?: +(?=[A-Z])|$)", " ".join(text.split()))[0]


def counted(count: int, one: str, many: str = "") -> str:
    """1 image, 2,000 images."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def per_second(count: int, seconds: float) -> str:
    """A rate with what can be read of it: 1,234, 12.3 or 0.05."""
    rate = count / max(seconds, 1e-3)
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
