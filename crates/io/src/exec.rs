//! Programs: the one place that starts them. An [`Invocation`] is a value, built by pure functions and compared in
//! tests; [`SystemExec`] runs it.
//!
//! A program gets a short environment, no terminal, a process group of its own and a time limit. It dies with us: the
//! kernel kills it when the thread that started it ends, so one thread that lives as long as the process starts all
//! ([`spawner`]). What its own children do afterwards is beyond that; an invocation that must not overlap with a second
//! operator names the lock it works under ([`Invocation::under_lock`]), and the lock stays busy until the last
//! descendant has ended.

mod spawner;
mod tail;

use std::{
    ffi::{OsStr, OsString},
    fmt,
    io::{self, Write},
    os::fd::AsFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::{
    lease,
    stop::{Stop, Stopped},
};
use tail::Follower;

/// The end of a program's standard output that is kept.
pub const STDOUT_TAIL_BYTES_MAX: usize = 4 << 20;
/// The end of a program's standard error that is kept.
pub const STDERR_TAIL_BYTES_MAX: usize = 64 << 10;

/// Variables that a program gets from our own environment, when they are set; `LANG` is always `C.UTF-8`.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "TZ", "TMPDIR", "USER"];
/// Where programs are looked for when we have no `PATH` ourselves.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a program that was asked to end may take to do so before it is killed.
const END_GRACE: Duration = Duration::from_secs(2);
/// How long we go on reading the output of a program that has ended: a daemon it left behind may hold the pipe for
/// ever.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);

/// One run of a program, as a value.
#[derive(Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Its name, looked up in `PATH`, or its path.
    pub program: PathBuf,
    /// Its arguments. No secrets: every user of the computer can read them.
    pub args: Vec<OsString>,
    /// Variables added to its short environment. Secrets may be here.
    pub env: Vec<(OsString, OsString)>,
    /// The folder it runs in; ours when there is none.
    pub folder: Option<PathBuf>,
    /// When it is ended.
    pub limit: Duration,
    /// The lock file it works under, which this process must hold ([`crate::lease::take`]). The program and all that it
    /// starts keep the lock busy, even after our death.
    pub under_lock: Option<PathBuf>,
}

