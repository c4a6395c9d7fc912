//! Who writes where, told by the tables themselves: between a first look at them and a second one while clients wait, each
//! row that comes, changes or goes leaves its key in a log of ours. So the second look takes as long as what happened in
//! between, and not as long as the tables are.
//!
//! ```text
//!   watch_on      a log and a trigger for each table; making the trigger waits for those who write to the table just then,
//!                 so that every write is in the first look's snapshot, or in the log, or in both
//!   log_of        keys that were written to since that snapshot, once writes are held
//!   watch_off     all of it goes
//! ```
//!
//! What no trigger sees is seen by the table's mark: a table that was emptied, rewritten or altered, or whose trigger was
//! touched, has another one, and is looked at in full. The log ends by itself when nothing is heard of us, so that a death
//! leaves triggers that do nothing. Tables without a key, and those that are not ours, are not watched.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    PgError, Session,
    catalog::Table,
    sql::{literal, quoted},
    until,
};
use crate::{clock::Clock, stop::Stop};

/// The schema of the logs. Backups leave it out.
pub(super) const WATCH_SCHEMA: &str = "lifeboat_watch";
/// The name of the triggers.
pub(super) const WATCH_TRIGGER: &str = "zz_lifeboat_watch";

/// For how long a watch is kept without a sign of us.
pub const WATCH_MS: u32 = 900_000;
/// How long clients may wait for one table while its trigger is made or taken away.
const LOCK_WAIT_MS: u32 = 100;

