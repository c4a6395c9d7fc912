//! Rows of a backup, which are text, in COPY's binary format: what the server would have to read out of text, digit by digit,
//! is read here. What it saves: `docs/postgres.md`, "How fast it is".
//!
//! Only tables all of whose columns have types of PostgreSQL's own that are written here exactly as the server writes them; and
//! when one value is of a kind that is not (`infinity`, a year before Christ), the table is loaded again as text. What came in is
//! compared with the manifest afterwards by reading it as text, so that a value that was read wrongly here cannot pass.

use std::{
    borrow::Cow,
    io::{self, Read},
};

use memchr::{memchr, memchr_iter};

use super::{PgError, Session, sql::literal};

/// How a value of a column is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// As its text: texts, enums, `json`.
    Text,
    /// The format's version, then its text.
    Jsonb,
    Bytea,
    Uuid,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Numeric,
    /// The number of its elements' type, and how those are written.
    Array(u32, Box<Form>),
    /// The same of each of its fields.
    Record(Vec<(u32, Form)>),
}

/// Types of PostgreSQL's own: the number, which is the same in every server, that of arrays of it, and how it is written.
const TYPES: [(u32, u32, Form); 18] = [
    (16, 1000, Form::Bool),
    (17, 1001, Form::Bytea),
    (20, 1016, Form::Int8),
    (21, 1005, Form::Int2),
    (23, 1007, Form::Int4),
    (25, 1009, Form::Text),
    (114, 199, Form::Text), // json
    (700, 1021, Form::Float4),
    (701, 1022, Form::Float8),
    (1042, 1014, Form::Text), // bpchar
    (1043, 1015, Form::Text), // varchar
    (1082, 1182, Form::Date),
    (1083, 1183, Form::Time),
    (1114, 1115, Form::Timestamp),
    (1184, 1185, Form::Timestamptz),
    (1700, 1231, Form::Numeric),
    (2950, 2951, Form::Uuid),
    (3802, 3807, Form::Jsonb),
];

impl Form {
    /// By the number of a type of PostgreSQL's own.
    fn of(number: u32) -> Option<Form> {
        TYPES.iter().find_map(|(one, many, form)| match number {
            number if number == *one => Some(form.clone()),
            number if number == *many => Some(Form::Array(*one, Box::new(form.clone()))),
            _another => None,
        })
    }
}

/// Whether binary is worth it for a table of so many rows and columns, by the bytes of its text. Each value has four bytes of length
/// in binary, so that short ones are longer than their text. Measured by the server's processor time: at 5 bytes a value text costs a
/// sixth less than binary, at 8 a twelfth more, at 90 a fifth more, and `bytea` two fifths.
pub(super) fn is_worth_it(bytes: u64, rows: u64, columns: usize) -> bool {
    const VALUE_BYTES_MIN: u64 = 8;
    bytes >= rows.saturating_mul(columns as u64).saturating_mul(VALUE_BYTES_MIN)
}

/// How the columns of a table are written, in this order; none when one of them cannot be.
///
/// # Errors
/// As [`Session::ask`].
pub(super) fn forms(session: &mut Session, title: &str, columns: &[String]) -> Result<Option<Vec<Form>>, PgError> {
    let found = attributes(session, &format!("{}::pg_catalog.regclass", literal(title)))?;
    let mut forms = Vec::with_capacity(columns.len());
    for column in columns {
        let Some(attribute) = found.iter().find(|attribute| &attribute.name == column) else { return Ok(None) };
        let form = match attribute.relation {
            0 => attribute.form(),
            relation => {
                let fields = attributes(session, &relation.to_string())?;
                let field = |field: &Attribute| Some((field.number, field.form()?));
                fields.iter().map(field).collect::<Option<_>>().map(Form::Record)
            }
        };
        let Some(form) = form else { return Ok(None) };
        forms.push(form);
    }
    Ok(Some(forms))
}

/// A column of a table, or a field of a composite type.
struct Attribute {
    name: String,
    /// Its type's number.
    number: u32,
    is_enum: bool,
    /// What a domain is made of; nothing for other types.
    base: u32,
    /// Where the fields of a composite type are listed; nothing for other types.
    relation: u32,
}

impl Attribute {
    fn form(&self) -> Option<Form> {
        if self.is_enum { Some(Form::Text) } else { Form::of(if self.base > 0 { self.base } else { self.number }) }
    }
}

