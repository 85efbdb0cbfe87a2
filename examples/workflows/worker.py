"""`python -m examples.workflows.worker`: `onex worker`, which also ends when the program that has started it is gone.

That program holds the other end of the standard input and writes nothing.
"""

import os
import signal
import sys
import threading

from omnibase_runtime.cli import main


def _end_with_the_program() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_program, daemon=True).start()
    sys.argv[1:1] = ["worker"]
    main()
