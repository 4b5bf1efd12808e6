"""The lower bounds of pyproject.toml as pins, one a line: what `make oldest` installs."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
for bound in [*project["dependencies"], *extras["notebooks"], *extras["dev"]]:
    print(re.sub(">=", "==", bound))
