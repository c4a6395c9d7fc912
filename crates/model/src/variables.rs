//! Files of variables, `.env` and its like: reading one value, as the programs that use them do, and setting one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{backup::BackupChoice, id::BackupId, resource::ResourceName};

/// What is done to a file of variables. It names them and never tells a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "variables", rename_all = "kebab-case")]
pub enum EnvAction {
    /// Gives variables the values that a backup of the file holds, takes others out, and keeps the former file.
    Restore {
        /// Where the backup is.
        vault: String,
        /// Which.
        backup: BackupId,
        /// Which of its parts.
        resource: ResourceName,
        /// The file.
        file: PathBuf,
        /// Where the former one is kept.
        kept: PathBuf,
        /// The variables that get their former value.
        set: Vec<String>,
        /// Those that go.
        remove: Vec<String>,
    },
    /// Gives one variable a value that is no secret, or takes it out. The rest stays as it is, byte by byte.
    Set {
        /// The file.
        file: PathBuf,
        /// The variable.
        name: String,
        /// Its value as it is written; nothing: it goes.
        value: Option<String>,
    },
    /// Fails when the file in a backup cannot be read.
    Look {
        /// Where the backup is.
        vault: String,
        /// Which.
        backup: BackupId,
        /// Which of its parts.
        resource: ResourceName,
    },
    /// Puts the former file back.
    PutBack {
        /// The file.
        file: PathBuf,
        /// Where the former one is kept.
        kept: PathBuf,
        /// Where the present one is kept, when somebody may have changed it since.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aside: Option<PathBuf>,
    },
}

/// What somebody asks for who wants former values of variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvAsk {
    /// Which file; the only one when nobody says.
    pub resource: Option<ResourceName>,
    /// Out of which backup.
    pub from: BackupChoice,
    /// Which variables; all that differ when none is named.
    pub keys: Vec<String>,
    /// Those that came since stay.
    pub keep_new: bool,
    /// Why.
    pub why: String,
}

/// The value of a variable in the text of such a file. Of several assignments the last counts; quotes around it are not
/// part of it, nor is a comment behind one that has none.
pub fn value_of(text: &str, name: &str) -> Option<String> {
    assignments(text).filter(|(key, _)| *key == name).map(|(_, value)| value).last()
}

/// What stands behind the last assignment of a variable, quotes and all: what another file has to hold to mean the same.
pub fn written_value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let is_it = |line: &&str| assignments(line).any(|(key, _)| key == name);
    let line = text.lines().rfind(is_it)?;
    line.split_once('=').map(|(_, value)| value.trim())
}

/// The text without any assignment of a variable. The rest stays as it is, byte by byte.
pub fn without(text: &str, name: &str) -> String {
    let is_it = |line: &str| assignments(line).any(|(key, _)| key == name);
    text.split_inclusive('\n').filter(|line| !is_it(line)).collect()
}

/// Every assignment, in order: the name, and the value without quotes.
pub fn assignments(text: &str) -> impl Iterator<Item = (&str, String)> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (key, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        Some((key.trim(), unquoted(value.trim())))
    })
}

/// The text with one assignment of that variable: the last one changed in its place, others before it gone; at the end when
/// there was none. The rest stays as it is, byte by byte.
pub fn with_value(text: &str, name: &str, value: &str) -> String {
    let is_it = |line: &str| assignments(line).any(|(key, _)| key == name);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let last = lines.iter().rposition(|line| is_it(line));
    let mut changed = String::with_capacity(text.len() + name.len() + value.len() + 2);
    for (at, line) in lines.iter().enumerate() {
        match (is_it(line), last == Some(at)) {
            (true, true) => changed += &format!("{name}={value}{}", &line[line.trim_end_matches(['\r', '\n']).len()..]),
            (true, false) => {}
            (false, _) => changed += line,
        }
    }
    if last.is_none() {
        if !changed.is_empty() && !changed.ends_with('\n') {
            changed.push('\n');
        }
        changed += &format!("{name}={value}\n");
    }
    changed
}

fn unquoted(value: &str) -> String {
    if let Some(rest) = value.strip_prefix('\'') {
        return rest.split('\'').next().unwrap_or_default().to_owned();
    }
    let Some(rest) = value.strip_prefix('"') else {
        return value.split(" #").next().unwrap_or_default().trim_end().to_owned();
    };
    let (mut out, mut letters) = (String::new(), rest.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => match letters.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some(other @ ('"' | '\\' | '$')) => out.push(other),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{value_of, with_value, without, written_value};

    #[test]
    fn what_is_written_goes_over_as_it_is_and_what_goes_leaves_the_rest() {
        let then = "# A=1\nexport A = 'x # y' \nA=\"z\" # why\nB=\n";
        assert_eq!(written_value(then, "A"), Some("\"z\" # why"));
        assert_eq!((written_value(then, "B"), written_value(then, "C")), (Some(""), None));
        assert_eq!(without(then, "A"), "# A=1\nB=\n");
        assert_eq!(without("A=1\nB=2", "B"), "A=1\n");
    }

    /// EMRG-06: set, not appended; twice is once; a last line without an end stays readable.
    #[test]
    fn a_value_is_set_in_its_place() {
        let cases = [
            ("", "A=no\n"),
            ("B=1", "B=1\nA=no\n"),
            ("A=yes", "A=no"),
            ("A=1\nB=2\n export A = \"yes\" # why\r\nC=3\n", "B=2\nA=no\r\nC=3\n"),
            ("# A=yes\nAA=yes\n", "# A=yes\nAA=yes\nA=no\n"),
        ];
        for (before, wanted) in cases {
            let after = with_value(before, "A", "no");
            assert_eq!(after, wanted, "{before:?}");
            assert_eq!(with_value(&after, "A", "no"), after, "{before:?}");
        }
    }

    #[test]
    fn a_value_is_read_as_apps_read_it() {
        let text = "# A=no\nA=old\n export A = plain # why \nB='single # \\n'\nC=\"dou\\\"ble\\\\ # x\" # y\n\
                    URL=postgres://a:b#c@h/d?x=1&y=2\nEMPTY=\nnot an assignment\nOPEN=\"no end";
        for (name, wanted) in [
            ("A", Some("plain")),
            ("B", Some("single # \\n")),
            ("C", Some("dou\"ble\\ # x")),
            ("URL", Some("postgres://a:b#c@h/d?x=1&y=2")),
            ("EMPTY", Some("")),
            ("OPEN", Some("no end")),
            ("D", None),
        ] {
            assert_eq!(value_of(text, name).as_deref(), wanted, "{name}");
        }
    }
}
