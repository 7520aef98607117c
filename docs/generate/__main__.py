"""`python -m docs.generate`: write every generated page."""

from docs.generate.pages import DOCS, PAGES

for name, render in PAGES.items():
    (DOCS / name).write_text(render(), encoding="utf-8")
