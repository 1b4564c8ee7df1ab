"""Which file of a survey is what: the competition's layouts and a user's own.

- The competition's download: one zip; or a folder with train.zip and test.zip; or train/images, train/masks and
  test/images. The masks are PNG files, or the run lengths of train.csv, or both.
- A user's own: images/ and masks/, with unlabelled tiles in unlabelled/. Beside masks/ (or train.csv), an
  image without a mask is a mistake, not an unlabelled tile. Without either, all images are unlabelled.

A tile's id is its file's name without '.png'.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from semisalt.data.archive import ARCHIVES, LEAVES, TABLES, Entry, is_litter, leaf_folders

OTHER_IMAGES = {".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".tif", ".tiff", ".webp"}
EXPECTED = (
    "expected the competition's zip, or a folder with train.zip and test.zip, train/images and test/images, "
    "or images/ and masks/"
)


@dataclass
class Layout:
    """A survey's files by tile id or table name; `images` are the labelled ones."""

    images: dict[str, Entry] = field(default_factory=dict)
    masks: dict[str, Entry] = field(default_factory=dict)
    unlabelled: dict[str, Entry] = field(default_factory=dict)
    tables: dict[str, Entry] = field(default_factory=dict)

    @property
    def has_labels(self) -> bool:
        """Whether masks come from anywhere."""
        return bool(self.masks) or "train.csv" in self.tables


def arrange(entries: list[Entry]) -> tuple[Layout, list[str]]:
    """Sort a survey's files into a layout; what does not fit is named in the list of problems."""
    layout, problems = (
        Layout(),
        _misspelt(
            entry.name.parent for entry in entries if entry.name.suffix.lower() == ".png" and entry.name.parent.name
        ),
    )
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.name.name in TABLES:
            problems += _add(layout.tables, entry.name.name, entry)
            continue
        role = _role(layout, entry.name)
        if role is None:
            continue
        suffix = entry.name.suffix.lower()
        if suffix == ".png":
            problems += _add(role, entry.name.stem, entry)
        elif suffix in OTHER_IMAGES:
            problems.append(f"{entry.label}: not a PNG; images and masks must be PNG files")
    problems += _pair(layout)
    return layout, problems


def folder_problems(path: Path) -> list[str]:
    """What only the disk shows: names that are nearly right, folders without any PNG, and a set packed and unpacked."""
    beside = sorted(item for item in path.iterdir() if not is_litter(item.name))
    parts = [item.name for item in beside if any((item / leaf).is_dir() for leaf in LEAVES)]
    problems = _nearly(TABLES, [item.name for item in beside if item.is_file()]) + _nearly(("train", "test"), parts)
    below = [folder for part in (".", "train", "test") if (path / part).is_dir() for folder in (path / part).iterdir()]
    problems += _misspelt(
        PurePosixPath(folder.relative_to(path)) for folder in below if folder.is_dir() and _has_pictures(folder)
    )
    for folder in leaf_folders(path):
        if not _has_pictures(folder):
            problems.append(f"{folder.relative_to(path)}: an empty folder (no PNG files)")
    for name in ARCHIVES:
        if (path / name).is_file() and any(folder.parent.name == name[:-4] for folder in leaf_folders(path)):
            problems.append(f"{name}: lies beside its unpacked folder {name[:-4]}; keep one of them")
    return problems


def _has_pictures(folder: Path) -> bool:
    return not is_litter(folder.name) and any(file.suffix.lower() == ".png" for file in folder.iterdir())


def _role(layout: Layout, name: PurePosixPath) -> dict[str, Entry] | None:
    *above, leaf = name.parent.parts or ("",)
    if leaf == "images":
        return layout.unlabelled if "test" in above else layout.images
    return {"masks": layout.masks, "unlabelled": layout.unlabelled}.get(leaf)


def _misspelt(folders: Iterable[PurePosixPath]) -> list[str]:
    """Folders of PNG files that would be passed over in silence, though they are nearly called as one that is read."""
    names: dict[PurePosixPath, list[str]] = {}
    for folder in sorted(set(folders)):
        names.setdefault(folder.parent, []).append(folder.name)
    return [
        problem
        for parent, inside in names.items()
        for problem in _nearly(LEAVES, inside, "" if parent.name == "" else f"{parent}/")
    ]


def _nearly(known: Sequence[str], names: Sequence[str], above: str = "") -> list[str]:
    """Which of `names` was probably meant for one that is missing beside it."""
    missing = [name for name in known if name not in names]
    guesses = [(name, get_close_matches(name.lower(), missing, 1, 0.85)) for name in names if name not in known]
    # 'labelled' is near to 'unlabelled', and the opposite.
    return [
        f"{above}{name}: nothing of that name is read; did you mean {near[0]}?"
        for name, near in guesses
        if near and not name.lower().startswith("label")
    ]


def _add(group: dict[str, Entry], key: str, entry: Entry) -> list[str]:
    if key in group:
        return [f"{entry.label}: a second file for {key}; the first is {group[key].label}"]
    group[key] = entry
    return []


def _pair(layout: Layout) -> list[str]:
    problems = [
        f"{layout.images[tile].label}: the tile is unlabelled too ({layout.unlabelled[tile].label})"
        for tile in sorted(layout.images.keys() & layout.unlabelled.keys())
    ]
    if layout.masks:
        unmasked = sorted(layout.images.keys() - layout.masks.keys())
        orphans = sorted(layout.masks.keys() - layout.images.keys())
        problems += [f"{layout.images[tile].label}: an image without a mask" for tile in unmasked]
        problems += [f"{layout.masks[tile].label}: a mask without an image" for tile in orphans]
    elif not layout.has_labels:
        training = [entry for entry in layout.images.values() if "train" in entry.name.parts]
        if training:
            problems.append(f"{training[0].label}: training images, but neither masks nor train.csv")
        layout.unlabelled |= layout.images
        layout.images = {}
    return problems
