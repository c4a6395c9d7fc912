//! Whole databases: made, dropped, given back what `CREATE DATABASE` does not take along.

use std::{collections::BTreeMap, time::Duration};

use lifeboat_model::postgres::DatabaseFacts;

use super::{
    PgError, Session, catalog,
    error::DISK_FULL,
    sql::{literal, quoted},
    tablespaces::is_usable,
};

/// Whether there is a database of that name.
///
/// # Errors
/// As [`Session::run`].
pub fn database_exists(session: &mut Session, name: &str) -> Result<bool, PgError> {
    let sql = format!("SELECT count(*) FROM pg_catalog.pg_database WHERE datname = {}", literal(name));
    Ok(session.value(&sql)? != "0")
}

/// The number and the bytes of the database of that name; nothing when there is none.
///
/// # Errors
/// As [`Session::run`].
pub fn database_about(session: &mut Session, name: &str) -> Result<Option<(u64, u64)>, PgError> {
    let sql = format!(
        "SELECT d.oid::bigint, CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT')
                                    THEN pg_catalog.pg_database_size(d.oid) ELSE 0 END
           FROM pg_catalog.pg_database d WHERE d.datname = {}",
        literal(name)
    );
    let rows = session.ask(&sql)?;
    Ok(rows.first().map(|row| (row.count(0), row.count(1))))
}

/// Rows of every table that a person made and that we may read, by `schema.name`, quoted where SQL needs it. Each table is counted.
///
/// # Errors
/// As [`Session::run`].
pub fn count_rows(session: &mut Session) -> Result<BTreeMap<String, u64>, PgError> {
    let tables = session.ask(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
            AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
          ORDER BY 1",
    )?;
    let mut counts = BTreeMap::new();
    for table in &tables {
        let rows = session.one(&format!("SELECT count(*) FROM ONLY {}", table.text(0)))?.count(0);
        counts.insert(table.text(0).to_owned(), rows);
    }
    Ok(counts)
}

/// Makes an empty database with the encoding and locale of another, in its tablespace where the server has one of that name.
/// It belongs to us, without settings and grants, until [`dress_database`].
///
/// # Errors
/// [`PgError::Refused`]: it exists, a locale is missing, or we may not.
pub fn create_database(session: &mut Session, name: &str, like: &DatabaseFacts) -> Result<(), PgError> {
    let provider = match (like.locale_provider.as_str(), &like.locale) {
        ("i", Some(locale)) => format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale)),
        ("b", Some(locale)) => format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(locale)),
        _ => String::new(),
    };
    let tablespace = match like.tablespace.as_str() {
        "" | "pg_default" => String::new(),
        // What a server lacks is made in its default one; who plans tells it.
        other if !is_usable(session, other)? => String::new(),
        other => format!(" TABLESPACE {}", quoted(other)),
    };
    session.run(&format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}{provider}{tablespace}",
        quoted(name),
        literal(&like.encoding),
        literal(&like.collate),
        literal(&like.ctype),
    ))
}

/// Databases of the server that a restore or an undo has kept of this one, by their names.
///
/// # Errors
/// As [`Session::ask`].
pub fn kept_beside(session: &mut Session, name: &str) -> Result<Vec<String>, PgError> {
    let heads: Vec<String> =
        ["before", "undone", "new"].iter().map(|word| literal(&format!("{name}_{word}_"))).collect();
    let rows = session.ask(&format!(
        "SELECT datname FROM pg_catalog.pg_database, pg_catalog.unnest(ARRAY[{}]) AS head
          WHERE pg_catalog.starts_with(datname, head) ORDER BY 1",
        heads.join(", ")
    ))?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Databases of the server whose names begin like this, in the order of their names.
///
/// # Errors
/// As [`Session::ask`].
pub fn databases_named(session: &mut Session, head: &str) -> Result<Vec<String>, PgError> {
    let rows = session.ask(&format!(
        "SELECT datname FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname, {}) ORDER BY 1",
        literal(head)
    ))?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Drops a database, ending its sessions; nothing happens when there is none.
///
/// # Errors
/// [`PgError::Refused`].
pub fn drop_database(session: &mut Session, name: &str) -> Result<(), PgError> {
    on_full_disk(|| session.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))))
}