impl Invocation {
    /// A program without arguments, with a limit.
    pub fn new(program: impl Into<PathBuf>, limit: Duration) -> Invocation {
        Invocation { program: program.into(), args: Vec::new(), env: Vec::new(), folder: None, limit, under_lock: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Invocation {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Invocation {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Invocation {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets the folder it runs in.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Invocation {
        self.folder = Some(folder.into());
        self
    }

    /// Names the lock it works under.
    #[must_use]
    pub fn under_lock(mut self, lock: impl Into<PathBuf>) -> Invocation {
        self.under_lock = Some(lock.into());
        self
    }
}

/// As one would type it. Variables are left out, so that no secret is shown.
impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", quoted(self.program.as_os_str()))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

/// Names of variables without their values: they may be secrets.
impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("folder", &self.folder)
            .field("limit", &self.limit)
            .field("under_lock", &self.under_lock)
            .finish()
    }
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// How a program ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; 128 and the signal's number when a signal ended it, as in a shell.
    pub code: i32,
    /// The end of its standard output, at most [`STDOUT_TAIL_BYTES_MAX`].
    pub stdout_tail: Vec<u8>,
    /// The end of its standard error, at most [`STDERR_TAIL_BYTES_MAX`].
    pub stderr_tail: Vec<u8>,
    /// Whether standard output was longer than its tail.
    pub stdout_cut: bool,
    /// Wall clock from its start to its end.
    pub took: Duration,
}

impl Exit {
    /// Whether it ended with code 0.
    pub fn ok(&self) -> bool {
        self.code == 0
    }

    /// The end of its standard output as text, without space around it.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout_tail).trim().to_owned()
    }

    /// The end of its standard error as text, without space around it.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr_tail).trim().to_owned()
    }
}

/// Why there is no [`Exit`]. A program that ended with a code, whatever code, is not an error here.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be started. `source.kind()` is `NotFound` when there is no such program.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It ran longer than its limit; it and its group were killed.
    #[error("{} was ended: it took longer than its limit of {limit:?}", program.display())]
    TimedOut {
        /// The program.
        program: PathBuf,
        /// The limit.
        limit: Duration,
        /// The end of its standard error.
        stderr_tail: Vec<u8>,
    },
    /// Somebody asked to break off; it and its group were killed.
    #[error("{} was broken off", program.display())]
    Stopped {
        /// The program.
        program: PathBuf,
        /// The request.
        source: Stopped,
    },
    /// The lock it works under is not held by this process: it was not started.
    #[error("{} was not started: {} is not held by this process", program.display(), lock.display())]
    LockNotHeld {
        /// The program.
        program: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// It was started, but what became of it is not known.
    #[error("cannot follow {}", program.display())]
    Follow {
        /// The program.
        program: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl ExecError {
    /// Whether there is no such program.
    pub fn is_missing_program(&self) -> bool {
        matches!(self, ExecError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Runs programs. The twin in tests answers from a script.
pub trait Exec: Send + Sync {
    /// Runs a program to its end. Its standard input is closed, or `stdin` and then closed.
    ///
    /// # Errors
    /// It could not be started, ran out of time, or was broken off by [`Stop::now`]. An exit code is not an error.
    fn run(&self, what: &Invocation, stdin: Option<&[u8]>, stop: &Stop) -> Result<Exit, ExecError>;
}

/// Starts real programs.
#[derive(Debug, Default)]
pub struct SystemExec;

impl Exec for SystemExec {
    fn run(&self, what: &Invocation, stdin: Option<&[u8]>, stop: &Stop) -> Result<Exit, ExecError> {
        let program = || what.program.clone();
        stop.check().map_err(|source| ExecError::Stopped { program: program(), source })?;
        let started = Instant::now();
        let mut child = start(what, stdin.is_some())?;
        let stdout = Follower::start(child.stdout.take(), STDOUT_TAIL_BYTES_MAX);
        let stderr = Follower::start(child.stderr.take(), STDERR_TAIL_BYTES_MAX);
        feed(&mut child, stdin);

        let ended = wait(&child, started, what.limit, stop);
        if !matches!(ended, Ok(Ended::ByItself)) {
            end_group(&child);
        }
        let status = child.wait().map_err(|source| ExecError::Follow { program: program(), source })?;
        let took = started.elapsed();
        let output_until = Instant::now() + OUTPUT_GRACE;
        let ((stdout_tail, stdout_cut), (stderr_tail, _)) = (stdout.take(output_until), stderr.take(output_until));
        match ended {
            Ok(Ended::ByItself) => Ok(Exit { code: code_of(status), stdout_tail, stderr_tail, stdout_cut, took }),
            Ok(Ended::TimedOut) => Err(ExecError::TimedOut { program: program(), limit: what.limit, stderr_tail }),
            Ok(Ended::Stopped(source)) => Err(ExecError::Stopped { program: program(), source }),
            Err(source) => Err(ExecError::Follow { program: program(), source }),
        }
    }
}

/// Builds the operating system's own form of an invocation and has the spawner start it.
fn start(what: &Invocation, with_stdin: bool) -> Result<Child, ExecError> {
    let program = || what.program.clone();
    let lock = match &what.under_lock {
        None => None,
        Some(path) => match lease::held_descriptor(path) {
            Some(lock) => Some(lock),
            None => return Err(ExecError::LockNotHeld { program: program(), lock: path.clone() }),
        },
    };
    let mut command = Command::new(&what.program);
    command.args(&what.args).env_clear().envs(short_environment()).envs(what.env.iter().map(|(n, v)| (n, v)));
    if let Some(folder) = &what.folder {
        command.current_dir(folder);
    }
    command
        .stdin(if with_stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    spawner::spawn(command, lock.as_ref().map(AsFd::as_fd))
        .map_err(|source| ExecError::Start { program: program(), source })
}

fn short_environment() -> Vec<(&'static str, OsString)> {
    let mut short = vec![("LANG", OsString::from("C.UTF-8")), ("PATH", OsString::from(PATH_DEFAULT))];
    short.extend(PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
    short
}

/// Writes the standard input from a thread of its own, so that a program that talks before it has read all blocks
/// nobody.
fn feed(child: &mut Child, stdin: Option<&[u8]>) {
    if let (Some(mut pipe), Some(body)) = (child.stdin.take(), stdin.map(<[u8]>::to_vec)) {
        std::thread::spawn(move || {
            let _ = pipe.write_all(&body); // a program need not read its input; its exit code tells what it thinks of it
        });
    }
}

enum Ended {
    ByItself,
    TimedOut,
    Stopped(Stopped),
}

/// Waits for the end without collecting it: until then nobody else can get the process's number.
fn wait(child: &Child, started: Instant, limit: Duration, stop: &Stop) -> io::Result<Ended> {
    let mut pause = Duration::from_millis(1);
    loop {
        if has_ended(child)? {
            return Ok(Ended::ByItself);
        }
        if let Err(stopped) = stop.check() {
            return Ok(Ended::Stopped(stopped));
        }
        if started.elapsed() >= limit {
            return Ok(Ended::TimedOut);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn has_ended(child: &Child) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(WaitId::Pid(pid_of(child)), options) {
        Ok(status) => Ok(status.is_some()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Asks the program and its group to end, and kills what is left after a grace period.
fn end_group(child: &Child) {
    let group = pid_of(child);
    // "No such group" is what we want to reach; other errors cannot happen to a child of ours that is not yet
    // collected.
    let _ = rustix::process::kill_process_group(group, Signal::TERM);
    let until = Instant::now() + END_GRACE;
    while Instant::now() < until && !has_ended(child).unwrap_or(true) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn code_of(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
