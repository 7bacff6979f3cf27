"""The ``codejoule`` command, for a process that is forked."""

import sys

from codejoule.cli import main

if __name__ == "__main__":
    sys.exit(main())
