//! Access logs of web servers, in the common and the combined format: how many answers failed, and how slow they were, in
//! the last minutes. Read from the end, so that a log of many gigabytes costs no more than its last minutes.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, fmt::strtime};
use lifeboat_io::{Stop, files};
use lifeboat_model::{
    decision::{Fact, Number, Value},
    time::since,
};

/// So much of a log's end is looked at.
const BYTES_MAX: u64 = 256 << 20;
/// Read at once, backwards.
const PIECE_BYTES: u64 = 1 << 20;

/// What the last minutes of a log say.
#[derive(Debug, Default)]
struct Requests {
    all: u64,
    failed: u64,
    /// Seconds that answers took, in microseconds; only of lines that end with one.
    took_us: Vec<u64>,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
}

/// Measures `error_rate` or `response_time`.
pub(super) fn measure(path: &Path, key: &str, now: Timestamp, window: Duration, stop: &Stop) -> Result<Fact, String> {
    let mut file = files::open(path).map_err(|error| error.to_string())?;
    let from = now - SignedDuration::try_from(window).map_err(|error| error.to_string())?;
    let (found, whole) = look(&mut file, from, now, stop).map_err(|error| format!("{}: {error}", path.display()))?;
    let (Some(oldest), Some(newest)) = (found.oldest, found.newest) else {
        return Err(format!("{} has no request of the last {} s", path.display(), window.as_secs()));
    };
    // What is not in the log any more was not measured.
    let covered = if whole { window } else { since(oldest, newest) };
    let fact =
        |value, n| Fact { value, n: Some(n), window: Some(covered), after: None, source: path.display().to_string() };
    match key {
        "response_time" => {
            let mut took = found.took_us;
            if took.is_empty() {
                return Err(format!("lines of {} do not end with the seconds that the answer took", path.display()));
            }
            took.sort_unstable();
            let at = (took.len() * 95).div_ceil(100).clamp(1, took.len()) - 1;
            let text = format!("{}.{:06}", took[at] / 1_000_000, took[at] % 1_000_000);
            Ok(fact(Value::Number(text.parse()?), took.len() as u64))
        }
        "error_rate" => {
            let percent = Number::percent(found.failed, found.all).ok_or("no requests")?;
            Ok(fact(Value::Number(percent), found.all))
        }
        other => Err(format!("an access log does not tell {other}")),
    }
}

/// Looks at lines from the end on, until one is older than the span; also tells whether the log reaches that far back, or
/// begins within it.
fn look(file: &mut File, from: Timestamp, now: Timestamp, stop: &Stop) -> std::io::Result<(Requests, bool)> {
    let mut found = Requests::default();
    let mut at = file.seek(SeekFrom::End(0))?;
    let least = at.saturating_sub(BYTES_MAX);
    // The beginning of a line whose rest was looked at last.
    let mut rest = Vec::new();
    while at > least {
        stop.check().map_err(std::io::Error::other)?;
        let length = PIECE_BYTES.min(at - least);
        at -= length;
        let mut piece = vec![0; length as usize];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut piece)?;
        piece.append(&mut rest);
        let begin = match at {
            0 => 0,
            _ => piece.iter().position(|byte| *byte == b'\n').map_or(piece.len(), |newline| newline + 1),
        };
        for line in piece[begin..].split(|byte| *byte == b'\n').rev() {
            let Some(request) = read(line) else { continue };
            if request.at < from {
                return Ok((found, true));
            }
            // Clocks of two hosts differ a little; what lies ahead by more is not of these minutes.
            if request.at <= now {
                found.add(&request);
            }
        }
        piece.truncate(begin);
        rest = piece;
    }
    Ok((found, false))
}

