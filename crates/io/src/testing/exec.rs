//! Programs that answer from a script.

use std::{
    io,
    path::Path,
    sync::{Mutex, PoisonError},
};

use crate::{Exec, ExecError, Exit, Invocation, Stop};

type Answer = Box<dyn Fn(&Invocation, Option<&[u8]>) -> Option<Exit> + Send + Sync>;

/// Programs that answer from a script and remember what they were asked. One that is not in the script does not exist.
#[derive(Default)]
pub struct ScriptedExec {
    answers: Vec<Answer>,
    seen: Mutex<Vec<(Invocation, Option<Vec<u8>>)>>,
}

impl ScriptedExec {
    /// No programs yet.
    pub fn new() -> ScriptedExec {
        ScriptedExec::default()
    }

    /// Every run of `program` (its name, without folders) whose arguments contain all of `args` ends so. What was added
    /// first counts.
    #[must_use]
    pub fn on(self, program: &'static str, args: &[&'static str], exit: Exit) -> ScriptedExec {
        let args = args.to_vec();
        self.answer(move |what, _| {
            let named = what.program.file_name() == Path::new(program).file_name();
            let fits = named && args.iter().all(|wanted| what.args.iter().any(|given| given == wanted));
            fits.then(|| exit.clone())
        })
    }

    /// Asks a function: none means "not mine". What was added first counts.
    #[must_use]
    pub fn answer(
        mut self,
        answer: impl Fn(&Invocation, Option<&[u8]>) -> Option<Exit> + Send + Sync + 'static,
    ) -> ScriptedExec {
        self.answers.push(Box::new(answer));
        self
    }

    /// What was run so far, with its standard input, in order.
    pub fn seen(&self) -> Vec<(Invocation, Option<Vec<u8>>)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An end with code 0 and this output.
    pub fn done(stdout: impl Into<Vec<u8>>) -> Exit {
        Exit { stdout_tail: stdout.into(), ..Exit::default() }
    }

    /// An end with a code and this on standard error.
    pub fn failed(code: i32, stderr: impl Into<Vec<u8>>) -> Exit {
        Exit { code, stderr_tail: stderr.into(), ..Exit::default() }
    }
}

impl Exec for ScriptedExec {
    fn run(&self, what: &Invocation, stdin: Option<&[u8]>, stop: &Stop) -> Result<Exit, ExecError> {
        let program = || what.program.clone();
        stop.check().map_err(|source| ExecError::Stopped { program: program(), source })?;
        let seen = (what.clone(), stdin.map(<[u8]>::to_vec));
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        let answer = self.answers.iter().find_map(|answer| answer(what, stdin));
        answer.ok_or_else(|| ExecError::Start { program: program(), source: io::ErrorKind::NotFound.into() })
    }
}
