"""The report in a real browser: it draws, and can be hovered, filtered, saved, read by keyboard."""

import csv
import json

import pytest

from compare.conftest import CHROMIUM
from compare.runs import made_up, record
from surefoot.compare.report.html import merge, write_report
from surefoot.compare.statistics.analysis import summarize
from surefoot.compare.trials.store import FIRST_FRESH_SEED, Trial

pytestmark = [pytest.mark.once, pytest.mark.browser]

RESULTS = {
    "Adam": {1e-3: [0.80, 0.82], 1e-2: [0.95, 0.96], 1e-1: [0.5, None]},
    "own.py:<b>Mine</b>": {1e-3: [0.70, 0.72], 1e-2: [0.90, 0.93], 1e-1: [0.85, 0.91]},
}
LONG = "own.py:Lookahead(SGD(momentum=0.9,nesterov=True))+warmup(0.1)+cosine"
FAR = "own.py:OptimizerOfOurOwn(momentum=0.9,nesterov=True)+warmup(0.1)"
# Three within 0.01, and one far off, each with two fresh seeds at its best learning rate.
CLOSE = {"Adam": 0.970, LONG: 0.972, "AdamW": 0.966, FAR: 0.6}
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    other = made_up({"SGD": {0.1: [2.0, 2.5]}}, task="other", higher_is_better=False)
    return write_report(folder, merge([made_up(RESULTS), other]))


@pytest.fixture(scope="module")
def close_report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("close")
    run = made_up({name: {1e-4: [0.1], 1e-2: [best, best + 0.001]} for name, best in CLOSE.items()})
    for name, best in CLOSE.items():
        for i in range(2):
            trial = Trial(name, 1e-2, FIRST_FRESH_SEED + i)
            run.records[trial] = record(best + 0.002 * i) | {"validation_noise": 0.004}
    decayed = made_up({}, task="decayed")
    for i, rate in enumerate((1e-3, 1e-2)):
        for j, decay in enumerate((1e-4, 1e-2)):
            trial = Trial("AdamW", rate, 0, (("weight_decay", decay),))
            decayed.records[trial] = record(0.9 + 0.01 * (i + 2 * j))
    return write_report(folder, [run, decayed])


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Containers run as root, where Chromium has no sandbox.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_report(browser, report):
    """Opens the report and afterwards makes sure that nothing was complained about or loaded."""
    opened = []

    def open_page(path=report, **options):
        context = browser.new_context(offline=True, **options)
        page = context.new_page()
        seen = []
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector('[data-section="0"] [data-chart="target"] .plot svg')
        opened.append((context, seen))
        return page

    yield open_page
    for context, seen in opened:
        context.close()
        loaded = [entry for entry in seen if not entry.startswith(("file:", "blob:", "data:"))]
        assert not loaded


def plot(page, chart="rates"):
    return page.locator(f'[data-section="0"] [data-chart="{chart}"]')


def lines(page, chart="rates") -> list[str]:
    return (
        plot(page, chart)
        .locator(".plot")
        .evaluate(
            "plot => plot.data.filter(t => t.reading && t.mode !== 'markers').map(t => t.name)"
        )
    )


def test_it_says_the_answer_and_draws_the_charts(open_report):
    page = open_report(viewport={"width": 1200, "height": 900})
    assert page.locator("h2").all_inner_texts() == ["made-up on jax", "other on jax"]
    assert "no difference can be shown with 2 seeds" in page.locator(".verdict").first.inner_text()
    # Names are text, whatever they contain.
    assert page.locator("tbody th").all_inner_texts()[1] == "own.py:<b>Mine</b>"
    assert lines(page) == list(RESULTS)
    # Adam's best learning rate and the other's, two seeds each.
    assert len(lines(page, "curves")) == 4
    assert plot(page).locator(".scatterlayer .trace").count() >= 6


def test_the_table_tells_what_is_behind_the_best_and_how_sure_that_is(open_report):
    page = open_report(viewport={"width": 1280, "height": 900})
    cells = page.locator('[data-section="0"] .answer tbody td:nth-child(4)').all_inner_texts()
    (difference,) = summarize(made_up(RESULTS)).differences
    expected = [f"{difference.difference:.2g}", f"p = {difference.p_value:.2g}"]
    assert [each.split("\n") for each in cells] == [
        ["-"],
        [*expected, f"{difference.more_seeds} more seeds"],
    ]
    assert page.locator(".answer small").first.inner_text() == "1 of 6 diverged"
    text = page.locator('[data-section="0"]').inner_text()
    assert "3 settings of each optimizer, on a grid; schedule constant; target 0.945" in text


