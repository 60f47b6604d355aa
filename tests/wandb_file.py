"""What an offline .wandb file holds of a run, as wandb's site shows it."""

import json

from conftest import wait_until


def records(file):
    """The records of a file: LevelDB's log format behind seven bytes, one protobuf message per record."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts, block = file.read_bytes(), 7, b"", 32768
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        if block - at % block < 7:  # too little room for a header: the rest of the block is padding
            at += block - at % block
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        if at + 7 + size > len(content):  # still being written
            return
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def by_key(items):
    """The values of each key, in their order."""
    values = {}
    for item in items:
        values.setdefault(item.key or "/".join(item.nested_key), []).append(json.loads(item.value_json))
    return values


def sent(folder):
    """What wandb has of the run in a folder: name, group, job_type, tags, config, summary, history, table, artifacts.

    wandb may write the last records a moment after `finish` has returned.
    """
    found = []

    def ended():
        found[:] = records(max((folder / "wandb").glob("offline-run-*/run-*.wandb")))
        return any(r.WhichOneof("record_type") == "exit" for r in found)

    wait_until(ended, 20, 0.1)
    run = next(r.run for r in found if r.WhichOneof("record_type") == "run")
    summary = by_key(u for r in found for u in r.summary.update)
    tables = list((folder / "wandb").rglob("*.table.json"))
    return {
        "name": run.display_name,
        "group": run.run_group,
        "job_type": run.job_type,
        "notes": run.notes,
        "tags": set(run.tags),
        "config": {key: values[-1] for key, values in by_key(run.config.update).items()},
        "summary": {key: values[-1] for key, values in summary.items()},
        "history": by_key(i for r in found for i in r.history.item),
        "table": json.loads(max(tables).read_text()) if tables else None,
        "artifacts": {r.artifact.type: r.artifact for r in found if r.artifact.type},
    }