/// Watches tables. Says how many; those that are held by others for longer than `wait_max`, or cannot be watched, are not.
///
/// # Errors
/// [`PgError::Refused`] when no schema can be made; nothing is watched then.
pub(super) fn watch_on(
    session: &mut Session,
    tables: &[&Table],
    wait_max: Duration,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<u64, PgError> {
    if watch_off(session, clock, stop)?.is_some() {
        // What an earlier one has left stands in the way.
        return Ok(0);
    }
    session.transaction("BEGIN", |session| {
        session.run(&format!("CREATE SCHEMA {WATCH_SCHEMA}; {}", until::make(WATCH_SCHEMA, WATCH_MS)))?;
        session.run(&format!("CREATE SEQUENCE {WATCH_SCHEMA}.turn"))
    })?;
    let ours = watchable(session, tables)?;
    let mut open: Vec<&&Table> = tables.iter().filter(|table| ours.contains(&table.oid)).collect();
    let (until, mut watched) = (clock.elapsed() + wait_max, 0);
    while !open.is_empty() {
        let mut busy = Vec::new();
        for table in open {
            match watch_one(session, table) {
                Ok(()) => watched += 1,
                Err(error) if matches!(error.code(), Some("55P03" | "40P01")) => busy.push(table),
                // Gone or changed meanwhile, or not to be had: then it is looked at in full.
                Err(PgError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        open = busy;
        if clock.elapsed() >= until {
            break;
        }
        if !open.is_empty() {
            clock.sleep(Duration::from_millis(20), stop)?;
        }
    }
    Ok(watched)
}

/// Those of these tables that are ours and have a key of plain types, of enums, of domains over plain types, or of an extension's
/// types that text is read into as a dump does.
pub(super) fn watchable(session: &mut Session, tables: &[&Table]) -> Result<BTreeSet<u32>, PgError> {
    let keyed: Vec<String> =
        tables.iter().filter(|table| !table.key.is_empty()).map(|table| table.oid.to_string()).collect();
    if keyed.is_empty() {
        return Ok(BTreeSet::new());
    }
    // A log of other types would lean on what is to be exchanged.
    let rows = session.ask(&format!(
        "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary
          WHERE c.oid IN ({}) AND c.relkind = 'r' AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) k(num)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num
                  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                  LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation
                  LEFT JOIN pg_catalog.pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
                 WHERE (t.typtype <> 'e' AND COALESCE(b.typnamespace, t.typnamespace) <> 'pg_catalog'::pg_catalog.regnamespace
                        AND NOT (t.typtype = 'b' AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_cast s WHERE s.casttarget = t.oid
                                 AND s.castsource = 'pg_catalog.text'::pg_catalog.regtype AND s.castmethod = 'f')))
                    OR COALESCE(o.collnamespace <> 'pg_catalog'::pg_catalog.regnamespace, false))",
        keyed.join(", ")
    ))?;
    Ok(rows.iter().filter_map(|row| row.text(0).parse().ok()).collect())
}

/// How a column of a key is logged and found again. A log leans on nothing that is to be exchanged.
enum KeyType {
    /// As it is.
    Plain,
    /// A domain, as what it is made of; found by its index as it is.
    Domain(String),
    /// An enum, as its text.
    Enum,
    /// An extension's type, as it is written out, which is what tells rows apart here: to `citext` more is the same.
    WrittenOut {
        /// Its name, as SQL.
        name: String,
        /// The operator of the key's index.
        equal: String,
    },
}

impl KeyType {
    /// What is logged of a value.
    fn logged(&self, value: &str) -> String {
        match self {
            KeyType::Plain => value.to_owned(),
            KeyType::Domain(base) => format!("{value}::{base}"),
            KeyType::Enum => format!("{value}::pg_catalog.text"),
            KeyType::WrittenOut { .. } => format!("pg_catalog.format('%s', {value})"),
        }
    }

    /// Whether a row is the one that was logged.
    fn is_logged(&self, value: &str, log: &str) -> String {
        match self {
            KeyType::Plain | KeyType::Domain(_) => format!("{value} = {log}"),
            KeyType::Enum => format!("{} = {log}", self.logged(value)),
            // The first finds it by the index.
            KeyType::WrittenOut { name, equal } => {
                format!("{value} {equal} {log}::{name} AND {} = {log}", self.logged(value))
            }
        }
    }
}

fn key_types(session: &mut Session, table: &Table) -> Result<Vec<KeyType>, PgError> {
    let rows = session.ask(&format!(
        "SELECT pg_catalog.quote_ident(a.attname),
                CASE WHEN t.typtype IN ('e', 'd') THEN t.typtype::pg_catalog.text
                     WHEN t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace THEN 'w' ELSE '' END,
                CASE t.typtype WHEN 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod)
                     ELSE pg_catalog.format_type(t.oid, NULL) END,
                pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname)
           FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(num, nth)
           JOIN pg_catalog.pg_attribute a ON a.attnum = k.num JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
           JOIN pg_catalog.pg_opclass c ON true JOIN pg_catalog.pg_amop p ON p.amopfamily = c.opcfamily AND p.amopstrategy = 3
                AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype
           JOIN pg_catalog.pg_operator o ON o.oid = p.amopopr JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
          WHERE i.indrelid = {} AND i.indisprimary AND a.attrelid = i.indrelid AND c.oid = i.indclass[k.nth - 1]",
        table.oid
    ))?;
    let kind = |name: &String| match rows.iter().find(|row| row.text(0) == name) {
        Some(row) => match row.text(1) {
            "e" => KeyType::Enum,
            "d" => KeyType::Domain(row.text(2).to_owned()),
            "w" => KeyType::WrittenOut { name: row.text(2).to_owned(), equal: row.text(3).to_owned() },
            _plain => KeyType::Plain,
        },
        None => KeyType::Plain,
    };
    Ok(table.key.iter().map(kind).collect())
}

