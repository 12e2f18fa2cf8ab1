"""The report in a real browser: it draws, and can be hovered, filtered, saved, read by keyboard."""

import csv

import pytest

from compare.conftest import CHROMIUM
from compare.runs import made_up
from surefoot.compare.report.html import merge, write_report

pytestmark = [pytest.mark.once, pytest.mark.browser]

RESULTS = {
    "Adam": {1e-3: [0.80, 0.82], 1e-2: [0.95, 0.96], 1e-1: [0.5, None]},
    "own.py:<b>Mine</b>": {1e-3: [0.70, 0.72], 1e-2: [0.90, 0.93], 1e-1: [0.85, 0.91]},
}
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    other = made_up({"SGD": {0.1: [2.0, 2.5]}}, task="other", higher_is_better=False)
    return write_report(folder, merge([made_up(RESULTS), other]))


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

    def open_page(**options):
        context = browser.new_context(offline=True, **options)
        page = context.new_page()
        seen = []
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url))
        page.goto(report.as_uri())
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


def test_hovering_tells_the_numbers(open_report):
    page = open_report(viewport={"width": 1200, "height": 900})
    marker = plot(page).locator(".scatterlayer .trace path.point").nth(1)
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


def test_the_keyboard_reaches_everything(open_report):
    page = open_report(viewport={"width": 1200, "height": 900})
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.className || document.activeElement.type")
        )
        if reached[-1].startswith("plot"):
            break
    assert {"checkbox", "save", "wide"} <= set(reached)
    reading = plot(page).locator(".reading")
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
