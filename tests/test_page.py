"""The page of a report in a real browser: one Chromium for all checks."""

import re
import shutil

import pytest
from test_report import HOSTILE, SCORES, make_run

from cosmos_exp.files import read_json_lines, write_json_lines
from cosmos_exp.report.colors import adapter_colors
from cosmos_exp.report.page import link_to
from cosmos_exp.report.variants import find_runs, group_runs
from cosmos_exp.report.verdict import p_text, verdict
from cosmos_exp.report.writing import report_content, write_report

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


def test_the_verdict_and_the_first_videos_are_seen_without_scrolling(opened):
    top = "return document.querySelector('{}').getBoundingClientRect().{}"
    assert opened.execute_script(top.format("#verdict", "top")) < 100
    assert opened.execute_script(top.format(".cell video", "bottom")) < 900
    assert opened.execute_script("return window.hacked") is None
    assert opened.find_elements("css selector", ".prompt h3")[0].text.startswith(HOSTILE)
    # Real is not there in these runs; both prompts of a scene lie beside each other, below one first frame.
    assert (
        opened.execute_script("return document.querySelectorAll('.scene')[0].querySelectorAll('.prompt').length") == 2
    )
    assert opened.execute_script("return document.querySelectorAll('.scene > figure img').length") == 4
    # Nothing is black before Play, and nothing is loaded: pictures are shown.
    assert opened.execute_script(
        f"return {VIDEOS}.every(v => v.poster.startsWith('data:image/jpeg') && v.readyState === 0)"
    )
    assert "frame 5 of 9" in opened.find_element("id", "frame").text


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


@pytest.mark.parametrize("where", ["#verdict a", "#variants td a", "#figure-rank svg a", "#figure-differences svg a"])
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
    assert len(stops) <= 11
    opened.execute_script("arguments[0].focus()", stops[0])
    assert stops[0].text == "Skip to the videos"
    assert opened.execute_script("return arguments[0].getBoundingClientRect().left > 0", stops[0])
    stops[0].send_keys(Keys.ENTER)
    assert opened.execute_script(f"return {active} === {first}")
    opened.execute_script("document.querySelector('#verdict a').focus()")
    _key(opened, Keys.ARROW_RIGHT)
    assert opened.execute_script(f"return {active} === document.querySelectorAll('#verdict a')[1]")


def test_figures_open_large_and_tables_sort(opened):
    from selenium.webdriver.common.keys import Keys

    opened.execute_script("document.querySelector('.enlarge').click()")
    wide = "return document.querySelector('dialog svg').getBoundingClientRect().width"
    assert opened.find_element("id", "large").is_displayed()
    assert opened.execute_script(wide) > 1000
    _key(opened, Keys.ESCAPE)
    _wait(opened, "document.querySelector('#figure-rank .scroll svg') !== null")
    names = "return [...document.querySelectorAll('#variants tbody tr')].map(r => r.children[0].textContent)"
    button = next(b for b in opened.find_elements("css selector", "#variants th button") if "instruction" in b.text)
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
    colors = adapter_colors(group_runs(find_runs(sweep)))
    assert len(set(colors.values())) == 4
    assert all(page.count(c) > 10 for name, c in colors.items() if name != "base")


def test_the_verdict_says_what_the_table_says(sweep):
    content = report_content(sweep, "mine", [])
    first, *rest = verdict(content.results)
    text = "".join(p.text for p in first.parts)
    table = {(d.measure, d.b): d for d in content.results.differences if d.a == "base"}
    d = table["instruction", "lora-r32"]
    assert first.about == "instruction"
    assert text.startswith("Better than base: ")
    assert f"this lora-r32 adapter (+{d.mean:.3g} [{d.ci_low:.3g}, {d.ci_high:.3g}], {p_text(d.p_holm)})" in text
    assert "in tse." in "".join(p.text for p in rest[-1].parts)
    assert len(rest) < 6


def test_an_interval_beside_a_large_p_is_explained(sweep, tmp_path):
    """Eight comparisons: the interval of each alone excludes 0, and Holm's p does not."""
    root = tmp_path / "s"
    shutil.copytree(sweep, root, ignore=shutil.ignore_patterns("videos", "figures", "page.html"))
    for name in ("lora-r8", "lora-r32", "dora-r8"):
        shift = [0.8, 0.8, 0.3, 0.3, 0.7, 0.7, 0.4, 0.4]  # by prompt; p is about 0.02 for each pair of scenes
        base = {
            (r["sample"], r["seed"], r["measure"]): r["value"] for r in read_json_lines(root / "base" / "scores.jsonl")
        }
        rows = read_json_lines(root / name / "scores.jsonl")
        for r in rows:
            r["value"] = base[r["sample"], r["seed"], r["measure"]] + (
                shift[int(r["sample"][1])] if r["measure"] == "instruction" else 0
            )
        write_json_lines(root / name / "scores.jsonl", rows)
    content = report_content(root, "s", [])
    d = next(d for d in content.results.differences if d.measure == "instruction" and d.a == "base")
    assert d.ci_low > 0
    assert d.p < 0.05 < d.p_holm
    text = "".join(p.text for s in verdict(content.results) for p in s.parts)
    assert "]*, p = " in text
    assert "* This interval is for one comparison alone and excludes 0; p counts all 5 comparisons" in text
