"""The tables: reading them, and which row of results.csv counts for which step."""

import csv
import io
import json
import math
from datetime import datetime

from harness.command import Failure, write_whole
from harness.scripts import fingerprint

csv.field_size_limit(2**31 - 1)  # a long curve is one field


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


def settings(text):
    value = json_dict(text)
    if not {"steps", "batch_size", "n_embd"} <= value.keys():
        raise ValueError(f"{text!r} lacks steps, batch_size or n_embd")
    return value


def points(text):
    """The curve of a run, [(step, train, test), ...]; it may be blank."""
    return [(int(step), loss(train), loss(test)) for step, train, test in json.loads(text or "[]")]


RESULTS = {  # the columns of results.csv, and how each is read
    **dict.fromkeys("script preset overrides".split(), str),
    **dict.fromkeys("seed params".split(), int),
    **dict.fromkeys("train test test_from_2nd".split(), loss),
    "test_unseen": optional_loss,  # blank where every test name was trained on
    "seconds": loss,
    **dict.fromkeys("device torch data data_hash source".split(), str),
    "finished": moment,
    "settings": json_dict,
    "samples": json_list,
    "curve": points,
}


def read_csv(path, columns):
    """The rows of a table as dictionaries. What is wrong with it is reported with its line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Failure(f"{path}, line {line}: not UTF-8; fix or delete the line") from error
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
    except (csv.Error, ValueError, TypeError, RecursionError) as error:
        where = f"line {line}, {column}" if column else f"line {line}"
        message = f"{path}, {where}: {str(error)[:200]}; fix or delete the row"
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
    return f"{row['script']}@{row['preset']}" if row["preset"] else row["script"]


def is_run_of(row, step, settings):
    """Whether the row is of the step as it is now, with these settings, names.txt and the CPU."""
    if key_of(row) != step.key or row["data_hash"] != step.module.NAMES_SHA256[:12]:
        return False
    made_by = fingerprint(row["source"], row["settings"])
    return row["device"].startswith("cpu") and made_by == fingerprint(step.source, settings)


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
    """Give every step its rows, the oldest of each seed; the others are returned, with `why`."""
    others = []
    for row in sorted(rows, key=lambda row: row["finished"]):
        step = steps.get(key_of(row))
        why = left_out(row, step)
        if not why and row["seed"] in step.rows:
            why = "an older row of this seed counts"
        if why:
            others.append({**row, "why": why})
        else:
            step.rows[row["seed"]] = row
    for step in steps.values():
        step.rows = dict(sorted(step.rows.items()))
    return others
