"""The page of a report in a real browser: one Chromium for all checks."""

import re
import shutil

import pytest
from test_report import HOSTILE, SCORES, make_run

from cosmos_exp.report import page_videos
from cosmos_exp.report.figure_style import arm_colors
from cosmos_exp.report.page import link_to
from cosmos_exp.report.study import load_study
from cosmos_exp.report.tables import answers, write_report

FPS = 8  # of make_run's videos, which have 9 frames
VIDEOS = "[...document.querySelectorAll('.scene:not([hidden]) .cell:not([hidden]) video')]"
TIMES = f"return {VIDEOS}.slice(0, 4).map(v => v.currentTime)"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Four adapters on eight prompts; two prompts share each first frame, as the left and right hand of a scene do."""
    root = tmp_path_factory.mktemp("outputs") / "sweeps" / "mine"
    for name in SCORES:
        run = make_run(root / name, name)
        run.update_manifest(data=run.manifest["data"] | {"scenes": {f"p{k}": f"scene{k // 2}" for k in range(8)}})
    write_report(root)
    return root


@pytest.fixture(scope="module")
def browser():
    """A real headless Chromium; skips the test where there is none."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = program
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
        "--disable-background-networking",
        "--disable-component-update",
        "--hide-scrollbars",
    ):
        options.add_argument(word)
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
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60, 0.05).until(lambda b: b.execute_script(f"return {holds}"))


def _key(browser, key):
    browser.switch_to.active_element.send_keys(key)


def test_results_and_the_first_videos_are_within_a_screen(opened):
    top = "return document.querySelector('{}').getBoundingClientRect().{}"
    assert opened.execute_script(top.format("#answers", "top")) < 100
    assert opened.execute_script("return document.querySelector('figure').id") == "figure-differences"
    assert opened.execute_script(top.format("#figure-differences", "top")) < 300
    assert opened.execute_script(top.format(".cell video", "top")) < 800
    assert opened.execute_script("return window.hacked") is None
    assert opened.find_elements("css selector", ".prompt h3")[0].text.startswith(HOSTILE)
    # Real is not there in these runs; both prompts of a scene lie beside each other, below one first frame.
    assert (
        opened.execute_script("return document.querySelectorAll('.scene')[0].querySelectorAll('.prompt').length") == 2
    )
    assert opened.execute_script("return document.querySelectorAll('.scene > figure img').length") == 4
    # Nothing is black before Play, and nothing is loaded: pictures are shown.
    _wait(opened, f"{VIDEOS}.slice(0, 4).every(v => v.poster.startsWith('data:image/jpeg') && v.readyState === 0)")
    assert "frame 5 of 9" in opened.find_element("id", "frame").text


def test_the_p_value_of_a_difference_is_a_tooltip(opened):
    tips = "return [...document.querySelectorAll('#figure-differences title')].map(t => t.textContent)"
    assert any(
        re.match(r"lora-r32 − base, instruction: \S+ \[.*\], p \(Holm\) .*: better$", t)
        for t in opened.execute_script(tips)
    )


def test_play_before_a_video_is_in_view_plays_those_that_come_into_view(opened):
    """On a window so low that no video is in view: Play goes to the videos and loads them; the next ones follow."""
    address = opened.current_url
    _size(opened, 1280, 400)
    opened.get("about:blank")
    opened.get(address)
    _wait(opened, "typeof inView === 'object' && inView.size === 0")
    opened.execute_script("document.getElementById('play').click()")
    _wait(opened, "[...inView].some(v => v.currentTime > 0.2)")
    opened.execute_script("all('.scene', scenes).at(-1).scrollIntoView()")
    last = "all('.scene:last-child .prompt:first-child .cell:not([hidden]) video', scenes)"
    _wait(opened, f"{last}.every(v => v.currentTime > 0.2 && !v.paused)")
    assert opened.execute_script(f"return {VIDEOS}[0].readyState") == 0  # out of sight: given back
    _size(opened, 1280, 900)
    opened.get("about:blank")
    opened.get(address)


def test_videos_play_in_step(opened):
    from selenium.webdriver.common.keys import Keys

    opened.find_element("id", "play").send_keys(Keys.ENTER)
    _wait(opened, f"{VIDEOS}.slice(0, 4).every(v => v.currentTime > 0.2)")
    apart = []
    for _ in range(5):  # the median: a busy machine may read while one of them jumps
        times = opened.execute_async_script(
            f"const done = arguments[0]; requestAnimationFrame(() => done({VIDEOS}.slice(0, 4).map(v => v.currentTime)))"
        )
        apart.append(max(times) - min(times))
    assert sorted(apart)[2] < 1 / FPS
    assert opened.execute_script(f"return {VIDEOS}.every(v => !v.error)")
    opened.find_element("id", "play").send_keys(Keys.ENTER)
    assert opened.execute_script(f"return {VIDEOS}.every(v => v.paused)")


