"""CSV files, read with the line of whatever is wrong with them."""

import csv
import io

from lib.command import Failure

csv.field_size_limit(2**31 - 1)  # a long curve is one field


def numbered(path, columns, read=None):
    """[(line, row)] of a table; a row is a dictionary, read by {column: function} or as text.

    A spreadsheet may have quoted the header and put a byte-order mark before it. A file that is
    not there or has no byte has no rows. What is wrong is reported with its line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Failure(f"{path}, line {line}: not UTF-8; fix or delete the line") from error
    reader, rows = csv.reader(io.StringIO(text, newline=""), strict=True), []
    line, column = 1, ""
    try:
        for values in reader:
            if line == 1 and values != columns:
                raise Failure(f"{path} has a foreign header; it must be {','.join(columns)}")
            if line > 1 and values:  # a blank line is no row
                if len(values) != len(columns):
                    raise ValueError(f"{len(values)} fields, not {len(columns)}")
                row = {}
                for column, value in zip(columns, values, strict=True):
                    row[column] = (read or {}).get(column, str)(value)
                rows.append((line, row))
            line, column = reader.line_num + 1, ""  # a row may span lines: name its first
    except (csv.Error, ValueError, TypeError, RecursionError) as error:
        where = f"line {line}, {column}" if column else f"line {line}"
        message = f"{path}, {where}: {str(error)[:200]}; fix or delete the row"
        raise Failure(message) from error
    return rows
