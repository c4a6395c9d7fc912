//! What a row adds up to, computed here as the server computes it: PostgreSQL's own hash functions, which cost it a tenth of
//! MD5 over the row's text.
//!
//! ```text
//!   number   hashint8extended(n, place) # n, hashfloat8extended(n, place)
//!   text     hashtextextended(t, place), and of every other type its text
//!   NULL     1
//!   row      hashtextextended of all of these XORed, as decimal text
//! ```
//!
//! They have been the same since PostgreSQL 11, and nobody promises that they stay so: a server is asked whether its are ours
//! ([`sums_of`]), and MD5, which every server has, takes their place where they are not.

use lifeboat_model::sync::{CloudType, Misfit, Value, ValueRef, canonical, literal};

use super::{
    super::{PgError, Session, sql::quoted},
    CloudColumn, CloudTable,
    compare::{field, row_sum},
};

/// Which sums both sides compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// PostgreSQL's hash functions.
    Hash,
    /// MD5 over the row's text.
    Md5,
}

/// What stands for NULL.
const NOTHING: i64 = 1;

/// Which sums this server and we have in common.
///
/// # Errors
/// As [`Session::ask`].
pub fn sums_of(session: &mut Session) -> Result<Sums, PgError> {
    // They are computed over the server's bytes of a text; MD5 over those that we see.
    if session.parameter("server_encoding") != Some("UTF8") {
        return Ok(Sums::Md5);
    }
    let row = session.one(
        "SELECT hashtextextended('lifeboat, and more than twelve bytes' COLLATE \"C\", 7), hashint8extended(-81985529216486896, 3),
             hashfloat8extended(0.1, 5)",
    )?;
    let ours =
        [hash(b"lifeboat, and more than twelve bytes", 7), hash_integer(-81_985_529_216_486_896, 3), hash_real(0.1, 5)];
    let is_same = ours.iter().enumerate().all(|(at, ours)| row.number(at) == *ours);
    Ok(if is_same { Sums::Hash } else { Sums::Md5 })
}

/// The sum of a row as SQL: a `bigint`.
pub(super) fn sum_sql(sums: Sums, table: &CloudTable, columns: &[usize]) -> String {
    let columns = columns.iter().map(|at| &table.columns[*at]);
    match sums {
        Sums::Md5 => {
            let fields: Vec<String> = columns.map(field).collect();
            format!("('x' || substr(md5(convert_to({}, 'UTF8')), 1, 15))::bit(60)::bigint", fields.join(" || "))
        }
        Sums::Hash => {
            let fields: Vec<String> = columns.enumerate().map(|(place, column)| hashed(column, place)).collect();
            format!("hashtextextended(({})::text COLLATE \"C\", 0)", fields.join(" # "))
        }
    }
}

fn hashed(column: &CloudColumn, place: usize) -> String {
    let name = format!("t.{}", quoted(&column.name));
    let integer = |number: String| format!("hashint8extended({number}, {place}) # {number}");
    let text = |text: String| format!("hashtextextended({text} COLLATE \"C\", {place})");
    let hash = match column.kind {
        CloudType::SmallInt | CloudType::Int | CloudType::BigInt => integer(format!("{name}::int8")),
        CloudType::Boolean => integer(format!("{name}::int::int8")),
        CloudType::Real | CloudType::Double => format!("hashfloat8extended({name}::float8, {place})"),
        CloudType::Numeric => text(format!("trim_scale({name})::text")),
        _ => text(format!("{name}::text")),
    };
    format!("coalesce({hash}, {NOTHING})")
}

/// Sums up rows of the file.
#[derive(Clone, Debug)]
pub struct RowSummer {
    sums: Sums,
    kinds: Vec<CloudType>,
}

impl RowSummer {
    /// For these columns of a table of the cloud.
    pub fn of(sums: Sums, table: &CloudTable, columns: &[usize]) -> RowSummer {
        RowSummer { sums, kinds: columns.iter().map(|at| table.columns[*at].kind).collect() }
    }

    /// The sum of a row; `value` gives what stands in each column.
    ///
    /// # Errors
    /// A value that the cloud's column cannot hold.
    pub fn sum<'r>(&self, value: impl Fn(usize) -> ValueRef<'r>) -> Result<i64, Misfit> {
        match self.sums {
            Sums::Md5 => {
                let field = |(at, kind): (usize, &CloudType)| canonical(*kind, &value(at).to_value());
                Ok(row_sum(&self.kinds.iter().enumerate().map(field).collect::<Result<Vec<_>, _>>()?))
            }
            Sums::Hash => {
                let mut all = 0;
                for (place, kind) in self.kinds.iter().enumerate() {
                    all ^= field_hash(*kind, value(place), place as u64)?;
                }
                Ok(hash(Decimal::of(all).text(), 0))
            }
        }
    }
}