def test_videos_are_stepped_and_scrubbed_together(opened):
    from selenium.webdriver.common.keys import Keys

    frames = f"{VIDEOS}.slice(0, 4).map(v => Math.floor(v.currentTime * {FPS} + 0.01)).join()"
    opened.execute_script(
        "const s = document.getElementById('scrub'); s.value = 2; s.dispatchEvent(new Event('input'))"
    )
    _wait(opened, f"{frames} === '2,2,2,2'")
    opened.execute_script("document.querySelector('.cell video').focus()")
    _key(opened, Keys.ARROW_RIGHT)
    _wait(opened, f"{frames} === '3,3,3,3'")
    opened.find_element("id", "back").click()
    _wait(opened, f"{frames} === '2,2,2,2'")
    opened.execute_script("document.querySelector('.cell video').focus()")
    _key(opened, " ")
    _wait(opened, f"{VIDEOS}.slice(0, 4).every(v => !v.paused)")
    _key(opened, " ")
    _wait(opened, f"{VIDEOS}.every(v => v.paused)")


def test_adapters_and_seeds_are_chosen(opened):
    from selenium.webdriver.support.ui import Select

    names = "return [...document.querySelector('.prompt').querySelectorAll('.cell:not([hidden]) h4')].map(h => h.textContent)"
    assert opened.execute_script(names) == [f"{n} seed 0" for n in ("base", "dora-r8", "lora-r8", "lora-r32")]
    Select(opened.find_element("css selector", "#noise select")).select_by_visible_text("1")
    opened.find_element("css selector", "#adapters input[value='1']").click()
    assert opened.execute_script(names) == [f"{n} seed 1" for n in ("base", "lora-r8", "lora-r32")]
    opened.find_element("css selector", "#adapters input[value='1']").click()
    Select(opened.find_element("css selector", "#noise select")).select_by_visible_text("0")


def test_prompts_are_filtered_and_sorted(opened):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    field = opened.find_element("id", "filter")
    field.send_keys("thing 3")
    shown = [h.text for h in opened.find_elements("css selector", ".prompt h3") if h.is_displayed()]
    assert [s.split("p3")[0].strip() for s in shown] == ["Lift thing 3"]
    assert opened.find_element("id", "count").text == "1 of 8 prompts"
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.DELETE)
    Select(opened.find_element("id", "sort")).select_by_value("0")
    largest = "return [...document.querySelectorAll('.scene')].map(r => Math.max(...all('.prompt', r).map(size)))"
    spreads = opened.execute_script(largest)
    assert spreads == sorted(spreads, reverse=True)
    Select(opened.find_element("id", "sort")).select_by_value("")


@pytest.mark.parametrize("where", ["#table td a", "#figure-rank svg a", "#figure-differences svg a"])
def test_a_result_leads_to_the_prompts_behind_it(opened, where):
    link = opened.find_elements("css selector", where)[0]
    measure, a, b = map(int, re.search(r"#show:(\d+):(\d+):(\d+)$", link.get_dom_attribute("href")).groups())
    opened.execute_script(
        "arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}))", link
    )
    _wait(opened, "!document.getElementById('behind').hidden")
    names = opened.execute_script("return data.variants")
    columns = "return [...document.querySelector('.prompt').querySelectorAll('.cell:not([hidden])')].map(c => +c.dataset.column)"
    assert opened.execute_script(columns) == sorted({a, b})
    said = opened.find_element("id", "behind").text
    assert f"{names[b]} − {names[a]}" in said
    assert opened.execute_script(f"return data.measures[{measure}].name") in said
    _wait(opened, "(t => t > 0 && t < 900)(document.getElementById('behind').getBoundingClientRect().top)")
    assert opened.execute_script("return document.activeElement.id") == "behind"
    assert opened.execute_script("return document.querySelector('.prompt output').textContent").startswith(
        opened.execute_script(f"return data.measures[{measure}].name")
    )
    opened.execute_script("document.getElementById('everything').click()")
    _wait(opened, "document.getElementById('behind').hidden")
    assert len(opened.execute_script(columns)) == 4
    assert opened.execute_script("return document.activeElement.id") == "videos"


def test_the_first_video_is_one_key_or_few_stops_away(opened):
    from selenium.webdriver.common.keys import Keys

    first, active = f"{VIDEOS}[0]", "document.activeElement"
    stops = opened.execute_script(
        f"const v = {first}, found = all('a, button, input, select, summary, video, [tabindex]')"
        ".filter(e => e.tabIndex >= 0 && e.checkVisibility()); return found.slice(0, found.indexOf(v))"
    )
    assert len(stops) <= 14
    opened.execute_script("arguments[0].focus()", stops[0])
    assert stops[0].text == "Skip to the videos"
    assert opened.execute_script("return arguments[0].getBoundingClientRect().left > 0", stops[0])
    stops[0].send_keys(Keys.ENTER)
    assert opened.execute_script(f"return {active} === {first}")
    opened.execute_script("document.querySelector('#table td a').focus()")
    _key(opened, Keys.ARROW_RIGHT)
    assert opened.execute_script(f"return {active} === document.querySelectorAll('#table td a')[1]")


