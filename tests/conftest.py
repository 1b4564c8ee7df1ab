"""Fixtures of all tests."""

import os
from collections.abc import Iterator

# Threads that spin while they wait take the processor from whoever else runs; tiny networks need only one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest
import torch

from semisalt.data.tiles import Survey
from tests.tiny import tiny_survey

# How long an example takes says nothing on a machine that others share.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """One thread in this process: faster for tiny networks, and the same bits as in the tests' own processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def survey() -> Survey:
    """60 labelled tiles of 32×32, one of them blank, and 12 unlabelled ones."""
    return tiny_survey()