def test_hovering_tells_the_numbers(open_report):
    page = open_report(viewport={"width": 1200, "height": 900})
    # After the five seeds of Adam that finished come its means, of which this is the second.
    marker = plot(page).locator(".scatterlayer .trace path.point").nth(5 + 1)
    marker.scroll_into_view_if_needed()
    box = marker.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".hoverlayer .hovertext")
    text = plot(page).locator(".hoverlayer").text_content()
    assert "Adam, learning rate 0.01: 0.955" in text


def test_filtering_and_choosing(open_report):
    page = open_report(viewport={"width": 1200, "height": 900})
    page.locator('[data-section="0"] .filter input').first.uncheck()
    assert lines(page) == ["own.py:<b>Mine</b>"]
    page.locator('[data-section="0"] .filter .none').click()
    assert lines(page) == []
    assert "nothing to show" in plot(page).inner_text()
    page.locator('[data-section="0"] .filter .all').click()
    curves = plot(page, "curves")
    curves.locator('select[name="rate"]').select_option(label="0.1")
    curves.locator('select[name="value"]').select_option("train_loss")
    curves.locator('select[name="unit"]').select_option("seconds")
    assert "training loss" in curves.inner_text()
    assert "seconds of training" in curves.inner_text()


def test_saving(open_report, tmp_path):
    page = open_report(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    for form, start in (("svg", b"<svg"), ("png", b"\x89PNG")):
        with page.expect_download() as download:
            plot(page).locator(f'.save[data-format="{form}"]').click()
        download.value.save_as(tmp_path / form)
        assert download.value.suggested_filename == f"made-up-rates.{form}"
        assert (tmp_path / form).read_bytes().startswith(start)
    with page.expect_download() as download:
        page.locator("#save-csv").click()
    download.value.save_as(tmp_path / "csv")
    with (tmp_path / "csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 14
    with page.expect_download() as download:
        page.locator("#save-json").click()
    download.value.save_as(tmp_path / "json")
    saved = json.loads((tmp_path / "json").read_text())
    assert [len(section["trials"]) for section in saved["sections"]] == [12, 2]


def test_the_keyboard_reaches_everything(open_report):
    page = open_report(viewport={"width": 1200, "height": 900})
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        active = "document.activeElement"
        reached.add(page.evaluate(f"{active}.className || {active}.type || {active}.tagName"))
        if page.evaluate(f"{active}.matches('[data-chart=rates] .plot')"):
            break
    assert {"checkbox", "save", "plot", "SUMMARY", "select-one"} <= {
        each.split()[0] for each in reached
    }
    reading = plot(page).locator(".spoken")
    page.keyboard.press("ArrowRight")
    assert reading.inner_text().startswith("Adam, learning rate 0.001: 0.81")
    page.keyboard.press("ArrowRight")
    assert reading.inner_text().startswith("Adam, learning rate 0.01: 0.955")
    page.keyboard.press("ArrowDown")
    assert "1 of 2 diverged" in reading.inner_text()
    page.keyboard.press("ArrowDown")
    assert reading.inner_text().startswith("own.py:<b>Mine</b>")
    page.keyboard.press("Escape")
    assert reading.inner_text() == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_and_the_button(open_report, scheme):
    page = open_report(viewport={"width": 1200, "height": 900}, color_scheme=scheme)
    other = {"light": "dark", "dark": "light"}[scheme]
    for expected in (scheme, other, scheme):
        assert brightness(page, "getComputedStyle(document.body).backgroundColor") == expected
        ground = "getComputedStyle(document.querySelector('.plot .main-svg')).backgroundColor"
        assert brightness(page, ground) == expected
        page.locator("#theme").click()


def brightness(page, expression: str) -> str:
    colour = page.evaluate(expression)
    channels = [int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    return "light" if sum(channels) > 3 * 128 else "dark"


def test_on_a_phone_nothing_hangs_over_the_edge(open_report):
    page = open_report(**PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert plot(page).locator(".plot svg").first.bounding_box()["width"] <= 360
    page.locator('[data-section="0"] .filter input').first.tap()
    assert lines(page) == ["own.py:<b>Mine</b>"]
    # The cards name what the columns of the wide table say above.
    cell = page.locator(".answer td").first
    assert "Best learning rate" in cell.evaluate("e => getComputedStyle(e, '::before').content")


def span(page, chart, axis):
    """The ends of an axis."""
    return plot(page, chart).locator(".plot").evaluate(f"p => p._fullLayout.{axis}.range")


def test_the_main_chart_shows_where_they_differ(open_report, close_report):
    page = open_report(close_report, viewport={"width": 1280, "height": 900})
    low, high = span(page, "best", "xaxis")
    bound = CLOSE[LONG] + 0.0005 - 0.01
    assert 0.93 < low < bound < CLOSE[LONG] + 0.002 < high < 1
    assert plot(page, "best").locator(".outside").inner_text() == f"Worse than this range: {FAR}."
    noise, line = plot(page, "best").locator(".plot").evaluate("p => p.layout.shapes")
    assert line["x0"] == line["x1"] == pytest.approx(bound)
    # The noise of the validation data, around the best mean.
    best = CLOSE[LONG] + 0.001
    assert [noise["x0"], noise["x1"]] == pytest.approx([best - 0.004, best + 0.004])
    page.locator('[data-section="0"] .filter input').first.uncheck()
    assert len(plot(page, "best").locator(".plot").evaluate("p => p.layout.shapes")) == 1
    page.locator('[data-section="0"] .filter input').first.check()
    # Two fresh seeds as rings, and a mean, of each.
    counts = plot(page, "best").locator(".plot").evaluate("p => p.data.map(t => t.x.length)")
    assert counts == [2, 1] * 4
    for chart in ("rates", "curves"):
        assert span(page, chart, "yaxis")[0] > 0.4
    for chart, axis in (("best", "xaxis"), ("rates", "yaxis"), ("curves", "yaxis")):
        plot(page, chart).locator('select[name="scale"]').select_option("all")
        assert span(page, chart, axis)[0] < CLOSE[FAR]
        assert plot(page, chart).locator(".outside").inner_text() == ""
    plot(page, "curves").locator('select[name="value"]').select_option("validation_loss")
    plot(page, "curves").locator('select[name="scale"]').select_option("log")
    kind = plot(page, "curves").locator(".plot").evaluate("p => p._fullLayout.yaxis.type")
    assert kind == "log"
    # Fresh seeds are marked in the picture of learning rates, too, and can be read.
    words = plot(page).locator(".plot").evaluate("p => p.data.flatMap(t => t.text ?? [])")
    assert "Adam, learning rate 0.01, fresh seeds: 0.971" in " ".join(words)


def test_weight_decay_has_a_picture_if_it_was_searched(open_report, close_report):
    page = open_report(close_report, viewport={"width": 1280, "height": 900})
    assert plot(page, "decay").count() == 0
    decay = page.locator('[data-section="1"] [data-chart="decay"]')
    (trace,) = decay.locator(".plot").evaluate("p => p.data")
    found = sorted(zip(trace["x"], trace["y"], trace["marker"]["color"], strict=True))
    assert [each[:2] for each in found] == [(r, d) for r in (1e-3, 1e-2) for d in (1e-4, 1e-2)]
    assert [each[2] for each in found] == pytest.approx([0.9, 0.92, 0.91, 0.93])
    assert "weight decay 0.01: 0.93" in trace["text"][-1]


def test_charts_are_tables_for_who_does_not_see_them(open_report):
    page = open_report(viewport={"width": 1200, "height": 900})
    plot(page).locator(".as-table summary").click()
    table = plot(page).locator(".as-table table")
    table.locator("th").first.wait_for()
    head = table.locator("th").all_inner_texts()
    assert head == ["optimizer", "learning rate", "validation accuracy", "in words"]
    rows = [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]
    assert rows[1] == ["Adam", "0.01", "0.955", rows[1][3]]
    assert rows[1][3].startswith("learning rate 0.01: 0.955, interval 0.8915 to 1.019, 2 seeds")
    assert rows[3][:3] == ["Adam", "0.1", "-"]
    # It follows the choice of optimizers.
    page.locator('[data-section="0"] .filter input').first.uncheck()
    assert {row.locator("td").first.inner_text() for row in table.locator("tbody tr").all()} == {
        "own.py:<b>Mine</b>"
    }


def test_everything_is_in_one_typeface(open_report):
    page = open_report(viewport={"width": 1200, "height": 900})
    body = page.evaluate("getComputedStyle(document.body).fontFamily")
    texts = "[...document.querySelectorAll('.plot svg text')]"
    assert page.evaluate(f"{texts}.map(e => getComputedStyle(e).fontFamily)") == pytest.approx(
        [body] * page.evaluate(f"{texts}.length")
    )


CUT = """
[...document.querySelectorAll(".answer th, .answer td, .answer span, .plot svg, li, p")]
  .filter(e => e.getClientRects().length && !e.closest("thead") && (
    e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 ||
    e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline"))
  .map(e => e.outerHTML.slice(0, 80))
"""


@pytest.mark.parametrize("width", [1280, 390, "print"])
def test_nothing_is_cut(open_report, close_report, width):
    paper = 688  # A4 without its margins
    page = open_report(
        close_report, viewport={"width": 1280 if width == "print" else width, "height": 900}
    )
    if width == "print":
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.set_viewport_size({"width": paper, "height": 900})
        ground = "getComputedStyle(document.querySelector('.plot .main-svg')).backgroundColor"
        assert brightness(page, ground) == "light"
        assert page.locator(".controls").first.is_hidden()
    assert page.evaluate(CUT) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    if width == "print":
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate("document.documentElement.dataset.theme") is None
