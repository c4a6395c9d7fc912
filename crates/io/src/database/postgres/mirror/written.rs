//! Rows as COPY reads them, written while they are read out of the file: no value is copied in between.
//!
//! ```text
//!   binary   where every column has a type that is written here just as the server would read it from text
//!   text     everywhere else: times, decimals, types of others
//! ```
//!
//! What does not fit is told as [`literal`] tells it, so that a row means the same whichever way it goes.

use lifeboat_model::sync::{CloudType, Misfit, ValueRef, literal, wider};

use super::CloudTable;

/// The beginning of COPY's binary format: its signature, no flags, no more of a header.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Its end, where the number of a row's fields would be.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// A column as it is written.
#[derive(Clone, Debug)]
struct Field {
    name: String,
    kind: CloudType,
    type_name: String,
    limited: bool,
}

/// How rows of one table are written.
#[derive(Clone, Debug)]
pub struct RowWriter {
    fields: Vec<Field>,
    /// Whether in COPY's binary format.
    pub binary: bool,
}

/// Rows of one table, one after the other.
#[derive(Clone, Debug, Default)]
pub struct WrittenRows {
    bytes: Vec<u8>,
    /// Where each row begins.
    begins: Vec<usize>,
}

impl RowWriter {
    /// For these columns of a table.
    pub fn of(table: &CloudTable, columns: &[usize]) -> RowWriter {
        let fields: Vec<Field> = columns
            .iter()
            .map(|at| {
                let column = &table.columns[*at];
                let (name, type_name) = (column.name.clone(), column.type_name.clone());
                Field { name, kind: column.kind, type_name, limited: column.limited }
            })
            .collect();
        let binary = fields.iter().all(|field| has_binary(field.kind)) && i16::try_from(fields.len()).is_ok();
        RowWriter { fields, binary }
    }

    /// Adds a row; `value` gives what stands in each column. What was begun of a row that does not fit is taken out again.
    ///
    /// # Errors
    /// Why it does not fit.
    pub fn add<'r>(&self, value: impl Fn(usize) -> ValueRef<'r>, rows: &mut WrittenRows) -> Result<(), String> {
        if self.binary && rows.bytes.is_empty() {
            rows.bytes.extend(HEADER);
        }
        let begun = rows.bytes.len();
        if self.binary {
            rows.bytes.extend((self.fields.len() as u16).to_be_bytes());
        }
        for (at, field) in self.fields.iter().enumerate() {
            let value = value(at);
            // The server would cut or round without a word what `varchar(5)` or `numeric(6,2)` cannot hold.
            let written = match field.limited && wider(&field.type_name, &value.to_value()).is_some() {
                true => Err(Misfit("more than that".to_owned())),
                false if self.binary => binary(field.kind, value, &mut rows.bytes),
                false => {
                    if at > 0 {
                        rows.bytes.push(b'\t');
                    }
                    text(field.kind, value, &mut rows.bytes)
                }
            };
            if let Err(Misfit(what)) = written {
                rows.bytes.truncate(begun);
                return Err(format!("{} is {} in the cloud, and the file has {what}", field.name, field.type_name));
            }
        }
        if !self.binary {
            rows.bytes.push(b'\n');
        }
        rows.begins.push(begun);
        Ok(())
    }

    /// What COPY gets: the rows in this order of their places; nothing when there are none.
    pub fn whole(&self, mut rows: WrittenRows, order: &[usize]) -> Vec<u8> {
        if rows.is_empty() {
            return Vec::new();
        }
        let is_ordered = order.iter().enumerate().all(|(at, place)| at == *place);
        let mut all = match is_ordered {
            true => std::mem::take(&mut rows.bytes),
            false => {
                let mut all = Vec::with_capacity(rows.bytes.len() + TRAILER.len());
                all.extend(&rows.bytes[..rows.begins[0]]);
                order.iter().for_each(|place| all.extend(rows.row(*place)));
                all
            }
        };
        if self.binary {
            all.extend(TRAILER);
        }
        all
    }
}

