//! Instants and spans. Instants are UTC everywhere; a zone is added only where a person reads them.

pub use jiff::Timestamp;
pub use std::time::Duration;

/// Reads a duration the way settings write it: a number and a unit (`90s`, `15m`, `6h`, `7d`, `2w`), or several of them.
///
/// # Errors
/// Anything without a unit, negative, or not a number.
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration { text: text.to_owned() };
    let mut seconds = 0.0_f64;
    let mut number = String::new();
    let mut unit = String::new();
    let mut parts = 0;
    for letter in text.trim().chars().chain(std::iter::once('0')) {
        if (letter.is_ascii_digit() || letter == '.') && !unit.is_empty() {
            seconds += number.parse::<f64>().map_err(|_| bad())? * unit_seconds(&unit).ok_or_else(bad)?;
            parts += 1;
            (number, unit) = (String::new(), String::new());
        }
        match letter {
            ' ' => {}
            '0'..='9' | '.' => number.push(letter),
            other => unit.push(other),
        }
    }
    if parts == 0 || number != "0" { Err(bad()) } else { Duration::try_from_secs_f64(seconds).map_err(|_| bad()) }
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        _ => return None,
    })
}

/// A duration somebody wrote and we cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a duration such as \"90s\", \"15m\", \"6h\" or \"7d\"")]
pub struct BadDuration {
    /// What was written.
    pub text: String,
}

/// Shows a duration for people: `0:04`, `12:30`, `1:02:07`; below ten seconds with tenths, `3.2 s`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// Shows an age in its largest unit: `12 s`, `5 min`, `3 h`, `9 d`.
pub fn show_age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// From `earlier` to `later`, or nothing when the clock went back between them.
pub fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

/// Shows a number of bytes in binary units, three digits wide: `0 B`, `812 KiB`, `1.37 GiB`.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, seconds) in
            [("90s", 90.0), ("15m", 900.0), ("1h30m", 5400.0), ("7d", 604_800.0), ("1.5h", 5400.0), ("250ms", 0.25)]
        {
            assert_eq!(parse_duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "90", "s", "-5m", "five minutes", "5 parsecs", "1h30"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_spans_are_shown_shortly() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (831_488, "812 KiB"),
            (1 << 30, "1.00 GiB"),
            (1_471_026_299, "1.37 GiB"),
        ] {
            assert_eq!(show_bytes(bytes), shown);
        }
        for (seconds, shown) in [(3.21, "3.2 s"), (10.0, "0:10"), (750.0, "12:30"), (3727.0, "1:02:07")] {
            assert_eq!(show_duration(Duration::from_secs_f64(seconds)), shown);
        }
    }
}
