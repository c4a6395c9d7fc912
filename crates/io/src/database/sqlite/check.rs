//! Whether a copy is good: SQLite's own checks, and a person's questions.

use std::path::Path;

use lifeboat_model::{Check, Tri, manifest::SqliteFacts, resource::SqlCheck};
use rusqlite::{Connection, ErrorCode, types::ValueRef};

use super::{
    Header, SqliteError,
    error::words,
    indexes::Index,
    inspect,
    open::{open_at_rest, open_at_rest_with_checks, quoted},
};
use crate::stop::Stop;

/// At most so many complaints are asked for; the first few are quoted.
const COMPLAINTS_MAX: usize = 100;
const QUOTED_MAX: usize = 5;

/// Looks whether a copy at rest is sound: its size against its header, `integrity_check`, `foreign_key_check`. Never
/// fails itself: what could not be looked at is unknown, with the reason. The file is not changed, but has to be
/// writable: SQLite knows a table's CHECK constraints only then. Where it is not, `constraints` is unknown.
pub fn check_copy(file: &Path, stop: &Stop) -> Vec<Check> {
    checks(file, Depth::Everything, stop)
}

/// [`check_copy`] of a database that is in use: what can be looked at over a connection that only reads.
pub(super) fn check_open(connection: &Connection) -> Vec<Check> {
    let mut checks = integrity(connection, Depth::Everything);
    checks.push(foreign_keys(connection));
    checks
}

/// What is in a copy at rest, and whether it is sound: as [`check_copy`] and [`super::inspect`] together, in a third of
/// the time. Pages are looked at by `quick_check`, indexes as `indexes.rs` tells; the facts are without the file's hash.
pub fn examine(
    file: &Path,
    stop: &Stop,
    progress: &dyn Fn(u64, Option<u64>),
) -> (Result<SqliteFacts, SqliteError>, Vec<Check>) {
    std::thread::scope(|scope| {
        let pages = scope.spawn(|| checks(file, Depth::Pages, stop));
        let content = inspect::content(file, true, stop, progress);
        let (facts, indexes) = match content {
            Ok((facts, agreements)) => (Ok(facts), indexes(file, &agreements, stop)),
            Err(error) => (Err(error), not_made("indexes")),
        };
        let broke_off = || vec![Check::new("integrity", Tri::Unknown, "looking at the copy broke off")];
        let mut checks = pages.join().unwrap_or_else(|_| broke_off());
        checks.push(indexes);
        (facts, checks)
    })
}

/// Compares indexes with what the rows of their tables say.
fn indexes(file: &Path, agreements: &[inspect::Agreement], stop: &Stop) -> Check {
    let asked = open_at_rest(file, stop).and_then(|connection| {
        let complaints = agreements.iter().map(|(index, tally)| index.complaint(&connection, tally, stop));
        complaints.collect::<rusqlite::Result<Vec<_>>>().map_err(|error| SqliteError::from_sqlite(file, "read", error))
    });
    match asked {
        Err(error) => Check::new("indexes", outcome_of(&error), sentence(&error)),
        Ok(complaints) => {
            let complaints: Vec<String> = complaints.into_iter().flatten().collect();
            match complaints.is_empty() {
                true => {
                    let detail = format!("{} compared with their tables, entry by entry", agreements.len());
                    Check::new("indexes", Tri::Pass, detail)
                }
                false => Check::new("indexes", Tri::Fail, quote(&complaints, COMPLAINTS_MAX)),
            }
        }
    }
}

/// How much of `integrity_check` is asked of SQLite.
#[derive(Clone, Copy)]
enum Depth {
    /// All of it.
    Everything,
    /// Not whether indexes hold what their tables do, except where only SQLite can tell.
    Pages,
}

impl Depth {
    fn questions(self, connection: &Connection) -> rusqlite::Result<Vec<String>> {
        match self {
            Depth::Everything => Ok(vec![format!("PRAGMA integrity_check({COMPLAINTS_MAX})")]),
            Depth::Pages => {
                let left = Index::left_over(connection, &inspect::tables(connection)?)?;
                let left = left.iter().map(|table| format!("PRAGMA integrity_check({})", quoted(table)));
                Ok([format!("PRAGMA quick_check({COMPLAINTS_MAX})")].into_iter().chain(left).collect())
            }
        }
    }

    /// `integrity_check` looks each row up in each index, in the order of the table, which is no order there.
    fn cache_kib(self) -> u32 {
        match self {
            Depth::Everything => 64 << 10,
            Depth::Pages => 8 << 10,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Depth::Everything => "integrity_check",
            Depth::Pages => "quick_check",
        }
    }
}

