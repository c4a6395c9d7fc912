//! Words of SQL.

/// A name as SQL wants it: in quotes, quotes doubled.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Words that no version of PostgreSQL up to 18 takes as the name of a table or column without quotes.
const RESERVED: &str = " all analyse analyze and any array as asc asymmetric authorization binary both case cast check \
    collate collation column concurrently constraint create cross current_catalog current_date current_role \
    current_schema current_time current_timestamp current_user default deferrable desc distinct do else end except \
    false fetch for foreign freeze from full grant group having ilike in initially inner intersect into is isnull join \
    lateral leading left like limit localtime localtimestamp natural not notnull null offset on only or order outer \
    overlaps placing primary references returning right select session_user similar some symmetric system_user table \
    tablesample then to trailing true union unique user using variadic verbose when where window with ";

/// A name as a person would write it: in quotes only where SQL needs them, in any version.
pub fn plain(name: &str) -> String {
    let begins = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let simple = name.starts_with(begins) && name.chars().all(|letter| begins(letter) || letter.is_ascii_digit());
    if simple && !RESERVED.contains(&format!(" {name} ")) { name.to_owned() } else { quoted(name) }
}

/// Text as SQL wants it, whatever is in it.
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') { format!("E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// A list of texts, for `IN (...)`; never empty, so that nothing is in a list of nothing.
pub fn literals<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<String> = texts.into_iter().map(literal).collect();
    if all.is_empty() { "NULL".into() } else { all.join(", ") }
}

/// A name as a file's: what is not plain is `%xx`, so that `a.b` and `"a.b"` differ and nothing leaves its folder.
pub fn file_name(name: &str) -> String {
    let mut plain = String::new();
    for &byte in name.as_bytes() {
        match byte {
            b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => plain.push(char::from(byte)),
            other => plain.push_str(&format!("%{other:02x}")),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(quoted("a \"b\""), "\"a \"\"b\"\"\"");
        assert_eq!(
            [plain("orders"), plain("order"), plain("Orders"), plain("1a"), plain("")].join(" "),
            "orders \"order\" \"Orders\" \"1a\" \"\""
        );
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(literals([]), "NULL");
        assert_eq!(file_name("../a.b ü"), "%2e%2e%2fa%2eb%20%c3%bc");
    }
}