fn attributes(session: &mut Session, relation: &str) -> Result<Vec<Attribute>, PgError> {
    let rows = session.ask(&format!(
        "SELECT pg_catalog.quote_ident(a.attname), t.oid, t.typtype = 'e', t.typbasetype, t.typrelid
           FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
          WHERE a.attrelid = {relation} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    ))?;
    let attribute = |row: &super::Row| Attribute {
        name: row.text(0).to_owned(),
        number: row.count(1) as u32,
        is_enum: row.is_true(2),
        base: row.count(3) as u32,
        relation: row.count(4) as u32,
    };
    Ok(rows.iter().map(attribute).collect())
}

/// Says that a value cannot be written in binary: text is needed.
#[derive(Debug, thiserror::Error)]
#[error("a value has no binary form here")]
struct OnlyText;

/// Whether an error says that a table must be loaded as text.
pub(super) fn wants_text(error: &PgError) -> bool {
    let PgError::Ours { source, .. } = error else { return false };
    source.get_ref().is_some_and(|inner| inner.is::<OnlyText>())
}

/// The beginning of COPY's binary format: its signature, no flags, no more of a header.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Its end, where the number of a row's fields would be.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// Bytes of text that are read at once.
const READ_BYTES: usize = 128 << 10;

/// Text in, the same rows in binary out.
pub(super) struct Binary<'a, R> {
    text: R,
    forms: &'a [Form],
    /// Text that was read and has no end of a row yet.
    open: Vec<u8>,
    out: Vec<u8>,
    /// How much of `out` was handed over.
    given: usize,
    ended: bool,
    room: Vec<u8>,
}

