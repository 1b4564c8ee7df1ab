import math

import pytest

from semisalt.methods.ramp import ramp


def test_rises_to_one_and_stays() -> None:
    assert ramp(0.0, 0.3) == pytest.approx(math.exp(-5))
    assert ramp(0.15, 0.3) == pytest.approx(math.exp(-1.25))
    assert ramp(0.3, 0.3) == 1
    assert ramp(0.9, 0.3) == 1
    values = [ramp(share / 100, 0.5) for share in range(100)]
    assert values == sorted(values)


def test_no_ramp_is_the_full_weight_at_once() -> None:
    assert ramp(0.0, 0.0) == 1