fn checks(file: &Path, depth: Depth, stop: &Stop) -> Vec<Check> {
    let header = match Header::read(file) {
        Ok(header) => header,
        Err(error) => {
            let failed = Check::new("file", outcome_of(&error), sentence(&error));
            return vec![failed, not_made("integrity"), not_made("foreign keys")];
        }
    };
    let file_check = check_size(header);
    match open_at_rest(file, stop) {
        Ok(connection) => match open_at_rest_with_checks(file, depth.cache_kib(), stop) {
            Ok(writable) => {
                let mut checks = vec![file_check];
                checks.extend(integrity(&writable, depth));
                checks.push(foreign_keys(&connection));
                checks
            }
            Err(error) => {
                let detail =
                    format!("CHECK constraints were not looked at, for which the file must be writable: {error}");
                let constraints = Check::new("constraints", outcome_of_sqlite(&error), detail);
                let mut checks = vec![file_check];
                checks.extend(integrity(&connection, depth));
                checks.extend([foreign_keys(&connection), constraints]);
                checks
            }
        },
        Err(error) => {
            let failed = Check::new("integrity", outcome_of(&error), sentence(&error));
            vec![file_check, failed, not_made("foreign keys")]
        }
    }
}

fn not_made(name: &str) -> Check {
    Check::new(name, Tri::Unknown, "not looked at: the file could not be opened")
}

fn check_size(header: Header) -> Check {
    let Header { page_size, pages, bytes, pages_known, .. } = header;
    let whole = bytes % u64::from(page_size) == 0;
    let good = whole && (!pages_known || bytes == u64::from(pages) * u64::from(page_size));
    let detail = if good {
        format!("{} pages of {page_size} bytes", bytes / u64::from(page_size))
    } else {
        format!("its header says {pages} pages of {page_size} bytes, the file has {bytes} bytes")
    };
    Check::new("file", Tri::from_bool(good), detail)
}

/// Whether a complaint is about what an app put into a sound file: a value that a constraint would not take today.
fn is_about_values(line: &str) -> bool {
    line.starts_with("CHECK constraint failed in ") || line.contains(" value in ")
}

/// `integrity`, and `constraints` where values are in the file that its own rules would refuse.
fn integrity(connection: &Connection, depth: Depth) -> Vec<Check> {
    let name = depth.name();
    match depth.questions(connection).and_then(|questions| complaints(connection, &questions)) {
        Ok(lines) if lines == ["ok"] => vec![Check::new("integrity", Tri::Pass, format!("{name} says ok"))],
        // Its silence is no praise.
        Ok(lines) if lines.is_empty() => vec![Check::new("integrity", Tri::Unknown, format!("{name} said nothing"))],
        Ok(lines) if lines.len() < COMPLAINTS_MAX && lines.iter().all(|line| is_about_values(line)) => vec![
            Check::new("integrity", Tri::Pass, format!("{name} complains about values only")),
            Check::new("constraints", Tri::Fail, quote(&lines, COMPLAINTS_MAX)),
        ],
        Ok(lines) => {
            // A virtual table that could not be looked at is not known to be bad; everything else is a complaint.
            let outcome = Tri::worst(lines.iter().map(|line| match line.starts_with("unable to validate ") {
                true => Tri::Unknown,
                false => Tri::Fail,
            }));
            vec![Check::new("integrity", outcome, quote(&lines, COMPLAINTS_MAX))]
        }
        Err(error) => vec![Check::new("integrity", outcome_of_sqlite(&error), words(&error))],
    }
}

/// All that is said in answer to some questions; `ok` when that is the answer to each.
fn complaints(connection: &Connection, questions: &[String]) -> rusqlite::Result<Vec<String>> {
    let mut said: Vec<String> = Vec::new();
    for question in questions {
        let mut statement = connection.prepare(question)?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
        let lines = lines.collect::<rusqlite::Result<Vec<String>>>()?;
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        said.extend(lines);
    }
    if said.iter().all(|line| line == "ok") {
        said.truncate(1);
    } else {
        said.retain(|line| line != "ok");
    }
    Ok(said)
}

fn foreign_keys(connection: &Connection) -> Check {
    let asked = connection.prepare("PRAGMA foreign_key_check").and_then(|mut statement| {
        let mut rows = statement.query([])?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            let (table, parent) = (row.get::<_, String>(0)?, row.get::<_, String>(2)?);
            let place = row.get::<_, Option<i64>>(1)?.map_or_else(String::new, |rowid| format!(" {rowid}"));
            lines.push(format!("row{place} of {table} refers to a missing row of {parent}"));
            if lines.len() == COMPLAINTS_MAX {
                break;
            }
        }
        Ok(lines)
    });
    match asked {
        Ok(lines) if lines.is_empty() => Check::new("foreign keys", Tri::Pass, "every reference has its row"),
        Ok(lines) => Check::new("foreign keys", Tri::Fail, quote(&lines, COMPLAINTS_MAX)),
        Err(error) => Check::new("foreign keys", outcome_of_sqlite(&error), words(&error)),
    }
}