impl<'a, R: Read> Binary<'a, R> {
    pub fn new(text: R, forms: &'a [Form]) -> Binary<'a, R> {
        let room = Vec::new();
        Binary { text, forms, open: Vec::new(), out: HEADER.to_vec(), given: 0, ended: false, room }
    }

    /// Reads on, and writes all rows that are whole.
    fn more(&mut self) -> io::Result<()> {
        self.out.clear();
        self.given = 0;
        let begun = self.open.len();
        self.open.resize(begun + READ_BYTES, 0);
        let read = loop {
            match self.text.read(&mut self.open[begun..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.open.truncate(begun + read);
        if read == 0 {
            if !self.open.is_empty() {
                // A row without its end: let the server, and the digest, say what is wrong with it.
                return Err(io::Error::other(OnlyText));
            }
            self.out.extend(TRAILER);
            self.ended = true;
            return Ok(());
        }
        let mut begin = 0;
        for end in memchr_iter(b'\n', &self.open[begun..]) {
            let row = &self.open[begin..begun + end];
            begin = begun + end + 1;
            write_row(row, self.forms, &mut self.out, &mut self.room).ok_or_else(|| io::Error::other(OnlyText))?;
        }
        self.open.drain(..begin);
        Ok(())
    }
}

impl<R: Read> Read for Binary<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given == self.out.len() && !self.ended {
            self.more()?;
        }
        let given = into.len().min(self.out.len() - self.given);
        into[..given].copy_from_slice(&self.out[self.given..self.given + given]);
        self.given += given;
        Ok(given)
    }
}

/// One row; none when it has a value, or a number of fields, that is not understood.
fn write_row(row: &[u8], forms: &[Form], out: &mut Vec<u8>, room: &mut Vec<u8>) -> Option<()> {
    out.extend(u16::try_from(forms.len()).ok()?.to_be_bytes());
    let mut rest = Some(row);
    for form in forms {
        let text = rest?;
        let (field, after) = match memchr(b'\t', text) {
            Some(end) => (&text[..end], Some(&text[end + 1..])),
            None => (text, None),
        };
        rest = after;
        if let [b'\\', b'N'] = field {
            out.extend((-1_i32).to_be_bytes());
            continue;
        }
        sized(out, |out| write_field(field, form, out, room))?;
    }
    rest.is_none().then_some(())
}

/// What is written has its length before it.
fn sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Option<()>) -> Option<()> {
    let at = out.len();
    out.extend([0; 4]);
    write(out)?;
    let length = u32::try_from(out.len() - at - 4).ok()?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Some(())
}

/// A value as COPY's text format has it.
fn write_field(field: &[u8], form: &Form, out: &mut Vec<u8>, room: &mut Vec<u8>) -> Option<()> {
    match form {
        Form::Text => unescape(field, out),
        Form::Jsonb => {
            out.push(JSONB_VERSION);
            unescape(field, out)
        }
        Form::Bytea => hexadecimal(field.strip_prefix(b"\\\\x")?, out),
        Form::Array(..) | Form::Record(_) => {
            let mut text = Vec::with_capacity(field.len());
            unescape(field, &mut text)?;
            write_value(&text, form, out, room)
        }
        _plain => write_value(field, form, out, room),
    }
}

/// The only one there is.
const JSONB_VERSION: u8 = 1;

/// A value as its type's text.
fn write_value(field: &[u8], form: &Form, out: &mut Vec<u8>, room: &mut Vec<u8>) -> Option<()> {
    match form {
        Form::Bool => out.push(match field {
            b"t" => 1,
            b"f" => 0,
            _ => return None,
        }),
        Form::Int2 => out.extend(i16::try_from(integer(field)?).ok()?.to_be_bytes()),
        Form::Int4 => out.extend(i32::try_from(integer(field)?).ok()?.to_be_bytes()),
        Form::Int8 => out.extend(integer(field)?.to_be_bytes()),
        Form::Float4 => out.extend(std::str::from_utf8(field).ok()?.parse::<f32>().ok()?.to_be_bytes()),
        Form::Float8 => out.extend(std::str::from_utf8(field).ok()?.parse::<f64>().ok()?.to_be_bytes()),
        Form::Text => out.extend_from_slice(field),
        Form::Jsonb => {
            out.push(JSONB_VERSION);
            out.extend_from_slice(field);
        }
        Form::Bytea => hexadecimal(field.strip_prefix(b"\\x")?, out)?,
        Form::Array(number, form) => array(field, *number, form, out, room)?,
        Form::Record(fields) => record(field, fields, out, room)?,
        Form::Uuid => uuid(field, out)?,
        Form::Date => {
            out.extend(i32::try_from(days(field.first_chunk::<10>()?, field.len() == 10)?).ok()?.to_be_bytes())
        }
        Form::Time => out.extend(microseconds(field)?.to_be_bytes()),
        Form::Timestamp => out.extend(instant(field)?.to_be_bytes()),
        Form::Timestamptz => out.extend(instant(field.strip_suffix(b"+00")?)?.to_be_bytes()),
        Form::Numeric => numeric(field, out, room)?,
    }
    Some(())
}

fn integer(field: &[u8]) -> Option<i64> {
    let (negative, digits) = match field.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, field),
    };
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    // Counted below zero, where there is one number more.
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// Text of COPY as what it means. What the server does not write is not understood.
fn unescape(field: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = field;
    while let Some(at) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(match rest.get(at + 1)? {
            b'\\' => b'\\',
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'v' => 11,
            _ => return None,
        });
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
    Some(())
}

/// What a letter stands for in a number to the base of sixteen; 255 for none.
const HEX: [u8; 256] = {
    let mut table = [255; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

fn hexadecimal(digits: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return None;
    }
    let mut bad = 0;
    out.extend(pairs.iter().map(|[high, low]| {
        let (high, low) = (HEX[*high as usize], HEX[*low as usize]);
        bad |= (high | low) & 0xf0;
        high << 4 | low & 0xf
    }));
    (bad == 0).then_some(())
}

fn uuid(field: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let field: &[u8; 36] = field.try_into().ok()?;
    let mut at = 0;
    for length in [8, 4, 4, 4, 12] {
        if at > 0 {
            (field[at] == b'-').then_some(())?;
            at += 1;
        }
        hexadecimal(&field[at..at + length], out)?;
        at += length;
    }
    Some(())
}

/// Digits that must all be there.
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then(|| value * 10 + i64::from(digit))
    })
}

/// Days since 2000-01-01, of a date of the years 1 to 9999 by today's calendar.
fn days(date: &[u8; 10], alone: bool) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else { return None };
    let (year, month, day) = (digits(&[y1, y2, y3, y4])?, digits(&[m1, m2])?, digits(&[d1, d2])?);
    if !alone || year == 0 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // The year begins with March, so that the day that is not always there is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 730_425)
}

const SECOND: i64 = 1_000_000;

