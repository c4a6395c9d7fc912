//! Small words: sentences, quoted arguments, durations with their basis.

use lifeboat_model::{
    BackupId, BackupReason, OperationId, PlanId, Prediction, ProofId, Timestamp, Tri,
    time::{Duration, show_duration},
};

/// Ends a sentence with a period, unless an id ends it (an id is to be copied) or something else already does.
pub fn sentence(text: &str) -> String {
    let text = text.trim_end();
    let last = text.rsplit([' ', '\n']).next().unwrap_or_default();
    let is_id = OperationId::parse(last).is_ok()
        || BackupId::parse(last).is_ok()
        || PlanId::parse(last).is_ok()
        || ProofId::parse(last).is_ok();
    if is_id || text.is_empty() || text.ends_with(['.', '!', '?', ':']) { text.to_owned() } else { format!("{text}.") }
}

/// An argument as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_./:=@,+%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A text from outside on one line: a table's name may hold line feeds, and worse.
pub fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] })
        .collect()
}

/// At most `width` letters: the middle gives way, for the end of a path says most.
pub fn shortened(text: &str, width: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= width {
        return text.to_owned();
    }
    let begin = width / 2 - 2;
    let end = letters.len() - (width - begin - 3);
    format!("{}...{}", letters[..begin].iter().collect::<String>(), letters[end..].iter().collect::<String>())
}

/// A duration in milliseconds.
pub fn took(ms: u64) -> String {
    show_duration(Duration::from_millis(ms))
}

/// A prediction and what it rests on: `3:48 (5 runs, half within 9 %)`, `0.1 s (guess)`.
pub fn expected(prediction: &Prediction) -> String {
    let basis = match (prediction.samples, prediction.back_test) {
        (0, _) => "guess".to_owned(),
        (1, _) => "1 run".to_owned(),
        // Of fewer than three predictions, half is no figure.
        (runs, Some(test)) if test.runs >= 3 => format!("{runs} runs, half within {} %", test.off_percent),
        (runs, _) => format!("{runs} runs"),
    };
    format!("{} ({basis})", took(prediction.p50_ms))
}

/// An instant for people, with its zone beside it where that is not UTC.
pub fn instant(at: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    let utc = at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let zoned = at.to_zoned(zone.clone());
    if zoned.offset().is_zero() { utc } else { format!("{utc} ({})", zoned.strftime("%H:%M %Z")) }
}

/// An instant in a table, UTC.
pub fn short_instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A backup's reason in one word.
pub fn reason(reason: BackupReason) -> &'static str {
    match reason {
        BackupReason::Manual => "manual",
        BackupReason::Scheduled => "scheduled",
        BackupReason::PreDeploy => "pre-deploy",
        BackupReason::Adopted => "adopted",
        BackupReason::Emergency => "emergency",
    }
}

/// An outcome in one word.
pub fn tri(outcome: Tri) -> &'static str {
    match outcome {
        Tri::Pass => "good",
        Tri::Unknown => "unknown",
        Tri::Fail => "not good",
    }
}

/// `1 row`, `2 rows`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_ends_with_a_period_unless_an_id_ends_it() {
        for (text, shown) in [
            ("there is none", "there is none."),
            ("there is none.", "there is none."),
            ("nothing is called o-0123456789", "nothing is called o-0123456789"),
            ("nothing is called o-012", "nothing is called o-012."),
        ] {
            assert_eq!(sentence(text), shown);
        }
    }

    #[test]
    fn words_are_quoted_as_a_shell_takes_them() {
        for (word, shown) in [("./shop.db", "./shop.db"), ("2h ago", "'2h ago'"), ("it's", "'it'\\''s'"), ("", "''")] {
            assert_eq!(quoted(word), shown);
        }
    }

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(shortened("short", 10), "short");
        assert_eq!(shortened("copy /srv/data/shop/shop.db", 16), "copy /...shop.db");
        assert_eq!(shortened(&"ä".repeat(20), 16).chars().count(), 16);
    }

    #[test]
    fn names_with_line_feeds_stay_on_one_line() {
        assert_eq!(one_line("a\nb\u{1b}[1m 🦀"), "a\\nb\\u{1b}[1m 🦀");
    }
}
