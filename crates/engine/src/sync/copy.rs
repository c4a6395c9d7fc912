//! Rows that the cloud lacks, or has otherwise, in COPY's form: what `compare` found.

use std::path::Path;

use lifeboat_io::database::{
    postgres::{Change, PgError, RowWriter, Stream, StreamDelivery, WrittenRows, stream_sql, trouble},
    sqlite::{Key, Outbox, Sight, SqliteError, Walked},
};
use lifeboat_model::{
    Failure,
    sync::{BATCH_BYTES_MAX, Trouble, Value},
};

use super::{
    Mirror,
    cloud::{Cloud, Mapped},
    compare::{NAMED_MAX, TableCompared, Walk, as_it_is, name_key},
    stopped,
    stream::may_not_copy,
};
use crate::act::sqlite_failure;

/// Rows of a COPY.
const COPY_ROWS: u32 = 50_000;

impl Mirror {
    /// Whether the cloud has no row after a key.
    pub(super) fn has_nothing_after(&mut self, mapped: &Mapped, after: Option<&Key>) -> Result<bool, Failure> {
        let condition = self.range(mapped, after, None);
        let asked = format!("SELECT NOT EXISTS (SELECT FROM {} t WHERE {condition})", mapped.cloud.sql_name());
        let asked = self.cloud()?.session.one(&asked);
        asked.map(|row| row.is_true(0)).map_err(|error| self.cloud_failure(&error))
    }

    /// Copies all rows after a key, of which the cloud has none, a piece in a transaction; the next piece is read meanwhile.
    pub(super) fn copy_rest(
        &mut self,
        mapped: &Mapped,
        after: Option<&Key>,
        found: &mut TableCompared,
        total: u64,
        walk: Walk<'_>,
    ) -> Result<Copied, Failure> {
        let (file, source) = (self.link.file.clone(), self.source());
        let failed = |error| sqlite_failure(&error);
        let (mut rows, mut done) = (0, after.cloned());
        let mut piece = read_piece(&file, mapped, after).map_err(failed)?;
        loop {
            stopped(walk.stop)?;
            let cloud = self.cloud()?;
            let fresh = (!piece.rows.is_empty()).then_some(piece.rows.as_slice());
            let sql = one_table(&source, cloud, mapped, piece.binary, (fresh, None));
            let data: Vec<&[u8]> = fresh.into_iter().collect();
            let upto = piece.walked.last.clone().filter(|_| !piece.walked.is_end);
            let (sent, next) = std::thread::scope(|scope| {
                let next = upto.as_ref().map(|upto| scope.spawn(|| read_piece(&file, mapped, Some(upto))));
                let sent = cloud.session.run_with(&sql, &data);
                (sent, next.map(std::thread::ScopedJoinHandle::join))
            });
            match sent {
                Ok(()) => {}
                Err(error) if is_about_this(&error) => return Ok(Copied::UpTo(rows, done)),
                Err(error) => {
                    let name = &mapped.shape.name;
                    return Err(self.cloud_failure(&error).while_doing(format!("{name} cannot be re-synced")));
                }
            }
            let gone = piece.walked.rows - piece.unfit.len() as u64;
            rows += gone;
            found.missing += gone;
            found.unrepresentable += piece.unfit.len() as u64;
            piece.named.iter().chain(&piece.unfit).for_each(|key| name_key(found, key));
            found.rows += piece.walked.rows;
            self.tell(found, total, walk)?;
            let Some(next) = next else { return Ok(Copied::All(rows)) };
            let next = next.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (piece, done) = (next.map_err(failed)?, upto);
        }
    }

    /// Writes the rows of these keys as COPY; `false` when something about them, or about the table, is against it.
    pub(super) fn stream_some(&mut self, mapped: &Mapped, keys: &[Key]) -> Result<bool, Failure> {
        let source = self.source();
        let writer = RowWriter::of(&mapped.cloud, &mapped.columns);
        let mut rows = WrittenRows::default();
        let mut fits = true;
        let mut each = |sight: &Sight<'_>| {
            fits &= sight.is_gone() || writer.add(|at| sight.value(mapped.local[at]), &mut rows).is_ok();
            0
        };
        self.outbox()?.look_up(&mapped.shape, keys.iter(), &mut each).map_err(|error| sqlite_failure(&error))?;
        if !fits || rows.is_empty() {
            return Ok(fits);
        }
        let order: Vec<usize> = (0..rows.len()).collect();
        let rows = writer.whole(rows, &order);
        let cloud = self.cloud()?;
        let sql = one_table(&source, cloud, mapped, writer.binary, (None, Some(&rows)));
        match cloud.session.run_with(&sql, &[&rows]) {
            Ok(()) => Ok(true),
            Err(error) if is_about_this(&error) => Ok(false),
            Err(error) => {
                let name = &mapped.shape.name;
                Err(self.cloud_failure(&error).while_doing(format!("{name} cannot be re-synced")))
            }
        }
    }
}

/// Whether what was refused may be taken otherwise: nobody was away, and our place is ours.
fn is_about_this(error: &PgError) -> bool {
    may_not_copy(error) || !matches!(trouble(error), Trouble::Down | Trouble::Position)
}

/// The statements for new and for other rows of one table; the watermark stays, and has to be ours.
fn one_table(
    source: &str,
    cloud: &Cloud,
    mapped: &Mapped,
    binary: bool,
    (fresh, changed): (Option<&[u8]>, Option<&[u8]>),
) -> String {
    let (columns, key) = (mapped.columns.clone(), mapped.key.clone());
    let stream = Stream { table: &mapped.cloud, columns, key, binary, fresh, changed, deletes: Vec::new() };
    let (held, upto) = (&cloud.held, cloud.held.seq);
    stream_sql(&StreamDelivery { source, held, upto, consistent: false, tables: vec![stream] }).0
}

/// How far copying went: how many rows are there.
pub(super) enum Copied {
    All(u64),
    /// Up to this key.
    UpTo(u64, Option<Key>),
}

/// Rows as COPY reads them.
struct Piece {
    walked: Walked,
    binary: bool,
    rows: Vec<u8>,
    /// Some of their keys, and all keys of rows that do not fit.
    named: Vec<Change>,
    unfit: Vec<Change>,
}

fn read_piece(file: &Path, mapped: &Mapped, after: Option<&Key>) -> Result<Piece, SqliteError> {
    let writer = RowWriter::of(&mapped.cloud, &mapped.columns);
    let mut rows = WrittenRows::default();
    let (mut named, mut unfit) = (Vec::new(), Vec::new());
    let mut each = |sight: &Sight<'_>| {
        let before = rows.bytes();
        let has_key = sight.key.iter().all(|value| *value != Value::Null);
        let fits = has_key && writer.add(|at| sight.value(mapped.local[at]), &mut rows).is_ok();
        if !fits {
            unfit.push(as_it_is(sight.key));
        } else if named.len() < NAMED_MAX {
            named.push(as_it_is(sight.key));
        }
        rows.bytes() - before
    };
    let walked = Outbox::open(file)?.walk(&mapped.shape, after, COPY_ROWS, BATCH_BYTES_MAX, &mut each)?;
    let order: Vec<usize> = (0..rows.len()).collect();
    Ok(Piece { walked, binary: writer.binary, rows: writer.whole(rows, &order), named, unfit })
}
