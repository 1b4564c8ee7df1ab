"""Where the tiles come from when the user does not say."""

from pathlib import Path

from semisalt.data.synthetic import write_survey

COMPETITION = Path("data/tgs")
SYNTHETIC = Path("data/synthetic")


def choose_source(given: Path | None) -> tuple[Path, str]:
    """The given path, else data/tgs if it is there, else the synthetic survey, which is made on first use.

    Returns:
        The path and a sentence that says which and why.
    """
    if given is not None:
        return given, f"data: {given}"
    if COMPETITION.exists():
        return COMPETITION, f"data: {COMPETITION} (no --data given)"
    if SYNTHETIC.exists():
        return SYNTHETIC, f"data: {SYNTHETIC}, the synthetic survey (no --data given, and no {COMPETITION})"
    write_survey(SYNTHETIC)
    return SYNTHETIC, f"data: {SYNTHETIC}, a synthetic survey made just now (no --data given, and no {COMPETITION})"