impl Requests {
    fn add(&mut self, request: &Answered) {
        self.all += 1;
        self.failed += u64::from(request.status >= 500);
        self.took_us.extend(request.took_us);
        self.oldest = Some(self.oldest.map_or(request.at, |oldest| oldest.min(request.at)));
        self.newest = Some(self.newest.map_or(request.at, |newest| newest.max(request.at)));
    }
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
struct Answered {
    at: Timestamp,
    status: u16,
    took_us: Option<u64>,
}

/// Reads a line: `host ident user [time] "request" status bytes ...`, and at its end perhaps the seconds it took.
fn read(line: &[u8]) -> Option<Answered> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let (_, rest) = line.split_once('[')?;
    let (time, rest) = rest.split_once(']')?;
    let at = strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).ok()?.to_timestamp().ok()?;
    let rest = behind_quoted(rest.trim_start())?;
    let mut words = rest.split_whitespace();
    let status = words.next()?.parse().ok().filter(|status| (100..600).contains(status))?;
    let bytes = words.next()?;
    // The last word, when it is a number with a point and not the count of bytes.
    let last = words.next_back().unwrap_or(bytes);
    let seconds = last.rsplit(['=', '"']).find(|part| !part.is_empty()).filter(|number| number.contains('.'));
    let took_us =
        seconds.and_then(|number| number.parse::<f64>().ok()).filter(|seconds| (0.0..86_400.0).contains(seconds));
    Some(Answered { at, status, took_us: took_us.map(|seconds| (seconds * 1e6).round() as u64) })
}

/// What stands behind a quoted request; quotes in it are written with a backslash.
fn behind_quoted(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.bytes().position(|byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    })?;
    Some(&inside[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn line(at: Timestamp, status: u16, seconds: &str) -> String {
        let time = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
        format!("10.0.0.7 - - [{time}] \"GET /a\\\"b?c=[1] HTTP/1.1\" {status} 512 \"-\" \"curl/7\" {seconds}\n")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn lines_of_both_formats_are_read_and_others_left_out() {
        let common = r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326"#;
        let expected = Answered { at: at("2000-10-10T20:55:36Z"), status: 200, took_us: None };
        assert_eq!(read(common.as_bytes()), Some(expected));
        let timed = line(at("2026-11-27T03:00:00Z"), 502, "rt=0.125");
        let expected = Answered { at: at("2026-11-27T03:00:00Z"), status: 502, took_us: Some(125_000) };
        assert_eq!(read(timed.as_bytes()), Some(expected));
        for odd in [
            "",
            "hello",
            "a [b] \"c\" 200 1",
            "x [10/Oct/2000:13:55:36 -0700] \"GET",
            "x [10/Oct/2000:13:55:36 -0700] \"GET /\" abc 1",
        ] {
            assert_eq!(read(odd.as_bytes()), None, "{odd}");
        }
    }

    /// The last minutes only, across the pieces that are read; older lines and lines of the future do not count.
    #[test]
    fn the_last_minutes_are_counted_from_the_end() {
        let now = at("2026-11-27T03:00:00Z");
        let mut text = String::new();
        for second in (0..1_200_i64).rev() {
            let when = now - SignedDuration::from_secs(second);
            for each in 0..20 {
                let status = if each == 0 && second < 300 { 500 } else { 200 };
                text += &line(when, status, if each < 2 { "3.5" } else { "0.01" });
            }
            let _ = writeln!(text, "a line of something else");
        }
        text += &line(now + SignedDuration::from_secs(900), 500, "9.0");
        assert!(text.len() as u64 > 2 * PIECE_BYTES, "more than two pieces");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        files::write(&path, text.as_bytes()).unwrap();
        let window = Duration::from_secs(300);
        let ask = |key: &str| measure(&path, key, now, window, &Stop::default());
        let rate = ask("error_rate").unwrap();
        // 300 of 301 seconds with one failure among 20.
        let expected = Value::Number("4.983389".parse().unwrap());
        assert_eq!((rate.value, rate.n, rate.window), (expected, Some(301 * 20), Some(window)));
        let slow = ask("response_time").unwrap();
        assert_eq!(slow.value, Value::Number("3.5".parse().unwrap()));
        assert!(ask("data_loss").unwrap_err().contains("does not tell"));
    }
}
