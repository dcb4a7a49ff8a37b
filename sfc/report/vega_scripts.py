"""The scripts that draw charts, written into a page with their licences, so that it needs no network."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("vega")
_PACKAGES = ("vega", "vega-lite", "vega-embed")  # in this order: each needs those before it


def vega_scripts() -> str:
    """HTML for a page's head: Vega, Vega-Lite and Vega-Embed, after it `vegaEmbed(element, spec)` is there."""
    return "\n".join(
        f"<!--\n{_read(f'LICENSE.{package}').strip()}\n-->\n<script>{_without_map(_read(f'{package}.min.js'))}</script>"
        for package in _PACKAGES
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _without_map(script: str) -> str:
    """Without the last line, by which browsers' developer tools would look for a file beside the page."""
    return script.rpartition("//# sourceMappingURL=")[0].rstrip()
