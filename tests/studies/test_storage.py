"""Storages: SQLite as it is, PostgreSQL on a real server that the test starts, URLs that cannot work."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from semisalt.errors import UserError
from semisalt.studies.storage import check_url, silence_of
from tests.studies.made import assert_none_lost, desk_of, made, search_sums, trials_of, workers


def server_programs() -> Path | None:
    """The folder of initdb and pg_ctl; Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders and (folders[-1] / "initdb").exists() else None


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL server of its own, reached by a socket in a folder of its own; the URL of its database."""
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    # A short name, since a socket's path may have 107 characters; and one that the server's user may enter.
    folder = Path(tempfile.mkdtemp(prefix="semisalt-pg-"))
    words: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        words = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    settings = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    data = folder / "data"

    def run(*command: str | Path) -> None:
        subprocess.run([*words, *command], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    run(programs / "initdb", "-D", data, "-U", "tester", "--auth=trust", "--no-sync")
    run(programs / "pg_ctl", "-D", data, "-l", folder / "log", "-o", settings, "-w", "start")
    try:
        yield f"postgresql+psycopg://tester@/postgres?host={folder}"
    finally:
        run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_four_workers_on_postgresql_one_of_them_killed(tmp_path: Path, server: str) -> None:
    directory = made(tmp_path / "study", storage=server)
    check_url(server)
    codes = workers(directory, 16, 4, dies=5)
    assert sorted(codes, key=str) == [-9, 0, 0, 0]
    assert_none_lost(directory, 16, 5)
    assert not directory.database.exists()


def test_studies_share_a_server_by_name(tmp_path: Path, server: str) -> None:
    one = made(tmp_path / "one", storage=server)
    search_sums(one, 3)
    two = made(tmp_path / "two", storage=server)
    search_sums(two, 2)
    assert (len(trials_of(one)), len(trials_of(two))) == (3, 2)
    # Workers of several machines begin the same study in directories of their own, and find each other.
    elsewhere = made(tmp_path / "elsewhere" / "one", storage=server)
    assert len(search_sums(elsewhere, 4)) == 4
    # Another study of that name is refused.
    other = made(tmp_path / "other" / "one", storage=server, seed=7)
    with pytest.raises(UserError, match="the storage holds another study named one"):
        desk_of(other)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    directory = made(tmp_path / "study", storage=f"postgresql+psycopg://tester@/trials?host={tmp_path}")
    with pytest.raises(UserError, match="the server does not answer"):
        desk_of(directory)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("trials.db", "not a URL"),
        ("sqlite:///trials.db", "needs PostgreSQL"),
        ("mysql://host/trials", "needs PostgreSQL"),
        ("postgresql+psycopg://me:secret@host/trials", "~/.pgpass"),
        ("postgresql+nodriver://me@host/trials", "its driver is missing"),
    ],
)
def test_urls_that_cannot_work(url: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_url(url)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"semisalt\[postgres\]"):
        check_url("postgresql+psycopg://me@host/trials")


def test_silence_is_counted_by_the_database(tmp_path: Path) -> None:
    directory = made(tmp_path / "study")
    desk = desk_of(directory)
    trial = desk.claim(2)
    assert trial is not None
    assert 0 <= silence_of(directory)[0] < 60
    assert silence_of(directory).keys() == {0}


def test_a_report_neither_waits_for_a_live_study_nor_keeps_it_waiting(tmp_path: Path) -> None:
    directory = made(tmp_path / "study")
    search_sums(directory, 2)
    with sqlite3.connect(directory.database, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")  # a worker within its write
        writer.execute("UPDATE trials SET number = number")
        study = directory.open_study()
        assert len(study.trials) == 2
        writer.execute("COMMIT")
    before = directory.database.read_bytes()
    study.add_trial(study.trials[0])  # what is done to the copy stays there
    assert len(trials_of(directory)) == 2
    assert directory.database.read_bytes() == before
