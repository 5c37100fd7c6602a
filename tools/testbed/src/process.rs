//! Child processes: starts them, records their output and stops them.
//!
//! No child outlives this process, even if this process is killed: `setpriv --pdeathsig` starts
//! each child. The kernel sends that signal when the *thread* that started the child exits.
//! Therefore one thread, which lives as long as this process, starts all children.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::{sys::signal::kill, time::clock_getcpuclockid, unistd::Pid};
use tokio::{sync::watch, time::timeout};

pub use nix::sys::signal::Signal;

/// The number of output lines that are kept of each process. Older ones are removed.
const MAX_LINES: usize = 200_000;

/// A command to start, and the signal that stops it.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The name of the process in error messages.
    pub name: String,
    /// The program to run.
    pub program: PathBuf,
    /// The command-line arguments.
    pub args: Vec<OsString>,
    /// Environment variables in addition to the inherited ones.
    pub env: Vec<(String, String)>,
    /// The user id to switch to, for a program that refuses to run as root.
    pub user: Option<u32>,
    /// The signal that the process receives on drop, and when this process exits.
    pub stop_signal: Signal,
}

impl Spec {
    /// Creates a specification for `program`, which stops with SIGKILL.
    pub fn new(name: &str, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            user: None,
            stop_signal: Signal::SIGKILL,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Returns the value of an environment variable from this specification.
    pub fn env_value(&self, name: &str) -> Option<&str> {
        let found = self.env.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Builds the command that starts the process.
    pub fn command(&self) -> Command {
        let mut command = if cfg!(target_os = "linux") {
            self.with_setpriv()
        } else {
            Command::new(&self.program)
        };
        command.args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn with_setpriv(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!(
            "--pdeathsig={}",
            self.stop_signal.as_str().trim_start_matches("SIG")
        ));
        if let Some(user) = self.user {
            command.args([format!("--reuid={user}"), format!("--regid={user}")]);
            command.args(["--clear-groups"]).current_dir("/");
        }
        command.arg("--").arg(&self.program);
        command
    }
}

/// A running child process. It stops on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    stop_signal: Signal,
    lines: watch::Receiver<Vec<String>>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts the process and records its stdout and stderr line by line.
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
        let (line_sender, lines) = watch::channel(Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let readers = [
            stdout.map(|pipe| read_lines(pipe, line_sender.clone())),
            stderr.map(|pipe| read_lines(pipe, line_sender)),
        ];
        let (exit_sender, exit) = watch::channel(None);
        thread::spawn(move || {
            let status = child.wait().ok();
            // Record the complete output before the exit becomes visible.
            for reader in readers.into_iter().flatten() {
                let _ = reader.join();
            }
            exit_sender.send_replace(status);
        });
        Ok(Self {
            name: spec.name.clone(),
            pid,
            stop_signal: spec.stop_signal,
            lines,
            exit,
        })
    }

    /// Waits for the first output line for which `find` returns a value. Fails if the process exits
    /// first, or after `within`.
    pub async fn line<T>(
        &self,
        within: Duration,
        find: impl Fn(&str) -> Option<T> + Send + Sync,
    ) -> Result<T> {
        let mut lines = self.lines.clone();
        let found = |lines: &Vec<String>| lines.iter().find_map(|line| find(line));
        let wait = lines.wait_for(|lines| found(lines).is_some());
        let name = &self.name;
        let why = match timeout(within, wait).await {
            Ok(Ok(lines)) => return found(&lines).context("the matching line is missing"),
            Ok(Err(_)) => format!("{name} exited before it printed the expected line"),
            Err(_) => format!("{name} did not print the expected line within {within:?}"),
        };
        Err(anyhow!("{why}; its output:\n{}", self.lines().join("\n")))
    }

    /// Returns the process id.
    pub fn id(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Returns the CPU time of the process so far, as the scheduler counts it. The clock ticks in `/proc` are
    /// too coarse for an idle process.
    pub fn cpu_time(&self) -> Result<Duration> {
        Ok(clock_getcpuclockid(self.pid)?.now()?.into())
    }

    /// Returns the newest output lines so far, from stdout and stderr.
    pub fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    /// Sends a signal if the process is still running.
    pub fn signal(&self, signal: Signal) {
        if self.exit.borrow().is_none() {
            let _ = kill(self.pid, signal);
        }
    }

    /// Waits for the process to exit and returns its exit status.
    pub async fn wait(&self, within: Duration) -> Result<ExitStatus> {
        let mut exit = self.exit.clone();
        let wait = exit.wait_for(Option::is_some);
        let status = timeout(within, wait)
            .await
            .with_context(|| format!("{} is still running after {within:?}", self.name))?;
        status?.context("the exit status is missing")
    }

    /// Returns whether the process is still running.
    pub fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.stop_signal);
    }
}

fn read_lines(
    pipe: impl Read + Send + 'static,
    line_sender: watch::Sender<Vec<String>>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            line_sender.send_modify(|lines| {
                if lines.len() == MAX_LINES {
                    lines.drain(..MAX_LINES / 2);
                }
                lines.push(line);
            });
        }
    })
}

type Launched = std::io::Result<std::process::Child>;

/// A job of the thread that starts all children.
enum Job {
    /// Starts a child.
    Start(Command, mpsc::Sender<Launched>),
    /// Says that no child is starting, and waits until the other side is dropped.
    Pause(mpsc::Sender<()>, mpsc::Receiver<()>),
}

/// Lives as long as this process.
static LAUNCHER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
    let (jobs, incoming) = mpsc::channel();
    thread::spawn(move || {
        for job in incoming {
            match job {
                Job::Start(mut command, reply) => {
                    let launched = command.spawn();
                    if let Ok(child) = &launched {
                        wait_for_program(child.id());
                    }
                    let _ = reply.send(launched);
                }
                Job::Pause(paused, resumed) => {
                    let _ = paused.send(());
                    let _ = resumed.recv();
                }
            }
        }
    });
    jobs
});

/// Starts `command` from a thread that lives as long as this process.
pub fn launch(command: Command) -> Launched {
    let (reply, launched) = mpsc::channel();
    ask(Job::Start(command, reply), &launched)
}

/// Runs `work` while no child starts. Until a child runs its program, it has copies of the sockets of this
/// process. A port that is closed meanwhile stays in use.
pub(crate) fn while_no_child_starts<T>(work: impl FnOnce() -> T) -> T {
    let (paused, is_paused) = mpsc::channel();
    let (_resume, resumed) = mpsc::channel();
    ask(Job::Pause(paused, resumed), &is_paused);
    work()
}

/// Sends a job, and waits for its answer.
fn ask<T>(job: Job, answer: &mpsc::Receiver<T>) -> T {
    LAUNCHER.send(job).expect("the launcher thread lives");
    answer.recv().expect("the launcher thread answers each job")
}

/// Waits until a child of this thread runs its program: spawning ends a moment earlier. The kernel names the
/// child after its program when the copies of this process's sockets are closed. Without `/proc`, it does not wait.
fn wait_for_program(child: u32) {
    let name = |process: &str| fs::read_to_string(format!("/proc/{process}/comm")).ok();
    let own = name("thread-self");
    while own.is_some() && name(&child.to_string()) == own {
        thread::yield_now();
    }
}