fn watch_one(session: &mut Session, table: &Table) -> Result<(), PgError> {
    let (title, oid) = (table.title(), table.oid);
    let types = key_types(session, table)?;
    let columns: Vec<String> = table
        .key
        .iter()
        .zip(&types)
        .enumerate()
        .map(|(at, (name, kind))| format!("{} AS k{at}", kind.logged(name)))
        .collect();
    let key = |side: &str| {
        let parts = table.key.iter().zip(&types).map(|(name, kind)| kind.logged(&format!("{side}.{name}")));
        parts.collect::<Vec<_>>().join(", ")
    };
    let (old, new) = (key("OLD"), key("NEW"));
    let insert = |came: bool, key: &str| {
        format!(
            "INSERT INTO {WATCH_SCHEMA}.t_{oid} VALUES (pg_catalog.nextval('{WATCH_SCHEMA}.turn'), pg_catalog.pg_current_xact_id(), {came}, {key});"
        )
    };
    let (came, was) = (insert(true, &new), insert(false, &old));
    session.transaction("BEGIN", |session| {
        session.run(&format!(
            "SET LOCAL lock_timeout = {LOCK_WAIT_MS}; SET LOCAL check_function_bodies = off;
             CREATE TABLE {WATCH_SCHEMA}.t_{oid} AS SELECT 0::pg_catalog.int8 AS turn, '0'::pg_catalog.xid8 AS by, false AS came, {}
                    FROM ONLY {title} WITH NO DATA;
             CREATE FUNCTION {WATCH_SCHEMA}.f_{oid}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $watch$
             BEGIN
                 IF {} THEN RETURN NULL; END IF;
                 IF TG_OP = 'INSERT' THEN {came}
                 ELSIF TG_OP = 'DELETE' THEN {was}
                 ELSE
                     {was}
                     IF ROW({old}) IS DISTINCT FROM ROW({new}) THEN {came} END IF;
                 END IF;
                 RETURN NULL;
             END $watch$;
             CREATE TRIGGER {WATCH_TRIGGER} AFTER INSERT OR UPDATE OR DELETE ON {title}
                 FOR EACH ROW EXECUTE FUNCTION {WATCH_SCHEMA}.f_{oid}();
             ALTER TABLE {title} ENABLE ALWAYS TRIGGER {WATCH_TRIGGER}",
            columns.join(", "),
            until::is_over(WATCH_SCHEMA),
        ))
    })
}

/// Puts the end of a watch off; says whether it holds.
///
/// # Errors
/// As [`Session::run`].
pub fn keep_watching(session: &mut Session) -> Result<bool, PgError> {
    Ok(until::put_off(session, WATCH_SCHEMA, WATCH_MS)?.is_some())
}

/// Whether a watch has held up to this moment.
pub(super) fn holds(session: &mut Session) -> Result<bool, PgError> {
    Ok(until::left_ms(session, WATCH_SCHEMA)?.is_some_and(|left| left > 0))
}

/// What a watched table is made of, by its number, as text that is another one when something was done to it that no trigger
/// sees; tables that are not watched have none.
pub(super) fn marks(session: &mut Session) -> Result<BTreeMap<u32, String>, PgError> {
    let rows = session.ask(&format!(
        "SELECT c.oid, pg_catalog.concat_ws(' ', c.relfilenode, g.oid, g.xmin, p.xmin,
                (SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod,
                        a.attgenerated, a.attisdropped), ',' ORDER BY a.attnum))
                   FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0))
           FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
           JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid JOIN pg_catalog.pg_namespace f ON f.oid = p.pronamespace
          WHERE g.tgname = {} AND g.tgenabled = 'A' AND f.nspname = {} AND p.proname = 'f_' || c.oid",
        literal(WATCH_TRIGGER),
        literal(WATCH_SCHEMA)
    ))?;
    Ok(rows.iter().filter_map(|row| Some((row.text(0).parse().ok()?, row.text(1).to_owned()))).collect())
}

/// Tables of these in whose log is something that a snapshot has not seen.
pub(super) fn written(session: &mut Session, oids: &[u32], snapshot: &str) -> Result<BTreeSet<u32>, PgError> {
    const AT_ONCE: usize = 200;
    let mut all = BTreeSet::new();
    for some in oids.chunks(AT_ONCE) {
        let one = |oid: &u32| {
            format!("SELECT {oid} WHERE EXISTS (SELECT 1 FROM {WATCH_SCHEMA}.t_{oid} l WHERE {})", unseen(snapshot))
        };
        let rows = session.ask(&some.iter().map(one).collect::<Vec<_>>().join(" UNION ALL "))?;
        all.extend(rows.iter().filter_map(|row| row.text(0).parse::<u32>().ok()));
    }
    Ok(all)
}

fn unseen(snapshot: &str) -> String {
    format!("NOT pg_catalog.pg_visible_in_snapshot(l.by, {}::pg_catalog.pg_snapshot)", literal(snapshot))
}

