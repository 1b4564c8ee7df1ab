"""`semisalt study`: how long a study may take."""

import pytest

from semisalt.cli.study import seconds
from semisalt.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("3h50m", 13800), ("1h1m1s", 3661)]
)
def test_a_time_is_read(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "2", "h", "2d", "50m3h", "-1h", "1h 5m", "1..5h"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"for example 2h or 3h50m"):
        seconds(text)
