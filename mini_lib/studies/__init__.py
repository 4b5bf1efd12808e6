"""Commands that measure and write data/results/*.csv: comparisons, ablations, selectors, cost."""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]
# The repository, or, where the package is installed without it, the folder that one stands in.
ROOT = _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else Path.cwd()
RESULTS = ROOT / "data" / "results"
