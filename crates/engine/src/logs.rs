//! Looking through log files of the app: how many errors of which kind in a span of time.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
};

use jiff::{civil, tz::TimeZone};
use lifeboat_io::{Stop, files};
use lifeboat_model::{Failure, FailureKind, Timestamp};
use serde::Serialize;

/// Kinds of errors, by words in a line; the first that fits counts.
const KINDS: &[(&str, &[&str])] = &[
    ("crash", &["panic", "segfault", "sigsegv", "fatal", "uncaughtexception", "unhandled", "core dumped"]),
    ("out of memory", &["out of memory", "oom", "heap limit", "cannot allocate"]),
    ("disk full", &["no space left", "disk full", "sqlite_full", "enospc"]),
    ("database locked or deadlocked", &["deadlock", "database is locked", "sqlite_busy", "lock timeout"]),
    ("database damaged", &["malformed", "sqlite_corrupt", "not a database"]),
    ("constraint", &["constraint failed", "violates", "duplicate key", "unique constraint", "foreign key"]),
    ("schema", &["no such table", "no such column", "does not exist", "syntax error", "unknown column"]),
    ("connection", &["connection refused", "econnrefused", "econnreset", "connection reset", "broken pipe"]),
    ("timeout", &["timed out", "timeout", "etimedout", "deadline exceeded"]),
    ("permission", &["permission denied", "eacces", "forbidden", "unauthorized", "access denied"]),
    ("exception", &["exception", "traceback", "stack trace"]),
    ("error", &["error", "critical", "severe"]),
];

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogScan {
    /// Lines that were read.
    pub lines: u64,
    /// Lines in the span.
    pub in_span: u64,
    /// Lines before the first one that tells a time, of each file.
    pub undated: u64,
    /// Errors in the span, by kind.
    pub kinds: BTreeMap<String, Kind>,
}

/// Errors of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kind {
    /// How many.
    pub count: u64,
    /// When the first one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    /// When the last one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// The first line, shortened.
    pub example: String,
}

/// A span of time; each end may be open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// From then on.
    pub since: Option<Timestamp>,
    /// Until before then.
    pub until: Option<Timestamp>,
}

/// Looks through files, line by line. A line without a time has that of the line before it. Times without a zone are in
/// `zone`.
///
/// # Errors
/// A file that cannot be read.
pub fn scan(paths: &[std::path::PathBuf], span: Span, zone: &TimeZone, stop: &Stop) -> Result<LogScan, Failure> {
    let mut found = LogScan::default();
    for path in paths {
        scan_file(path, span, zone, stop, &mut found)?;
    }
    Ok(found)
}

fn scan_file(path: &Path, span: Span, zone: &TimeZone, stop: &Stop, found: &mut LogScan) -> Result<(), Failure> {
    let file = files::open(path).map_err(|error| Failure::from_error(FailureKind::Refused, &error))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut line, mut now) = (Vec::new(), None);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|error| {
            Failure::new(FailureKind::Outside, format!("{} cannot be read", path.display())).because(error.to_string())
        })?;
        if read == 0 {
            return Ok(());
        }
        if found.lines.is_multiple_of(10_000) {
            stop.check().map_err(|error| Failure::new(FailureKind::Interrupted, error.to_string()))?;
        }
        found.lines += 1;
        let text = String::from_utf8_lossy(&line[..line.len().min(4000)]);
        now = time_in(&text, zone).or(now);
        let inside = match now {
            None => {
                found.undated += 1;
                span.since.is_none() && span.until.is_none()
            }
            Some(at) => span.since.is_none_or(|since| at >= since) && span.until.is_none_or(|until| at < until),
        };
        if inside {
            found.in_span += 1;
            note(&text, now, found);
        }
    }
}

fn note(text: &str, at: Option<Timestamp>, found: &mut LogScan) {
    let Some(word) = kind_of(text) else { return };
    let kind = found.kinds.entry(word.to_owned()).or_default();
    kind.count += 1;
    kind.first = kind.first.or(at);
    kind.last = at.or(kind.last);
    if kind.example.is_empty() {
        kind.example = text.trim().chars().filter(|letter| !letter.is_control()).take(160).collect();
    }
}

/// What kind of error a line tells; nothing when it tells none. A line that only says that there were none tells none.
pub fn kind_of(line: &str) -> Option<&'static str> {
    let line = line.to_lowercase();
    let harmless = ["0 errors", "no errors", "errors: 0", "\"error\":null", "error=none", "without error"];
    let fits = |words: &[&str]| words.iter().any(|word| is_word(&line, word));
    let found = KINDS.iter().find(|(_, words)| fits(words)).map(|(kind, _)| *kind);
    let found = if found == Some("error") && harmless.iter().any(|word| line.contains(word)) { None } else { found };
    found.or_else(|| status_of(&line).then_some("answered 5xx"))
}

