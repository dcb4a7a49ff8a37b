"""CITATION.cff says what pyproject.toml, LICENSE and README say."""

import tomllib
from pathlib import Path

from sfc.params import read_yaml

ROOT = Path(__file__).resolve().parents[1]
CITATION = read_yaml((ROOT / "CITATION.cff").read_text(), source="CITATION.cff")


def test_the_software_is_this_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (CITATION["version"], CITATION["license"]) == (project["version"], project["license"])
    assert CITATION["authors"] == [{"name": "The authors of this repository"}]
    assert CITATION["authors"][0]["name"] in (ROOT / "LICENSE").read_text()


def test_the_citation_is_that_of_the_readme():
    readme, paper = (ROOT / "README.md").read_text(), CITATION["preferred-citation"]
    entry = readme[readme.index("@inproceedings") :]
    names = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    for value in (paper["title"], names, paper["collection-title"], str(paper["year"])):
        assert f"{{{value}}}" in entry
    assert f"https://doi.org/{paper['doi']}" in readme
    assert paper["url"] in readme
