"""Makes this folder the package `lemoe_analysis` for scripts started from a checkout (`python3 analysis/report.py`).

Installed with pip the folder *is* that package. Either way every script imports its neighbours by one name.
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parent)]
