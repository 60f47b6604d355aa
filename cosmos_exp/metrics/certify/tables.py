"""The certificate as Markdown: a table of faults and measures, and for each measure what it finds and what it does not."""

from __future__ import annotations

from cosmos_exp.config.measures import measure_info
from cosmos_exp.metrics.certify.certificate import Certificate, limits
from cosmos_exp.metrics.certify.dose_response import FALSE_ALARMS, FEWEST, FOUND, TOO_FEW, DoseResponse

LEGEND = f"""Each cell is one measure against one fault:

- **a dose**, such as `2 px`: the smallest dose from which on the fault is found in {FOUND:.0%} of the clips at
  {FALSE_ALARMS:.0%} false alarms.
- `partly`: clips score worse than their own clean versions on average (t interval over recordings), but one threshold for all clips does not find them. In
  brackets the highest AUC.
- **`better`**: the fault improves the score. `better at 1 px` beside another entry: it does so at this dose.
- `-`: invisible, no difference from the clean versions could be shown.
- `too few`: fewer than {FEWEST} recordings have a value, so that a fault that is not found may be partly seen, rewarded or invisible.
- `30% undefined at 4 px`: so many clips lose their value there, which a report shows as `-`; they are not found.
- `turns at 4 px`: the response is not monotone, beyond this dose the score recovers.
- `*` at a measure: it has a value in too few clean clips for a threshold at {FALSE_ALARMS:.0%} false alarms, and certifies nothing.

Measures that compare with the recording (`psnr`, `ssim`, `mask_iou_…`, `motion_ratio`) are compared with the clean clip itself.
A clean clip is then a perfect prediction, so their doses are lower bounds: no model repeats a recording pixel by pixel."""
DIRECTIONS = {1: "higher is better", -1: "lower is better", 0: "no direction"}


def markdown(certificate: Certificate, figure: str) -> str:
    """The certificate as a page.

    Args:
        figure: file name of the figure, relative to the page.
    """
    c = certificate
    settings = ", ".join(f"{k}: {v}" for k, v in c.settings.items())
    parts = [
        f"# Certificate: {c.about}",
        f"{c.clips} clips from {c.recordings} recordings with faults, {c.clean_clips} clean clips. "
        f"{settings[:1].upper()}{settings[1:]}.",
        limits(c.clean_clips, c.clips, c.recordings),
        "## What is found from which dose",
        LEGEND,
        fault_table(c),
        f"![AUC of each measure by fault and dose]({figure})",
        "*AUC against clean clips: 1 (dark blue) every faulty clip is worse than every clean one, 0.5 (white) no "
        "difference, below 0.5 (red) the fault improves the score. Grey: undefined.*",
        "## Clean clips",
        clean_table(c),
        "## By measure",
        *(summary(c, m) for m in c.measures),
    ]
    return "\n\n".join(parts) + "\n"


def fault_table(c: Certificate) -> str:
    """One row per fault, one column per measure; a * marks a measure with too few clean clips to find anything."""
    few = {m for m in c.measures if (c.clean[m].false_alarms or 1) > FALSE_ALARMS}
    rows = [["fault", *(f"`{m}`" + " \\*" * (m in few) for m in c.measures)]]
    for fault in c.faults:
        rows.append([fault, *(cell(c.responses[m, fault]) for m in c.measures)])
    return _table(rows)


def cell(r: DoseResponse) -> str:
    """A response in a few words; see LEGEND."""
    if r.verdict in ("undefined", TOO_FEW):
        return r.verdict
    if r.verdict == "found":
        text = f"**{_dose(r.smallest, r)}**"
    elif r.verdict == "partly":
        text = f"partly ({max(a.auc for a in r.doses if a.auc is not None):.2f})"
    else:
        text = "**better**" if r.verdict == "better" else "-"
    notes = []
    if r.better_at and r.verdict != "better":
        notes.append("better at " + ", ".join(_dose(d, r) for d in r.better_at))
    if r.turns_at is not None and r.verdict != "better":
        notes.append(f"turns at {_dose(r.turns_at, r)}")
    if r.undefined_at is not None:
        lost = next(a for a in r.doses if a.dose == r.undefined_at)
        notes.append(f"{lost.undefined / (lost.n + lost.undefined):.0%} undefined at {_dose(r.undefined_at, r)}")
    return "; ".join([text, *notes])


def _dose(dose: float | None, r: DoseResponse) -> str:
    if len(r.doses) == 1:
        return "found" if r.smallest is not None else "its dose"
    return f"{dose:g} {r.unit}".strip()


def clean_table(c: Certificate) -> str:
    """The clean clips under each measure."""
    rows = [
        ["measure", "", "clips", "undefined", "median", "threshold", "expected false alarms", "in left-out recordings"]
    ]
    for name in c.measures:
        base, better = c.clean[name], measure_info(name).better
        level = base.threshold
        if level is None:
            limit = "-"
        elif base.center is not None:
            limit = f"{base.center:.3g} ± {level:.3g}"
        else:
            limit = f"{'<' if better > 0 else '>'} {-better * level:.3g}"
        counts = [str(base.n), str(base.undefined), _number(base.median), limit]
        rows.append([f"`{name}`", DIRECTIONS[better], *counts, _share(base.false_alarms), _share(base.left_out)])
    return _table(rows)


def summary(c: Certificate, measure: str) -> str:
    """What a measure finds, finds partly, does not see and rewards, and where it is not monotone."""
    own = [c.responses[measure, f] for f in c.faults]

    def named(rows: list[DoseResponse], with_dose: bool = False) -> str:
        return (
            ", ".join(r.fault + (f" ({_dose(r.smallest, r)})" if with_dose and len(r.doses) > 1 else "") for r in rows)
            or "none"
        )

    def verdict(word: str) -> list[DoseResponse]:
        return [r for r in own if r.verdict == word]

    turning = ", ".join(
        f"{r.fault} (at {_dose(r.turns_at, r)})" for r in own if r.turns_at is not None and r.verdict != "better"
    )
    better = ", ".join(
        r.fault + (f" ({', '.join(_dose(d, r) for d in r.better_at)})" if len(r.doses) > 1 else "")
        for r in own
        if r.better_at
    )
    lines = [
        f"### {measure}",
        f"- Finds: {named(verdict('found'), with_dose=True)}.",
        f"- Partly: {named(verdict('partly'))}.",
        f"- Invisible: {named(verdict('invisible'))}.",
        f"- Improved by: {better or 'none'}.",
    ]
    lines += [f"- Not monotone: {turning}."] if turning else []
    few = verdict(TOO_FEW)
    lines += [f"- Too few recordings to tell ({FEWEST} needed): {named(few)}."] if few else []
    lost = verdict("undefined")
    lines += [f"- Undefined for: {named(lost)}."] if lost else []
    return "\n".join([lines[0], "", *lines[1:]])


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(r) + " |" for r in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
