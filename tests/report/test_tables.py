"""Tables as they are piped."""

import io
import json
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from semisalt.data.check import Description
from semisalt.errors import UserError
from semisalt.inference.threshold import Operating
from semisalt.report.tables import description_tables, results_table


def piped(renderable):
    out = io.StringIO()
    Console(file=out, width=80).print(renderable)
    text = out.getvalue()
    assert all(cell_len(line) <= 80 for line in text.splitlines())
    assert "\x1b" not in text
    return text


def flow(text):
    return re.sub(r"\s+", " ", text)


def row(text, start):
    """The first line that begins so, cut at the gaps."""
    (line, *_) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return re.split(r"\s{2,}", line.strip())


def test_folds_are_shown_whole_at_80_columns(run):
    text = piped(results_table(run))
    assert row(text, "fold") == ["fold", "tiles", "epochs", "min", "last", "predictions *", "weights"]
    scores = [".711 .690–.724", ".733 .712–.746", ".987 .966–1.000"]
    assert row(text, "1 ") == ["1", "1777", "420", "1234", *scores]


def test_overall_figures_are_those_of_results_json(run):
    text, results = piped(results_table(run)), json.loads((run.path / "results.json").read_text())

    def short(value):
        return f"{value:.3f}".removeprefix("0")

    def interval(scores):
        return f"{short(scores['value'])} [{short(scores['low'])}, {short(scores['high'])}]"

    for name, key in {"at 0.5": "at_half", "chosen": "chosen"}.items():
        scores = results[key]
        plain = [f"{scores['mean_iou']:.3f}", f"{scores['dice']:.3f}"]
        shares = [f"{100 * scores['false_salt_share']:.1f}%", f"{100 * scores['missed_salt_share']:.1f}%"]
        assert row(text, name) == [name, interval(scores["precision"]), *plain, *shares]
    assert row(text, "cross-fitted") == ["cross-fitted", interval(results["cross_fitted"])]
    # t012 is the one of nine empty tiles that was given salt, t007 the one of thirty that missed it.
    assert row(text, "at 0.5")[-2:] == ["11.1%", "3.3%"]


def test_notes_name_the_operating_point(run):
    point = json.loads((run.path / "results.json").read_text())["operating"]
    text = flow(piped(results_table(run)))
    assert Operating(**point).words in text


@pytest.mark.parametrize(
    ("select", "patience", "said", "unsaid"),
    [
        ("best", 60, ["snapshots.select: best", "training.patience", "flatter a little"], ["without a look"]),
        ("best", "null", ["snapshots.select: best", "flatter a little"], ["training.patience", "without a look"]),
        ("last", 60, ["training.patience", "flatter a little"], ["snapshots.select", "without a look"]),
        ("last", "null", ["without a look"], ["flatter a little"]),
    ],
)
def test_notes_say_whether_validation_tiles_chose_the_weights(run_with, select, patience, said, unsaid):
    run = run_with(f"snapshots.select={select}", f"training.patience={patience}")
    text = flow(piped(results_table(run)))
    assert all(words in text for words in said)
    assert not any(words in text for words in unsaid)


def test_one_fold_of_two_and_few_labels(run_with):
    text = piped(results_table(run_with("data.label_fraction=0.05", "snapshots.combine=weights", finished=(1,))))
    assert "1 of 2 folds finished, 19 tiles scored, 5% of the labels used" in text
    assert "weights *" in text
    assert "the other half of the fold's tiles" in flow(text)


def test_a_run_without_results(run):
    (run.path / "results.json").unlink()
    with pytest.raises(UserError, match="no results"):
        results_table(run)


def description(**changes):
    values = {
        "fingerprint": "0123456789abcdef" * 4,
        "source": "/some/where",
        "labelled": 4000,
        "unlabelled": 18000,
        "height": 101,
        "width": 99,
        "blank_labelled": 7,
        "blank_unlabelled": 300,
        "blank_with_salt": (),
        "duplicates": (),
        "empty": 1500,
        "coverage_histogram": (750, 4, 0, 300, 0, 0, 0, 0, 0, 2),
        "tiny": 11,
        "vertical": 22,
        "full": 33,
        "depth_range": (51.0, 959.0),
    }
    return Description(**{**values, **changes})


def test_a_survey_in_numbers():
    text = piped(description_tables(description()))
    assert row(text, "fingerprint")[1] == "0123456789abcdef" * 4
    assert row(text, "tiles")[1] == "4000 labelled, 18000 unlabelled, 101 × 99 pixels"
    assert row(text, "depth")[1] == "51 to 959"
    assert row(text, "salt on blank")[1] == row(text, "duplicates")[1] == "none"
    assert "1500 empty, 2500 with salt; of these 11 tiny (1 to 20 px), 22 vertical, 33 full" in flow(text)


def test_coverage_bars_are_to_scale_and_never_hide_a_tile():
    text = piped(description_tables(description()))
    bars = {}
    for name in ["none", *(f"to {tenth}0%" for tenth in range(1, 11))]:
        cells = row(text, name + " ")
        bars[name] = (int(cells[1]), len(cells[2]) if len(cells) > 2 else 0)
    assert bars["none"] == (1500, 40)
    assert bars["to 10%"] == (750, 20)
    assert bars["to 20%"] == (4, 1)
    assert bars["to 30%"] == (0, 0)
    assert bars["to 40%"] == (300, 8)
    assert bars["to 100%"] == (2, 1)


def test_oddities_are_named_and_long_lists_cut():
    twins = tuple((f"a{k}", f"b{k}") for k in range(7))
    text = flow(piped(description_tables(description(blank_with_salt=("x", "y"), duplicates=twins, depth_range=None))))
    assert "salt on blank 2: x, y" in text
    assert "duplicates 7 groups: a0 = b0, a1 = b1, a2 = b2, a3 = b3, a4 = b4 … and 2 more" in text
    assert "depth not given" in text


def test_a_survey_without_labels():
    text = piped(description_tables(description(labelled=0, empty=0, coverage_histogram=(0,) * 10)))
    assert "█" not in text
