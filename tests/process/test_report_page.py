"""The HTML report in a real headless Chromium: what a reader sees, not what the file says."""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import build_evidence
from ecrl.report.pages.render import render
from tests.unit.analysis.campaign_builder import campaign

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--disable-dev-shm-usage",
)  # fmt: skip
WIDE, TABLET, PHONE, A4 = 1280, 768, 390, 718  # CSS pixels; A4 without the margins that Chromium prints with
READABLE = 4.5  # WCAG 2.2, 1.4.3: contrast of text
VISIBLE = 4.0  # WCAG 2.2, 1.4.11 asks for 3.0 of shapes

# What computes the contrast of two colours, and finds the colour that lies behind an element.
COLOURS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgb = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
const light = (color) => color.slice(0, 3).map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (node) => { for (let e = node; e; e = e.parentElement) {
  const color = rgb(getComputedStyle(e).backgroundColor); if (color[3] === 1) return color; }
  return [255, 255, 255, 1]; };
"""
# Every element with text of its own, with the contrast of its colour to what lies behind it.
CONTRASTS = (
    COLOURS
    + """
const found = [];
for (const node of document.querySelectorAll("body *")) {
  const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
  if (!own || ["SCRIPT", "STYLE"].includes(node.tagName) || node.closest("defs, metadata")) continue;
  const style = getComputedStyle(node), svg = node.closest("svg") !== null;
  const a = light(rgb(svg ? style.fill : style.color)), b = light(behind(node));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  found.push([ratio, node.tagName + ": " + node.textContent.trim().slice(0, 40)]);
}
return found.sort((x, y) => x[0] - y[0]);
"""
)
# Every bar and curve of the plots, with the contrast of its colour to what lies behind the plot.
SHAPES = (
    COLOURS
    + """
const found = [];
for (const node of document.querySelectorAll("figure svg path")) {
  const style = getComputedStyle(node), color = style.fill !== "none" ? style.fill : style.stroke;
  if (color === "none" || node.closest("defs, [id*=grid], [id*=axis]") || rgb(color)[3] < 1) continue;
  const a = light(rgb(color)), b = light(behind(node));
  found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), color]);
}
return found;
"""
)
# Elements that reach beyond the right edge and do not lie in a box that scrolls by itself.
OVERFLOWING = """
return [...document.querySelectorAll("body *")]
  .filter((e) => !e.parentElement.closest(".wide, svg") && e.getBoundingClientRect().right > innerWidth + 0.5)
  .map((e) => e.tagName + "." + e.className);
