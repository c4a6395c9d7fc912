//! A value of SQLite, and what becomes of it in PostgreSQL. The declared type of a column is a hint there, the stored
//! class is the fact.

use serde::{Deserialize, Serialize};

/// A value as SQLite stores it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// NULL.
    Null,
    /// A whole number.
    Integer(i64),
    /// Another number.
    #[serde(with = "real")]
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes, in JSON as `{"blob": "hex"}`. Text that is not UTF-8 is kept so, too.
    Blob {
        /// The bytes.
        #[serde(with = "hex_bytes")]
        blob: Vec<u8>,
        /// Whether SQLite says that it is text.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        garbled: bool,
    },
}

/// A value as it is seen while it is read: nothing of it is copied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// NULL.
    Null,
    /// A whole number.
    Integer(i64),
    /// Another number.
    Real(f64),
    /// Text.
    Text(&'a str),
    /// Bytes, and whether SQLite says that they are text.
    Blob(&'a [u8], bool),
}

impl ValueRef<'_> {
    /// A copy that stays.
    pub fn to_value(self) -> Value {
        match self {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Real(number) => Value::Real(number),
            ValueRef::Text(text) => Value::Text(text.to_owned()),
            ValueRef::Blob(bytes, garbled) => Value::Blob { blob: bytes.to_vec(), garbled },
        }
    }

    /// Whether it is that value, byte for byte.
    pub fn is_same(self, other: &Value) -> bool {
        match (self, other) {
            (ValueRef::Null, Value::Null) => true,
            (ValueRef::Integer(one), Value::Integer(two)) => one == *two,
            (ValueRef::Real(one), Value::Real(two)) => one.to_bits() == two.to_bits(),
            (ValueRef::Text(one), Value::Text(two)) => one == two,
            (ValueRef::Blob(one, garbled), Value::Blob { blob, garbled: other }) => one == blob && garbled == *other,
            _ => false,
        }
    }
}

/// Numbers that JSON has: infinities do not exist there, and are written as texts.
mod real {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Infinite {
        real: String,
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(f64),
        Infinite(Infinite),
    }

    pub fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        match number.is_finite() {
            true => number.serialize(serializer),
            false => Infinite { real: number.to_string() }.serialize(serializer),
        }
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<f64, D::Error> {
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(number),
            Either::Infinite(infinite) => infinite.real.parse().map_err(serde::de::Error::custom),
        }
    }
}

mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::hex(bytes))
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        match digits {
            Some(digits) if digits.len().is_multiple_of(2) => {
                Ok(digits.chunks(2).map(|pair| (pair[0] << 4) | pair[1]).collect())
            }
            _ => Err(D::Error::custom("a blob is written as pairs of hexadecimal digits")),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

impl Value {
    /// About how many bytes it takes.
    pub fn bytes(&self) -> u64 {
        match self {
            Value::Null => 1,
            Value::Integer(_) | Value::Real(_) => 8,
            Value::Text(text) => text.len() as u64,
            Value::Blob { blob, .. } => blob.len() as u64,
        }
    }

    /// Whether two values are the same, byte for byte: SQLite's `=` would take `x` for `X` in a NOCASE column.
    pub fn is_same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Real(one), Value::Real(two)) => one.to_bits() == two.to_bits(),
            (one, two) => one == two,
        }
    }
}

/// What a column of the cloud can hold, as far as a mirror has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloudType {
    /// `smallint`.
    SmallInt,
    /// `integer`.
    Int,
    /// `bigint`.
    BigInt,
    /// `numeric`.
    Numeric,
    /// `real`.
    Real,
    /// `double precision`.
    Double,
    /// `boolean`.
    Boolean,
    /// `text` and its like.
    Text,
    /// `bytea`.
    Bytea,
    /// `timestamp with time zone`.
    TimestampTz,
    /// `timestamp without time zone`.
    Timestamp,
    /// `date`.
    Date,
    /// `json`, as it was written.
    Json,
    /// Anything else: the server reads it from text.
    Other,
}

impl CloudType {
    /// The type of a name as `format_type` writes it.
    pub fn of(name: &str) -> CloudType {
        let plain = name.split('(').next().unwrap_or(name).trim();
        match plain {
            "smallint" => CloudType::SmallInt,
            "integer" => CloudType::Int,
            "bigint" => CloudType::BigInt,
            "numeric" => CloudType::Numeric,
            "real" => CloudType::Real,
            "double precision" => CloudType::Double,
            "boolean" => CloudType::Boolean,
            "text" | "character varying" | "character" => CloudType::Text,
            "bytea" => CloudType::Bytea,
            "json" => CloudType::Json,
            "date" => CloudType::Date,
            "timestamp with time zone" => CloudType::TimestampTz,
            "timestamp without time zone" => CloudType::Timestamp,
            _ if plain.starts_with("timestamp") && name.ends_with("with time zone") => CloudType::TimestampTz,
            _ if plain.starts_with("timestamp") => CloudType::Timestamp,
            _ => CloudType::Other,
        }
    }
}

