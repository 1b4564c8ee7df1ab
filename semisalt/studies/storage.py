"""The storage of a study's trials: SQLite in WAL mode in its directory, or a PostgreSQL server for several machines."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256

import optuna
import sqlalchemy
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from semisalt.errors import UserError
from semisalt.files import held
from semisalt.studies.directory import StudyDirectory

# Seconds that a process waits for another one's write.
_PATIENCE = 60
# Optuna's tables, as far as they are read here.
_HEARTBEATS = sqlalchemy.table(
    "trial_heartbeats", sqlalchemy.column("trial_id"), sqlalchemy.column("heartbeat", sqlalchemy.DateTime)
)
_TRIALS = sqlalchemy.table(
    "trials", sqlalchemy.column("trial_id"), sqlalchemy.column("study_id"), sqlalchemy.column("number")
)
_STUDIES = sqlalchemy.table("studies", sqlalchemy.column("study_id"), sqlalchemy.column("study_name"))


def check_url(url: str) -> None:
    """Refuse a storage that cannot be used, or whose URL gives away a password.

    Raises UserError with the way out.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except ArgumentError:
        raise UserError(f"--storage {url}: not a URL; for example postgresql+psycopg://user@host/database") from None
    if parsed.get_backend_name() != "postgresql":
        raise UserError(
            f"--storage {parsed.render_as_string()}: a study of several machines needs PostgreSQL, "
            "postgresql+psycopg://user@host/database; without --storage it lies in its directory, in SQLite"
        )
    if parsed.password is not None:
        raise UserError(
            f"--storage {parsed.render_as_string()}: the password would be written into study.yaml; "
            "leave it out and put it into ~/.pgpass or the variable PGPASSWORD"
        )
    try:
        parsed.get_dialect().import_dbapi()
    except (ImportError, NoSuchModuleError):
        raise UserError(
            f"--storage {url}: its driver is missing: pip install 'semisalt[postgres]', and begin the URL with "
            "postgresql+psycopg://"
        ) from None


def open_storage(directory: StudyDirectory) -> optuna.storages.RDBStorage:
    """The study's storage; made where there is none. Only while `locked`, or two processes make its tables at once.

    Raises UserError where the server cannot be reached.
    """
    url = directory.url
    if directory.request.storage is None:
        with closing(sqlite3.connect(directory.database, timeout=_PATIENCE)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # the file remembers it
        return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _PATIENCE}})
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except OperationalError as error:
        raise UserError(f"--storage {url}: the server does not answer ({error.orig})") from None


@contextmanager
def locked(directory: StudyDirectory) -> Iterator[None]:
    """Hold the study alone among all its workers, on this machine or on others; a killed holder lets go.

    Raises UserError where the server cannot be reached.
    """
    request = directory.request
    if request.storage is None:
        with held(directory.path / ".study.lock"):
            yield
        return
    key = int.from_bytes(sha256(request.name.encode()).digest()[:7])
    engine = sqlalchemy.create_engine(request.storage, poolclass=sqlalchemy.NullPool)
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise UserError(f"--storage {request.storage}: the server does not answer ({error.orig})") from None
    with connection:
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(key)))
        yield


def silence(engine: sqlalchemy.Engine, name: str) -> dict[int, float]:
    """Seconds since the last sign of life, by the database's clock, of each trial of a study (its number)."""
    trials, studies, beats = _TRIALS.c, _STUDIES.c, _HEARTBEATS.c
    beaten = _HEARTBEATS.join(_TRIALS, beats.trial_id == trials.trial_id).join(
        _STUDIES, studies.study_id == trials.study_id
    )
    heard = sqlalchemy.select(trials.number, beats.heartbeat).select_from(beaten).where(studies.study_name == name)
    with engine.connect() as connection:
        now = connection.execute(sqlalchemy.select(sqlalchemy.func.now(type_=sqlalchemy.DateTime))).scalar_one()
        rows = connection.execute(heard).all()
    return {number: max(0.0, (now.replace(tzinfo=None) - beat).total_seconds()) for number, beat in rows}


def silence_of(directory: StudyDirectory) -> dict[int, float]:
    """As `silence`, for one who only looks."""
    engine = sqlalchemy.create_engine(directory.url, poolclass=sqlalchemy.NullPool)
    return silence(engine, directory.request.name)
