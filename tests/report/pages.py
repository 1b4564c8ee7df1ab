"""Reads a study's page without a browser: its text by section, its addresses, and what its figures draw."""

import json
import re
from html.parser import HTMLParser


class Reader(HTMLParser):
    """The page's text by section, without its scripts, and every address that it names."""

    def __init__(self):
        super().__init__()
        self.sections, self.now, self.skipping, self.addresses = {}, "head", False, []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.addresses += [given[key] for key in ("src", "href", "action") if key in given]
        self.skipping = tag in ("script", "style")
        if tag == "section":
            self.now = given["id"]

    def handle_endtag(self, _):
        self.skipping = False

    def handle_data(self, data):
        if not self.skipping:
            self.sections[self.now] = f"{self.sections.get(self.now, '')} {data.strip()}".strip()


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def figures_of(path):
    """Each figure's traces and layout, by the id of its element."""
    text = path.read_text(encoding="utf-8")
    found = {}
    for match in re.finditer(r'Plotly\.newPlot\(\s*"([a-z]+-\d+)",\s*', text):
        traces, end = json.JSONDecoder().raw_decode(text, match.end())
        layout, _ = json.JSONDecoder().raw_decode(text, re.compile(r",\s*").match(text, end).end())
        found[match[1]] = traces, layout
    return found


def plotted(path):
    """Each figure's traces, by the id of its element."""
    return {name: traces for name, (traces, _) in figures_of(path).items()}
