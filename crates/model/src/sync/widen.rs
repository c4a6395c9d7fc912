//! Columns of the cloud that are too narrow for what the file holds, and what they would have to become.

use serde::{Deserialize, Serialize};

use super::{CloudType, Value, literal};

/// A column of the cloud that is made wider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Widening {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// What it is, as the server writes it.
    pub from: String,
    /// What it becomes.
    pub to: String,
    /// How many of the file's rows do not fit.
    pub rows: u64,
}

/// What a column of that type would have to become to hold a value; nothing when it holds it, and nothing when no type would.
pub fn wider(type_name: &str, value: &Value) -> Option<&'static str> {
    let kind = CloudType::of(type_name);
    let modifiers = modifiers(type_name);
    match literal(kind, value) {
        Ok(None) => None,
        Ok(Some(text)) => match (kind, modifiers.as_slice()) {
            (CloudType::Text, [length, ..]) if text.chars().count() as u64 > *length => Some("text"),
            (CloudType::Numeric, [precision, scale @ ..]) => {
                let scale = scale.first().copied().unwrap_or(0);
                (!holds(&text, *precision, scale)).then_some("numeric")
            }
            _ => None,
        },
        Err(_) => match (kind, value) {
            (_, Value::Null | Value::Blob { .. }) => None,
            // No type of the server holds a NUL character.
            (_, Value::Text(text)) if text.contains('\0') => None,
            (CloudType::Bytea, _) => None,
            (_, Value::Text(_)) => Some("text"),
            (CloudType::SmallInt | CloudType::Int | CloudType::Boolean, Value::Integer(_)) => Some("bigint"),
            (CloudType::SmallInt | CloudType::Int | CloudType::BigInt | CloudType::Boolean, Value::Real(number)) => {
                match number.is_finite() {
                    true => Some("numeric"),
                    false => Some("text"),
                }
            }
            (_, Value::Integer(_) | Value::Real(_)) => Some("text"),
        },
    }
}

/// What holds whatever either of two types holds; of those that [`wider`] gives.
pub fn widest(one: &'static str, two: &'static str) -> &'static str {
    match (one, two) {
        _ if one == two => one,
        ("bigint" | "numeric", "bigint" | "numeric") => "numeric",
        _ => "text",
    }
}

/// The numbers in the brackets of a type.
fn modifiers(type_name: &str) -> Vec<u64> {
    let inside = type_name.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(inside, _)| inside);
    inside.into_iter().flat_map(|inside| inside.split(',')).filter_map(|part| part.trim().parse().ok()).collect()
}

/// Whether a number as text stands in `numeric(precision, scale)` as it is: the server would round what is behind the point
/// without saying so.
fn holds(text: &str, precision: u64, scale: u64) -> bool {
    let Some((whole, fraction)) = digits(text) else { return false };
    fraction <= scale && whole <= precision.saturating_sub(scale)
}

/// How many digits a number has before its point and behind it; nothing when it is none.
fn digits(text: &str) -> Option<(u64, u64)> {
    let canonical = super::canonical(CloudType::Numeric, &Value::Text(text.to_owned())).ok()??;
    let plain = canonical.trim_start_matches('-');
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let is_number = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    is_number.then(|| (whole.trim_start_matches('0').len() as u64, fraction.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_becomes_what_holds_the_value_and_no_more() {
        let text = |text: &str| Value::Text(text.to_owned());
        for (type_name, value, wanted) in [
            ("character varying(5)", text("12345"), None),
            ("character varying(5)", text("123456"), Some("text")),
            ("character varying(5)", text("äöüßé"), None),
            ("character(2)", text("abc"), Some("text")),
            ("text", text("as long as it likes"), None),
            ("integer", Value::Integer(1 << 40), Some("bigint")),
            ("smallint", Value::Integer(40_000), Some("bigint")),
            ("integer", Value::Integer(7), None),
            ("bigint", Value::Real(1.5), Some("numeric")),
            ("bigint", Value::Real(f64::INFINITY), Some("text")),
            ("bigint", text("seven"), Some("text")),
            ("boolean", Value::Integer(2), Some("bigint")),
            ("boolean", Value::Integer(1), None),
            ("numeric(10,2)", Value::Real(1.25), None),
            ("numeric(10,2)", Value::Real(1.255), Some("numeric")),
            ("numeric(5,2)", Value::Integer(1_000), Some("numeric")),
            ("numeric(5,2)", Value::Integer(999), None),
            ("numeric(5)", text("0.5"), Some("numeric")),
            ("numeric", text("1e300"), None),
            ("date", Value::Integer(1_700_000_000), Some("text")),
            ("bytea", text("no bytes"), None),
            ("text", text("a\0b"), None),
            ("integer", Value::Blob { blob: vec![1], garbled: false }, None),
            ("integer", Value::Null, None),
        ] {
            assert_eq!(wider(type_name, &value), wanted, "{type_name} {value:?}");
        }
        assert_eq!(widest("bigint", "numeric"), "numeric");
        assert_eq!(widest("bigint", "text"), "text");
        assert_eq!(widest("bigint", "bigint"), "bigint");
    }
}
