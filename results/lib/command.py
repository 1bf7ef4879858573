"""A command: its errors reported in one line, its files written whole."""

import argparse
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What asks a command to stop: Ctrl-C, the system, a terminal that closes, which Windows lacks.
STOPS = [getattr(signal, x) for x in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, x)]


class Failure(Exception):
    """What the user can fix, in one line. Status 2 is wrong use or input, 1 failed work."""

    def __init__(self, message, status=2):
        super().__init__(message)
        self.status = status


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations, which shows its description as it is written."""

    def __init__(self, description, **options):
        options |= {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(description=description, **options)

    def add_step_names(self):
        """The argument that says which steps a command works on."""
        text = (
            "a step such as train-2@final or train-2,n_layer=2, an idea, a group of ideas, or chain"
        )
        self.add_argument("names", nargs="*", metavar="NAME", help=text)

    def error(self, message):
        raise Failure(f"{message}; see --help")


def split_flags(argv):
    """The words of a command line before --, and those after it, which are for the scripts."""
    argv = sys.argv[1:] if argv is None else list(argv)
    end = argv.index("--") if "--" in argv else len(argv)
    if {"-h", "--help"} & {*argv[end:]}:
        raise Failure("--help comes before --; python train-2.py --help shows the scripts' flags")
    return argv[:end], argv[end + 1 :]


def count(text):
    """A number from 1 up, as the type of a flag."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 up")
    return int(text)


def file_path(text):
    """A path, as the type of a flag. `~` is the home folder; a shell leaves it in --data=~/x."""
    path = os.path.expanduser(text)
    if not path or path.startswith("~"):
        raise argparse.ArgumentTypeError("an empty path, or the home folder of nobody")
    return Path(path)


def interrupt(*signal_and_frame):
    raise KeyboardInterrupt


def on_stop(handler):
    """Give what asks a command to stop to the handler. Returns {signal: its handler so far}."""
    heard = [x for x in STOPS if signal.getsignal(x) != signal.SIG_IGN]  # nohup ignores SIGHUP
    return {x: signal.signal(x, handler) for x in heard}


def run(main, when_stopped="stopped"):
    """main(), with what may be expected to go wrong in one line. A bug keeps its traceback."""
    if hasattr(sys.stdout, "reconfigure"):  # not so in a notebook
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack a character
    on_stop(interrupt)  # so that temporary folders are removed
    try:
        main()
        sys.stdout.flush()
        return
    except Failure as error:
        message, status = str(error), error.status
    except BrokenPipeError:  # the reader has enough, as in `... | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        message, status = str(error), 1
    except (MemoryError, RuntimeError) as error:
        if type(error).__name__ not in ("MemoryError", "OutOfMemoryError"):  # torch's, not imported
            raise
        message, status = "out of memory: try smaller sizes", 1
    except KeyboardInterrupt:
        message, status = when_stopped, 130
    print("error:", " ".join(message.split()), file=sys.stderr)
    sys.exit(status)


def write_whole(path, content):
    """Write the bytes beside the file, then move them into place: nobody reads half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
