"""The page of a report in a real browser: one Chromium for all checks."""

import re
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from test_report import HOSTILE, SCORES, make_run

from cosmos_exp.report import page_videos
from cosmos_exp.report.page import link_to
from cosmos_exp.report.tables import write_report

FPS = 8  # of make_run's videos, which have 9 frames
VIDEOS = "[...document.querySelectorAll('.scene:not([hidden]) .cell video')]"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Four adapters on eight prompts; two prompts share each first frame, as the left and right hand of a scene do."""
    root = tmp_path_factory.mktemp("outputs") / "sweeps" / "mine"
    for name in SCORES:
        run = make_run(root / name, name)
        run.update_manifest(data={"scenes": {f"p{k}": f"scene{k // 2}" for k in range(8)}})
    write_report(root)
    return root


@pytest.fixture(scope="module")
def browser():
    """A real headless Chromium; skips the test where there is none."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    words = "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-sync "
    words += "disable-background-networking disable-component-update hide-scrollbars"
    for word in words.split():
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def opened(sweep, browser):
    """The page of the sweep at 1280 x 900. Tests that change its state set it back by `location.hash`."""
    _size(browser, 1280, 900)
    browser.get((sweep / "page.html").as_uri())
    return browser


def _size(browser, width, height):
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def _wait(browser, holds):
    WebDriverWait(browser, 60, 0.05).until(lambda b: b.execute_script(f"return {holds}"))


def test_results_and_the_first_videos_are_within_a_screen(opened):
    top = "return ['#figure-differences', '.cell video'].map(x => all(x)[0].getBoundingClientRect().top)"
    figure, video = opened.execute_script(top)
    assert figure < 300
    assert video < 800
    # Both prompts of a scene lie below each other, each cell has two scores; each video shows its middle frame.
    first = "document.querySelectorAll('.scene')[0].querySelectorAll('.prompt')"
    scores = "[...new Set([...document.querySelectorAll('.cell dl')].map(d => d.textContent.replace(/[-.0-9]/g, '')))]"
    texts = f"return [window.hacked, {first}.length, {first}[0].innerText.startsWith(arguments[0]), ...{scores}]"
    assert opened.execute_script(texts, HOSTILE) == [None, 2, True, "tseinstruction"]
    _wait(opened, "document.getElementById('frame').textContent.includes('frame 5 of 9')")


def test_videos_play_in_step(opened):
    opened.find_element("id", "play").send_keys(Keys.ENTER)
    _wait(opened, f"{VIDEOS}.slice(0, 4).every(v => v.currentTime > 0.2)")
    apart = []
    for _ in range(5):  # the median: a busy machine may read while one of them jumps
        times = f"const times = {VIDEOS}.slice(0, 4).map(v => v.currentTime)"
        take = f"requestAnimationFrame(() => {{ {times}; arguments[0](Math.max(...times) - Math.min(...times)); }})"
        apart.append(opened.execute_async_script(take))
    assert sorted(apart)[2] < 1 / FPS
    opened.find_element("id", "play").send_keys(Keys.ENTER)
    assert opened.execute_script(f"return {VIDEOS}.every(v => v.paused && !v.error)")


def test_videos_are_stepped_and_scrubbed_together(opened):
    frames = f"{VIDEOS}.slice(0, 4).map(v => Math.floor(v.currentTime * {FPS} + 0.01)).join()"
    opened.execute_script("const s = one('scrub'); s.value = 2; s.dispatchEvent(new Event('input'))")
    _wait(opened, f"{frames} === '2,2,2,2'")
    opened.execute_script("document.querySelector('.cell video').focus()")
    opened.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    _wait(opened, f"{frames} === '3,3,3,3'")


def test_adapters_and_seeds_are_chosen(opened):
    names = "return [...document.querySelector('.prompt').querySelectorAll('.cell h4')].map(h => h.textContent)"
    assert opened.execute_script(names) == [f"{n} seed 0" for n in ("base", "dora-r8", "lora-r8", "lora-r32")]
    box = opened.find_element("css selector", "#adapters input[value='1']")
    noise = Select(opened.find_element("css selector", "#noise select"))
    noise.select_by_visible_text("1")
    box.click()
    assert opened.execute_script(names) == [f"{n} seed 1" for n in ("base", "lora-r8", "lora-r32")]
    box.click()
    noise.select_by_visible_text("0")