impl WrittenRows {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.begins.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.begins.is_empty()
    }

    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn row(&self, place: usize) -> &[u8] {
        let end = self.begins.get(place + 1).copied().unwrap_or(self.bytes.len());
        &self.bytes[self.begins[place]..end]
    }
}

fn has_binary(kind: CloudType) -> bool {
    match kind {
        CloudType::SmallInt
        | CloudType::Int
        | CloudType::BigInt
        | CloudType::Real
        | CloudType::Double
        | CloudType::Boolean
        | CloudType::Text
        | CloudType::Bytea
        | CloudType::Json => true,
        CloudType::Numeric | CloudType::TimestampTz | CloudType::Timestamp | CloudType::Date | CloudType::Other => {
            false
        }
    }
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    let length = i32::try_from(bytes.len()).map_err(|_| Misfit("more than two gigabytes".to_owned()))?;
    out.extend(length.to_be_bytes());
    out.extend(bytes);
    Ok(())
}

fn binary(kind: CloudType, value: ValueRef<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
    match (kind, value) {
        (_, ValueRef::Null) => {
            out.extend((-1_i32).to_be_bytes());
            Ok(())
        }
        (CloudType::BigInt, ValueRef::Integer(number)) => sized(&number.to_be_bytes(), out),
        (CloudType::Double, ValueRef::Real(number)) => sized(&number.to_be_bytes(), out),
        (CloudType::Text, ValueRef::Text(text)) if !has_nul(text) => sized(text.as_bytes(), out),
        (CloudType::Bytea, ValueRef::Blob(bytes, false)) => sized(bytes, out),
        // The text that the server would read, read here.
        (kind, value) => {
            let Some(text) = literal(kind, &value.to_value())? else { return binary(kind, ValueRef::Null, out) };
            from_literal(kind, &text, value, out)
        }
    }
}

fn from_literal(kind: CloudType, text: &str, value: ValueRef<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let misfit = || Misfit(format!("the number {text}"));
    // The server refuses a number that it could only keep as infinite, or as nothing.
    let kept = |finite: bool, nought: bool| {
        let begins = text.trim_start_matches(['+', '-']);
        let is_infinite = begins.get(..3).is_some_and(|three| three.eq_ignore_ascii_case("inf"));
        let is_nan = begins.eq_ignore_ascii_case("nan");
        let is_nought = begins.split(['e', 'E']).next().unwrap_or("").bytes().all(|byte| byte == b'0' || byte == b'.');
        (finite || is_infinite || is_nan) && (!nought || is_nought)
    };
    match kind {
        CloudType::SmallInt => sized(&text.parse::<i16>().map_err(|_| misfit())?.to_be_bytes(), out),
        CloudType::Int => sized(&text.parse::<i32>().map_err(|_| misfit())?.to_be_bytes(), out),
        CloudType::BigInt => sized(&text.parse::<i64>().map_err(|_| misfit())?.to_be_bytes(), out),
        CloudType::Boolean => sized(&[u8::from(text == "1")], out),
        CloudType::Double => match text.parse::<f64>() {
            Ok(number) if kept(number.is_finite(), number == 0.0) => sized(&number.to_be_bytes(), out),
            _ => Err(misfit()),
        },
        CloudType::Real => match text.parse::<f32>() {
            Ok(number) if kept(number.is_finite(), number == 0.0) => sized(&number.to_be_bytes(), out),
            _ => Err(misfit()),
        },
        CloudType::Bytea => match value {
            ValueRef::Blob(bytes, _) => sized(bytes, out),
            _ => Err(Misfit("text".to_owned())),
        },
        _ => sized(text.as_bytes(), out),
    }
}

