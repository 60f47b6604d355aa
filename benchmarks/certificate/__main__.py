"""Which faults each measure finds in single videos, from which dose, and which it rewards.

    python -m benchmarks.certificate --data DIR --out OUT                     the videos below DIR, windows of 17 frames
    python -m benchmarks.certificate --data tabletop --clean 99 --out OUT     rendered scenes, faults of the scene, judge=rules

Writes OUT/certificate.md, certificate.json and certificate.png. The faulty videos are in OUT/videos and their values in
OUT/scores.jsonl: the same command again computes only what is missing.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from benchmarks.certificate.clips import Clip, cut_clips
from benchmarks.certificate.faults import FAULTS, Fault, fault_rng
from benchmarks.certificate.page import LEGEND, clean_table, draw, fault_table
from benchmarks.certificate.response import ByClip, clean_baseline, respond
from benchmarks.common import command_line
from cosmos_exp.cli.judge import load
from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.measures import MEASURES, measure_info
from cosmos_exp.config.schema import Config
from cosmos_exp.data.video import read_video, write_video
from cosmos_exp.files import read_json_lines, write_json, write_text
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.score import judge_videos, measure_videos
from cosmos_exp.tracking.progress import with_progress

CLEAN = Fault("clean", "", (0.0,), lambda footage, dose, rng: footage.frames)


def plant(clip: Clip, faults: list[Fault], finish, seed: int, out: Path) -> list[ScoredVideo]:
    """Write a clip with each dose of each fault as a video, unless it is there.

    The clean clip is encoded, and what is decoded from it is the footage for everything else: the clean video that is
    scored goes through the encoder as often as the faulty ones, and the recording that measures compare with once.

    Args:
        finish: applied to the frames of every scored video before it is encoded, for example the model's autoencoder.
    """
    recording = out / f"{clip.name}.mp4"
    footage = clip.load()
    if not recording.is_file():
        write_video(recording, footage.frames, footage.fps)
    footage.frames[:] = read_video(recording)
    videos = []
    for fault in faults:
        for dose in fault.doses:
            path = out / f"{clip.name}__{fault.name.replace(' ', '_')}__{dose:g}.mp4"
            if not path.is_file():
                frames = fault.plant(footage, dose, fault_rng(seed, clip.name, fault.name))
                write_video(path, finish(frames) if finish else frames, footage.fps)
            videos.append(ScoredVideo(f"{clip.name}|{fault.name}|{dose:g}", seed, clip.prompt, path, recording))
    return videos


def score(videos: list[ScoredVideo], config: Config, scores: Path) -> dict[str, dict[tuple[str, float], ByClip]]:
    """Measure and judge the videos. Returns measure -> (fault, dose) -> clip -> value."""
    done = {(r["sample"], r["seed"], r["measure"]) for r in read_json_lines(scores)}
    measure_videos(videos, config, scores, done)
    if config.judge.name != "none":
        judge_videos(videos, config, load(config), scores, done, None)
    wanted = {v.sample for v in videos}
    values = defaultdict(lambda: defaultdict(dict))
    for row in read_json_lines(scores):
        if row["sample"] in wanted:
            clip, fault, dose = row["sample"].split("|")
            values[row["measure"]][fault, float(dose)][clip] = row["value"]
    return values


def size(text: str) -> tuple[int, int]:
    """(height, width) of HxW."""
    return tuple(map(int, text.split("x")))


def material(args: argparse.Namespace) -> tuple[list[Clip], dict[str, Fault], object]:
    """The clips, the faults by name, and what every scored video passes before it is encoded."""
    count = max(args.clips, args.clean)
    if args.data == "tabletop":
        from benchmarks.certificate import tabletop_clips

        return tabletop_clips.make_material(count, args.frames, args.size, args.seed)
    return cut_clips(Path(args.data), count, args.frames, args.size, args.fps), FAULTS, None


def main() -> None:
    """Plant, measure, and write the certificate."""
    parser = command_line(__doc__)
    parser.add_argument("--data", required=True, help="a folder with videos, or: tabletop")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=24, help="clips with faults")
    parser.add_argument("--clean", type=int, default=0, help="clean clips in all, those with faults too")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", type=size, help="HxW (default: that of the first video)")
    parser.add_argument("--fps", type=float)
    parser.add_argument("--judge", help="a file of conf/judge (default: rules for the tabletop, else none)")
    parser.add_argument("--faults", help="only these, e.g. blur,warp=1/4 (doses after =)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="+", default=[], help="configuration, e.g. sampson.layout=2x2")
    args = parser.parse_args()
    judge = args.judge or ("rules" if args.data == "tabletop" else "none")
    config = compose_config([f"judge={judge}", *args.set])
    clips, known, finish = material(args)
    faults = []
    for word in args.faults.split(",") if args.faults else known:
        name, _, doses = word.partition("=")
        chosen = tuple(map(float, doses.split("/"))) if doses else known[name].doses
        faults.append(replace(known[name], doses=chosen))
    step = max(len(clips) / args.clips, 1)  # the faulty clips are evenly spaced among the clean ones
    faulty = np.arange(0, len(clips), step).astype(int)
    videos = []
    for number, clip in enumerate(with_progress(clips, "planting", len(clips), "clip")):
        planted = [CLEAN, *faults] if number in faulty else [CLEAN]
        videos += plant(clip, planted, finish, args.seed, args.out / "videos")
    values = score(videos, config, args.out / "scores.jsonl")
    recordings = {clip.name: clip.recording for clip in clips}
    clean, responses = {}, {}
    for measure in sorted(values, key=lambda name: [*MEASURES, name].index(name)):
        clean[measure] = clean_baseline(values[measure]["clean", 0.0], measure_info(measure).better)
        for fault in faults:
            of_fault = {dose: values[measure][fault.name, dose] for dose in fault.doses}
            responses[measure, fault.name] = respond(of_fault, recordings, clean[measure])
    table = fault_table(faults, clean, responses)
    count = f"{len(faulty)} clips with faults, {len(clips)} clean clips, {len(set(recordings.values()))} recordings"
    page = [f"# Certificate: {Path(args.data).name}", f"{count}. {args.frames} frames, judge: {judge}.", LEGEND, table]
    page += ["![AUC of each measure by fault and dose](certificate.png)", "## Clean clips", clean_table(clean)]
    write_text(args.out / "certificate.md", "\n\n".join(page) + "\n")
    rows = [{"measure": m, "fault": f, **asdict(response)} for (m, f), response in responses.items()]
    write_json(args.out / "certificate.json", {"about": page[1], "responses": rows})
    draw(args.out / "certificate.png", faults, list(clean), responses)
    print(table)


if __name__ == "__main__":
    main()