/// Whether it stands in the line and does not begin inside another word: \"room\" is no \"oom\".
fn is_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|letter: char| letter.is_ascii_lowercase()) || word.len() > 4)
}

/// Whether it is a line of an access log, or a field, with a status from 500 on.
fn status_of(line: &str) -> bool {
    let after =
        |mark: &str| line.split_once(mark).map(|(_, rest)| rest.trim_start_matches([' ', '"', ':', '=']).to_owned());
    ["\" ", "status"].iter().filter_map(|mark| after(mark)).any(|rest| {
        let code: String = rest.chars().take_while(char::is_ascii_digit).collect();
        code.len() == 3 && code.starts_with('5')
    })
}

/// The first time in a line: ISO 8601 with or without a zone, or as web servers write it (`10/Oct/2025:13:55:36 +0000`).
pub fn time_in(line: &str, zone: &TimeZone) -> Option<Timestamp> {
    let head: String = line.chars().take(160).collect();
    let starts = head.char_indices().filter(|(_, letter)| letter.is_ascii_digit()).map(|(at, _)| at);
    starts.into_iter().find_map(|at| iso(&head[at..], zone).or_else(|| web(&head[at..])))
}

fn iso(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let text: String = text.chars().take(40).collect();
    let bytes = text.as_bytes();
    if bytes.len() < 19 || bytes[4] != b'-' || bytes[7] != b'-' || !matches!(bytes[10], b'T' | b' ') {
        return None;
    }
    let plain = format!("{}T{}", text.get(..10)?, text.get(11..19)?);
    let local: civil::DateTime = plain.parse().ok()?;
    let rest = text.get(19..)?.trim_start_matches(['.', ',']);
    let rest = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
    if rest.starts_with('Z') || rest.starts_with(" UTC") {
        return local.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    }
    let offset: String =
        rest.trim_start().chars().take_while(|letter| "+-:".contains(*letter) || letter.is_ascii_digit()).collect();
    let zone = offset_of(&offset).unwrap_or_else(|| zone.clone());
    local.to_zoned(zone).ok().map(|zoned| zoned.timestamp())
}

/// `+02:00`, `+0200` or `+02`.
fn offset_of(text: &str) -> Option<TimeZone> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: String = text.strip_prefix(['+', '-'])?.chars().filter(char::is_ascii_digit).collect();
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 = digits.get(2..4).and_then(|minutes| minutes.parse().ok()).unwrap_or(0);
    jiff::tz::Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok().map(TimeZone::fixed)
}

fn web(text: &str) -> Option<Timestamp> {
    let (day, rest) = (text.get(..11)?, text.get(12..20)?);
    let at = jiff::fmt::strtime::parse("%d/%b/%Y %H:%M:%S", format!("{day} {rest}")).ok()?.to_datetime().ok()?;
    let zone = offset_of(text.get(20..)?.trim_start()).unwrap_or(TimeZone::UTC);
    at.to_zoned(zone).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_sorted_by_what_they_tell() {
        for (line, expected) in [
            ("2025-11-04 ERROR: UNIQUE constraint failed: orders.id", Some("constraint")),
            ("Error: connect ECONNREFUSED 127.0.0.1:5432", Some("connection")),
            ("thread 'main' panicked at src/main.rs", Some("crash")),
            ("SqliteError: database is locked", Some("database locked or deadlocked")),
            ("GET /api \" 502 17", Some("answered 5xx")),
            ("{\"level\":\"info\",\"status\":503}", Some("answered 5xx")),
            ("something went wrong: ERROR", Some("error")),
            ("room for more, all is well", None),
            ("finished with 0 errors", None),
            ("GET / \" 200 512", None),
        ] {
            assert_eq!(kind_of(line), expected, "{line}");
        }
    }

    #[test]
    fn times_are_read_as_logs_write_them() {
        let berlin = TimeZone::fixed(jiff::tz::offset(1));
        for (line, expected) in [
            ("2025-11-04T14:30:00.123Z INFO x", "2025-11-04T14:30:00Z"),
            ("[2025-11-04 14:30:00,123] ERROR x", "2025-11-04T13:30:00Z"),
            ("{\"time\":\"2025-11-04T14:30:00+02:00\"}", "2025-11-04T12:30:00Z"),
            ("127.0.0.1 - - [04/Nov/2025:14:30:00 +0000] \"GET /\" 500", "2025-11-04T14:30:00Z"),
            ("pid 4711 2025-11-04 14:30:00 UTC x", "2025-11-04T14:30:00Z"),
        ] {
            assert_eq!(time_in(line, &berlin).map(|at| at.to_string()), Some(expected.to_owned()), "{line}");
        }
        assert_eq!(time_in("at Object.run (index.js:12:34)", &berlin), None);
    }
}
