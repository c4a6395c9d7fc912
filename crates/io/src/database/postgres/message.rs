//! What goes over the wire: messages as bytes, answers as rows, refusals as what the server said.

use std::borrow::Cow;

use super::error::ServerSaid;

/// One row of an answer; fields as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(pub Vec<Option<String>>);

impl Row {
    /// A field as text; empty when it is null.
    pub fn text(&self, field: usize) -> &str {
        self.0.get(field).and_then(Option::as_deref).unwrap_or_default()
    }

    /// A field, unless it is null.
    pub fn maybe(&self, field: usize) -> Option<String> {
        self.0.get(field).cloned().flatten()
    }

    /// A field as a number; zero when it is none.
    pub fn number(&self, field: usize) -> i64 {
        self.text(field).parse().unwrap_or_default()
    }

    /// A count; zero when it is none.
    pub fn count(&self, field: usize) -> u64 {
        self.text(field).parse().unwrap_or_default()
    }

    /// A truth.
    pub fn is_true(&self, field: usize) -> bool {
        self.text(field) == "t"
    }
}

pub(super) fn framed(letter: u8, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(body.len() + 5);
    message.push(letter);
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    message
}

/// The beginning of a statement, for an error: the first line, at most so long.
pub(super) fn headline(sql: &str) -> Cow<'_, str> {
    const LETTERS_MAX: usize = 120;
    let line = sql.trim().lines().find(|line| !line.trim().is_empty() && !line.starts_with("--")).unwrap_or_default();
    let cut = line.char_indices().nth(LETTERS_MAX).map(|(at, _)| at);
    match cut {
        Some(at) => Cow::Owned(format!("run {} ...", &line[..at])),
        None => Cow::Owned(format!("run {line}")),
    }
}

pub(super) fn parse_row(body: &[u8]) -> Option<Row> {
    let mut rest = body.get(2..)?;
    let fields = u16::from_be_bytes([body[0], body[1]]);
    let mut row = Vec::with_capacity(fields.into());
    for _ in 0..fields {
        let length = i32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
        rest = &rest[4..];
        match usize::try_from(length) {
            Err(_) => row.push(None),
            Ok(length) => {
                row.push(Some(String::from_utf8_lossy(rest.get(..length)?).into_owned()));
                rest = &rest[length..];
            }
        }
    }
    Some(Row(row))
}

pub(super) fn parse_said(body: &[u8]) -> ServerSaid {
    let mut said = ServerSaid::default();
    let (mut schema, mut table) = (String::new(), None);
    for field in body.split(|byte| *byte == 0).filter(|field| !field.is_empty()) {
        let text = String::from_utf8_lossy(&field[1..]).into_owned();
        match field[0] {
            b'C' => said.code = text,
            b'M' => said.message = text,
            b'D' => said.detail = Some(text),
            b'H' => said.hint = Some(text),
            b'W' => said.context = Some(text),
            b's' => schema = text,
            b't' => table = Some(text),
            b'n' => said.constraint = Some(text),
            _ => {}
        }
    }
    said.table = table.map(|table| format!("{schema}.{table}"));
    said
}
