//! `lifeboat verify --checks FILE`: what a person asserts, read from a file of its own.

use std::path::Path;

use lifeboat_engine::assertions::Assertions;
use lifeboat_io::files;
use lifeboat_model::{
    Failure, FailureKind,
    assertion::{Assertion, Expect, Severity},
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// How many of a hundred must hold.
    score: Option<u32>,
    #[serde(default)]
    check: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sql: String,
    expect: Words,
    #[serde(default)]
    severity: Severity,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Number(f64),
    Text(String),
    Bounds(Bounds),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    min: Option<f64>,
    max: Option<f64>,
    percent: Option<f64>,
}

/// Reads a file of assertions.
///
/// # Errors
/// It cannot be read or understood, or asserts nothing.
pub fn read(path: &Path) -> Result<Assertions, Failure> {
    let text = files::read_text(path).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
    let wrong = |why: String| {
        let failure = Failure::new(FailureKind::Usage, format!("{} cannot be used: {why}", path.display()));
        failure.hint("[[check]] with name, sql and expect = \"empty\", a value, or { min, max, percent }")
    };
    let document: Document = toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
    if document.check.is_empty() {
        return Err(wrong("it asserts nothing".to_owned()));
    }
    if document.score.is_some_and(|score| score > 100) {
        return Err(wrong("score is more than 100".to_owned()));
    }
    let all = document.check.into_iter().map(|entry| {
        let Entry { name, sql, expect, severity } = entry;
        let expect = match expect {
            Words::Text(word) if word == "empty" => Expect::Empty,
            Words::Text(text) => Expect::Exactly(text),
            Words::Number(number) => Expect::Exactly(number.to_string()),
            Words::Bounds(Bounds { min: None, max: None, percent: None }) => {
                return Err(wrong(format!("{name} expects nothing")));
            }
            Words::Bounds(Bounds { percent: Some(min), .. }) => Expect::Between { min: Some(min), max: Some(100.0) },
            Words::Bounds(Bounds { min, max, percent: None }) => Expect::Between { min, max },
        };
        Ok(Assertion { name, sql, expect, severity })
    });
    Ok(Assertions { all: all.collect::<Result<_, Failure>>()?, score_min: document.score })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_assertions_is_understood_or_refused_with_the_reason() {
        let folder = std::env::temp_dir().join(format!("lifeboat-assertions-{}", std::process::id()));
        let file = folder.join("validate.toml");
        files::create_folder(&folder).unwrap();
        let read = |text: &str| {
            files::write(&file, text.as_bytes()).unwrap();
            read(&file)
        };
        let check = |expect: &str| format!("[[check]]\nname = \"a\"\nsql = \"select 1\"\nexpect = {expect}\n");
        for (words, expect) in [
            ("\"empty\"", Expect::Empty),
            ("42", Expect::Exactly("42".into())),
            ("\"ok\"", Expect::Exactly("ok".into())),
            ("{ min = 1, max = 2.5 }", Expect::Between { min: Some(1.0), max: Some(2.5) }),
            ("{ percent = 85 }", Expect::Between { min: Some(85.0), max: Some(100.0) }),
        ] {
            let found = read(&format!("score = 85\n{}severity = \"minor\"\n", check(words))).unwrap();
            assert_eq!(
                (found.score_min, found.all[0].expect.clone(), found.all[0].severity),
                (Some(85), expect, Severity::Minor)
            );
        }
        for text in ["", "score = 101", &check("{}"), &check("{ mni = 1 }"), "[[check]]\nname = \"a\""] {
            assert!(read(text).is_err(), "{text}");
        }
        files::remove_any(&folder).unwrap();
    }
}
