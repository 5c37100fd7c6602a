//! A real PostgreSQL from the machine's binaries, and a fresh migrated database for each asker.
//!
//! The server's files live in a folder named after the process that owns it; what a killed run
//! left behind is removed by the next one. What is committed outlives a crash of the server, which
//! chaos counts on, but not one of the machine: nothing is flushed to the disk.

use std::{
    env, fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::Uid;
use sqlx::{Connection, Executor, PgConnection, migrate::Migrator};
use tokio::sync::OnceCell;

use crate::{
    eventually, port,
    process::{Process, Signal, Spec},
};

/// PostgreSQL refuses to run as root; this is `nobody`.
const NOBODY: u32 = 65534;
const FOLDER: &str = "bookapp-postgres-";
const TEMPLATE: &str = "migrated";
static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// A running server; stopped on drop.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    server: Spec,
    port: u16,
    folder: PathBuf,
    databases: AtomicU32,
}

impl Postgres {
    /// The server that all tests of this process share.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// Starts a server and migrates a template for its databases.
    pub async fn start() -> Result<Self> {
        let binaries = binaries()?;
        remove_leftovers();
        let folder = tempfile::Builder::new()
            .prefix(&format!("{FOLDER}{}-", process::id()))
            .tempdir()
            .context("could not make a folder for PostgreSQL")?
            .keep();
        let user = Uid::effective().is_root().then_some(NOBODY);
        if user.is_some() {
            chown(&folder, user, user).context("could not hand PostgreSQL its folder")?;
        }
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
        if !init.exited(Duration::from_mins(1)).await?.success() {
            bail!("initdb failed:\n{}", init.lines().join("\n"));
        }
        let port = port::free()?;
        let server = Spec {
            end: Signal::SIGINT,
            ..program("postgres")
        }
        .arg("-D")
        .arg(&data)
        .arg("-k")
        .arg(&folder)
        .arg("-p")
        .arg(port.to_string())
        .args_of_settings(&[
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "full_page_writes=off",
            "max_connections=500",
        ]);
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
                "PostgreSQL did not come up:\n{}",
                postgres.process.lines().join("\n")
            )
        })?;
        Ok(postgres)
    }

    /// A new database, migrated and seeded; answers its URL.
    pub async fn database(&self) -> Result<String> {
        let name = format!("books_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.create(&format!("create database {name} template {TEMPLATE}"))
            .await?;
        Ok(self.url(&name))
    }

    /// A new database with nothing in it; answers its URL.
    pub async fn empty_database(&self) -> Result<String> {
        let name = format!("empty_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.create(&format!("create database {name}")).await?;
        Ok(self.url(&name))
    }

    /// Ends the server with this signal: SIGKILL as a crash would, SIGINT as an operator would.
    pub async fn end(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal);
        self.process.exited(Duration::from_mins(1)).await.map(drop)
    }

    /// Starts the server again, with the data it had.
    pub async fn start_again(&mut self) -> Result<()> {
        // What a crash left behind may take a moment to go.
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            self.process = Process::start(&self.server)?;
            let answers = async || {
                !self.process.is_running()
                    || PgConnection::connect(&self.url("postgres")).await.is_ok()
            };
            eventually(
                Duration::from_mins(1),
                "PostgreSQL answers again",
                || async { answers().await.then_some(()) },
            )
            .await?;
            if self.process.is_running() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "PostgreSQL does not start again:\n{}",
                    self.process.lines().join("\n")
                );
            }
        }
    }

    async fn prepare_template(&self) -> Result<()> {
        let connection = || async { PgConnection::connect(&self.url("postgres")).await.ok() };
        eventually(Duration::from_mins(1), "PostgreSQL answers", connection).await?;
        self.create(&format!("create database {TEMPLATE}")).await?;
        let mut template = PgConnection::connect(&self.url(TEMPLATE)).await?;
        MIGRATIONS
            .run(&mut template)
            .await
            .context("the migrations do not run")?;
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

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

/// Runs statements on the database at `url`.
pub async fn execute(url: &str, statements: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    connection
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statements)))
        .await?;
    connection.close().await?;
    Ok(())
}

/// A session that has run some statements, and keeps the locks they took until it is dropped.
#[derive(Debug)]
pub struct Session(#[expect(dead_code, reason = "the connection is the session")] PgConnection);

impl Session {
    /// Opens one on the database at `url`.
    pub async fn open(url: &str, statements: &str) -> Result<Self> {
        let mut connection = PgConnection::connect(url).await?;
        let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements));
        connection.execute(statements).await?;
        Ok(Self(connection))
    }
}

/// The one number that `query` answers on the database at `url`.
pub async fn number(url: &str, query: &str) -> Result<i64> {
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
    /// Server settings, each behind its `-c`.
    fn args_of_settings(self, settings: &[&str]) -> Self {
        settings
            .iter()
            .fold(self, |spec, setting| spec.arg("-c").arg(*setting))
    }
}

/// The folder of `postgres` and `initdb`: `PG_BIN`, else `PATH`, else the distribution's newest.
#[expect(
    clippy::disallowed_methods,
    reason = "PG_BIN is a setting of the testbed alone"
)]
fn binaries() -> Result<PathBuf> {
    let complete = |folder: &PathBuf| {
        ["postgres", "initdb"]
            .iter()
            .all(|binary| folder.join(binary).is_file())
    };
    if let Ok(folder) = env::var("PG_BIN") {
        let folder = PathBuf::from(folder);
        return complete(&folder)
            .then_some(folder)
            .ok_or_else(|| anyhow!("PG_BIN holds no `postgres` and `initdb`"));
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
        .find(complete)
        .context(
            "no PostgreSQL server found: install it (Debian: apt-get install postgresql) \
         or point PG_BIN at the folder of `postgres` and `initdb`",
        )
}

/// The version in `/usr/lib/postgresql/{version}/bin`.
fn version(folder: &Path) -> u32 {
    folder
        .parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str()?.parse().ok())
        .unwrap_or(0)
}

/// Removes the folders of processes that are gone.
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
            .filter(|owner| owner.parse::<u32>().is_ok());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