/// Microseconds of a day: `14:05:09`, `14:05:09.25`.
fn microseconds(time: &[u8]) -> Option<i64> {
    let ([h1, h2, b':', m1, m2, b':', s1, s2], rest) = time.split_first_chunk::<8>()? else { return None };
    let (hours, minutes, seconds) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?, digits(&[*s1, *s2])?);
    let fraction = match rest {
        [] => 0,
        [b'.', fraction @ ..] if (1..=6).contains(&fraction.len()) => {
            digits(fraction)? * 10_i64.pow(6 - fraction.len() as u32)
        }
        _ => return None,
    };
    let all = ((hours * 60 + minutes) * 60 + seconds) * SECOND + fraction;
    (minutes < 60 && seconds < 60 && all <= 86_400 * SECOND).then_some(all)
}

/// Microseconds since 2000-01-01: `2024-02-29 14:05:09.25`.
fn instant(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    let time = microseconds(rest.strip_prefix(b" ")?)?;
    Some(days(date, true)? * 86_400 * SECOND + time)
}

/// Sign, place of the first group and groups of four digits, as the server keeps numbers of any length.
fn numeric(field: &[u8], out: &mut Vec<u8>, room: &mut Vec<u8>) -> Option<()> {
    const NEGATIVE: u16 = 0x4000;
    let (sign, number) = match field.strip_prefix(b"-") {
        Some(number) => (NEGATIVE, number),
        None => (0, field),
    };
    let (whole, fraction) = match memchr(b'.', number) {
        Some(point) => (&number[..point], &number[point + 1..]),
        None => (number, &[][..]),
    };
    if whole.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None; // NaN, Infinity
    }
    // Zeros around it, so that groups of four begin at the point.
    room.clear();
    room.resize((4 - whole.len() % 4) % 4, b'0');
    room.extend_from_slice(whole);
    let before_point = room.len() / 4;
    room.extend_from_slice(fraction);
    room.resize(room.len().next_multiple_of(4), b'0');
    let (groups, _) = room.as_chunks::<4>();
    let leading = groups.iter().take_while(|group| *group == b"0000").count();
    let trailing = groups[leading..].iter().rev().take_while(|group| *group == b"0000").count();
    let groups = &groups[leading..groups.len() - trailing];
    let weight = if groups.is_empty() { 0 } else { i16::try_from(before_point as i64 - leading as i64 - 1).ok()? };
    let sign = if groups.is_empty() { 0 } else { sign };
    out.extend(u16::try_from(groups.len()).ok()?.to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend(sign.to_be_bytes());
    out.extend(u16::try_from(fraction.len()).ok().filter(|scale| *scale <= 0x3fff)?.to_be_bytes());
    for group in groups {
        out.extend((digits(group)? as u16).to_be_bytes());
    }
    Some(())
}

/// A list of elements in braces: its only dimension, whether one is null, the type, how many, from one on, the elements.
fn array(text: &[u8], number: u32, form: &Form, out: &mut Vec<u8>, room: &mut Vec<u8>) -> Option<()> {
    let mut rest = text.strip_prefix(b"{")?.strip_suffix(b"}")?;
    let head = out.len();
    out.extend([0_u32, 0, number].into_iter().flat_map(u32::to_be_bytes));
    if rest.is_empty() {
        return Some(());
    }
    out.extend([0_u32, 1].into_iter().flat_map(u32::to_be_bytes));
    let (mut count, mut has_null) = (0_u32, 0_u32);
    loop {
        let quoted = rest.first() == Some(&b'"');
        let (element, after) = part(rest, |letter, next| (letter == b'\\' && next.is_some()).then_some(1))?;
        if !quoted && element.contains(&b'{') {
            return None; // of several dimensions
        }
        count += 1;
        if !quoted && *element == *b"NULL" {
            has_null = 1;
            out.extend((-1_i32).to_be_bytes());
        } else {
            sized(out, |out| write_value(&element, form, out, room))?;
        }
        match after {
            Some(after) => rest = after,
            None => break,
        }
    }
    for (at, value) in [(0, 1), (4, has_null), (12, count)] {
        out[head + at..head + at + 4].copy_from_slice(&value.to_be_bytes());
    }
    Some(())
}