/// The query that tells each key once that was written to since a snapshot, and whether no row had it at that moment.
pub(super) fn keys_sql(table: &Table, snapshot: &str) -> String {
    let keys = key_names(table);
    let unseen = unseen(snapshot);
    let oid = table.oid;
    format!(
        "SELECT DISTINCT ON ({keys}) l.came, {keys} FROM {WATCH_SCHEMA}.t_{oid} l WHERE {unseen} ORDER BY {keys}, l.turn"
    )
}

/// The query for rows of these keys as they are now.
///
/// # Errors
/// As [`Session::run`].
pub(super) fn rows_sql(
    session: &mut Session,
    table: &Table,
    columns: &[String],
    snapshot: &str,
) -> Result<String, PgError> {
    let types = key_types(session, table)?;
    let on: Vec<String> = table
        .key
        .iter()
        .zip(&types)
        .enumerate()
        .map(|(at, (name, kind))| kind.is_logged(&format!("t.{name}"), &format!("l.k{at}")))
        .collect();
    let columns: Vec<String> = columns.iter().map(|name| format!("t.{name}")).collect();
    let (keys, unseen, oid) = (key_names(table), unseen(snapshot), table.oid);
    Ok(format!(
        "SELECT {} FROM (SELECT DISTINCT {keys} FROM {WATCH_SCHEMA}.t_{oid} l WHERE {unseen}) l JOIN ONLY {} t ON {}",
        columns.join(", "),
        table.title(),
        on.join(" AND ")
    ))
}

fn key_names(table: &Table) -> String {
    (0..table.key.len()).map(|at| format!("l.k{at}")).collect::<Vec<_>>().join(", ")
}

/// Ends a watch: nothing is logged from then on, and the triggers and logs are taken away. Repeated, or where there is none, it
/// does nothing. A trigger of a table that somebody holds stays for the moment, and does nothing; that is what is given back,
/// as a sentence.
///
/// # Errors
/// As [`Session::run`].
pub fn watch_off(session: &mut Session, clock: &dyn Clock, stop: &Stop) -> Result<Option<String>, PgError> {
    /// How often a table that somebody holds is tried.
    const ATTEMPTS_MAX: u32 = 30;
    let there = session.value(&format!("SELECT pg_catalog.to_regnamespace('{WATCH_SCHEMA}') IS NOT NULL"))?;
    if there != "t" {
        return Ok(None);
    }
    if until::left_ms(session, WATCH_SCHEMA)?.is_some() {
        session.run(&format!("SELECT pg_catalog.setval('{WATCH_SCHEMA}.until', 0)"))?;
    }
    for attempt in 1.. {
        let rows = session.ask(&format!(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE g.tgname = {} AND NOT g.tgisinternal",
            literal(WATCH_TRIGGER)
        ))?;
        let mut busy = None;
        for row in &rows {
            match unwatch_one(session, row.text(0)) {
                Err(error) if matches!(error.code(), Some("55P03" | "40P01")) => busy = Some(row.text(0).to_owned()),
                // Dropped meanwhile, with its trigger.
                Err(error) if matches!(error.code(), Some("42P01" | "3F000")) => {}
                other => other?,
            }
        }
        match busy {
            None => break,
            Some(table) if attempt >= ATTEMPTS_MAX => {
                return Ok(Some(format!(
                    "The trigger {WATCH_TRIGGER} could not be taken from {table}, which somebody holds: it does nothing any more; the next \
                     restore takes it away, and so does lifeboat fence off."
                )));
            }
            Some(_) => clock.sleep(Duration::from_millis(20), stop)?,
        }
    }
    session.run(&format!("DROP SCHEMA IF EXISTS {WATCH_SCHEMA} CASCADE"))?;
    Ok(None)
}

fn unwatch_one(session: &mut Session, title: &str) -> Result<(), PgError> {
    session.transaction("BEGIN", |session| {
        session.run(&format!(
            "SET LOCAL lock_timeout = {LOCK_WAIT_MS}; DROP TRIGGER IF EXISTS {} ON {title}",
            quoted(WATCH_TRIGGER)
        ))
    })
}
