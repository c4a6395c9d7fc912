//! What a mirror remembers on this host: whether it is switched on, rows that the cloud refused, deletes that are held.
//! The changes themselves wait in the app's own file, and how far they are delivered stands in the cloud.
//!
//! A row that is set aside is on disk before the cloud is told that everything up to it is over: one told twice does no
//! harm, one told never would be lost.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use lifeboat_model::{
    Timestamp,
    sync::{DeadLetter, ResyncProgress, Switch, Value},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// What the memory of a mirror could not do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum MirrorError {
    #[error("cannot use what the mirror remembers in {}", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("what the mirror remembers in {} cannot be read", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS notes (k TEXT PRIMARY KEY, v TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS letters (
        id INTEGER PRIMARY KEY AUTOINCREMENT, tbl TEXT NOT NULL, key TEXT NOT NULL, class TEXT NOT NULL, error TEXT NOT NULL,
        hint TEXT NOT NULL, first_at TEXT NOT NULL, last_at TEXT NOT NULL, attempts INTEGER NOT NULL, UNIQUE (tbl, key));
    CREATE TABLE IF NOT EXISTS held (tbl TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (tbl, key)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS unverified (tbl TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS seen (seq INTEGER PRIMARY KEY, at TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS tries (upto INTEGER NOT NULL);
";

/// So many tries in vain are counted; more say no more.
const TRIES_MAX: i64 = 10_000;

/// A row that is about to be set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct NewLetter {
    /// The table.
    pub table: String,
    /// The row's key, by column.
    pub key: BTreeMap<String, Value>,
    /// Why: `policy`, `content`, `schema`, `parent`.
    pub class: String,
    /// What the cloud said.
    pub error: String,
    /// What to do about it.
    pub hint: String,
}

/// The memory of one mirror.
pub struct MirrorMemory {
    db: Connection,
    path: PathBuf,
}

impl MirrorMemory {
    /// Opens it; makes it when there is none.
    ///
    /// # Errors
    /// When it cannot be opened or written.
    pub fn open(path: &Path) -> Result<MirrorMemory, MirrorError> {
        let sqlite = |source| MirrorError::Sqlite { path: path.to_owned(), source };
        let db = Connection::open(path).map_err(sqlite)?;
        db.busy_timeout(std::time::Duration::from_secs(10)).map_err(sqlite)?;
        db.execute_batch("PRAGMA journal_mode = wal; PRAGMA synchronous = full;").map_err(sqlite)?;
        db.execute_batch(SCHEMA).map_err(sqlite)?;
        Ok(MirrorMemory { db, path: path.to_owned() })
    }

    fn failed(&self, source: rusqlite::Error) -> MirrorError {
        MirrorError::Sqlite { path: self.path.clone(), source }
    }

    fn bad_json(&self, source: serde_json::Error) -> MirrorError {
        MirrorError::Json { path: self.path.clone(), source }
    }

    fn note(&self, key: &str) -> Result<Option<String>, MirrorError> {
        let asked = self.db.query_row("SELECT v FROM notes WHERE k = ?1", [key], |row| row.get(0)).optional();
        asked.map_err(|error| self.failed(error))
    }

    fn set_note(&self, key: &str, value: Option<&str>) -> Result<(), MirrorError> {
        let done = match value {
            Some(value) => self.db.execute("INSERT OR REPLACE INTO notes VALUES (?1, ?2)", [key, value]),
            None => self.db.execute("DELETE FROM notes WHERE k = ?1", [key]),
        };
        done.map(drop).map_err(|error| self.failed(error))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, MirrorError> {
        let text = self.note(key)?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| self.bad_json(error))
    }

    fn set_json<T: serde::Serialize>(&self, key: &str, value: Option<&T>) -> Result<(), MirrorError> {
        let text = value.map(serde_json::to_string).transpose().map_err(|error| self.bad_json(error))?;
        self.set_note(key, text.as_deref())
    }

    /// How it is switched; nothing when nobody has said anything.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn switch(&self) -> Result<Option<Switch>, MirrorError> {
        self.json("switch")
    }

    /// Switches it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_switch(&self, switch: Option<&Switch>) -> Result<(), MirrorError> {
        self.set_json("switch", switch)
    }

    /// When the cloud was last seen to have everything.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last_sync(&self) -> Result<Option<Timestamp>, MirrorError> {
        self.json("last_sync")
    }

    /// It was seen so, now; nothing is wrong any more.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn synced(&self, at: Timestamp) -> Result<(), MirrorError> {
        // One transaction, so that the disk is waited for once.
        let transaction = self.db.unchecked_transaction().map_err(|error| self.failed(error))?;
        self.set_json("last_sync", Some(&at))?;
        self.set_note("last_error", None)?;
        self.db.execute("DELETE FROM tries", []).map_err(|error| self.failed(error))?;
        transaction.commit().map_err(|error| self.failed(error))
    }

    /// What went wrong last, while it still is wrong.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last_error(&self) -> Result<Option<String>, MirrorError> {
        self.note("last_error")
    }

    /// Something went wrong.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_last_error(&self, error: &str) -> Result<(), MirrorError> {
        self.set_note("last_error", Some(error))
    }

    /// How far a re-sync has come.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn resync(&self) -> Result<Option<ResyncProgress>, MirrorError> {
        self.json("resync")
    }

    /// Notes how far a re-sync has come; nothing when it is over.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_resync(&self, progress: Option<&ResyncProgress>) -> Result<(), MirrorError> {
        self.set_json("resync", progress)
    }

    /// The token that this host gave the file last, and the one before.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn tokens(&self) -> Result<(Option<String>, Option<String>), MirrorError> {
        Ok((self.note("token")?, self.note("token_before")?))
    }

    /// Remembers the token that the file is given now, and the one it had.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_tokens(&self, token: &str, before: &str) -> Result<(), MirrorError> {
        self.set_note("token_before", Some(before))?;
        self.set_note("token", Some(token))
    }

    /// Which file it was, by the system's own number for it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(&self) -> Result<Option<String>, MirrorError> {
        self.note("file")
    }

    /// Remembers which file it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_file(&self, file: &str) -> Result<(), MirrorError> {
        self.set_note("file", Some(file))
    }

    /// Rows that are set aside.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn letters(&self) -> Result<Vec<DeadLetter>, MirrorError> {
        let asked = "SELECT id, tbl, key, class, error, hint, first_at, last_at, attempts FROM letters ORDER BY id";
        let mut asked = self.db.prepare_cached(asked).map_err(|error| self.failed(error))?;
        let rows = asked.query_map([], letter).and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>);
        rows.map_err(|error| self.failed(error))
    }

    /// How many rows are set aside, and how many of them for a policy.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn letter_counts(&self) -> Result<(u64, u64), MirrorError> {
        let asked = "SELECT count(*), count(*) FILTER (WHERE class = 'policy') FROM letters";
        let counted = self.db.query_row(asked, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        let (all, policy) = counted.map_err(|error| self.failed(error))?;
        Ok((u64::try_from(all).unwrap_or(0), u64::try_from(policy).unwrap_or(0)))
    }

    /// How many rows were ever set aside.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn letters_ever(&self) -> Result<u64, MirrorError> {
        let asked = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'letters'";
        let ever: i64 = self.db.query_row(asked, [], |row| row.get(0)).map_err(|error| self.failed(error))?;
        Ok(u64::try_from(ever).unwrap_or(0))
    }

    /// Sets rows aside. They are on disk when this returns.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn set_aside(&self, letters: &[NewLetter], at: Timestamp) -> Result<(), MirrorError> {
        let at = at.to_string();
        let transaction = self.db.unchecked_transaction().map_err(|error| self.failed(error))?;
        for letter in letters {
            let key = serde_json::to_string(&letter.key).map_err(|error| self.bad_json(error))?;
            let known = "UPDATE letters SET class = ?3, error = ?4, hint = ?5, last_at = ?6, attempts = attempts + 1
                         WHERE tbl = ?1 AND key = ?2";
            let fields = params![letter.table, key, letter.class, letter.error, letter.hint, at];
            if transaction.execute(known, fields).map_err(|error| self.failed(error))? > 0 {
                continue;
            }
            let new = "INSERT INTO letters (tbl, key, class, error, hint, first_at, last_at, attempts)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, 1)";
            transaction.execute(new, fields).map_err(|error| self.failed(error))?;
        }
        transaction.commit().map_err(|error| self.failed(error))
    }

    /// Forgets rows that were set aside, by table and key: they have been delivered, or will be tried again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn forget_letters(&self, rows: &[(String, BTreeMap<String, Value>)]) -> Result<(), MirrorError> {
        let transaction = self.db.unchecked_transaction().map_err(|error| self.failed(error))?;
        for (table, key) in rows {
            let key = serde_json::to_string(key).map_err(|error| self.bad_json(error))?;
            transaction
                .execute("DELETE FROM letters WHERE tbl = ?1 AND key = ?2", [table, &key])
                .map_err(|error| self.failed(error))?;
        }
        transaction.commit().map_err(|error| self.failed(error))
    }

    /// Holds deletes of a table until somebody confirms them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn hold(&self, table: &str, keys: &[Vec<Value>]) -> Result<(), MirrorError> {
        let transaction = self.db.unchecked_transaction().map_err(|error| self.failed(error))?;
        for key in keys {
            let key = serde_json::to_string(key).map_err(|error| self.bad_json(error))?;
            transaction
                .execute("INSERT OR IGNORE INTO held VALUES (?1, ?2)", [table, &key])
                .map_err(|error| self.failed(error))?;
        }
        transaction.commit().map_err(|error| self.failed(error))
    }

    /// How many deletes are held, by table.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn held(&self) -> Result<BTreeMap<String, u64>, MirrorError> {
        let asked = "SELECT tbl, count(*) FROM held GROUP BY tbl";
        let mut asked = self.db.prepare_cached(asked).map_err(|error| self.failed(error))?;
        let rows = asked
            .query_map([], |row| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))
            .and_then(Iterator::collect::<rusqlite::Result<_>>);
        rows.map_err(|error| self.failed(error))
    }

    /// The keys of held deletes of a table.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn held_keys(&self, table: &str) -> Result<Vec<Vec<Value>>, MirrorError> {
        let mut asked =
            self.db.prepare_cached("SELECT key FROM held WHERE tbl = ?1").map_err(|error| self.failed(error))?;
        let rows = asked
            .query_map([table], |row| row.get::<_, String>(0))
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .map_err(|error| self.failed(error))?;
        rows.iter().map(|text| serde_json::from_str(text).map_err(|error| self.bad_json(error))).collect()
    }

    /// Holds no deletes of a table any more.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn let_go(&self, table: &str) -> Result<(), MirrorError> {
        self.db.execute("DELETE FROM held WHERE tbl = ?1", [table]).map(drop).map_err(|error| self.failed(error))
    }

    /// Whether somebody has agreed to the deletes of a table that are on their way.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_confirmed(&self, table: &str) -> Result<bool, MirrorError> {
        Ok(self.note(&format!("confirmed.{table}"))?.is_some())
    }

    /// Somebody agrees to the deletes of a table that are on their way.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn confirm(&self, table: &str) -> Result<(), MirrorError> {
        self.set_note(&format!("confirmed.{table}"), Some("yes"))
    }

    /// Nothing is on its way any more: what comes later has to be agreed to anew.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_confirmations(&self) -> Result<(), MirrorError> {
        self.db
            .execute("DELETE FROM notes WHERE k LIKE 'confirmed.%'", [])
            .map(drop)
            .map_err(|error| self.failed(error))
    }

    /// Tables that may differ from the cloud until they are compared.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn unverified(&self) -> Result<Vec<String>, MirrorError> {
        let mut asked =
            self.db.prepare_cached("SELECT tbl FROM unverified ORDER BY tbl").map_err(|error| self.failed(error))?;
        let rows = asked.query_map([], |row| row.get(0)).and_then(Iterator::collect::<rusqlite::Result<_>>);
        rows.map_err(|error| self.failed(error))
    }

    /// Says of tables that they may differ, or that they have been compared.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_verified(&self, tables: &[String], verified: bool) -> Result<(), MirrorError> {
        let change = match verified {
            true => "DELETE FROM unverified WHERE tbl = ?1",
            false => "INSERT OR IGNORE INTO unverified VALUES (?1)",
        };
        for table in tables {
            self.db.execute(change, [table]).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Notes that changes up to this number were there at this time; what is over needs no note.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn see(&self, newest: i64, over: i64, at: Timestamp) -> Result<(), MirrorError> {
        let work = || {
            let known: Option<i64> = self.db.query_row("SELECT max(seq) FROM seen", [], |row| row.get(0))?;
            if known.is_none_or(|known| known < newest) {
                self.db.execute("INSERT OR IGNORE INTO seen VALUES (?1, ?2)", params![newest, at.to_string()])?;
                self.db.execute("DELETE FROM seen WHERE seq <= ?1 AND seq < (SELECT max(seq) FROM seen)", [over])?;
            }
            Ok(())
        };
        work().map_err(|error| self.failed(error))
    }

    /// When a change was seen first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn seen_at(&self, seq: i64) -> Result<Option<Timestamp>, MirrorError> {
        let asked = "SELECT at FROM seen WHERE seq >= ?1 ORDER BY seq LIMIT 1";
        let found = self.db.query_row(asked, [seq], |row| row.get::<_, String>(0)).optional();
        Ok(found.map_err(|error| self.failed(error))?.and_then(|text| text.parse().ok()))
    }

    /// Notes that changes up to this number were tried in vain.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tried(&self, upto: i64) -> Result<(), MirrorError> {
        let noted = "INSERT INTO tries SELECT ?1 WHERE (SELECT count(*) FROM tries) < ?2";
        self.db.execute(noted, params![upto, TRIES_MAX]).map(drop).map_err(|error| self.failed(error))
    }

    /// How often a change was tried in vain since the last time that something was delivered.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn attempts(&self, seq: i64) -> Result<u32, MirrorError> {
        let mut asked = self
            .db
            .prepare_cached("SELECT count(*) FROM tries WHERE upto >= ?1")
            .map_err(|error| self.failed(error))?;
        asked.query_row([seq], |row| row.get(0)).map_err(|error| self.failed(error))
    }

    /// Forgets when changes were seen: another file has taken the place of this one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn forget_seen(&self) -> Result<(), MirrorError> {
        self.db.execute("DELETE FROM seen", []).map(drop).map_err(|error| self.failed(error))
    }
}

