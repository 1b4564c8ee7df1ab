from pathlib import Path

import torch

from semisalt.provenance import collect_provenance


def test_provenance_says_what_a_run_was_made_from() -> None:
    found = collect_provenance("abc", Path("tiles"), 7, torch.device("cpu"))
    assert found["data"] == "abc"
    assert found["source"] == str(Path.cwd() / "tiles")
    assert found["seed"] == 7
    assert found["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found["device"].startswith("cpu: ")
