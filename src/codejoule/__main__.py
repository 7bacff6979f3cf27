"""``python -m codejoule``: the ``codejoule`` command."""

import sys

from codejoule.cli import main

sys.exit(main())
