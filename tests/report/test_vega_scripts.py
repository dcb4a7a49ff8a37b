import hashlib
import re

from sfc.report.plots_page import plots_page
from sfc.report.vega_scripts import vega_scripts


def test_scripts_are_those_released(pytestconfig):
    folder = pytestconfig.rootpath / "sfc/report/vega"
    listed = re.findall(r"\| `([\w.-]+\.js)` \| ([0-9a-f]{64}) \|", (folder / "README.md").read_text())
    assert len(listed) == 3
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name, _ in listed} == dict(listed)


def test_scripts_come_whole_in_order_and_with_their_licences(pytestconfig):
    text = vega_scripts()
    folder = pytestconfig.rootpath / "sfc/report/vega"
    places = []
    for package in ("vega", "vega-lite", "vega-embed"):
        script = (folder / f"{package}.min.js").read_text().rpartition("\n//#")[0].rstrip()
        assert len(script) > 50_000
        places.append(text.index(script))
        assert (folder / f"LICENSE.{package}").read_text().strip() in text
    assert places == sorted(places)
    assert text.count("<script>") == text.count("</script>") == 3
    assert "sourceMappingURL" not in text


def test_the_page_of_dvc_plots_is_up_to_date(pytestconfig):
    written = (pytestconfig.rootpath / ".dvc/plots/page.html").read_text(encoding="utf-8")
    assert written == plots_page(), "write it again: python -m sfc.report.plots_page"
    assert written.count("{plot_divs}") == 1
    assert "{scripts}" not in written  # there DVC would link to the net