"""


def tool(*names: str) -> str:
    """The first of these programs that is installed; without any the test is skipped, on CI it fails."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        missing = f"{names[0]} is not installed (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Chromium of its own, with a fresh profile, driven by the chromedriver beside it."""
    chromium, driver = tool("chromium", "chromium-browser", "google-chrome"), tool("chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = chromium
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report with every plot, long suite ids, a failed run and claims."""
    folder = tmp_path_factory.mktemp("page")
    paths = campaign(folder / "results")
    result = next(paths.root.glob("suites/*/overlapped/seed1/result.json"))
    result.write_text(json.dumps(json.loads(result.read_text()) | {"outcome": "failed", "reason": "rank 1 died"}))
    render(build_evidence(load_campaign(paths)), folder, ["html"])
    return (folder / "exp_report.html").as_uri()


class Page:
    """One address, shown in several ways."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser, self.address = browser, address

    def show(self, width: int, *, dark: bool = False, media: str = "") -> None:
        """Load the page as a window of this width shows it."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        self.browser.get(self.address)

    def ask(self, script: str) -> Any:
        """What a script returns."""
        return self.browser.execute_script(script)

    def log(self) -> list[str]:
        """Messages on the console since the last time."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture
def page(browser: Any, report: str) -> Page:
    return Page(browser, report)


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_the_page_renders_without_a_message_and_fits_its_window(page: Page, width: int) -> None:
    page.log()
    page.show(width)
    assert page.log() == []
    assert page.ask("return document.querySelectorAll('svg').length") == 9
    assert page.ask("return [...document.querySelectorAll('svg')].every((s) => s.getBoundingClientRect().height > 50)")
    assert page.ask("return document.documentElement.scrollWidth") == width
    assert page.ask(OVERFLOWING) == []


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_everything_wider_than_its_box_can_be_scrolled_to(page: Page, width: int) -> None:
    page.show(width)
    boxes = page.ask(
        "return [...document.querySelectorAll('.wide')]"
        ".map((box) => [box.scrollWidth > box.clientWidth, getComputedStyle(box).overflowX])"
    )
    assert boxes
    assert all(style == "auto" for _, style in boxes)
    assert any(wider for wider, _ in boxes) == (width == PHONE)


@pytest.mark.parametrize("width", [WIDE, TABLET, PHONE])
def test_plots_use_the_width_and_nothing_of_them_is_cut(page: Page, width: int) -> None:
    page.show(width)
    shares = page.ask(
        "return [...document.querySelectorAll('figure svg')].map((svg) => "
        "svg.getBoundingClientRect().width / svg.parentElement.getBoundingClientRect().width)"
    )
    assert min(shares) > 0.9
    assert max(shares) <= 1.001


@pytest.mark.parametrize("width", [WIDE, TABLET, PHONE])
def test_the_contents_stay_in_sight_and_lead_to_every_section(page: Page, width: int) -> None:
    page.show(width)
    page.ask("scrollTo(0, 4000)")
    box = ".beside" if width == WIDE else ".above"
    assert page.ask(f"return document.querySelector('{box}').getBoundingClientRect().top") == 0
    if width != WIDE:
        page.browser.find_element("css selector", ".above summary").click()
    names = page.ask(f"return [...document.querySelectorAll('{box} a')].map((a) => a.innerText)")
    assert names[0] == "0. Answer"
    assert names[-1] == "Back to top"
    assert names[:-1] == page.ask("return [...document.querySelectorAll('h2')].map((h) => h.innerText)")
    page.browser.find_element("link text", names[5]).click()
    below = page.ask("return document.querySelector('#s6').getBoundingClientRect().top")
    assert -1 < below < 60
    assert not page.ask("return document.querySelector('.above').open")


def test_sections_fold_and_print_whole(page: Page) -> None:
    page.show(WIDE)
    tall = page.ask("return document.documentElement.scrollHeight")
    page.browser.find_element("css selector", "#s5 summary").click()
    assert page.ask("return document.documentElement.scrollHeight") < tall - 500
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert page.ask("return document.querySelector('#s5 table').checkVisibility({contentVisibilityAuto: true})")
    assert page.ask("return document.querySelector('#s5 table').getBoundingClientRect().height") > 100


def test_a_table_that_scrolls_says_so_and_one_of_words_is_stacked_on_a_phone(page: Page) -> None:
    page.show(PHONE)
    hints = page.ask(
        "return [...document.querySelectorAll('.wide')].map((box) => [box.scrollWidth > box.clientWidth, "
        "getComputedStyle(box, '::before').content !== 'none'])"
    )
    assert any(scrolls for scrolls, _ in hints)
    assert all(scrolls == told for scrolls, told in hints)
    lefts = page.ask("return [...document.querySelectorAll('.words td')].map((td) => td.getBoundingClientRect().left)")
    assert len(set(lefts)) == 1


def test_shapes_of_plots_are_visible_in_the_dark(page: Page) -> None:
    page.show(WIDE, dark=True)
    shapes = page.ask(SHAPES)
    assert len(shapes) > 50
    assert [entry for entry in shapes if entry[0] < VISIBLE] == []


def column(page: Page, table: int, place: int) -> list[str]:
    rows = f"[...document.querySelectorAll('table')[{table}].tBodies[0].rows]"
    return list(page.ask(f"return {rows}.map((row) => row.cells[{place}].innerText)"))


def click(page: Page, table: int, place: int) -> str:
    head = f"document.querySelectorAll('table')[{table}].tHead.rows[0].cells[{place}]"
    page.ask(f"{head}.querySelector('button').click()")
    return str(page.ask(f"return {head}.getAttribute('aria-sort')"))


def test_a_click_sorts_by_number_and_by_word_and_another_turns_it_round(page: Page) -> None:
    page.show(WIDE)
    titles = page.ask("return [...document.querySelectorAll('table')].map((t) => t.tHead.innerText)")
    ledger = next(place for place, title in enumerate(titles) if "bucket" in title)
    before = column(page, ledger, 0)
    assert click(page, ledger, 1) == "ascending"
    seconds = [float(text) for text in column(page, ledger, 1)]
    assert seconds == sorted(seconds)
    assert click(page, ledger, 1) == "descending"
    assert [float(text) for text in column(page, ledger, 1)] == sorted(seconds, reverse=True)
    assert click(page, ledger, 0) == "ascending"
    assert column(page, ledger, 0) == sorted(before)
    assert page.ask(f"return document.querySelectorAll('table')[{ledger}].querySelectorAll('[aria-sort]').length") == 1


def test_headers_can_be_reached_and_sorted_from_the_keyboard(page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    page.show(WIDE)
    button = page.browser.find_element("css selector", "thead button")
    button.send_keys(Keys.ENTER)
    assert page.ask("return document.querySelector('th').getAttribute('aria-sort')") == "ascending"


@pytest.mark.parametrize("dark", [False, True])
def test_every_word_is_legible_in_light_and_in_dark(page: Page, dark: bool) -> None:
    page.show(WIDE, dark=dark)
    background = page.ask("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") != dark
    contrasts = page.ask(CONTRASTS)
    assert len(contrasts) > 300
    assert [entry for entry in contrasts if entry[0] < READABLE] == []


def test_it_prints_light_and_within_the_paper(page: Page) -> None:
    page.show(A4, dark=True, media="print")
    assert page.ask("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.ask("return getComputedStyle(document.querySelector('nav')).display") == "none"
    wide = "return [...document.querySelectorAll('table, svg')].map((e) => e.getBoundingClientRect().right)"
    assert max(page.ask(wide)) <= A4 + 0.5
    printed = page.browser.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")


def test_the_page_asks_nothing_of_the_network(page: Page) -> None:
    page.show(WIDE)
    assert page.ask("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []


def test_a_page_is_small_enough_to_send(report: str) -> None:
    assert Path(report.removeprefix("file://")).stat().st_size < 3_000_000