/// Why a value cannot stand in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit(pub String);

/// The type that a mirror of our own gives a column, by its declared type: wide enough for what SQLite's affinity lets in.
/// For what does not fit later, columns are made wider when somebody asks for it.
pub fn cloud_type_for(declared: &str) -> (CloudType, &'static str) {
    let upper = declared.to_ascii_uppercase();
    let has = |part: &str| upper.contains(part);
    if upper.is_empty() {
        return (CloudType::Text, "text");
    }
    if has("BOOL") {
        return (CloudType::Boolean, "boolean");
    }
    // SQLite's own order of rules for affinity: INT, then CHAR/CLOB/TEXT, then BLOB, then REAL/FLOA/DOUB.
    if has("INT") && !has("POINT") {
        return (CloudType::BigInt, "bigint");
    }
    if has("CHAR") || has("CLOB") || has("TEXT") || has("JSON") || has("UUID") {
        return (CloudType::Text, "text");
    }
    if has("BLOB") {
        return (CloudType::Bytea, "bytea");
    }
    if has("REAL") || has("FLOA") || has("DOUB") {
        return (CloudType::Double, "double precision");
    }
    if has("NUMERIC") || has("DECIMAL") {
        return (CloudType::Numeric, "numeric");
    }
    // Dates are texts of many kinds, or numbers of seconds or milliseconds: as they are, they are never wrong.
    (CloudType::Text, "text")
}

/// How a value is written for a column, as text the server reads; nothing for NULL.
///
/// # Errors
/// Why it does not fit.
pub fn literal(column: CloudType, value: &Value) -> Result<Option<String>, Misfit> {
    let misfit = |what: &str| Err(Misfit(what.to_owned()));
    let written = match value {
        Value::Null => return Ok(None),
        Value::Integer(number) => integer(column, *number)?,
        Value::Real(number) => real_text(column, *number)?,
        Value::Text(text) if text.contains('\0') => return misfit("text with a NUL character"),
        Value::Text(text) => from_text(column, text)?,
        Value::Blob { garbled: true, .. } => return misfit("text that is not UTF-8"),
        Value::Blob { blob, .. } => match column {
            CloudType::Bytea | CloudType::Text => format!("\\x{}", hex(blob)),
            _ => return misfit("bytes"),
        },
    };
    Ok(Some(written))
}

fn integer(column: CloudType, number: i64) -> Result<String, Misfit> {
    let fits = match column {
        CloudType::SmallInt => i16::try_from(number).is_ok(),
        CloudType::Int => i32::try_from(number).is_ok(),
        CloudType::Boolean => number == 0 || number == 1,
        CloudType::BigInt
        | CloudType::Numeric
        | CloudType::Real
        | CloudType::Double
        | CloudType::Text
        | CloudType::Other => true,
        CloudType::Bytea | CloudType::TimestampTz | CloudType::Timestamp | CloudType::Date | CloudType::Json => {
            column == CloudType::Json
        }
    };
    match fits {
        true => Ok(number.to_string()),
        false => Err(Misfit(format!("the number {number}"))),
    }
}

/// The shortest text that reads back as the same number.
fn shortest(number: f64) -> String {
    match number {
        _ if number == f64::INFINITY => "Infinity".to_owned(),
        _ if number == f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => format!("{number:?}"),
    }
}

fn real_text(column: CloudType, number: f64) -> Result<String, Misfit> {
    match column {
        CloudType::Real | CloudType::Double | CloudType::Text | CloudType::Other => Ok(shortest(number)),
        CloudType::Numeric | CloudType::Json if number.is_finite() => Ok(shortest(number)),
        // 2^63 is the first number that does not fit; every whole number below is one i64.
        CloudType::BigInt | CloudType::Int | CloudType::SmallInt
            if number.fract() == 0.0 && (-9.223_372_036_854_775e18..9.223_372_036_854_775e18).contains(&number) =>
        {
            integer(column, number as i64)
        }
        _ => Err(Misfit(format!("the number {number}"))),
    }
}

fn from_text(column: CloudType, text: &str) -> Result<String, Misfit> {
    let misfit = || Err(Misfit("text".to_owned()));
    match column {
        CloudType::BigInt | CloudType::Int | CloudType::SmallInt => match text.trim().parse::<i64>() {
            Ok(number) => integer(column, number),
            Err(_) => misfit(),
        },
        CloudType::Numeric | CloudType::Real | CloudType::Double => match text.trim().parse::<f64>() {
            Ok(_) => Ok(text.trim().to_owned()),
            Err(_) => misfit(),
        },
        CloudType::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Ok("1".to_owned()),
            "false" | "f" | "0" => Ok("0".to_owned()),
            _ => misfit(),
        },
        CloudType::Bytea => misfit(),
        CloudType::Text
        | CloudType::TimestampTz
        | CloudType::Timestamp
        | CloudType::Date
        | CloudType::Json
        | CloudType::Other => Ok(text.to_owned()),
    }
}

