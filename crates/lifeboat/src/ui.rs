//! What a person sees: data on standard output, talk on standard error, colour only beside words.

pub mod ask;
pub mod countdown;
pub mod plan;
pub mod progress;
pub mod report;
pub mod table;
pub mod when;
pub mod words;

use std::io::{ErrorKind, IsTerminal, Write};

use lifeboat_io::Io;
use lifeboat_model::{Failure, FailureKind};
use serde_json::Value;

use crate::cli::{ColorWhen, GlobalArgs, JsonMode};

/// Where answers go, and how they look.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    /// Answers are for a program.
    pub json: Option<JsonMode>,
    /// Only answers and errors.
    pub quiet: bool,
    /// Standard error is a terminal: progress may move.
    pub moving: bool,
    /// A person can be asked: standard input and error are terminals.
    pub can_ask: bool,
    /// Colours for standard output.
    pub paint: Paint,
    /// Colours for standard error.
    pub paint_err: Paint,
}

impl Ui {
    /// Looks at the streams and the words.
    pub fn new(global: &GlobalArgs, io: &Io) -> Ui {
        let set = |name: &str| io.env.var(name).is_some_and(|value| !value.is_empty());
        let plain = set("NO_COLOR") || io.env.var("TERM").is_some_and(|term| term == "dumb");
        let paint = |terminal: bool| match global.color {
            ColorWhen::Always => Paint(true),
            ColorWhen::Never => Paint(false),
            ColorWhen::Auto => Paint(terminal && !plain),
        };
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        Ui {
            json: global.json,
            quiet: global.quiet,
            moving: err && !global.quiet && global.json.is_none() && !set("CI"),
            can_ask: err && std::io::stdin().is_terminal(),
            paint: paint(out),
            paint_err: paint(err),
        }
    }

    /// Writes an answer to standard output. A reader who has gone away (`| head`) is no error.
    ///
    /// # Errors
    /// Standard output cannot be written: a full disk, for example.
    pub fn out(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(error) => {
                Err(Failure::from_error(FailureKind::Outside, &error).while_doing("the answer cannot be written"))
            }
        }
    }

    /// Writes a document: `schema` first, then its fields.
    ///
    /// # Errors
    /// As [`Ui::out`].
    pub fn document(&self, schema: &str, fields: Value) -> Result<(), Failure> {
        self.out(&format!("{}\n", with_schema(schema, fields)))
    }

    /// Says something beside the answer, unless only the answer is wanted.
    pub fn talk(&self, text: &str) {
        if !self.quiet && self.json.is_none() {
            self.err(text);
        }
    }

    /// Writes to standard error. Nobody is left to be told when that cannot be done.
    pub fn err(&self, text: &str) {
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// A document as one line, its schema in front, so that a reader knows what it is from the first bytes.
pub fn with_schema(schema: &str, mut fields: Value) -> String {
    if let Value::Object(fields) = &mut fields {
        fields.remove("schema");
    }
    let body = fields.to_string();
    let rest = body.strip_prefix('{').unwrap_or("}");
    let comma = if rest == "}" { "" } else { "," };
    format!("{{\"schema\":{}{comma}{rest}", Value::from(schema))
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(pub bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A heading, or something to type.
    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    /// Less important.
    pub fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    /// Good.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Needs attention.
    pub fn doubtful(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Not good.
    pub fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }
}
