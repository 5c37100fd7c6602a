//! A real PostgreSQL server from the installed binaries, with a fresh migrated database for each
//! test.
//!
//! The name of the server's folder contains the id of the process that owns it, so that the next
//! run can remove the folders of killed runs. Committed data survives a crash of the server, which
//! `cargo xtask chaos` relies on. It does not survive a crash of the machine, because
//! `fsync` is off, except with [`Postgres::start_durable`].

use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::{
    errno::Errno,
    sys::signal::kill,
    unistd::{Pid, Uid},
};
use rcgen::CertifiedKey;
use sqlx::{Connection, Executor, PgConnection, migrate::Migrator};
use tokio::{sync::OnceCell, task::spawn_blocking};

use crate::{
    eventually, port,
    process::{Process, Signal, Spec},
    system::cargo,
    tls,
};

/// The user id of `nobody`. PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;
const FOLDER: &str = "bookapp-postgres-";
const TEMPLATE: &str = "migrated";
/// The certificate of a server with TLS, in its folder.
const CERTIFICATE: &str = "server.crt";
const MISSING: &str = "no PostgreSQL server found: install it (Debian: apt-get install postgresql), \
    or set PG_BIN to the folder that contains `postgres` and `initdb`";
static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// A running server. It stops on drop.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    server: Spec,
    port: u16,
    folder: PathBuf,
    databases: AtomicU32,
}

impl Postgres {
    /// Returns the server that all tests of this process share. The first call starts it.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// Starts a server and creates the migrated template database.
    pub async fn start() -> Result<Self> {
        Self::start_with(&["fsync=off", "full_page_writes=off"]).await
    }

    /// Starts a server that waits for the disk at each commit, as in production.
    pub async fn start_durable() -> Result<Self> {
        Self::start_with(&["fsync=on", "full_page_writes=on"]).await
    }

    /// Starts a server that accepts encrypted connections too. [`tls_parameters`](Self::tls_parameters) requests one.
    pub async fn start_tls() -> Result<Self> {
        let (folder, user) = folder()?;
        let CertifiedKey { cert, signing_key } = tls::certificate()?;
        let key = folder.join("server.key");
        fs::write(folder.join(CERTIFICATE), cert.pem())?;
        fs::write(&key, signing_key.serialize_pem())?;
        fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        chown(&key, user, user)?;
        let certificate = format!("ssl_cert_file={}", folder.join(CERTIFICATE).display());
        let key = format!("ssl_key_file={}", key.display());
        let settings = [
            "fsync=off",
            "full_page_writes=off",
            "ssl=on",
            &certificate,
            &key,
        ];
        Self::start_in(folder, user, &settings).await
    }

    async fn start_with(settings: &[&str]) -> Result<Self> {
        let (folder, user) = folder()?;
        Self::start_in(folder, user, settings).await
    }

    async fn start_in(folder: PathBuf, user: Option<u32>, settings: &[&str]) -> Result<Self> {
        let binaries = binaries()?;
        let program = |name: &str| Spec {
            user,
            ..Spec::new(name, binaries.join(name))
        };
        let data = folder.join("data");
        let init = program("initdb")
            .arg("--auth=trust")
            .arg("--username=postgres")
            .arg("--encoding=UTF8")
            .arg("--locale=C.UTF-8")
            .arg("--no-sync")
            .arg("--pgdata")
            .arg(&data);
        let init = Process::start(&init)?;
        if !init.wait(Duration::from_mins(1)).await?.success() {
            bail!("initdb failed:\n{}", init.lines().join("\n"));
        }
        let port = port::free()?;
        let server = Spec {
            stop_signal: Signal::SIGINT,
            ..program("postgres")
        }
        .arg("-D")
        .arg(&data)
        .arg("-k")
        .arg(&folder)
        .arg("-p")
        .arg(port.to_string())
        .args_of_settings(&["listen_addresses=127.0.0.1", "max_connections=500"])
        .args_of_settings(settings);
        let process = Process::start(&server)?;
        let postgres = Self {
            process,
            server,
            port,
            folder,
            databases: AtomicU32::new(0),
        };
        postgres.prepare_template().await.with_context(|| {
            format!(
                "PostgreSQL did not start:\n{}",
                postgres.process.lines().join("\n")
            )
        })?;
        Ok(postgres)
    }

