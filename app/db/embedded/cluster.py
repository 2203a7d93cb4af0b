"""The files of one embedded database: their place, their owner and their creation."""

import hashlib
import os
import pwd
import secrets
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from app.db.embedded.debian import Say
from app.db.embedded.launcher import Account, launch_command
from app.db.embedded.programs import SYSTEM_FOLDER, EmbeddedServerError, Programs, make_open_folder

#: The name of the superuser and of the database.
NAME = "tidegauge"


class Credentials(msgspec.Struct, frozen=True):
    """The password and the port, stored so that the database has the same address in each run."""

    password: str
    port: int | None = None

    def dsn(self) -> str:
        """Return the address for psql, Grafana and asyncpg."""
        return f"postgresql://{NAME}:{self.password}@127.0.0.1:{self.port}/{NAME}"


class Cluster(msgspec.Struct, frozen=True):
    """The database of one DATA_DIR: `folder` holds PostgreSQL's folder `data`, and `credentials.json`."""

    folder: Path
    #: The user that the server runs as; None: the user of this process.
    account: Account | None

    @property
    def data(self) -> Path:
        """Return the folder that PostgreSQL calls PGDATA."""
        return self.folder / "data"

    def major(self) -> int | None:
        """Return the major version of the PostgreSQL that wrote the data, or None when there are no data yet."""
        try:
            return int((self.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None

    def credentials(self) -> Credentials:
        """Read the stored credentials; raise EmbeddedServerError when they are missing or damaged."""
        try:
            return msgspec.json.decode((self.folder / "credentials.json").read_bytes(), type=Credentials)
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            raise EmbeddedServerError(
                f"{self.folder}/credentials.json is missing or damaged, so nobody knows the password of the "
                f"database beside it. Put the file back, or move {self.folder} away to start with an empty one."
            ) from None

    def store_credentials(self, credentials: Credentials) -> None:
        """Replace the stored credentials."""
        write_private(self.folder / "credentials.json", msgspec.json.encode(credentials))

    def create(self, programs: Programs, *, durable: bool) -> None:
        """Run initdb so that afterwards the data exist completely or not at all.

        `durable=False` does not wait until the data are on the disk. Raises EmbeddedServerError.
        """
        credentials = Credentials(secrets.token_urlsafe(24))
        self.store_credentials(credentials)
        unfinished = self.folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password = self.folder / "password"
        write_private(password, credentials.password.encode())
        for path in (unfinished, password):
            self._hand_over(path)
        try:
            self._initdb(programs, unfinished, password, durable)
        finally:
            password.unlink()
        unfinished.rename(self.data)

    def processes(self) -> list[int]:
        """List the processes that have this database open, including those whose postmaster was killed.

        All processes of a PostgreSQL server have PGDATA as their working directory.
        """
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._is_server(entry)]

    def _hand_over(self, path: Path) -> None:
        if self.account:
            os.chown(path, *self.account)

    def _initdb(self, programs: Programs, data: Path, password: Path, durable: bool) -> None:
        options = ["--pgdata", str(data), "--username", NAME, "--pwfile", str(password)]
        options += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"]
        if programs.major >= 17:
            # Upper and lower case beyond ASCII, without a locale of the host.
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not durable:
            options.append("--no-sync")
        command = launch_command("SIGKILL", self.account, programs.path("initdb"), *options)
        ran = subprocess.run(  # noqa: S603
            command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
        if ran.returncode != 0:
            raise EmbeddedServerError(f"initdb could not create a database in {data}: {ran.stderr.strip()}")

    def _is_server(self, process: Path) -> bool:
        try:
            return process.joinpath("cwd").readlink() == self.data and b"postgres" in (
                process.joinpath("cmdline").read_bytes()
            )
        except OSError:  # the process has ended or belongs to another user
            return False


def cluster_folder(data_dir: Path) -> Path:
    """Return the folder of the database of a DATA_DIR: inside it, or for root under SYSTEM_FOLDER by its full path."""
    data_dir = data_dir.resolve()
    if os.geteuid() != 0:
        return data_dir / "postgres"
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()
    return SYSTEM_FOLDER / "data" / digest[:16]


def open_cluster(data_dir: Path, say: Say) -> Cluster:
    """Make the folder for the database of `data_dir`, which is a full path; raise EmbeddedServerError or OSError."""
    folder = cluster_folder(data_dir)
    if os.geteuid() == 0:
        _link(data_dir / "postgres", folder, say)
    make_open_folder(folder)
    return Cluster(folder, _account(folder / "data"))


def write_private(path: Path, content: bytes) -> None:
    """Replace a file atomically by one that only its owner can read."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with open(new, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _link(link: Path, folder: Path, say: Say) -> None:
    """Link from DATA_DIR to root's database, and set aside a database that belongs to an earlier folder of that path.

    A missing link means that DATA_DIR was deleted and made again, or was moved or copied to this path. Its database
    starts empty, and the database that the path had before is renamed.
    """
    if link.is_symlink() and link.readlink() == folder:
        return
    if link.exists() and not link.is_symlink():
        raise EmbeddedServerError(
            f"{link} holds the database of another user, {_owner(link)}. Run as that user, or set DATA_DIR "
            "to another folder."
        )
    if folder.exists():
        aside = folder.rename(folder.with_name(f"{folder.name}.{datetime.now(UTC):%Y%m%dT%H%M%S%f}"))
        say(f"{link.parent} is a new folder; the database of the earlier folder of that name is now in {aside}.")
    link.unlink(missing_ok=True)
    link.symlink_to(folder)


def _owner(path: Path) -> str:
    uid = path.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _account(data: Path) -> Account | None:
    """Return the user that the server runs as, or None for the present one; PostgreSQL refuses to run as root.

    initdb requires a user that the system knows by name, and adding a user would change the machine. So root takes
    the user that a PostgreSQL package has added, or else `nobody`, which every Linux has. Existing data keep their
    owner. Raises EmbeddedServerError.
    """
    if os.geteuid() != 0:
        return None
    if data.exists():
        owner = data.stat()
        return Account(owner.st_uid, owner.st_gid)
    known = {user.pw_name: user for user in pwd.getpwall()}
    for name in (NAME, "postgres", "nobody"):
        if name in known and known[name].pw_uid != 0:
            return Account(known[name].pw_uid, known[name].pw_gid)
    raise EmbeddedServerError(
        "Run as root, the embedded server needs a user to become, and this machine has neither `postgres` nor "
        "`nobody`. Run as an ordinary user."
    )