def test_prompts_are_filtered_and_sorted(opened):
    field = opened.find_element("id", "filter")
    field.send_keys("thing 3")
    (shown,) = [h.text for h in opened.find_elements("css selector", ".prompt h3") if h.is_displayed()]
    assert shown.startswith("Lift thing 3")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.DELETE)
    sort = Select(opened.find_element("id", "sort"))
    sort.select_by_value("0")
    largest = "return [...document.querySelectorAll('.scene')].map(r => Math.max(...all('.prompt', r).map(size)))"
    spreads = opened.execute_script(largest)
    assert spreads == sorted(spreads, reverse=True)
    sort.select_by_value("")


def test_a_result_leads_to_the_prompts_behind_it_and_back(opened):
    link = opened.find_elements("css selector", "#table td a")[0]
    _, a, b = map(int, re.search(r"#show:(\d+):(\d+):(\d+)$", link.get_dom_attribute("href")).groups())
    opened.execute_script("arguments[0].click()", link)
    _wait(opened, "!document.getElementById('behind').hidden")
    names = opened.execute_script("return data.variants")
    columns = "return [...document.querySelector('.prompt').querySelectorAll('.cell')].map(c => +c.dataset.column)"
    assert opened.execute_script(columns) == sorted({a, b})
    assert f": {names[b]} − {names[a]}" in opened.find_element("id", "behind").text
    opened.execute_script("document.getElementById('everything').click()")
    _wait(opened, "document.getElementById('behind').hidden")
    assert len(opened.execute_script(columns)) == 4


def test_the_first_video_is_one_key_away_and_tables_sort(opened):
    skip = opened.find_element("css selector", ".skip")
    opened.execute_script("arguments[0].focus()", skip)
    skip.send_keys(Keys.ENTER)
    assert opened.execute_script(f"return document.activeElement === {VIDEOS}[0]")
    names = "return [...document.querySelectorAll('#table tbody tr')].map(r => r.querySelector('.swatch').textContent)"
    button = next(b for b in opened.find_elements("css selector", "#table th button") if "instruction" in b.text)
    for first in ("base", "lora-r32"):  # ascending, then descending
        button.send_keys(Keys.ENTER)
        assert opened.execute_script(names)[0] == first


def test_nothing_is_wider_than_a_phone_and_nothing_leaves_the_file(opened):
    for dark in ("light", "dark"):
        media = [{"name": "prefers-color-scheme", "value": dark}]
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        _size(opened, 390, 844)
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
    _size(opened, 1280, 900)
    assert not [line for line in opened.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]
    messages = str(opened.get_log("performance"))
    assert not re.findall(r'"url":"((?:https?|wss?|ftp)://[^"]*)"', messages)


def test_the_page_is_one_file(sweep):
    page = (sweep / "page.html").read_text()
    assert "default-src 'none'" in page
    for word in ("http://", "https://", "<script>window", "<i>because"):
        assert word not in page, word
    # Every relative link leads to a file that is there.
    for link in re.findall(r'href="([^"#:]+)"', page):
        assert (sweep / link).exists(), link
    assert link_to(sweep / "javascript:alert(1)", sweep) == "javascript%3Aalert%281%29"


def test_of_many_videos_the_page_holds_none(sweep, tmp_path, monkeypatch, browser):
    """They are played from the run folders. Previews are made once, cells near the view; Play may come before."""
    monkeypatch.setattr(page_videos, "MOST_INSIDE", 10)
    root, made = tmp_path / "s weep", []
    shutil.copytree(sweep, root, ignore=shutil.ignore_patterns("figures", "page.html"))
    for _ in range(2):
        write_report(root)
        made.append({(file, file.stat().st_mtime_ns) for file in root.rglob("*.jpg")})
        (root / "base/videos/p0__seed0.mp4").touch()
    assert (len(made[0]), len(made[0] & made[1])) == (64, 63)
    _size(browser, 1280, 300)
    browser.get((root / "page.html").as_uri())
    cells = "return [inView.size, all('.scene:last-child .cell').length, all('.cell').length > 0]"
    assert browser.execute_script(cells) == [0, 0, True]
    browser.execute_script("document.getElementById('play').click()")
    _wait(browser, "[...inView].some(v => v.poster && v.currentTime > 0.2)")
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