    /// Creates a migrated and seeded database and returns its URL.
    pub async fn database(&self) -> Result<String> {
        let name = format!("books_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.create(&format!("create database {name} template {TEMPLATE}"))
            .await?;
        Ok(self.url(&name))
    }

    /// Creates an empty database and returns its URL.
    pub async fn empty_database(&self) -> Result<String> {
        let name = format!("empty_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.create(&format!("create database {name}")).await?;
        Ok(self.url(&name))
    }

    /// Stops the server with this signal: SIGKILL simulates a crash, SIGINT is a fast shutdown.
    pub async fn stop(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal);
        self.process.wait(Duration::from_mins(1)).await.map(drop)
    }

    /// Starts the stopped server again, with its data.
    pub async fn restart(&mut self) -> Result<()> {
        // The server refuses to start while backends of a crashed server are still running.
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            self.process = Process::start(&self.server)?;
            let is_decided = async || {
                !self.process.is_running()
                    || PgConnection::connect(&self.url("postgres")).await.is_ok()
            };
            eventually(
                Duration::from_mins(1),
                "PostgreSQL accepts connections after the restart",
                || async { is_decided().await.then_some(()) },
            )
            .await?;
            if self.process.is_running() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "PostgreSQL did not restart:\n{}",
                    self.process.lines().join("\n")
                );
            }
        }
    }

    async fn prepare_template(&self) -> Result<()> {
        let connection = || async { PgConnection::connect(&self.url("postgres")).await.ok() };
        eventually(
            Duration::from_mins(1),
            "PostgreSQL accepts connections",
            connection,
        )
        .await?;
        self.create(&format!("create database {TEMPLATE}")).await?;
        let mut template = PgConnection::connect(&self.url(TEMPLATE)).await?;
        MIGRATIONS
            .run(&mut template)
            .await
            .context("could not run the migrations")?;
        template.close().await?;
        Ok(())
    }

    async fn create(&self, statement: &str) -> Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        connection
            .execute(sqlx::AssertSqlSafe(statement))
            .await
            .context(statement.to_owned())?;
        connection.close().await?;
        Ok(())
    }

    /// Returns what to append to the URL of a database, so that connections are encrypted and the certificate of the
    /// server is verified.
    pub fn tls_parameters(&self) -> String {
        let authority = self.folder.join(CERTIFICATE);
        format!("?sslmode=verify-full&sslrootcert={}", authority.display())
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

/// Creates a folder for a server, and returns it with the user that must own it.
fn folder() -> Result<(PathBuf, Option<u32>)> {
    remove_leftovers();
    let folder = tempfile::Builder::new()
        .prefix(&format!("{FOLDER}{}-", process::id()))
        .tempdir()
        .context("could not create a folder for PostgreSQL")?
        .keep();
    let user = Uid::effective().is_root().then_some(NOBODY);
    if user.is_some() {
        chown(&folder, user, user).context("could not change the owner of PostgreSQL's folder")?;
    }
    Ok((folder, user))
}

/// Executes statements on the database at `url`.
pub async fn execute(url: &str, statements: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    connection
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statements)))
        .await?;
    connection.close().await?;
    Ok(())
}

/// A database session that has executed some statements. It holds their locks until it is dropped.
#[derive(Debug)]
pub struct Session(#[expect(dead_code, reason = "the connection is the session")] PgConnection);

impl Session {
    /// Connects to the database at `url` and executes `statements`.
    pub async fn open(url: &str, statements: &str) -> Result<Self> {
        let mut connection = PgConnection::connect(url).await?;
        let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements));
        connection.execute(statements).await?;
        Ok(Self(connection))
    }
}

/// Runs `query` on the database at `url` and returns its single value, a number.
pub async fn query_number(url: &str, query: &str) -> Result<i64> {
    let mut connection = PgConnection::connect(url).await?;
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(query));
    let number = query.fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(number)
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.process.signal(Signal::SIGQUIT);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Spec {
    /// Adds server settings, each as a `-c` option.
    fn args_of_settings(self, settings: &[&str]) -> Self {
        settings
            .iter()
            .fold(self, |spec, setting| spec.arg("-c").arg(*setting))
    }
}

/// Downloads the programs of PostgreSQL if this machine has none. Cargo and the download print their progress
/// on stderr. They are kept outside the checkout, so this happens once.
pub async fn install_if_missing() -> Result<()> {
    if binaries().is_ok() {
        return Ok(());
    }
    // A program outside of the workspace, so that only those who need it build it.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../get-postgres");
    spawn_blocking(move || {
        let mut download = cargo();
        download.args(["run", "--locked", "--"]).arg(downloaded());
        let status = download.current_dir(folder).status()?;
        ensure!(status.success(), "PostgreSQL could not be downloaded");
        Ok(())
    })
    .await?
    .context(MISSING)
}

/// Returns the folder of the downloaded programs. For root it is one that other users can read, because
/// PostgreSQL does not run as root.
fn downloaded() -> PathBuf {
    let folder = if Uid::effective().is_root() {
        PathBuf::from("/var/cache")
    } else {
        let variable = |name| env::var_os(name).map(PathBuf::from);
        let home = || variable("HOME").map(|home| home.join(".cache"));
        variable("XDG_CACHE_HOME")
            .or_else(home)
            .unwrap_or_else(env::temp_dir)
    };
    folder.join("bookapp").join("postgresql-18")
}

/// Whether `folder` contains `postgres` and `initdb`.
fn is_complete(folder: &Path) -> bool {
    let mut programs = ["postgres", "initdb"].iter();
    programs.all(|program| folder.join(program).is_file())
}

/// Finds the folder that contains `postgres` and `initdb`: `PG_BIN`, then `PATH`, then the newest
/// version in `/usr/lib/postgresql`, then what was downloaded.
#[expect(clippy::disallowed_methods, reason = "only the testbed reads PG_BIN")]
fn binaries() -> Result<PathBuf> {
    if let Ok(folder) = env::var("PG_BIN") {
        let folder = PathBuf::from(folder);
        return is_complete(&folder)
            .then_some(folder)
            .ok_or_else(|| anyhow!("PG_BIN does not contain `postgres` and `initdb`"));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut distribution: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    distribution.sort_by_key(|folder| std::cmp::Reverse(version(folder)));
    env::split_paths(&path)
        .chain(distribution)
        .chain([downloaded().join("bin")])
        .find(|folder| is_complete(folder))
        .context(MISSING)
}

/// Returns the version from a path `/usr/lib/postgresql/{version}/bin`.
fn version(folder: &Path) -> u32 {
    folder
        .parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str()?.parse().ok())
        .unwrap_or(0)
}

/// Whether no process with this id runs.
fn has_ended(process: i32) -> bool {
    kill(Pid::from_raw(process), None::<Signal>) == Err(Errno::ESRCH)
}

/// Removes the folders of processes that no longer exist.
fn remove_leftovers() {
    for entry in fs::read_dir(env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(FOLDER))
            .and_then(|rest| rest.split('-').next())
            .and_then(|owner| owner.parse().ok());
        if owner.is_some_and(has_ended) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
