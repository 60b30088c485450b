"""A report in a browser: it opens without an error or a request, its views turn and mark, points answer a click."""

import json
import shutil
from types import SimpleNamespace

import pytest

from reports import KINDS, assessed
from rsgm.report import evaluation_page, write_report

pytestmark = pytest.mark.browser
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser():
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("there is no Chromium with its chromedriver")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1100,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=KINDS)
def opened(request, browser, tmp_path_factory):
    """The page of each kind, in the browser, and what was assessed for it."""
    folder = tmp_path_factory.mktemp(request.param)
    found = assessed(KINDS[request.param](folder), folder)
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(write_report(folder, evaluation_page(found)).as_uri())
    return SimpleNamespace(kind=request.param, found=found, browser=browser)


@pytest.fixture
def canvas(opened):
    """The first of the page's views."""
    found = opened.browser.find_element("id", "view-0")
    opened.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
    return found


def requests(browser) -> list[str]:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def drag(browser, canvas, start, end) -> None:
    """From a place to another, in pixels from the middle."""
    from selenium.webdriver import ActionChains

    actions = ActionChains(browser, duration=20).move_to_element_with_offset(canvas, *start).click_and_hold()
    steps = 4
    for _ in range(steps):
        actions = actions.move_by_offset(*((b - a) // steps for a, b in zip(start, end, strict=True)))
    actions.release().perform()


def picture_of(browser, canvas) -> str:
    """All that a canvas shows."""
    return browser.execute_script("return arguments[0].toDataURL()", canvas)


def test_it_opens_without_an_error_or_a_request(opened):
    """And what names of data say is not run."""
    asked = [url for url in requests(opened.browser) if not url.startswith("data:")]
    assert len(asked) == 1
    assert asked[0].endswith("report.html")
    assert opened.browser.get_log("browser") == []
    broken = "return [...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
    assert opened.browser.execute_script(broken) == 0
    assert len(opened.browser.find_elements("tag name", "canvas")) == {"pairs": 3, "product": 3}.get(opened.kind, 1)
    # wider than a page of its width is nothing but what scrolls by itself
    assert opened.browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0


def test_it_turns_by_mouse_and_by_keys(opened, canvas):
    if opened.kind not in ("globe", "ball", "product"):
        pytest.skip("angles do not turn")
    before, picture = canvas.get_attribute("data-rotation"), picture_of(opened.browser, canvas)
    drag(opened.browser, canvas, (-40, 0), (40, 0))
    dragged = canvas.get_attribute("data-rotation")
    assert dragged != before
    assert picture_of(opened.browser, canvas) != picture
    canvas.send_keys("\ue014")  # the right arrow
    turned = canvas.get_attribute("data-rotation")
    assert turned != dragged
    if opened.kind == "globe":
        longitude, latitude = (list(map(float, where.split(","))) for where in (before, dragged))
        # what is dragged to the right shows what lies in the west: 80 pixels of a radius of some 230
        assert 10 < (longitude[0] - latitude[0]) % 360 < 40
        assert (float(dragged.split(",")[0]) - float(turned.split(",")[0])) % 360 == pytest.approx(10, abs=0.02)
        assert opened.browser.get_log("browser") == []


def test_a_point_answers_a_click(opened, canvas):
    """With the values of the test point that was clicked, all over again in the words of the page."""
    from selenium.webdriver import ActionChains

    box, detail = canvas.rect, opened.browser.find_element("id", "detail")
    names = opened.found.data.test_names()
    hit = None
    for x in range(-180, 181, 24):
        for y in range(-180, 181, 36):
            if abs(x) < box["width"] / 2 and abs(y) < box["height"] / 2 and x * x + y * y < 190**2:
                ActionChains(opened.browser, duration=0).move_to_element_with_offset(canvas, x, y).click().perform()
                hit = detail.get_attribute("data-chosen") or None
            if hit:
                break
        if hit:
            break
    assert hit is not None
    name, index = hit.split()
    assert name == "test"
    assert f"test: {names[int(index)]}" in detail.text
    log_density = float(opened.found.found.log_density[int(index)])
    assert f"log p\n{log_density:.4f}" in detail.text or f"log p {log_density:.4f}" in detail.text
    values = opened.found.data.to_units(opened.found.data.test.points)[int(index)]
    for column, value in zip(opened.found.data.header, values, strict=True):
        assert column in detail.text
        assert f"{value:.6g}" in detail.text


def test_a_box_marks_and_counts_points(opened, canvas):
    if opened.kind not in ("angles", "pairs"):
        pytest.skip("no panels of angles")
    drag(opened.browser, canvas, (-160, -160), (160, 160))
    words = opened.browser.find_element("id", "brush-0").text
    assert words.startswith("In the box: ")
    count = int(words.split("% of test (")[1].split(")")[0])
    assert 0 < count <= len(opened.found.data.test.points)
    # angles of the corners, from the place of the panel in its canvas
    size = canvas.rect["width"] - 42
    corner = [(canvas.rect["width"] / 2 + way * 160 - 34) / size * 360 - 180 for way in (-1, 1)]
    places = json.loads(opened.browser.find_element("id", "points").get_attribute("textContent"))["sets"][0]["places"][
        0
    ]
    inside = sum(corner[0] <= x <= corner[1] for x, *_ in places)
    assert count <= inside
    if opened.kind == "pairs":
        # others are paler in the other panels, and a click lets go
        other = opened.browser.find_element("id", "view-1")
        marked = picture_of(opened.browser, other)
        canvas.click()
        assert picture_of(opened.browser, other) != marked
        assert opened.browser.find_element("id", "brush-0").text == ""


def test_points_of_a_kind_are_shown_and_hidden(opened, canvas):
    before = picture_of(opened.browser, canvas)
    box = opened.browser.find_element("id", "set-2")
    opened.browser.execute_script("arguments[0].click()", box)
    assert picture_of(opened.browser, canvas) != before
    opened.browser.execute_script("arguments[0].click()", box)
    assert picture_of(opened.browser, canvas) == before


def test_it_fits_a_phone(opened):
    opened.browser.set_window_size(500, 900)
    try:
        opened.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        )
        assert opened.browser.execute_script("return document.documentElement.scrollWidth") <= 390
        (canvas, *_) = opened.browser.find_elements("tag name", "canvas")
        assert 250 < canvas.rect["width"] <= 390
        assert opened.browser.get_log("browser") == []
    finally:
        opened.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        opened.browser.set_window_size(1100, 900)
