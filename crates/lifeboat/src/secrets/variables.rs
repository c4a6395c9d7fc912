//! Files of variables, `.env` and its like: reading one value, as the programs that use them do.

/// The value of a variable in the text of such a file. Of several assignments the last counts; quotes around it are not
/// part of it, nor is a comment behind one that has none.
pub fn value_of(text: &str, name: &str) -> Option<String> {
    assignments(text).filter(|(key, _)| *key == name).map(|(_, value)| value).last()
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
    use super::value_of;

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