/// How often what gives bytes back is tried on a full disk: a new database has about a thousand pages in the cache.
const FULL_DISK_TRIES: u32 = 1_000;
/// How long is waited between two of them.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(2);

/// Does what leads to bytes being given back. On a full disk the server may fail at any page that it reads, also when a
/// session begins: it makes room in its cache first, writes some page for that, and one that has no block yet finds none (a
/// database is made with holes in its files). The next try makes room with another page.
///
/// # Errors
/// Those of what is done; a full disk only after seconds of trying.
pub fn on_full_disk<T>(mut what: impl FnMut() -> Result<T, PgError>) -> Result<T, PgError> {
    for _again in 1..FULL_DISK_TRIES {
        match what() {
            Err(error) if error.code() == Some(DISK_FULL) => std::thread::sleep(FULL_DISK_PAUSE),
            ended => return ended,
        }
    }
    what()
}

/// Drops every table of the database that the session is in, which is to be dropped itself. Their bytes are free at once;
/// `DROP DATABASE` begins with a checkpoint, and on a full disk that fails.
///
/// # Errors
/// As [`Session::run`].
pub fn empty_database(session: &mut Session) -> Result<(), PgError> {
    let tables = session.ask(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
          ORDER BY pg_catalog.pg_relation_size(c.oid) DESC",
    )?;
    for table in &tables {
        // Gone already with one that it depended on; or an extension's, which is small.
        match session.run(&format!("DROP TABLE IF EXISTS {} CASCADE", table.text(0))) {
            Err(error) if error.code() != Some("2BP01") => return Err(error),
            _done => {}
        }
    }
    Ok(())
}

/// Gives a database its owner, connection limit, settings, grants and comment: what is not inside of it. Whatever it had
/// before goes. Says what a role without the right could not give, a sentence each; a superuser can give all.
///
/// # Errors
/// [`PgError::Refused`].
pub fn dress_database(session: &mut Session, name: &str, like: &DatabaseFacts) -> Result<Vec<String>, PgError> {
    let name_quoted = quoted(name);
    let mut statements: Vec<String> = catalog::database_statements(session, name)?;
    statements = statements.iter().filter_map(|line| undo_of(line, &name_quoted)).collect();
    statements.push(format!("ALTER DATABASE {name_quoted} OWNER TO {}", quoted(&like.owner)));
    statements.push(format!("ALTER DATABASE {name_quoted} CONNECTION LIMIT {}", like.connection_limit));
    statements.extend(like.statements.iter().map(|line| line.replacen("%DB%", &name_quoted, 1)));
    session.transaction("BEGIN", |session| {
        let mut notes = Vec::new();
        for statement in statements {
            session.run("SAVEPOINT lifeboat")?;
            match session.run(&statement) {
                Ok(()) => session.run("RELEASE SAVEPOINT lifeboat")?,
                Err(error) if error.code() == Some("42501") => {
                    session.run("ROLLBACK TO SAVEPOINT lifeboat")?;
                    notes.push(format!("a superuser has to run: {statement}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(notes)
    })
}

/// What takes back a setting or a grant that a database has.
fn undo_of(line: &str, name: &str) -> Option<String> {
    let line = line.replacen("%DB%", name, 1);
    if let Some((alter, setting)) = line.split_once(" SET ") {
        let (parameter, _) = setting.split_once(" TO ")?;
        return Some(format!("{alter} RESET {parameter}"));
    }
    if let Some(rest) = line.strip_prefix("GRANT ") {
        let (what, grantee) = rest.split_once(" TO ")?;
        return Some(format!("REVOKE {what} FROM {}", grantee.trim_end_matches(" WITH GRANT OPTION")));
    }
    line.starts_with("COMMENT ").then(|| format!("COMMENT ON DATABASE {name} IS NULL"))
}
