"""The report in a real browser, as a reader meets it. Needs Chromium, its driver and selenium."""

from __future__ import annotations

import shutil

import pytest

from samreg.report import report_json, write_report
from tests.report_result import head_phantom, plausible_result

selenium = pytest.importorskip("selenium", reason="selenium is not installed (dev extra)")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="Chromium or chromedriver is not installed")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    result, warped = plausible_result(head_phantom((30, 34, 26), (7.0, 7.0, 7.5)), rois=6)
    path = tmp_path_factory.mktemp("report") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samreg.report.views.PIXELS", 256)  # drawing takes most of the time
        write_report(result, warped, path, report=report_json(result, objects=None))
    return path


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--force-prefers-reduced-motion",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_window_size(1280, 900)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, report):
    browser.get(report.as_uri())
    return browser


def pixels(page, element):
    """What the element shows, as PNG."""
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    box = page.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.x, b.y, b.width]", element)
    clip = {"x": box[0], "y": box[1], "width": box[2], "height": box[2], "scale": 0.5}
    offset = page.execute_script("return window.scrollY")
    clip["y"] += offset
    return page.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})["data"]


def test_pictures_load_and_nothing_else_is_asked_for(page, report):
    import json

    widths = page.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(widths) > 40
    assert min(widths) > 0
    assert page.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert report.as_uri() in asked
    assert all(url == report.as_uri() or url.startswith("data:") for url in asked)


@pytest.mark.parametrize("name", ["curtain", "fade"])
def test_slider_works_by_keyboard(page, name):
    from selenium.webdriver.common.keys import Keys

    slider = page.find_element("id", name)
    stage = page.find_element("css selector", f".{name} .stage")
    slider.send_keys(Keys.END)
    last, last_text = pixels(page, stage), slider.get_attribute("aria-valuetext")
    slider.send_keys(Keys.HOME)
    first, first_text = pixels(page, stage), slider.get_attribute("aria-valuetext")
    assert last != first
    assert {last_text, first_text} == {f"{n} % {'after' if name == 'curtain' else 'registered'}" for n in (0, 100)}
    assert page.get_log("browser") == []


def test_curtain_follows_the_mouse_on_the_slider_and_on_the_picture(page):
    from selenium.webdriver import ActionChains

    slider = page.find_element("id", "curtain")
    stage = page.find_element("css selector", ".curtain .stage")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", stage)
    ActionChains(page).move_to_element(slider).move_by_offset(100, 0).click().perform()
    assert int(slider.get_attribute("value")) > 50
    before = pixels(page, stage)
    quarter = -stage.size["width"] // 4
    ActionChains(page).move_to_element(stage).click_and_hold().move_by_offset(quarter, 0).release().perform()
    assert int(slider.get_attribute("value")) == pytest.approx(25, abs=2)
    assert pixels(page, stage) != before


def test_curtain_follows_a_finger(page):
    stage = page.find_element("css selector", ".curtain .stage")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", stage)
    box = page.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.x, b.y, b.width]", stage)
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    for kind, share in (("touchStart", 0.5), ("touchMove", 0.6), ("touchMove", 0.8)):
        points = [{"x": box[0] + share * box[2], "y": box[1] + 40}]
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert int(page.find_element("id", "curtain").get_attribute("value")) == pytest.approx(80, abs=2)


def test_pointing_at_a_pair_marks_it_in_both_images(page):
    from selenium.webdriver import ActionChains

    row = page.find_element("css selector", "tr[data-pair]")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", row)
    ActionChains(page).move_to_element(row).perform()
    marked = page.find_elements("css selector", ".marked")
    assert {m.get_attribute("data-pair") for m in marked} == {row.get_attribute("data-pair")}
    assert len(marked) > 2


def test_overlays_lie_on_their_pictures(page):
    """The outlines' drawing area is the picture's, and panels are not squeezed."""
    boxes = page.execute_script(
        """return [...document.querySelectorAll('.panel')].map(p => {
            const b = p.getBoundingClientRect(), i = p.querySelector('img').getBoundingClientRect();
            return [b.width, b.height, i.width, i.height]; })"""
    )
    for width, height, image_width, image_height in boxes:
        assert width == pytest.approx(height, abs=1)
        assert (image_width, image_height) == pytest.approx((width, height), abs=1)


@pytest.mark.parametrize("width", [1280, 420])
def test_no_sideways_scrolling(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_prints(page):
    import base64

    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    assert pdf.startswith(b"%PDF")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    layers = page.execute_script(
        """return [...document.querySelectorAll('.curtain .layer')].map(l => {
            const s = getComputedStyle(l), b = l.getBoundingClientRect();
            return [s.clipPath, s.opacity, b.width]; })"""
    )
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert all(clip == "none" and opacity == "1" and width > 100 for clip, opacity, width in layers)
