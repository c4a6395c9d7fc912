//! Knowing what changes in a database that other programs write to: triggers note the keys of changed rows in an outbox
//! in the same file, in the same transaction, whoever writes; what is rolled back leaves nothing. New rows of numbered tables
//! are found by their numbers instead, and noted by us: see `tail`.
//!
//! SQLite has one writer at a time, so the numbers in the outbox are the order of commits. What a row *is* gets read when
//! it is delivered: a row that changed ten times is read once, and one that is not there any more was deleted.
//!
//! Our own connection never checkpoints: a program that checkpoints beside an old SQLite may damage the file. Its write
//! transactions are short, and it holds no read transaction while anything else happens.

mod merge;
mod objects;
mod read;
mod shape;
mod tail;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lifeboat_model::sync::{Op, OpCounts};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, config::DbConfig};

pub use merge::{NamedRow, Standing};
pub use read::{Batch, Key, Noted, RowChange, Sight, Swept, Walked};
pub use shape::{ColumnShape, KEY_COLUMNS_MAX, Shapes, TableShape, Unique};

use super::{Header, SqliteError, open::quoted};
use crate::holders::{Holders, OwnUse};

/// How long our writes wait for others'.
const WAIT: Duration = Duration::from_secs(5);

/// Rows of the outbox that are deleted under one lock: 0.8 ms, measured.
const PRUNED_AT_ONCE: i64 = 5_000;

/// Pages that are kept in memory, in KiB: what is noted of new rows lies there still when they are read for the cloud.
const CACHE_KIB: u32 = 16 << 10;

/// The layout of our tables: what an older Lifeboat must not deliver from, since it would not find what is new.
const LAYOUT: &str = "2";

/// The layout before, in which every new row was noted by a trigger; it becomes ours where we attach.
const LAYOUT_BEFORE: &str = "1";

/// Who a database is to its mirror. Copied with the file: a copy that is used beside its original is known by `token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Given when mirroring began; the same for its whole life.
    pub database: String,
    /// Renewed by each worker when it begins: an older file has an older one.
    pub token: String,
}

/// What mirroring puts into a file, or takes out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// The statements, in order.
    pub statements: Vec<String>,
    /// Tables that are mirrored with it.
    pub tables: Vec<String>,
    /// Tables whose triggers were missing or not as they should be although they had been made: what was written
    /// meanwhile was not noted.
    pub renewed: Vec<String>,
    /// Tables that cannot be mirrored, and why.
    pub refused: Vec<(String, String)>,
}

/// What waits in an outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The number up to which everything is over.
    pub over: i64,
    /// The greatest number.
    pub newest: i64,
    /// What waits, by table.
    pub tables: BTreeMap<String, OpCounts>,
}

impl Waiting {
    /// How many changes wait.
    pub fn changes(&self) -> u64 {
        self.tables.values().map(|counts| counts.total()).sum()
    }
}

/// The outbox of a database, opened for reading and, briefly, for writing. It is this process's turn at the file as long
/// as it lives: not longer than one piece of work in the file, and never while a network answers.
pub struct Outbox {
    // Before the turn: the connection is closed first.
    connection: Connection,
    path: PathBuf,
    _own: OwnUse,
}

impl Outbox {
    /// Opens the database, when nobody else in this process is at it. It changes nothing yet.
    ///
    /// # Errors
    /// [`SqliteError`]; `Busy` when others in this process keep it for longer than we wait.
    pub fn open(path: &Path) -> Result<Outbox, SqliteError> {
        let own = turn_at(path)?;
        Header::read(path)?;
        let failed = |error| SqliteError::from_sqlite(path, "open", error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
        connection.busy_timeout(WAIT).map_err(failed)?;
        let set = format!("PRAGMA wal_autocheckpoint = 0; PRAGMA mmap_size = 0; PRAGMA cache_size = -{CACHE_KIB}");
        connection.execute_batch(&set).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Outbox { connection, path: path.to_owned(), _own: own })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> SqliteError + '_ {
        move |error| SqliteError::from_sqlite(&self.path, doing, error)
    }

