#!/usr/bin/python3
"""check_schema.py FILE.h5 SCHEMA.json: analysis/check.py, as the tests written in C and shell call it."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))

from lemoe_analysis.check import Checker, main  # noqa: E402, F401

if __name__ == "__main__":
    sys.exit(main([sys.argv[1], "--schema", sys.argv[2]]) if len(sys.argv) == 3 else __doc__)
