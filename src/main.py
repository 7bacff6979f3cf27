"""``python src/main.py [-m] model=... quant=... batch=...``: what ``codejoule run`` does."""

import sys

from codejoule.cli.launch import launch

if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
