"""The folder OUT of a notebook: new, or one that this notebook made. Used in notebooks 07 to 10 and 12."""

import os
from pathlib import Path

MADE_BY = ".made_by"  # names the notebook that writes here
LITTER = ("desktop.ini", "Thumbs.db")  # files of systems, like those whose names begin with a dot


def results_folder(out: Path, notebook: str = "") -> Path:
    """The folder `out`, made where it is absent, for the results of the notebook of this name ("07_the_full_pipeline").

    Nobody's files are overwritten: raises ValueError for a folder that holds anything that no notebook put there, for the
    home folder, and for the results of another notebook. Without a name it is checked and reserved for the notebook that comes. Raises OSError
    where it cannot be made.
    """
    out, marker = Path(out), Path(out) / MADE_BY
    home = Path(os.path.expanduser("~"))
    if out.resolve() in (home, *home.parents):
        raise ValueError(f"OUT, {out}, is your home folder, or holds it: name a new folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        found = [p.name for p in sorted(out.iterdir()) if not p.name.startswith(".") and p.name not in LITTER]
        maker = marker.read_text(encoding="utf-8", errors="replace").strip() if marker.exists() else None
        if maker is None and found:
            raise ValueError(
                f"OUT, {out}, holds files that no notebook of this version put there, such as {found[0]}: name a new folder."
            )
        if maker and notebook and maker != notebook:
            raise ValueError(f"OUT, {out}, holds the results of notebook {maker}: name a new folder.")
        if not maker:
            marker.write_text(notebook + "\n", encoding="utf-8")
    except OSError as error:
        raise OSError(f"the folder OUT, {out}, cannot be made ({error}): say OUT=another/folder.") from error
    return out
