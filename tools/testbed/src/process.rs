//! The one process library: starts child processes, watches what they say, ends them.
//!
//! No child outlives its parent, however that ends: children are started through `setpriv
//! --pdeathsig`, from one thread that lives as long as the process, for the kernel sends the
//! signal when the *thread* that started the child is gone.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::{sys::signal::kill, unistd::Pid};
use tokio::{sync::watch, time::timeout};

pub use nix::sys::signal::Signal;

/// What to start, and how it dies.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What it is called in messages.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables beside the inherited ones.
    pub env: Vec<(String, String)>,
    /// The user it runs as, when this process is root and it must not be.
    pub user: Option<u32>,
    /// The signal it gets when this process is gone, and on drop.
    pub end: Signal,
}

impl Spec {
    /// `program`, killed when its time is over.
    pub fn new(name: &str, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            user: None,
            end: Signal::SIGKILL,
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With one more environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// The value of an environment variable that was given.
    pub fn value(&self, name: &str) -> Option<&str> {
        let found = self.env.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The command that does it.
    pub fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!(
            "--pdeathsig={}",
            self.end.as_str().trim_start_matches("SIG")
        ));
        if let Some(user) = self.user {
            command.args([format!("--reuid={user}"), format!("--regid={user}")]);
            command.args(["--clear-groups"]).current_dir("/");
        }
        command.arg("--").arg(&self.program).args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A running child; ended on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    end: Signal,
    lines: watch::Receiver<Vec<String>>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts the child; what it says on stdout and stderr is kept, line by line.
    pub fn start(spec: &Spec) -> Result<Self> {
        let mut command = spec.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = launch(command).with_context(|| {
            format!("could not start {} ({})", spec.name, spec.program.display())
        })?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let (said, lines) = watch::channel(Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let readers = [
            stdout.map(|pipe| read_lines(pipe, said.clone())),
            stderr.map(|pipe| read_lines(pipe, said)),
        ];
        let (exited, exit) = watch::channel(None);
        thread::spawn(move || {
            let status = child.wait().ok();
            // All it said is kept before anybody learns that it is gone.
            for reader in readers.into_iter().flatten() {
                let _ = reader.join();
            }
            exited.send_replace(status);
        });
        Ok(Self {
            name: spec.name.clone(),
            pid,
            end: spec.end,
            lines,
            exit,
        })
    }

    /// Waits for a line from which `find` takes something, and fails when the child ends first.
    pub async fn line<T>(
        &self,
        within: Duration,
        find: impl Fn(&str) -> Option<T> + Send + Sync,
    ) -> Result<T> {
        let mut lines = self.lines.clone();
        let found = |lines: &Vec<String>| lines.iter().find_map(|line| find(line));
        let waiting = lines.wait_for(|lines| found(lines).is_some());
        let name = &self.name;
        let why = match timeout(within, waiting).await {
            Ok(Ok(lines)) => return found(&lines).context("the line is there"),
            Ok(Err(_)) => format!("{name} ended before it said what was waited for"),
            Err(_) => format!("{name} did not say what was waited for within {within:?}"),
        };
        Err(anyhow!("{why}; it said:\n{}", self.lines().join("\n")))
    }

    /// Its process id.
    pub fn id(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Everything it said so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    /// Sends it a signal, if it still runs.
    pub fn signal(&self, signal: Signal) {
        if self.exit.borrow().is_none() {
            let _ = kill(self.pid, signal);
        }
    }

    /// Waits for its end.
    pub async fn exited(&self, within: Duration) -> Result<ExitStatus> {
        let mut exit = self.exit.clone();
        let waiting = exit.wait_for(Option::is_some);
        let status = timeout(within, waiting)
            .await
            .with_context(|| format!("{} still runs after {within:?}", self.name))?;
        status?.context("the status is there")
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.end);
    }
}

fn read_lines(
    pipe: impl Read + Send + 'static,
    said: watch::Sender<Vec<String>>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            said.send_modify(|lines| lines.push(line));
        }
    })
}

type Launched = std::io::Result<std::process::Child>;

/// Starts `command` from the thread that lives as long as this process.
fn launch(command: Command) -> Launched {
    static LAUNCHER: LazyLock<mpsc::Sender<(Command, mpsc::Sender<Launched>)>> =
        LazyLock::new(|| {
            let (orders, inbox) = mpsc::channel::<(Command, mpsc::Sender<Launched>)>();
            thread::spawn(move || {
                for (mut command, answer) in inbox {
                    let _ = answer.send(command.spawn());
                }
            });
            orders
        });
    let (answer, launched) = mpsc::channel();
    LAUNCHER
        .send((command, answer))
        .expect("the launcher lives as long as the process");
    launched.recv().expect("the launcher answers every order")
}
