"""The page in a browser without network: charts are drawn, and what a person clicks works. Skipped without Chromium."""

import re
import shutil
import subprocess

import pytest

from sfc.report.page import Plot, report_page
from tests.report.conftest import TITLES

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
PLOT = Plot("plot", spec={"data": {"values": [{"a": 1}]}, "mark": "bar", "encoding": {"x": {"field": "a"}}})


@pytest.fixture
def opened(tmp_path):
    """The document after its scripts have run; `script` runs when the page has loaded."""

    def open_page(*runs, script=""):
        text = report_page(runs, titles=TITLES, preset=("demo", {}), plots=[PLOT])
        caught = "<script>addEventListener('error', (e) => document.body.append('BROKEN ' + e.message))</script></head>"
        clicks = f"<script>addEventListener('load', () => {{ {script} }})</script></body>"
        text = text.replace("</head>\n", f"{caught}\n", 1)
        head, _, tail = text.rpartition("</body>")
        path = tmp_path / "page.html"
        path.write_text(head + clicks + tail)
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
        command += ["--window-size=1200,12000", "--virtual-time-budget=10000", "--dump-dom", path.as_uri()]
        command += [f"--user-data-dir={tmp_path / 'profile'}"]
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        return re.sub(r"<script.*?</script>", "", found, flags=re.DOTALL)

    return open_page


def test_all_charts_are_drawn(opened, run):
    text = opened(run())
    assert "BROKEN" not in text
    assert "cannot be drawn" not in text
    assert text.count("<svg") >= text.count("data-chart=") - text.count("hidden")
    assert text.count('class="card"') == 2


def test_a_click_on_a_heading_sorts(opened, run):
    def order(clicks):
        press = "document.querySelectorAll('#class-table th')[1].click();" * clicks
        table = opened(run(f"{clicks} clicks"), script=press)
        table = table[table.index('id="class-table"') :]
        return re.findall(r"<td>(\w+)</td>", table[: table.index("</table>")])

    assert order(0) == ["background", "ant", "bee"]
    assert order(1) == ["bee", "ant", "background"]  # 7 and 3 images; background has no number, so it stays below
    assert order(2) == ["ant", "bee", "background"]


def test_mistakes_filter_and_viewer(opened, run):
    press = """
      [...document.querySelectorAll('#gallery .choice button')].find((b) => b.textContent === 'Mistakes').click();
      const select = [...document.querySelectorAll('#gallery select')][0];
      select.value = '1'; select.dispatchEvent(new Event('change'));
      document.querySelector('.cards button').click();
    """
    text = opened(run("A"), run("B", 42.5), script=press)
    assert "BROKEN" not in text
    assert text.count("A: IoU of ant 50.0 %") == text.count("B: IoU of ant 42.5 %") == 2
    assert "<dialog" in text
    assert "Through the steps" in text


def test_without_masks_there_is_nothing_to_choose_but_images_and_labels(opened, run):
    text = opened(run(miou=None))
    assert "BROKEN" not in text
    assert "worst first" not in text
    assert "in the order of the list" in text
