"""`python -m headroom`."""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C during the imports ends at once and without a traceback. In a shell's background
    # it is ignored from the start, and stays so.
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from headroom.cli import main

    signal.signal(signal.SIGINT, before)
    sys.exit(main())
