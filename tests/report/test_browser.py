"""The page in a browser without network: charts are drawn, and what a person clicks works. Skipped without Chromium."""

import json
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

    def open_page(*runs, script="", plots=(PLOT,), size="1200,12000"):
        text = report_page(runs, titles=TITLES, preset=("demo", {}), plots=plots)
        caught = "<script>addEventListener('error', (e) => document.body.append('BROKEN ' + e.message))</script></head>"
        clicks = f"<script>addEventListener('load', () => {{ {script} }})</script></body>"
        text = text.replace("</head>\n", f"{caught}\n", 1)
        head, _, tail = text.rpartition("</body>")
        path = tmp_path / "page.html"
        path.write_text(head + clicks + tail)
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
        command += [f"--window-size={size}", "--virtual-time-budget=10000", "--dump-dom", path.as_uri()]
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


ROWS = {
    "by_class": [{"class": "ant", "field": "n", "n": "3"}, {"class": "bee", "field": "n", "n": "7"}],
    "class_by_class": [{"class": "ant", "of": "bee", "kind": "prototype", "cosine": "0.5"}],
    "class_curves": [{"class": "ant", "step": str(step), "field": "positive", "n": "1"} for step in (1, 2)],
    "confusion_matrix": [{"class": "ant", "of": "bee", "fraction": 0.5}],
}
MARKS = {"DATA": None, "TITLE": "plot", "X": "class", "Y": "n", "X_LABEL": "step"}


def filled(pytestconfig, template, revs):
    """A plot of dvc.yaml as DVC fills its template."""
    text = (pytestconfig.rootpath / f".dvc/plots/{template}.json").read_text()
    marks = MARKS | {"class_curves": {"X": "step"}, "confusion_matrix": {"Y": "of"}}.get(template, {})
    for name, value in marks.items():
        text = text.replace(f"<DVC_METRIC_{name}>", value) if value else text
    spec = json.loads(text)
    spec["data"] = {"values": [row | {"rev": rev} for rev in revs for row in ROWS[template]]}
    return Plot("plot", spec=spec)


@pytest.mark.parametrize("revs", [["workspace"], ["workspace", "other"]])
def test_plots_name_a_run_beside_others_alone(opened, run, pytestconfig, revs):
    text = opened(run(), plots=[filled(pytestconfig, template, revs) for template in ROWS])
    assert "BROKEN" not in text
    assert "cannot be drawn" not in text
    titles = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert titles.count("plot") == len(ROWS)
    for rev in revs:
        assert titles.count(rev) == (len(ROWS) if len(revs) > 1 else 0)


NARROW = """
  const frame = document.createElement('iframe');
  frame.style.cssText = 'width:360px;height:3000px;border:0';
  frame.srcdoc = document.documentElement.outerHTML.replace(/<script>addEventListener.'load'.*/s, '</body></html>');
  frame.onload = () => {
    const page = frame.contentDocument, right = (cell) => Math.round(cell.getBoundingClientRect().right);
    const headings = [...page.querySelectorAll('#steps-table th')];
    document.body.dataset.miou = right(headings.find((heading) => heading.textContent === 'mIoU'));
    document.body.dataset.nav = Math.max(...[...page.querySelectorAll('nav a')].map(right));
    document.body.dataset.table = right(page.querySelector('#class-table'));
    document.body.dataset.page = page.documentElement.scrollWidth;
  };
  document.body.append(frame);
"""


def test_on_a_phone_nothing_that_matters_is_cut(opened, run):
    """At 360 pixels: the mIoU of every step, the way through the page, and the table of classes."""
    text = opened(run(), script=NARROW)
    found = {name: int(right) for name, right in re.findall(r'data-(miou|nav|table|page)="(\d+)"', text)}
    assert set(found) == {"miou", "nav", "table", "page"}
    assert max(found.values()) <= 360


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