/// Fields in parentheses: how many, and of each its type and its value; nothing between two commas is null.
fn record(text: &[u8], fields: &[(u32, Form)], out: &mut Vec<u8>, room: &mut Vec<u8>) -> Option<()> {
    let mut rest = Some(text.strip_prefix(b"(")?.strip_suffix(b")")?);
    out.extend(u32::try_from(fields.len()).ok()?.to_be_bytes());
    for (number, form) in fields {
        let text = rest?;
        let (field, after) =
            part(text, |letter, next| (matches!(letter, b'\\' | b'"') && next == Some(letter)).then_some(1))?;
        out.extend(number.to_be_bytes());
        match field.is_empty() && text.first() != Some(&b'"') {
            true => out.extend((-1_i32).to_be_bytes()),
            false => sized(out, |out| write_value(&field, form, out, room))?,
        }
        rest = after;
    }
    rest.is_none().then_some(())
}

/// A part of a list or a composite, and what comes after it.
type Part<'a> = (Cow<'a, [u8]>, Option<&'a [u8]>);

/// The first of several parts between commas, without its quotes, and what comes after the comma. `skipped` says how many letters
/// of a quoted one are only there so that the next one means itself.
fn part(text: &[u8], skipped: impl Fn(u8, Option<u8>) -> Option<usize>) -> Option<Part<'_>> {
    if text.first() != Some(&b'"') {
        return Some(match memchr(b',', text) {
            Some(at) => (Cow::Borrowed(&text[..at]), Some(&text[at + 1..])),
            None => (Cow::Borrowed(text), None),
        });
    }
    let (mut value, mut at) = (Vec::new(), 1);
    loop {
        let letter = *text.get(at)?;
        let skip = skipped(letter, text.get(at + 1).copied());
        if letter == b'"' && skip.is_none() {
            break;
        }
        at += skip.unwrap_or(0);
        value.push(*text.get(at)?);
        at += 1;
    }
    match &text[at + 1..] {
        [] => Some((Cow::Owned(value), None)),
        [b',', after @ ..] => Some((Cow::Owned(value), Some(after))),
        _more => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(form: Form, text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        write_field(text.as_bytes(), &form, &mut out, &mut Vec::new()).map(|()| out)
    }

    #[test]
    fn lists_and_composites_are_taken_apart() {
        let list = |text: &str| written(Form::Array(25, Box::new(Form::Text)), text);
        let wanted = |count: u32, nulls: u32, elements: &[u8]| {
            let head = [1, nulls, 25, count, 1].into_iter().flat_map(u32::to_be_bytes);
            Some(head.chain(elements.iter().copied()).collect::<Vec<u8>>())
        };
        assert_eq!(list("{}"), Some([0, 0, 25].into_iter().flat_map(u32::to_be_bytes).collect()));
        assert_eq!(list("{a,NULL,\"NULL\"}"), wanted(3, 1, b"\0\0\0\x01a\xff\xff\xff\xff\0\0\0\x04NULL"));
        // As COPY writes them: each backslash twice.
        assert_eq!(list(r#"{"a \\\\ \\"b\\", {c}",""}"#), wanted(2, 0, b"\0\0\0\x0ca \\ \"b\", {c}\0\0\0\0"));
        for bad in ["{{a},{b}}", "[0:1]={a,b}", "{\"a", "{\"a\"b}", "a"] {
            assert_eq!(list(bad), None, "{bad}");
        }
        let place = |text: &str| written(Form::Record(vec![(25, Form::Text), (23, Form::Int4)]), text);
        let both = |first: &[u8], second: &[u8]| {
            let parts: [&[u8]; 5] = [b"\0\0\0\x02\0\0\0\x19", first, b"\0\0\0\x17", second, b""];
            Some(parts.concat())
        };
        assert_eq!(place("(a,7)"), both(b"\0\0\0\x01a", b"\0\0\0\x04\0\0\0\x07"));
        assert_eq!(place(r#"("a ""b"" \\\\",)"#), both(b"\0\0\0\x07a \"b\" \\", b"\xff\xff\xff\xff"));
        assert_eq!(place("(,)"), both(b"\xff\xff\xff\xff", b"\xff\xff\xff\xff"));
        assert_eq!(place("(\"\",)"), both(b"\0\0\0\0", b"\xff\xff\xff\xff"));
        for bad in ["(a)", "(a,7,8)", "(a,x)", "a"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }

    fn words(numbers: &[i16]) -> Option<Vec<u8>> {
        Some(numbers.iter().flat_map(|number| number.to_be_bytes()).collect())
    }

    #[test]
    fn numbers_are_those_that_the_server_keeps() {
        assert_eq!(written(Form::Int8, "-9223372036854775808"), Some(i64::MIN.to_be_bytes().to_vec()));
        assert_eq!(written(Form::Int8, "9223372036854775807"), Some(i64::MAX.to_be_bytes().to_vec()));
        for bad in ["9223372036854775808", "", "-", "1x", "+1"] {
            assert_eq!(written(Form::Int8, bad), None, "{bad}");
        }
        assert_eq!(written(Form::Int2, "32768"), None);
        // Groups, weight, sign, scale, groups: as `numeric_send` gives them.
        assert_eq!(written(Form::Numeric, "12345.678"), words(&[3, 1, 0, 3, 1, 2345, 6780]));
        assert_eq!(written(Form::Numeric, "-0.0001"), words(&[1, -1, 0x4000, 4, 1]));
        assert_eq!(written(Form::Numeric, "10000"), words(&[1, 1, 0, 0, 1]));
        assert_eq!(written(Form::Numeric, "0.00"), words(&[0, 0, 0, 2]));
        assert_eq!(written(Form::Numeric, "NaN"), None);
        assert_eq!(written(Form::Float8, "1e-07"), Some(1e-7_f64.to_be_bytes().to_vec()));
    }

    #[test]
    fn times_are_counted_from_the_year_2000() {
        let date = |text| written(Form::Date, text).map(|bytes| i32::from_be_bytes(bytes.try_into().unwrap()));
        assert_eq!(date("2000-01-01"), Some(0));
        assert_eq!(date("1999-12-31"), Some(-1));
        assert_eq!(date("2024-02-29"), Some(8825));
        assert_eq!(date("0001-01-01"), Some(-730_119));
        assert_eq!(date("9999-12-31"), Some(2_921_939));
        for bad in ["infinity", "0044-03-15 BC", "10000-01-01", "2024-13-01", "0000-01-01"] {
            assert_eq!(date(bad), None, "{bad}");
        }
        let at = |text| written(Form::Timestamptz, text).map(|bytes| i64::from_be_bytes(bytes.try_into().unwrap()));
        assert_eq!(at("2000-01-01 00:00:01.5+00"), Some(1_500_000));
        assert_eq!(at("1999-12-31 23:59:59.999999+00"), Some(-1));
        for bad in ["2000-01-01 00:00:01.5", "2000-01-01 00:00:01+01", "infinity", "2000-01-01T00:00:01+00"] {
            assert_eq!(at(bad), None, "{bad}");
        }
        assert_eq!(written(Form::Time, "24:00:00"), Some((86_400 * SECOND).to_be_bytes().to_vec()));
        assert_eq!(written(Form::Time, "24:00:01"), None);
    }

    #[test]
    fn rows_come_out_whole_however_they_are_cut() {
        struct Slowly<'a>(&'a [u8]);
        impl Read for Slowly<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let read = self.0.len().min(3).min(into.len());
                into[..read].copy_from_slice(&self.0[..read]);
                self.0 = &self.0[read..];
                Ok(read)
            }
        }
        let text = b"1\ta\\tb\\\\\t\\\\x00ff\n\\N\t\\N\t\\\\x\n";
        let forms = [Form::Int4, Form::Text, Form::Bytea];
        let mut out = Vec::new();
        Binary::new(Slowly(text), &forms).read_to_end(&mut out).unwrap();
        let mut wanted = HEADER.to_vec();
        wanted.extend(b"\0\x03\0\0\0\x04\0\0\0\x01\0\0\0\x04a\tb\\\0\0\0\x02\0\xff");
        wanted.extend(b"\0\x03\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\xff\xff");
        assert_eq!(out, wanted);
        for bad in [&b"1\ta\n"[..], b"1\ta\t\\\\x\tmore\n", b"1\ta\t\\\\x0\n", b"1\ta\t\\\\xfg\n", b"1\ta\t\\\\x"] {
            let read = Binary::new(bad, &forms).read_to_end(&mut Vec::new());
            let error = PgError::Ours { doing: String::new(), source: read.unwrap_err() };
            assert!(wants_text(&error), "{}", String::from_utf8_lossy(bad));
        }
    }
}