fn field_hash(kind: CloudType, value: ValueRef<'_>, place: u64) -> Result<i64, Misfit> {
    match (kind, value) {
        (_, ValueRef::Null) => return Ok(NOTHING),
        (CloudType::BigInt, ValueRef::Integer(number)) => return Ok(hash_integer(number, place) ^ number),
        (CloudType::Double, ValueRef::Real(number)) => return Ok(hash_real(number, place)),
        (CloudType::Text, ValueRef::Text(text)) if memchr::memchr(0, text.as_bytes()).is_none() => {
            return Ok(hash(text.as_bytes(), place));
        }
        _ => {}
    }
    let value: Value = value.to_value();
    let Some(text) = literal(kind, &value)? else { return Ok(NOTHING) };
    let not_a_number = || Misfit("text".to_owned());
    Ok(match kind {
        CloudType::SmallInt | CloudType::Int | CloudType::BigInt | CloudType::Boolean => {
            let number = text.parse().map_err(|_| not_a_number())?;
            hash_integer(number, place) ^ number
        }
        CloudType::Double => hash_real(text.parse().map_err(|_| not_a_number())?, place),
        CloudType::Real => hash_real(f64::from(text.parse::<f32>().map_err(|_| not_a_number())?), place),
        CloudType::Numeric => match canonical(kind, &value)? {
            Some(text) => hash(text.as_bytes(), place),
            None => NOTHING,
        },
        _ => hash(text.as_bytes(), place),
    })
}

/// A number as decimal text, without a heap.
struct Decimal {
    digits: [u8; 20],
    begin: usize,
}

impl Decimal {
    fn of(number: i64) -> Decimal {
        let mut decimal = Decimal { digits: [0; 20], begin: 20 };
        let mut left = number.unsigned_abs();
        loop {
            decimal.push(b'0' + (left % 10) as u8);
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if number < 0 {
            decimal.push(b'-');
        }
        decimal
    }

    fn push(&mut self, letter: u8) {
        self.begin -= 1;
        self.digits[self.begin] = letter;
    }

    fn text(&self) -> &[u8] {
        &self.digits[self.begin..]
    }
}

/// `hashint8extended`.
fn hash_integer(number: i64, seed: u64) -> i64 {
    let (low, high) = (number as u32, (number >> 32) as u32);
    let folded = low ^ if number >= 0 { high } else { !high };
    let mut state = State::begun(4, seed);
    state.a = state.a.wrapping_add(folded);
    state.ended()
}

/// `hashfloat8extended`.
fn hash_real(number: f64, seed: u64) -> i64 {
    match number {
        _ if number == 0.0 => seed as i64,
        _ if number.is_nan() => hash(&f64::NAN.to_le_bytes(), seed),
        _ => hash(&number.to_le_bytes(), seed),
    }
}

/// `hash_bytes_extended`, Bob Jenkins' lookup3 as PostgreSQL has it, on machines that write the low byte first.
fn hash(bytes: &[u8], seed: u64) -> i64 {
    let mut state = State::begun(bytes.len() as u32, seed);
    let mut pieces = bytes.chunks_exact(12);
    let word = |piece: &[u8], at: usize| {
        let mut word = [0; 4];
        let end = piece.len().min(at + 4);
        if at < end {
            word[..end - at].copy_from_slice(&piece[at..end]);
        }
        u32::from_le_bytes(word)
    };
    for piece in &mut pieces {
        state.add(word(piece, 0), word(piece, 4), word(piece, 8));
        state.mix();
    }
    let rest = pieces.remainder();
    // The lowest byte of the third is kept for the length.
    state.add(word(rest, 0), word(rest, 4), word(rest, 8) << 8);
    state.ended()
}

struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn begun(length: u32, seed: u64) -> State {
        let begin = 0x9e37_79b9_u32.wrapping_add(length).wrapping_add(3_923_095);
        let mut state = State { a: begin, b: begin, c: begin };
        if seed != 0 {
            state.add((seed >> 32) as u32, seed as u32, 0);
            state.mix();
        }
        state
    }

    fn add(&mut self, a: u32, b: u32, c: u32) {
        self.a = self.a.wrapping_add(a);
        self.b = self.b.wrapping_add(b);
        self.c = self.c.wrapping_add(c);
    }

    fn mix(&mut self) {
        let State { mut a, mut b, mut c } = *self;
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
        *self = State { a, b, c };
    }

    fn ended(self) -> i64 {
        let State { mut a, mut b, mut c } = self;
        c = (c ^ b).wrapping_sub(b.rotate_left(14));
        a = (a ^ c).wrapping_sub(c.rotate_left(11));
        b = (b ^ a).wrapping_sub(a.rotate_left(25));
        c = (c ^ b).wrapping_sub(b.rotate_left(16));
        a = (a ^ c).wrapping_sub(c.rotate_left(4));
        b = (b ^ a).wrapping_sub(a.rotate_left(14));
        c = (c ^ b).wrapping_sub(b.rotate_left(24));
        ((u64::from(b) << 32) | u64::from(c)) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_computes_is_computed_here() {
        // As PostgreSQL 15 says.
        assert_eq!(hash(b"abc", 7), 1_967_049_030_278_966_041);
        assert_eq!(hash(b"", 1), -150_071_773_020_461_347);
        assert_eq!(hash(b"lifeboat, and more than twelve bytes", 7), -3_796_569_433_155_491_839);
        assert_eq!(hash(b"lifeboat, and more than twelve bytes", 0), 8_909_354_989_470_155_809);
        assert_eq!(hash_integer(-81_985_529_216_486_896, 3), 5_841_441_785_464_343_359);
        assert_eq!(hash_integer(5, 0), -9_138_765_687_874_534_020);
        assert_eq!(hash_real(0.1, 5), 1_738_920_855_943_620_888);
        assert_eq!(hash_real(f64::NAN, 2), 4_456_755_843_827_096_090);
    }

    #[test]
    fn a_number_is_written_as_anybody_writes_it() {
        for number in [0, 7, -7, 120, i64::MAX, i64::MIN] {
            assert_eq!(Decimal::of(number).text(), number.to_string().as_bytes());
        }
    }
}
