"""The competition's data from Kaggle."""

import importlib
import shutil
import tempfile
from pathlib import Path

from semisalt.data.archive import source_files
from semisalt.errors import UserError

COMPETITION = "tgs-salt-identification-challenge"
MANUAL = f"""By hand instead:
  1. log in at https://www.kaggle.com and accept the rules at
     https://www.kaggle.com/competitions/{COMPETITION}/rules
  2. download https://www.kaggle.com/competitions/{COMPETITION}/data
  3. pass the zip as it is, or the folder it was unpacked to, with --data PATH"""


def fetch(destination: Path = Path("data/tgs")) -> Path:
    """Download the TGS Salt Identification Challenge's data with kagglehub (extra `kaggle`) to a new folder.

    Returns:
        `destination`.

    Raises:
        UserError: the destination exists, kagglehub is missing, there is no login, the competition's rules
        are not
            accepted, or the download fails; with the steps that do it by hand.
    """
    if destination.exists():
        raise UserError(f"{destination}: exists already; remove it to download the data anew")
    downloaded = _download()
    files = source_files(downloaded)
    if not files:
        raise UserError(f"{downloaded}: the download holds nothing known.\n{MANUAL}")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{destination.name}.", dir=destination.parent) as temporary:
        whole = Path(temporary) / "whole"
        for file in files:
            target = whole / file.relative_to(downloaded)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        whole.rename(destination)
    return destination


def _download() -> Path:
    try:
        kagglehub = importlib.import_module("kagglehub")
        faults = importlib.import_module("kagglehub.exceptions")
    except ImportError as error:
        raise UserError(f"kagglehub is missing: pip install 'semisalt[kaggle]'.\n{MANUAL}") from error
    try:
        return Path(kagglehub.competition_download(COMPETITION))
    except (faults.UnauthenticatedError, faults.CredentialError) as error:
        hint = "a token from https://www.kaggle.com/settings belongs in ~/.kaggle/kaggle.json"
        raise UserError(f"There is no Kaggle login ({error}): {hint}.\n{MANUAL}") from error
    except (OSError, faults.BackendError, faults.DataCorruptionError) as error:
        raise UserError(f"Kaggle refused the download, or it broke off: {error}\n{MANUAL}") from error
