"""Draw the pictures of the documentation.

python docs/pictures.py                             # docs/measures.md, from the embedded world
python docs/pictures.py outputs/sweeps/demo         # README: the left/right test, from the finished sweep
python docs/pictures.py arms outputs/ablation lora-r32-hot     # docs/ablation.md: three measures of every arm but one, from the records
python docs/pictures.py page outputs/sweeps/demo/page.html     # guides/report.md: the page at two widths (needs Chromium)
"""

import io
import shutil
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from benchmarks.certificate.tabletop_faults import plant
from cosmos_exp.config.schema import Sampson
from cosmos_exp.data.video import read_video
from cosmos_exp.files import read_json_lines
from cosmos_exp.metrics.geometry.sampson import measure_views
from cosmos_exp.metrics.geometry.views import View
from cosmos_exp.metrics.judges.rubric import load_rubric
from cosmos_exp.report.figure_style import REAL, error_bars, legend, panels, title
from cosmos_exp.report.figures import STYLE
from cosmos_exp.report.study import load_study
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tabletop.dataset import Kind
from cosmos_exp.tabletop.judge import RulesJudge
from cosmos_exp.tabletop.scene import Scene

OUT = Path(__file__).parent / "images"
SEED = 11


def torn(frames: np.ndarray) -> np.ndarray:
    """Bend every other frame of the second half of uint8 (T, H, W, 3) by a wave of 1.5 pixels."""
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]].astype(np.float32)
    out = frames.copy()
    for k in range(len(frames) // 2, len(frames), 2):
        wave = (1.5 * np.sin(x / 9 + y / 13)).astype(np.float32)
        out[k] = cv2.remap(frames[k], x, y + wave, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return out


def sampson_picture() -> None:
    """Draw the error over frames of two simultaneous views, one of them torn."""
    scene = Kind("robot", (192, 320), 17, ("left", "right")).scene(SEED)
    views = [View("left", scene.clip("left").frames), View("right, torn", torn(scene.clip("right").frames))]
    figure = Figure(figsize=(9, 5), layout="constrained", dpi=110)
    figure.suptitle("a clip of the tabletop world: Sampson error in pixels")
    axes = figure.subplots(2, 1, sharex=True)
    for ax, view in zip(axes, measure_views(views, Sampson()).views, strict=True):
        for measure, color in (("tse", "0.55"), ("tse_robust", "tab:orange"), ("tse_moving", "tab:blue")):
            values = [error.values.get(measure, np.nan) for error in view.errors]
            ax.plot(values, color=color, marker=".", label=measure)
        ax.set_title(f"{view.name}: frame to frame", loc="left", fontsize=9)
        ax.set_ylim(bottom=0)
        ax.legend(loc="upper right", fontsize=7)
    axes[-1].set_xlabel("frame")
    figure.savefig(OUT / "sampson_error.png")


def judge_picture() -> None:
    """Draw a clip without and with planted faults: three frames of each, both scores and their reasons."""
    judge, cell = RulesJudge(), (240, 144)
    rows: list[tuple[str, str | None]] = [("no fault", None)]
    rows += [(f, f) for f in ("wrong hand", "dropped", "vanishing object", "hand of the other look")]
    sheet = Image.new("RGB", (3 * (cell[0] + 4) + 470, len(rows) * (cell[1] + 6)), "white")
    pen = ImageDraw.Draw(sheet)
    scene = Scene.sample(SEED, "robot")
    for k, (name, fault) in enumerate(rows):
        frames, prompt = plant(scene, fault) if fault else (scene.clip().frames, scene.prompt)
        top = k * (cell[1] + 6)
        for m, fraction in enumerate((0.35, 0.6, 1.0)):
            picture = Image.fromarray(frames[round(fraction * (len(frames) - 1))]).resize(cell)
            sheet.paste(picture, (m * (cell[0] + 4), top))
        lines = [f"{name}: {prompt}"]
        for measure in ("physics", "instruction"):
            answer = judge.answer(frames, load_rubric(measure), prompt)
            lines += [f"{measure} {answer.score:g}", *(f"    {r}" for r in answer.text.split("; "))]
        pen.multiline_text((3 * (cell[0] + 4) + 8, top + 6), "\n".join(_fold(lines)), "black", spacing=3)
    sheet.save(OUT / "judge.jpg", quality=90)


def hands_animation(
    sweep: Path, runs: tuple[str, ...] = ("base", "lora-r8-shared", "lora-r8"), scenes: int = 3
) -> None:
    """Play each run's videos for the same first frame and start noise side by side, with either hand in the prompt."""
    width, height, gap, line = 168, 101, 12, 16
    prompts = {row["video"]: row["prompt"] for row in read_json_lines(RunFolder(sweep / runs[0]).scores)}
    size = (len(runs) * (2 * width + gap) - gap, 2 * line + scenes * (height + line))
    sheets = [Image.new("RGB", size, "white") for _ in range(17)]
    for column, (run, hand) in enumerate((run, hand) for run in runs for hand in ("left", "right")):
        left = column * width + column // 2 * gap
        for scene in range(scenes):
            video = RunFolder(sweep / run).video(f"robot_{scene:04d}_{hand}", 0)
            top = 2 * line + scene * (height + line)
            task = prompts[video.name].split("pick up the ")[1].replace(" and place it in the ", " into ")
            for sheet, frame in zip(sheets, read_video(video), strict=True):
                sheet.paste(Image.fromarray(frame).resize((width, height)), (left, top))
                pen = ImageDraw.Draw(sheet)
                pen.text((left + 3, line + 2), f"{hand} hand", "black")
                if column % 2 == 0:
                    pen.text((left + 3, 2), run, "black")
                    pen.text((left + 3, top + height + 2), task, "black")
    durations = [125] * (len(sheets) - 1) + [1200]  # 8 fps, then the end is held
    sheets[0].save(
        OUT / "hands.webp", save_all=True, append_images=sheets[1:], duration=durations, loop=0, quality=72, method=6
    )


def arms_picture(sweep: Path, left_out: list[str]) -> None:
    """Draw the means of every arm with 95 % intervals; the base is a band, and the recordings a line where they have scores."""
    study = load_study(sweep)
    arms = list(study.arms.index[~study.arms["is_base"]].difference(left_out, sort=False))
    with rc_context(fname=STYLE):
        figure, axes = panels(3, 3.0, 0.6 + 0.22 * len(arms))
        for ax, measure in zip(axes, ("instruction", "physics", "kept"), strict=True):
            means = study.means[study.means["measure"] == measure].set_index("arm")
            points = means.reindex(arms)
            ax.errorbar(points["mean"], range(len(arms)), xerr=error_bars(points), fmt="o", color="tab:blue", capsize=3)
            if "real" in means.index:
                ax.axvline(means.loc["real", "mean"], color=REAL, ls="--", label="recordings")
            if "base" in means.index:
                ax.axvspan(means.loc["base", "low"], means.loc["base", "high"], color="0.85", label="base")
            ax.set_yticks(range(len(arms)), arms)
            ax.invert_yaxis()
            ax.tick_params(labelleft=ax is axes[0])
            title(ax, measure)
        legend(figure, axes)
        figure.savefig(OUT / "ablation.png", dpi=110)


def _fold(lines: list[str], width: int = 72) -> list[str]:
    """Wrap lines to `width` characters."""
    return [
        part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="    ", drop_whitespace=False)
    ]


def page_pictures(page: Path) -> None:
    """Draw a report's page as Chromium shows it at 1280 x 900 and at a phone's 390 x 844, before anything is clicked."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    words = "headless=new no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update"
    for word in [*words.split(), "disable-sync", "hide-scrollbars", f"user-data-dir={tempfile.mkdtemp()}"]:
        options.add_argument(f"--{word}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    for width, height in ((1280, 900), (390, 844)):
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(page.absolute().as_uri())
        time.sleep(3)  # until the videos in view show a frame
        shot = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        shot.save(OUT / f"page_{width}.jpg", quality=82, optimize=True)
    browser.quit()


if __name__ == "__main__":
    if sys.argv[1:2] == ["page"]:
        page_pictures(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["arms"]:
        arms_picture(Path(sys.argv[2]), sys.argv[3:])
    elif len(sys.argv) > 1:
        hands_animation(Path(sys.argv[1]))
    else:
        sampson_picture()
        judge_picture()
