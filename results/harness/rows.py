"""The tables: reading them, and which row of results.csv counts for which step."""

import csv
import io
import json
import math
from datetime import datetime

from harness.command import Failure, write_whole
from harness.scripts import fingerprint


def loss(text):
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(f"{text!r} is no loss or time")
    return value


def optional_loss(text):
    return loss(text) if text else None


def moment(text):
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")


def json_list(text):
    value = json.loads(text)
    if not isinstance(value, list):
        raise ValueError(f"{text!r} is no list")
    return [str(item) for item in value]


def json_dict(text):
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{text!r} is no dictionary")
    return value


def knobs(text):
    value = json_dict(text)
    if not {"steps", "batch_size", "n_embd"} <= value.keys():
        raise ValueError(f"{text!r} lacks steps, batch_size or n_embd")
    return value


RESULTS = {  # the columns of results.csv, and how each is read
    **dict.fromkeys("script label preset overrides builds_on data data_hash".split(), str),
    **dict.fromkeys("seed steps n_embd head_size n_head n_layer params".split(), int),
    **dict.fromkeys("train test test_from_2nd".split(), loss),
    "test_unseen": optional_loss,  # blank where every test item was trained on
    **dict.fromkeys("seconds ms_per_step".split(), loss),
    "device": str,
    "threads": int,
    **dict.fromkeys("torch source".split(), str),
    "finished": moment,
    "samples": json_list,
    "settings": json_dict,
}


def read_csv(path, columns):
    """The rows of a table as dictionaries. What is wrong with it is told with its line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Failure(f"{path}, line {line}: not UTF-8; mend or delete the line") from error
    reader, rows = csv.reader(io.StringIO(text, newline=""), strict=True), []
    line, column = 1, ""
    try:
        for values in reader:
            if line == 1 and values != list(columns):
                raise Failure(f"{path} has a foreign header; it must be {','.join(columns)}")
            if line > 1 and values:  # a blank line is no row
                if len(values) != len(columns):
                    raise ValueError(f"{len(values)} fields, not {len(columns)}")
                row = {}
                for (column, read), value in zip(columns.items(), values, strict=True):
                    row[column] = read(value)
                rows.append(row)
            line, column = reader.line_num + 1, ""  # a row may span lines: name its first
    except (csv.Error, ValueError, RecursionError) as error:
        where = f"line {line}, {column}" if column else f"line {line}"
        message = f"{path}, {where}: {str(error)[:200]}; mend or delete the row"
        raise Failure(message) from error
    return rows


def write_csv(path, columns, rows):
    """Write a table whole."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


STALE = "made by another source, or with other defaults"


def key_of(row):
    """The key of the step that a row is of."""
    return f"{row['script']} --preset {row['preset']}" if row["preset"] else row["script"]


def left_out(row, step):
    """Why a row has no part in the comparison; None where it has."""
    if step is None:
        return "no such script or preset"
    if row["overrides"]:
        return "other settings"
    if row["data_hash"] != step.module.NAMES_SHA256[:12]:
        return "other data"
    if not row["device"].startswith("cpu"):
        return "other device"
    if fingerprint(row["source"], row["settings"]) != step.fingerprint:
        return STALE
    return None


def assign(rows, steps):
    """Give every step its rows, the newest of each seed; the others are returned, with `why`."""
    others = []
    for row in sorted(rows, key=lambda row: row["finished"]):
        step = steps.get(key_of(row))
        why = left_out(row, step)
        if why:
            others.append({**row, "why": why})
            continue
        if row["seed"] in step.rows:
            others.append({**step.rows[row["seed"]], "why": "a newer row of this seed counts"})
        step.rows[row["seed"]] = row
    for step in steps.values():
        step.rows = dict(sorted(step.rows.items()))
    return others