fn letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let time = |text: String| text.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(DeadLetter {
        id: row.get(0)?,
        table: row.get(1)?,
        key: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
        class: row.get(3)?,
        error: row.get(4)?,
        hint: row.get(5)?,
        first_at: time(row.get(6)?),
        last_at: time(row.get(7)?),
        attempts: row.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: i64) -> BTreeMap<String, Value> {
        BTreeMap::from([("id".to_owned(), Value::Integer(id))])
    }

    #[test]
    fn a_row_set_aside_twice_is_one_and_counts_on() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("m.db");
        let memory = MirrorMemory::open(&path).unwrap();
        let letter = |id| NewLetter {
            table: "orders".into(),
            key: key(id),
            class: "policy".into(),
            error: "no".into(),
            hint: String::new(),
        };
        let at: Timestamp = "2026-11-26T10:00:00Z".parse().unwrap();
        memory.set_aside(&[letter(1), letter(2)], at).unwrap();
        memory.set_aside(&[letter(2)], at).unwrap();
        drop(memory);
        let memory = MirrorMemory::open(&path).unwrap();
        let letters = memory.letters().unwrap();
        assert_eq!(letters.iter().map(|letter| letter.attempts).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(memory.letter_counts().unwrap(), (2, 2));
        memory.forget_letters(&[("orders".into(), key(1)), ("orders".into(), key(2))]).unwrap();
        assert_eq!((memory.letter_counts().unwrap().0, memory.letters_ever().unwrap()), (0, 2));
    }

    #[test]
    fn tries_are_counted_for_what_was_there_then() {
        let home = tempfile::tempdir().unwrap();
        let memory = MirrorMemory::open(&home.path().join("m.db")).unwrap();
        for upto in [5, 5, 9] {
            memory.tried(upto).unwrap();
        }
        assert_eq!([1, 6, 10].map(|seq| memory.attempts(seq).unwrap()), [3, 1, 0]);
        memory.synced("2026-11-26T10:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(memory.attempts(1).unwrap(), 0);
    }

    #[test]
    fn a_change_was_seen_when_the_first_look_that_covers_it_was() {
        let home = tempfile::tempdir().unwrap();
        let memory = MirrorMemory::open(&home.path().join("m.db")).unwrap();
        let at = |minute: u8| format!("2026-11-26T10:{minute:02}:00Z").parse::<Timestamp>().unwrap();
        memory.see(5, 0, at(1)).unwrap();
        memory.see(5, 0, at(2)).unwrap();
        memory.see(9, 0, at(3)).unwrap();
        assert_eq!(memory.seen_at(3).unwrap(), Some(at(1)));
        assert_eq!(memory.seen_at(6).unwrap(), Some(at(3)));
        assert_eq!(memory.seen_at(10).unwrap(), None);
        memory.see(12, 9, at(4)).unwrap();
        assert_eq!(memory.seen_at(3).unwrap(), Some(at(4)));
    }
}