/// The form in which a value is compared with the cloud's: [`literal`] made independent of how each side prints numbers.
/// Nothing for NULL. `server` has the other half as SQL.
///
/// # Errors
/// As [`literal`].
pub fn canonical(column: CloudType, value: &Value) -> Result<Option<String>, Misfit> {
    let Some(text) = literal(column, value)? else { return Ok(None) };
    let not_a_number = |_| Misfit("text".to_owned());
    Ok(Some(match column {
        // As `float8send`: decimal texts of the same number differ between versions. Rust reads "Infinity", too.
        CloudType::Double => format!("{:016x}", text.parse::<f64>().map_err(not_a_number)?.to_bits()),
        CloudType::Real => format!("{:08x}", text.parse::<f32>().map_err(not_a_number)?.to_bits()),
        CloudType::Numeric => trimmed(&text),
        _ => text,
    }))
}

/// A decimal number as `trim_scale` writes it: no exponent, no zeros at the end of its fraction.
fn trimmed(text: &str) -> String {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().unwrap_or(0)),
        None => (text, 0),
    };
    let (sign, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut all = format!("{whole}{fraction}");
    let mut point = i32::try_from(whole.len()).unwrap_or(i32::MAX) + exponent;
    if point <= 0 {
        all = format!("{}{all}", "0".repeat(1 + usize::try_from(-point).unwrap_or(0)));
        point = 1;
    }
    let point = usize::try_from(point).unwrap_or(0);
    if all.len() < point {
        all.push_str(&"0".repeat(point - all.len()));
    }
    let (whole, fraction) = all.split_at(point);
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    match (fraction.is_empty(), whole) {
        (true, "0") => "0".to_owned(),
        (true, whole) => format!("{sign}{whole}"),
        (false, whole) => format!("{sign}{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn declared_types_become_wide_ones() {
        let of = |declared| cloud_type_for(declared).1;
        assert_eq!(of("INTEGER"), "bigint");
        assert_eq!(of("TINYINT(1)"), "bigint");
        assert_eq!(of("VARCHAR(20)"), "text");
        assert_eq!(of("BOOLEAN"), "boolean");
        assert_eq!(of("DECIMAL(10,2)"), "numeric");
        assert_eq!(of("DATETIME"), "text");
        assert_eq!(of("DOUBLE PRECISION"), "double precision");
        assert_eq!(of(""), "text");
    }

    #[test]
    fn what_does_not_fit_is_said_and_never_bent() {
        assert_eq!(literal(CloudType::BigInt, &text("abc")), Err(Misfit("text".into())));
        assert_eq!(literal(CloudType::Int, &Value::Integer(1 << 40)).unwrap_err().0, "the number 1099511627776");
        assert_eq!(literal(CloudType::Boolean, &Value::Integer(2)).unwrap_err().0, "the number 2");
        assert!(literal(CloudType::Text, &text("a\0b")).is_err());
        assert_eq!(literal(CloudType::BigInt, &Value::Real(12.0)), Ok(Some("12".into())));
        assert!(literal(CloudType::BigInt, &Value::Real(12.5)).is_err());
        assert!(literal(CloudType::BigInt, &Value::Real(9.3e18)).is_err());
        assert_eq!(literal(CloudType::Double, &Value::Real(f64::NEG_INFINITY)), Ok(Some("-Infinity".into())));
        assert_eq!(
            literal(CloudType::Bytea, &Value::Blob { blob: vec![0, 255], garbled: false }),
            Ok(Some("\\x00ff".into()))
        );
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let of = |written: &str| canonical(CloudType::Numeric, &text(written)).unwrap().unwrap();
        for (written, wanted) in [
            ("1.50", "1.5"),
            ("100", "100"),
            ("1e3", "1000"),
            ("-0.00", "0"),
            ("1.5e-3", "0.0015"),
            ("007.0", "7"),
            ("-12.340", "-12.34"),
            ("1e-7", "0.0000001"),
            ("123456e-3", "123.456"),
        ] {
            assert_eq!(of(written), wanted, "{written}");
        }
        assert_eq!(canonical(CloudType::Double, &Value::Real(1.0)), Ok(Some("3ff0000000000000".into())));
        assert_eq!(canonical(CloudType::Double, &Value::Integer(1)), Ok(Some("3ff0000000000000".into())));
    }

    #[test]
    fn a_saved_value_comes_back_as_it_was() {
        let values = [
            Value::Null,
            Value::Integer(i64::MIN),
            Value::Real(0.1),
            Value::Real(f64::INFINITY),
            text("O'Brien \u{1f600}"),
            Value::Blob { blob: vec![1, 2, 254], garbled: false },
            Value::Blob { blob: vec![0xff], garbled: true },
        ];
        for value in values {
            let written = serde_json::to_string(&value).unwrap();
            let read: Value = serde_json::from_str(&written).unwrap();
            assert!(read.is_same(&value), "{written}");
        }
    }
}