    /// SQLite's own number of the schema: another one when any table, index or trigger has changed.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn schema_version(&self) -> Result<i64, SqliteError> {
        let asked = self.connection.query_row("PRAGMA schema_version", [], |row| row.get(0));
        asked.map_err(self.failed("read the schema of"))
    }

    /// Whether the file has an outbox.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn is_attached(&self) -> Result<bool, SqliteError> {
        let asked = "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name IN ('_lifeboat_outbox', '_lifeboat_meta')";
        let found: i64 = self.connection.query_row(asked, [], |row| row.get(0)).map_err(self.failed("read"))?;
        Ok(found == 2)
    }

    /// The tables of the file.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn shapes(&self) -> Result<Shapes, SqliteError> {
        shape::read(&self.connection).map_err(self.failed("read the schema of"))
    }

    /// What has to be done so that these tables are mirrored; all of them when none is named. Nothing when all is done.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn plan_attach(&self, wanted: &[String], fresh: &Identity) -> Result<Attachment, SqliteError> {
        plan_attach(&self.connection, wanted, fresh).map_err(self.failed("read the schema of"))
    }

    /// Does it, in one transaction.
    ///
    /// # Errors
    /// [`SqliteError`]; then nothing has changed.
    pub fn attach(&mut self, wanted: &[String], fresh: &Identity) -> Result<Attachment, SqliteError> {
        let path = self.path.clone();
        let work = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let plan = plan_attach(&transaction, wanted, fresh)?;
            for statement in &plan.statements {
                transaction.execute_batch(statement)?;
            }
            transaction.commit()?;
            Ok(plan)
        };
        work(&mut self.connection).map_err(|error| SqliteError::from_sqlite(&path, "put triggers into", error))
    }

    /// The statements that take everything of ours out of the file.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn plan_detach(&self) -> Result<Vec<String>, SqliteError> {
        plan_detach(&self.connection).map_err(self.failed("read the schema of"))
    }

    /// Takes everything of ours out of the file, in one transaction.
    ///
    /// # Errors
    /// [`SqliteError`]; then nothing has changed.
    pub fn detach(&mut self) -> Result<(), SqliteError> {
        let path = self.path.clone();
        let work = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for statement in plan_detach(&transaction)? {
                transaction.execute_batch(&statement)?;
            }
            transaction.commit()
        };
        work(&mut self.connection).map_err(|error| SqliteError::from_sqlite(&path, "take triggers out of", error))
    }

    /// Who this database is.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn identity(&self) -> Result<Option<Identity>, SqliteError> {
        let (database, token) = (self.meta("database")?, self.meta("token")?);
        Ok(database.zip(token).map(|(database, token)| Identity { database, token }))
    }

    /// The layout of what notes changes, when it is another than this version reads.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn foreign_layout(&self) -> Result<Option<String>, SqliteError> {
        Ok(self.meta("layout")?.filter(|layout| layout != LAYOUT))
    }

    /// Whether the layout is the one before ours: attaching again makes it ours.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn has_layout_before(&self) -> Result<bool, SqliteError> {
        Ok(self.meta("layout")?.is_some_and(|layout| layout == LAYOUT_BEFORE))
    }

    /// Renews the token.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn set_token(&self, token: &str) -> Result<(), SqliteError> {
        let set = "UPDATE _lifeboat_meta SET v = ?1 WHERE k = 'token'";
        self.connection.execute(set, [token]).map(drop).map_err(self.failed("write to"))
    }

    fn meta(&self, key: &str) -> Result<Option<String>, SqliteError> {
        let asked = "SELECT CAST(v AS TEXT) FROM _lifeboat_meta WHERE k = ?1";
        let found = self.connection.query_row(asked, [key], |row| row.get(0)).optional();
        found.map_err(self.failed("read"))
    }

    /// The numbers of tables, by number.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn numbers(&self) -> Result<BTreeMap<i64, String>, SqliteError> {
        numbers(&self.connection).map_err(self.failed("read"))
    }

    /// The number up to which everything is over.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn over(&self) -> Result<i64, SqliteError> {
        over(&self.connection).map_err(self.failed("read"))
    }

    /// The greatest number in it; nothing when it is empty.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn newest(&self) -> Result<Option<i64>, SqliteError> {
        let asked = "SELECT max(seq) FROM _lifeboat_outbox";
        self.connection.query_row(asked, [], |row| row.get(0)).map_err(self.failed("read the outbox of"))
    }

    /// What waits, also of new rows that are not noted yet.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn waiting(&self) -> Result<Waiting, SqliteError> {
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            let numbers = numbers(&transaction)?;
            let over = over(&transaction)?;
            let newest: Option<i64> =
                transaction.query_row("SELECT max(seq) FROM _lifeboat_outbox", [], |row| row.get(0))?;
            let mut counted = transaction
                .prepare_cached("SELECT t, o, count(*) FROM _lifeboat_outbox WHERE seq > ?1 GROUP BY t, o")?;
            let mut rows = counted.query([over])?;
            let mut tables: BTreeMap<String, OpCounts> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (table, op, count): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let name = numbers.get(&table).cloned().unwrap_or_else(|| format!("table {table}"));
                let counts = tables.entry(name).or_default();
                let count = u64::try_from(count).unwrap_or(0);
                match Op::of_code(op) {
                    Op::Insert => counts.insert += count,
                    Op::Update => counts.update += count,
                    Op::Delete => counts.delete += count,
                }
            }
            for tail in tail::all(&transaction)? {
                let new = tail.count(&transaction)?;
                if new > 0 {
                    tables.entry(tail.table).or_default().insert += new;
                }
            }
            Ok(Waiting { over, newest: newest.unwrap_or(over).max(over), tables })
        };
        read().map_err(self.failed("read the outbox of"))
    }

    /// Says that everything up to this number is over, and deletes it; the newest row stays, so that numbers go on from it.
    /// At most so many rows at once, so that nobody waits for us.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn prune(&self, upto: i64) -> Result<(), SqliteError> {
        let work = || {
            // What is lost of this with the host's power is told by the cloud again.
            self.without_waiting_for_the_disk(|| self.prune_in_pieces(upto))
        };
        work().map_err(self.failed("write to the outbox of"))
    }

    /// Writes what may be lost with the host's power, so that nobody waits for us while the disk works. A file without a WAL
    /// would be damaged by that: there, it is waited for.
    fn without_waiting_for_the_disk<T>(&self, work: impl FnOnce() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let mode: String = self.connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        if mode == "wal" {
            self.connection.execute_batch("PRAGMA synchronous = normal")?;
        }
        let done = work();
        self.connection.execute_batch("PRAGMA synchronous = full")?;
        done
    }

    fn prune_in_pieces(&self, upto: i64) -> rusqlite::Result<()> {
        let ends = |sql| self.connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
        let newest = ends("SELECT max(seq) FROM _lifeboat_outbox")?;
        let mut from = ends("SELECT min(seq) FROM _lifeboat_outbox")?.unwrap_or(i64::MAX);
        let last = upto.min(newest.unwrap_or(0) - 1);
        loop {
            let to = from.saturating_add(PRUNED_AT_ONCE - 1).min(last);
            let transaction = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            note_over(&transaction, upto)?;
            if from <= to {
                let mut delete =
                    transaction.prepare_cached("DELETE FROM _lifeboat_outbox WHERE seq BETWEEN ?1 AND ?2")?;
                delete.execute([from, to])?;
            }
            transaction.commit()?;
            if to >= last {
                return Ok(());
            }
            from = to + 1;
        }
    }

    /// Takes what waits out of the outbox, after `save` has put it somewhere safe: in one transaction, so that nothing
    /// that comes meanwhile goes unsaved. When `save` fails, nothing has changed.
    ///
    /// # Errors
    /// [`SqliteError`], or that of `save`.
    pub fn clear<E: From<SqliteError>>(&self, save: impl FnOnce(&[Noted]) -> Result<(), E>) -> Result<Waiting, E> {
        let failed = self.failed("write to the outbox of");
        let transaction = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(|error| E::from(failed(error)))?;
        tail::note_all(&transaction).map_err(|error| E::from(failed(error)))?;
        let noted = read::noted(&transaction, over(&transaction).map_err(|error| E::from(failed(error)))?, i64::MAX)
            .map_err(|error| E::from(failed(error)))?;
        let newest = noted.last().map_or(0, |last| last.seq);
        save(&noted)?;
        let mut tables: BTreeMap<String, OpCounts> = BTreeMap::new();
        noted.iter().for_each(|one| tables.entry(one.table.clone()).or_default().add(one.op));
        let work = || {
            if newest > 0 {
                note_over(&transaction, newest)?;
                transaction.execute("DELETE FROM _lifeboat_outbox WHERE seq < ?1", [newest])?;
            }
            transaction.commit()
        };
        work().map_err(|error| E::from(failed(error)))?;
        Ok(Waiting { over: newest, newest, tables })
    }

    /// Writes the first row of a table over itself, as the app would: its triggers see it, and no value changes. Says whether
    /// there was one.
    ///
    /// # Errors
    /// [`SqliteError`].
    pub fn touch(&self, table: &TableShape) -> Result<bool, SqliteError> {
        let key: Vec<String> = table.key_names().into_iter().map(quoted).collect();
        let plain = |at: &usize| !table.key.contains(at) && !table.columns[*at].generated;
        let column = (0..table.columns.len()).find(plain).or_else(|| table.key.first().copied()).unwrap_or(0);
        let (name, column) = (quoted(&table.name), quoted(&table.columns[column].name));
        let same: Vec<String> = key.iter().map(|one| format!("{name}.{one} IS _lifeboat_first.{one}")).collect();
        let (keys, same) = (key.join(", "), same.join(" AND "));
        let first = format!("SELECT {keys} FROM {name} ORDER BY {keys} LIMIT 1");
        let write = format!("UPDATE {name} SET {column} = {column} FROM ({first}) AS _lifeboat_first WHERE {same}");
        let changed = self.connection.execute(&write, []).map_err(self.failed("write to"))?;
        Ok(changed > 0)
    }

    /// Puts entries into the outbox, in order; each row is read again when it is delivered. Entries of tables that are not
    /// mirrored are counted and left out.
    ///
    /// # Errors
    /// [`SqliteError`]; then nothing has changed.
    pub fn note(&self, entries: &[(String, Op, Key)]) -> Result<u64, SqliteError> {
        let work = || {
            let transaction = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            let known: BTreeMap<String, i64> =
                numbers(&transaction)?.into_iter().map(|(number, name)| (name, number)).collect();
            let mut noted = 0;
            for (table, op, key) in entries {
                let Some(number) = known.get(table) else { continue };
                read::note(&transaction, *number, *op, key)?;
                noted += 1;
            }
            transaction.commit()?;
            Ok(noted)
        };
        work().map_err(self.failed("write to the outbox of"))
    }
}

