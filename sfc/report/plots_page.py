"""The page that `dvc plots show` fills: `python -m sfc.report.plots_page` writes it, with scripts, to .dvc/plots.

DVC puts plots where the page says {plot_divs}, and links to scripts on the net where it says {scripts}: nowhere here.
"""

from __future__ import annotations

from pathlib import Path

from sfc.report.vega_scripts import vega_scripts

PAGE = Path(".dvc/plots/page.html")  # dvc's config names it: plots.html_template


def plots_page() -> str:
    """The whole page, with DVC's placeholders in it."""
    frame = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    return frame.replace("{inlined_scripts}", vega_scripts())


if __name__ == "__main__":
    PAGE.write_text(plots_page(), encoding="utf-8")
