//! Putting a question to a live database to see whether what runs does well: a probe in SQL. Nothing is written.

use std::time::Duration;

use lifeboat_io::{
    Stop,
    database::{
        postgres::{self, Session},
        sqlite::{self, SqliteError},
    },
};
use lifeboat_model::{
    Failure,
    target::{Asked, Question},
    time::show_duration,
};

use crate::{Engine, setup::Vaults};

/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Asks it. Why it is not well, in a few words.
pub(crate) fn ask(vaults: &dyn Vaults, question: &Question, stop: &Stop) -> Result<(), String> {
    let limit = Duration::from_millis(question.limit_ms);
    let asked = match &question.place {
        Asked::Postgres(url) => on_server(vaults, url, &question.asked(), limit, stop),
        Asked::Sqlite(file) => sqlite::ask_live(file, &question.asked(), limit).map_err(|error| match error {
            // Nobody stops it but its own limit.
            SqliteError::Stopped(_) => format!("no answer within {}", show_limit(limit)),
            other => other.to_string(),
        }),
    };
    let (rows, first) = asked.map_err(|why| format!("{question}: it cannot be asked: {why}"))?;
    question.judge(rows, first.as_deref()).map_err(|why| format!("{question}: {why}"))
}

fn show_limit(limit: Duration) -> String {
    if limit < Duration::from_secs(1) { format!("{} ms", limit.as_millis()) } else { show_duration(limit) }
}

fn on_server(
    vaults: &dyn Vaults,
    url: &str,
    sql: &str,
    limit: Duration,
    stop: &Stop,
) -> Result<(usize, Option<String>), String> {
    let mut address = vaults.database(url).map_err(|failure: Failure| failure.to_string())?;
    address.connect_timeout = CONNECT_LIMIT.min(limit);
    Session::open(&address, stop)
        .and_then(|mut session| postgres::ask_rows_within(&mut session, sql, limit))
        .map_err(|error| error.to_string())
}

impl Engine {
    /// Puts each question of the targets once: the target's name, the question, and why it is not well when it is not.
    pub fn ask_questions(&self, stop: &Stop) -> Vec<(String, String, Result<(), String>)> {
        let targets = self.setup().targets.iter();
        let all = targets.flat_map(|target| target.questions.iter().map(move |question| (target, question)));
        all.map(|(target, question)| {
            (target.name.to_string(), question.to_string(), ask(&*self.vaults, question, stop))
        })
        .collect()
    }
}