fn text(kind: CloudType, value: ValueRef<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
    match (kind, value) {
        (_, ValueRef::Null) => out.extend(b"\\N"),
        (CloudType::Text | CloudType::TimestampTz | CloudType::Timestamp | CloudType::Date, ValueRef::Text(text))
            if !has_nul(text) =>
        {
            escaped(text, out);
        }
        (kind, value) => match literal(kind, &value.to_value())? {
            Some(text) => escaped(&text, out),
            None => out.extend(b"\\N"),
        },
    }
    Ok(())
}

fn has_nul(text: &str) -> bool {
    memchr::memchr(0, text.as_bytes()).is_some()
}

/// Text as COPY's text format has it.
fn escaped(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t')) {
        out.extend(&rest[..at]);
        out.push(b'\\');
        out.push(match rest[at] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    out.extend(rest);
}

#[cfg(test)]
mod tests {
    use super::{super::CloudColumn, *};

    fn table(types: &[&str]) -> CloudTable {
        let column = |(at, type_name): (usize, &&str)| CloudColumn {
            name: format!("c{at}"),
            kind: CloudType::of(type_name),
            type_name: (*type_name).to_owned(),
            limited: type_name.contains('('),
            generated: false,
            needed: false,
        };
        CloudTable {
            schema: "mirror".to_owned(),
            name: "t".to_owned(),
            columns: types.iter().enumerate().map(column).collect(),
            uniques: Vec::new(),
            parents: Vec::new(),
            references: Vec::new(),
            rows: 0,
        }
    }

    #[test]
    fn a_table_with_a_type_of_others_is_written_as_text_and_every_letter_is_kept() {
        let writer = RowWriter::of(&table(&["text", "numeric", "date"]), &[0, 1, 2]);
        assert!(!writer.binary);
        let mut rows = WrittenRows::default();
        let row = [ValueRef::Text("a\tb\\c\nd\re"), ValueRef::Real(1.5), ValueRef::Null];
        writer.add(|at| row[at], &mut rows).unwrap();
        assert_eq!(writer.whole(rows, &[0]), b"a\\tb\\\\c\\nd\\re\t1.5\t\\N\n");
    }

    #[test]
    fn a_row_that_does_not_fit_leaves_nothing_and_is_told_as_ever() {
        let writer = RowWriter::of(&table(&["bigint", "character varying(3)", "double precision"]), &[0, 1, 2]);
        assert!(writer.binary);
        let mut rows = WrittenRows::default();
        let add = |rows: &mut WrittenRows, row: [ValueRef<'static>; 3]| writer.add(|at| row[at], rows);
        add(&mut rows, [ValueRef::Integer(1), ValueRef::Text("abc"), ValueRef::Integer(2)]).unwrap();
        let before = rows.bytes();
        let told = add(&mut rows, [ValueRef::Integer(1), ValueRef::Text("abcd"), ValueRef::Null]).unwrap_err();
        assert_eq!(told, "c1 is character varying(3) in the cloud, and the file has more than that");
        for wrong in ["1e400", "1e-400", "x"] {
            add(&mut rows, [ValueRef::Integer(1), ValueRef::Null, ValueRef::Text(wrong)]).unwrap_err();
        }
        add(&mut rows, [ValueRef::Text("x"), ValueRef::Null, ValueRef::Null]).unwrap_err();
        assert_eq!((rows.bytes(), rows.len()), (before, 1));
        for right in ["-Infinity", "nan", "0e9", "-0.000", "1e300"] {
            add(&mut rows, [ValueRef::Integer(1), ValueRef::Null, ValueRef::Text(right)]).unwrap();
        }
    }

    #[test]
    fn rows_are_put_in_another_order() {
        let writer = RowWriter::of(&table(&["numeric"]), &[0]);
        let mut rows = WrittenRows::default();
        for number in [7, 8, 9] {
            writer.add(|_| ValueRef::Integer(number), &mut rows).unwrap();
        }
        assert_eq!(writer.whole(rows.clone(), &[2, 0, 1]), b"9\n7\n8\n");
        assert_eq!(writer.whole(rows, &[0, 1, 2]), b"7\n8\n9\n");
    }
}
