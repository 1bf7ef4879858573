"""What the commands in results/ share.

Ctrl-C ends a command at once while it still imports what it needs; run() in command.py takes over.
"""

import signal
import sys
from importlib.util import find_spec
from pathlib import Path

a_command_runs = Path(sys.argv[0]).resolve().parent == Path(__file__).resolve().parents[1]
if a_command_runs and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
lacking = [name for name in ("torch", "numpy") if find_spec(name) is None]
if a_command_runs and lacking:
    sys.exit(f"error: {', '.join(lacking)} not installed: pip install -r requirements.txt")
