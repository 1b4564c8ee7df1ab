"""A folder of mosaics, which knows the survey that it was built from."""

from pathlib import Path

from semisalt.data.read import load_survey
from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.files import write_json
from semisalt.mosaics.grid import Mosaics, Pairs, read_mosaics, write_mosaics
from semisalt.run import read_json

_ORIGIN = "survey.json"


def save(folder: Path, survey: Survey, mosaics: Mosaics, pairs: Pairs) -> None:
    """Write mosaics.csv, neighbours.csv and survey.json (the survey's fingerprint and where it was read from)."""
    write_mosaics(folder, mosaics, pairs)
    write_json(folder / _ORIGIN, {"data": survey.fingerprint, "source": str(survey.source.resolve())})


def load(folder: Path, moved: Path | None = None) -> tuple[Survey, Mosaics, Pairs]:
    """The mosaics of a folder, and the survey that they were built from, read from where it was or moved to.

    Raises:
        UserError: there are no mosaics, the survey is gone, or it is not the same any more.
    """
    mosaics, pairs = read_mosaics(folder)
    origin = read_json(folder / _ORIGIN)
    path = moved or Path(origin["source"])
    if not path.exists():
        raise UserError(f"{path}, the tiles of {folder}, is not there: give it by --data")
    survey = load_survey(path)
    check(folder, survey)
    return survey, mosaics, pairs


def check(folder: Path, survey: Survey) -> None:
    """Raises UserError where the mosaics of a folder were built from another survey than this one."""
    built = read_json(folder / _ORIGIN)["data"]
    if built != survey.fingerprint:
        raise UserError(
            f"{folder} was built from other tiles than {survey.source} holds (fingerprint {built}, now "
            f"{survey.fingerprint}): build it again with semisalt mosaic build --data {survey.source} --out {folder}"
        )
