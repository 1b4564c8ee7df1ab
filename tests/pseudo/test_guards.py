import numpy as np
import pytest

from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.pseudo.guards import guards_of
from semisalt.run import RunDirectory
from semisalt.training.crossval import divide
from tests.pseudo.made import config_of, made_run
from tests.pseudo.staged import CONFIG, Training, request_of, start
from tests.tiny import tiny_survey


@pytest.fixture(scope="module")
def tiles() -> Survey:
    return tiny_survey(40, 14)


@pytest.fixture
def source(tmp_path, tiles: Survey) -> RunDirectory:
    return made_run(tmp_path / "source", CONFIG, tiles)


def leave(run: RunDirectory, fold: int, masks) -> None:
    np.save(run.fold(fold).probabilities, masks.astype(np.uint8) * np.uint8(255))


def test_guards_by_plain_counting(source, tiles, tmp_path):
    """Round 1 sees salt in the upper half of fold 0's tiles and nowhere in fold 1's; round 0 sees the truth."""
    division = divide(tiles, CONFIG)
    later = made_run(tmp_path / "later", CONFIG, tiles)
    counts = [len(division.validation(fold)) for fold in (0, 1)]
    height, width = tiles.labelled.shape
    upper = np.zeros((height, width), bool)
    upper[: height // 2] = True
    leave(later, 0, np.repeat(upper[None], counts[0], axis=0))
    leave(later, 1, np.zeros((counts[1], height, width), bool))
    guards = guards_of(later, source, tiles.labelled, division, (0, 1))
    assert guards.foreground == pytest.approx(0.5 * counts[0] / sum(counts))
    assert guards.empty_share == pytest.approx(counts[1] / sum(counts))
    kept = division.tiles.masks[division.kept]
    assert guards.prior_foreground == pytest.approx(kept.mean())
    assert guards.prior_empty_share == pytest.approx((kept.sum((1, 2)) == 0).mean())
    shares = []
    for fold, mask in ((0, upper), (1, np.zeros_like(upper))):
        for truth in division.validation(fold).masks.astype(bool):
            union = (truth | mask).sum()
            shares.append((truth & mask).sum() / union if union else 1.0)
    assert guards.agreement == pytest.approx(np.mean(shares))
    assert guards_of(source, None, tiles.labelled, division, (0, 1)).agreement is None
    # One fold alone is judged by its own tiles.
    assert guards_of(later, source, tiles.labelled, division, (1,)).empty_share == 1.0


def test_runs_divided_otherwise_are_not_compared(source, tiles, tmp_path):
    other = made_run(tmp_path / "other", config_of(seed=5), tiles)
    with pytest.raises(UserError, match="divide the labelled tiles differently"):
        guards_of(other, source, tiles.labelled, divide(tiles, CONFIG), (0, 1))


@pytest.mark.parametrize(("share", "refused"), [(0.24, True), (0.26, False)])
def test_the_last_round_is_refused_where_it_forgot_the_salt(source, tiles, monkeypatch, share, refused):
    """A quarter of the labelled prior is the limit; no later round would have labelled by it and found out."""
    division = divide(tiles, CONFIG)
    prior = division.tiles.subset(division.kept).coverage.mean()

    class Forgetful(Training):
        def __call__(self, run, survey, folds, *others):
            super().__call__(run, survey, folds, *others)
            if run.path.name == "round2":
                for fold in folds:
                    masks = np.zeros((len(division.validation(fold)), *tiles.labelled.shape), bool)
                    flat = masks.reshape(-1)
                    flat[: round(share * prior * flat.size)] = True
                    leave(run, fold, masks)

    Forgetful(monkeypatch)
    outcome = start(request_of(source), tiles)
    assert [figures.round for figures in outcome.rounds] == ([0, 1] if refused else [0, 1, 2])
    assert ("round 2 was refused" in outcome.ended) is refused
    if refused:
        assert "round2: the predictions on its out-of-fold tiles have collapsed to background" in outcome.ended
        assert f"prior_foreground {prior:.3f}" in outcome.ended