def test_figures_open_large_and_tables_sort(opened):
    from selenium.webdriver.common.keys import Keys

    opened.execute_script("document.querySelector('.enlarge').click()")
    wide = "return document.querySelector('dialog svg').getBoundingClientRect().width"
    assert opened.find_element("id", "large").is_displayed()
    assert opened.execute_script(wide) > 1000
    _key(opened, Keys.ESCAPE)
    _wait(opened, "document.querySelector('#figure-differences .scroll svg') !== null")
    names = "return [...document.querySelectorAll('#table tbody tr')].map(r => r.children[0].textContent)"
    button = next(b for b in opened.find_elements("css selector", "#table th button") if "instruction" in b.text)
    button.send_keys(Keys.ENTER)
    ascending = opened.execute_script(names)
    assert (ascending[0], ascending[-1]) == ("base", "lora-r32")
    button.send_keys(Keys.ENTER)
    assert opened.execute_script(names)[0] == "lora-r32"


def test_nothing_is_wider_than_a_phone_and_nothing_leaves_the_file(opened):
    for dark in ("light", "dark"):
        media = [{"name": "prefers-color-scheme", "value": dark}]
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        _size(opened, 390, 844)
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
        first = "return document.querySelector('.cell video').getBoundingClientRect().top + scrollY"
        assert opened.execute_script(first) < 2 * 844
        ink = "return getComputedStyle(document.querySelector('#figure-differences svg text')).fill"
        assert opened.execute_script(ink) == ("rgb(29, 33, 41)" if dark == "light" else "rgb(232, 234, 238)")
    _size(opened, 1280, 900)
    assert not [line for line in opened.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]
    asked = re.findall(
        r'"url":"((?:https?|wss?|ftp)://[^"]*)"', str([e["message"] for e in opened.get_log("performance")])
    )
    assert not asked


def test_the_page_is_one_file(sweep):
    page = (sweep / "page.html").read_text()
    assert "default-src 'none'" in page
    for word in ("http://", "https://", "<script>window", "<i>because"):
        assert word not in page.replace("http://www.w3.org", ""), word
    # Every relative link leads to a file that is there.
    for link in set(re.findall(r'href="([^"#:]+)"', page)):
        assert (sweep / link).exists(), link
    assert page.count("<h3>") == 8
    assert "cosmos-exp report . --verify" in page
    assert link_to(sweep / "javascript:alert(1)", sweep) == "javascript%3Aalert%281%29"
    colors = {name: color for name, color in arm_colors(load_study(sweep)).items() if name in SCORES}
    assert len(set(colors.values())) == 4
    assert all(page.count(c) > 10 for name, c in colors.items() if name != "base")


def test_of_many_videos_the_page_holds_none(sweep, tmp_path, monkeypatch, browser):
    """They are played from the run folders; only pictures are written beside the page."""
    monkeypatch.setattr(page_videos, "MOST_INSIDE", 10)
    root = tmp_path / "s weep"
    shutil.copytree(sweep, root, ignore=shutil.ignore_patterns("figures", "page.html"))
    write_report(root)
    page = (root / "page.html").read_text()
    assert "data:video" not in page
    assert 'data-src="base/videos/p0__seed0.mp4"' in page
    assert len(list((root / "page_files").iterdir())) == 4 * 8 * 2 + 4  # a picture per video, and the first frames
    browser.get((root / "page.html").as_uri())
    browser.execute_script("document.getElementById('play').click()")
    _wait(browser, "[...inView].some(v => v.currentTime > 0.2)")
    _wait(browser, f"{VIDEOS}[0].poster.startsWith('file:')")
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def test_the_answers_say_what_the_table_says(sweep):
    study = load_study(sweep)
    said = dict(answers(study))
    better = study.differences.query("measure == 'instruction' and reference == 'base' and verdict == 'better'")
    assert set(better["arm"]) == {"lora-r8", "lora-r32", "dora-r8"}
    take = said["Take"].split(":")[0]
    assert take in set(better["arm"])
    mean = study.mean(take, "instruction")
    assert f"{take}: instruction {mean['mean']:.3g} [{mean['low']:.3g}, {mean['high']:.3g}], base 2" in said["Take"]
    assert "lora-r32" in said["Rank"]
    assert "Fewer than 3 runs: this holds for these adapters" in said["Trust"]