fn quote(lines: &[String], max: usize) -> String {
    let shown: Vec<String> = lines.iter().take(QUOTED_MAX).map(|line| shorten(line)).collect();
    let rest = match lines.len() {
        count if count <= QUOTED_MAX => String::new(),
        count if count >= max => format!("; and at least {} more", count - QUOTED_MAX),
        count => format!("; and {} more", count - QUOTED_MAX),
    };
    format!("{}{rest}", shown.join("; "))
}

fn shorten(line: &str) -> String {
    const LETTERS_MAX: usize = 200;
    match line.char_indices().nth(LETTERS_MAX) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line.to_owned(),
    }
}

/// Asks a copy at rest a person's question, without being able to change it. The answer is the first column of the only
/// row. A question that cannot be asked, or says neither `min` nor `equals`, is unknown.
pub fn ask(file: &Path, name: &str, question: &SqlCheck, stop: &Stop) -> Check {
    if question.sample {
        let detail = match super::rules::sample(file, &question.sql, stop) {
            Ok(digest) => (Tri::Pass, format!("rows with digest {}", &digest[..12])),
            Err(error) => (outcome_of(&error), sentence(&error)),
        };
        return Check::new(name, detail.0, detail.1);
    }
    let connection = match open_at_rest(file, stop) {
        Ok(connection) => connection,
        Err(error) => return Check::new(name, outcome_of(&error), sentence(&error)),
    };
    match answer(&connection, &question.sql) {
        Ok(Ok(answer)) => judge(name, question, &answer),
        Ok(Err(reason)) => Check::new(name, Tri::Unknown, reason),
        Err(error) => Check::new(name, outcome_of_sqlite(&error), words(&error)),
    }
}

struct Answer {
    text: String,
    number: Option<f64>,
    whole: Option<i64>,
}

fn answer(connection: &Connection, sql: &str) -> rusqlite::Result<Result<Answer, String>> {
    let mut statement = connection.prepare(sql)?;
    if !statement.readonly() {
        return Ok(Err("the question would change the database".to_owned()));
    }
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(Err("the question has no answer: no row".to_owned())) };
    let value = row.get_ref(0)?;
    let whole = if let ValueRef::Integer(number) = value { Some(number) } else { None };
    let text = as_text(value).unwrap_or_else(|| "NULL".to_owned());
    if rows.next()?.is_some() {
        return Ok(Err("the question has more than one row for an answer".to_owned()));
    }
    let number = text.trim().parse().ok();
    Ok(Ok(Answer { text, number, whole }))
}

/// A value as people write it; nothing where it is null.
pub(super) fn as_text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(blob) => Some(hex::encode(blob)),
    }
}

fn judge(name: &str, question: &SqlCheck, answer: &Answer) -> Check {
    let shown = shorten(&answer.text);
    if question.min.is_none() && question.equals.is_none() && question.percent.is_none() {
        return Check::new(name, Tri::Unknown, format!("{shown}; the check has neither `min` nor `equals`"));
    }
    let mut wrong = Vec::new();
    if let Some(min) = question.min {
        let enough = match (answer.whole, answer.number) {
            (Some(whole), _) => whole >= min,
            (None, Some(number)) => number >= min as f64,
            (None, None) => false,
        };
        if !enough {
            wrong.push(format!("at least {min}"));
        }
    }
    if let Some(percent) = question.percent
        && !answer.number.is_some_and(|number| number >= f64::from(percent))
    {
        wrong.push(format!("at least {percent} %"));
    }
    if let Some(wanted) = question.equals.as_ref().filter(|wanted| **wanted != answer.text) {
        wrong.push(format!("exactly {wanted}"));
    }
    match wrong.is_empty() {
        true => Check::new(name, Tri::Pass, shown),
        false => Check::new(name, Tri::Fail, format!("{shown}; it must be {}", wrong.join(" and "))),
    }
}

/// What an error says about the file: damage is a finding, everything else only means that we could not look.
pub(super) fn outcome_of(error: &SqliteError) -> Tri {
    match error {
        SqliteError::Missing { .. }
        | SqliteError::NotADatabase { .. }
        | SqliteError::Encrypted { .. }
        | SqliteError::Empty { .. }
        | SqliteError::Damaged { .. }
        | SqliteError::NotAtRest { .. } => Tri::Fail,
        SqliteError::Busy { .. }
        | SqliteError::Denied { .. }
        | SqliteError::Full { .. }
        | SqliteError::Stopped(_)
        | SqliteError::Other { .. } => Tri::Unknown,
    }
}

pub(super) fn outcome_of_sqlite(error: &rusqlite::Error) -> Tri {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Tri::Fail,
        _ => Tri::Unknown,
    }
}

/// The error with what lies beneath it.
pub(super) fn sentence(error: &SqliteError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