/// Waits for this process's turn at a file.
fn turn_at(path: &Path) -> Result<OwnUse, SqliteError> {
    let began = Instant::now();
    loop {
        if let Some(own) = OwnUse::enter(path).map_err(|error| SqliteError::from_io(path, "find", error))? {
            return Ok(own);
        }
        if began.elapsed() > WAIT {
            let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            return Err(SqliteError::Busy { path: path.to_owned(), waited_ms, holders: Holders::default() });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn numbers(connection: &Connection) -> rusqlite::Result<BTreeMap<i64, String>> {
    let mut asked = connection.prepare_cached("SELECT v, substr(k, 7) FROM _lifeboat_meta WHERE k LIKE 'table.%'")?;
    let rows = asked.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn over(connection: &Connection) -> rusqlite::Result<i64> {
    let asked = "SELECT v FROM _lifeboat_meta WHERE k = 'over'";
    Ok(connection.query_row(asked, [], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn note_over(connection: &Connection, upto: i64) -> rusqlite::Result<()> {
    let set = "UPDATE _lifeboat_meta SET v = max(v, ?1) WHERE k = 'over'";
    connection.execute(set, [upto]).map(drop)
}

fn plan_attach(connection: &Connection, wanted: &[String], fresh: &Identity) -> rusqlite::Result<Attachment> {
    let shapes = shape::read(connection)?;
    let mut plan = Attachment::default();
    let (outbox, meta) = (has(connection, "_lifeboat_outbox")?, has(connection, "_lifeboat_meta")?);
    let layout: Option<String> = match meta {
        true => connection
            .query_row("SELECT CAST(v AS TEXT) FROM _lifeboat_meta WHERE k = 'layout'", [], |row| row.get(0))
            .optional()?,
        false => None,
    };
    let is_wanted = |name: &String| wanted.is_empty() || wanted.contains(name);
    if layout.as_ref().is_some_and(|layout| layout != LAYOUT && layout != LAYOUT_BEFORE) {
        // Of a version that is to come: its triggers are its own, and nothing is delivered from them.
        plan.tables = shapes.tables.into_iter().map(|table| table.name).filter(is_wanted).collect();
        return Ok(plan);
    }
    if !meta {
        plan.statements.push(objects::META.to_owned());
        for (key, value) in [("layout", LAYOUT), ("database", &fresh.database), ("token", &fresh.token)] {
            plan.statements
                .push(format!("INSERT INTO _lifeboat_meta VALUES ('{key}', '{}')", value.replace('\'', "''")));
        }
        plan.statements.push("INSERT INTO _lifeboat_meta VALUES ('over', 0)".to_owned());
    }
    let is_of_before = layout.as_deref() == Some(LAYOUT_BEFORE);
    if is_of_before {
        plan.statements.push(format!("UPDATE _lifeboat_meta SET v = '{LAYOUT}' WHERE k = 'layout'"));
    }
    if !outbox {
        plan.statements.push(objects::OUTBOX.to_owned());
    }
    let mut tails = match has(connection, "_lifeboat_tail")? {
        true => tail::numbers(connection)?,
        false => {
            plan.statements.push(objects::TAIL.to_owned());
            BTreeSet::new()
        }
    };
    let known: BTreeMap<String, i64> = match meta {
        true => numbers(connection)?.into_iter().map(|(number, name)| (name, number)).collect(),
        false => BTreeMap::new(),
    };
    let mut next = known.values().max().copied().unwrap_or(0) + 1;
    let mut present = present_triggers(connection)?;
    for table in shapes.tables.iter().filter(|table| is_wanted(&table.name)) {
        let (number, is_new) = match known.get(&table.name) {
            Some(number) => (*number, false),
            None => (next, true),
        };
        if is_new {
            next += 1;
            let key = format!("table.{}", table.name).replace('\'', "''");
            plan.statements.push(format!("INSERT INTO _lifeboat_meta VALUES ('{key}', {number})"));
        }
        let mut renewed = false;
        if let Some(column) = table.number.as_ref().filter(|_| !tails.remove(&number)) {
            // What was new when somebody took the row away is not found by it any more.
            renewed |= !is_of_before;
            plan.statements.push(tail::begin(number, &table.name, column));
        }
        for (name, statement) in objects::triggers(table, number) {
            match present.remove(&name) {
                Some((_, sql)) if sql == statement => continue,
                Some(_) => {
                    renewed |= !is_of_before;
                    plan.statements.push(format!("DROP TRIGGER {}", quoted(&name)));
                }
                None => renewed = true,
            }
            plan.statements.push(statement);
        }
        if renewed && !is_new {
            plan.renewed.push(table.name.clone());
        }
        plan.tables.push(table.name.clone());
    }
    // What is left belongs to tables that are not mirrored any more, or that have another name or key now.
    plan.statements.extend(present.keys().map(|name| format!("DROP TRIGGER {}", quoted(name))));
    plan.statements.extend(tails.iter().map(|number| format!("DELETE FROM _lifeboat_tail WHERE t = {number}")));
    plan.refused = shapes.refused.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    let missing =
        wanted.iter().filter(|name| !plan.tables.contains(name) && !plan.refused.iter().any(|(one, _)| one == *name));
    let missing: Vec<(String, String)> =
        missing.map(|name| (name.clone(), "there is no such table".to_owned())).collect();
    plan.refused.extend(missing);
    Ok(plan)
}

/// Whether the file has a table of that name.
fn has(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let asked = "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name = ?1";
    connection.query_row(asked, [name], |row| row.get::<_, i64>(0)).map(|found| found > 0)
}

/// Our triggers by name: the table they are on, and their statement.
fn present_triggers(connection: &Connection) -> rusqlite::Result<BTreeMap<String, (String, String)>> {
    let mut asked = connection.prepare(
        "SELECT name, tbl_name, sql FROM main.sqlite_schema WHERE type = 'trigger' AND name LIKE '\\_lifeboat\\_%' ESCAPE '\\'",
    )?;
    let rows = asked.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    rows.collect()
}

fn plan_detach(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statements: Vec<String> =
        present_triggers(connection)?.into_keys().map(|name| format!("DROP TRIGGER {}", quoted(&name))).collect();
    for table in ["_lifeboat_outbox", "_lifeboat_tail", "_lifeboat_meta"] {
        statements.push(format!("DROP TABLE IF EXISTS {table}"));
    }
    Ok(statements)
}
