//! Dumps that others made: which form they have, and how they come into an empty database - ending at the first error, as
//! `psql -v ON_ERROR_STOP=1` does, but without `psql`, whose own commands in a file could run programs here.

use std::{
    io::{self, BufReader, Read},
    path::Path,
};

use lifeboat_model::FailureClass;

use super::{
    Clients, PgError, Session,
    clients::{restore_as_sql, run_client},
    restore::{about, open_writer},
    script::{Piece, Script},
    sql::{literal, quoted},
};
use crate::{exec::Exec, files, gzip, stop::Stop};

/// The form of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpForm {
    /// Text.
    Sql,
    /// Text, compressed by gzip.
    SqlGz,
    /// `pg_dump --format=custom`, `tar` or `directory`: `pg_restore` makes text of it.
    Archive,
}

/// What came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Statements that were carried out.
    pub statements: u64,
    /// Tables that were made.
    pub tables: u64,
    /// Statements that bring rows: COPY, INSERT.
    pub brought_rows: u64,
    /// What was left out, one sentence each.
    pub notes: Vec<String>,
}

fn refused(found: String, hint: &str) -> PgError {
    PgError::Preflight { found, hint: hint.into() }
}

/// Looks which form a dump has.
///
/// # Errors
/// [`PgError::Preflight`] when it is none that can be read; [`PgError::Ours`] when it cannot be looked at.
pub fn dump_form(path: &Path) -> Result<DumpForm, PgError> {
    let name = path.display();
    if files::is_folder(path) {
        return match files::exists(&path.join("toc.dat")) {
            true => Ok(DumpForm::Archive),
            false => Err(refused(format!("{name} is a folder, and no dump of pg_dump"), "name the file of the dump")),
        };
    }
    let begin = beginning(path, &|file| file)?;
    let is = |magic: &[u8]| begin.starts_with(magic);
    if is(b"PGDMP") || begin.get(257..262) == Some(b"ustar") {
        return Ok(DumpForm::Archive);
    }
    let other = match &begin[..] {
        [] => Some(("it is empty", "look for another copy of it")),
        _ if is(b"SQLite format 3") => Some(("it is a SQLite database", "adopt it for the resource that it is of")),
        _ if is(&[0x28, 0xb5, 0x2f, 0xfd]) => Some(("it is compressed by zstd", "unpack it first: zstd -d")),
        _ if is(b"BZh") => Some(("it is compressed by bzip2", "unpack it first: bunzip2")),
        _ if is(&[0xfd, b'7', b'z']) => Some(("it is compressed by xz", "unpack it first: unxz")),
        _ if is(b"PK") => Some(("it is a zip file", "unpack it first: unzip")),
        _ => None,
    };
    if let Some((what, hint)) = other {
        return Err(refused(format!("{name} cannot be adopted: {what}"), hint));
    }
    if is(&[0x1f, 0x8b]) {
        let inner = beginning(path, &|file| gzip::decompressed(file))?;
        return match inner.starts_with(b"PGDMP") || inner.get(257..262) == Some(b"ustar") {
            true => Err(refused(
                format!("{name} is an archive of pg_dump, compressed once more"),
                "unpack it first: gunzip",
            )),
            false => Ok(DumpForm::SqlGz),
        };
    }
    match begin.contains(&0) {
        true => Err(refused(
            format!("{name} is no dump: it holds bytes that no text has"),
            "name a file that pg_dump wrote",
        )),
        false => Ok(DumpForm::Sql),
    }
}

type Opened = Box<dyn Read + Send>;

fn beginning(path: &Path, through: &dyn Fn(Opened) -> Opened) -> Result<Vec<u8>, PgError> {
    let doing = || format!("read {}", path.display());
    let file = files::open(path).map_err(|error| PgError::Ours { doing: doing(), source: error.source })?;
    let mut begin = Vec::new();
    let read = through(Box::new(file)).take(4096).read_to_end(&mut begin);
    read.map(|_| begin).map_err(|source| cut_or_ours(path, source))
}

/// Bytes that end too early, or that are not what compression writes, are damage; all else is ours.
fn cut_or_ours(path: &Path, source: io::Error) -> PgError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            PgError::Damaged { what: path.display().to_string(), found: source.to_string() }
        }
        _ => PgError::Ours { doing: format!("read {}", path.display()), source },
    }
}

/// Makes text of an archive, by `pg_restore`. No server takes part.
///
/// # Errors
/// [`PgError::Damaged`] when it ends too early; [`PgError::Preflight`] when a newer `pg_dump` wrote it.
pub fn archive_as_sql(
    clients: &Clients,
    exec: &dyn Exec,
    archive: &Path,
    into: &Path,
    stop: &Stop,
) -> Result<(), PgError> {
    match run_client(exec, &restore_as_sql(clients, archive, into), stop) {
        Err(PgError::Program { said, .. }) if said.contains("unsupported version") => Err(refused(
            format!("{} was written by a pg_dump newer than {}", archive.display(), clients.version),
            "install the PostgreSQL clients of that version, postgresql-client-18 for example",
        )),
        Err(PgError::Program { said, .. }) => {
            Err(PgError::Damaged { what: archive.display().to_string(), found: said })
        }
        other => other,
    }
}

/// Makes an empty database, with encoding and locale of another where that exists.
///
/// # Errors
/// As [`Session::run`].
pub fn create_database_beside(session: &mut Session, name: &str, like: &str) -> Result<(), PgError> {
    let rows = session.ask(&format!(
        "SELECT pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype FROM pg_catalog.pg_database WHERE datname = {}",
        literal(like)
    ))?;
    let like = rows.first().map(|row| {
        let [encoding, collate, ctype] = [row.text(0), row.text(1), row.text(2)].map(literal);
        format!(" ENCODING {encoding} LC_COLLATE {collate} LC_CTYPE {ctype}")
    });
    session.run(&format!("CREATE DATABASE {} TEMPLATE template0{}", quoted(name), like.unwrap_or_default()))
}

/// Loads a file of SQL into an empty database and ends at the first error.
///
/// Left out, and told: statements about what is not this database's own (roles, databases, tablespaces, settings of the
/// server), owners and grants for roles that are not here or not ours to give, and what removes things that are not there.
/// Refused: rows from files and programs of the server, and files that hold several databases.
///
/// # Errors
/// [`PgError::Refused`] with the line, by its class; [`PgError::Damaged`] when the file ends too early.
pub fn load_sql(
    address: &super::Address,
    path: &Path,
    form: DumpForm,
    stop: &Stop,
    progress: &dyn Fn(u64),
) -> Result<Loaded, PgError> {
    let file = files::open(path)
        .map_err(|error| PgError::Ours { doing: format!("read {}", path.display()), source: error.source })?;
    let from: Opened = match form {
        DumpForm::SqlGz => gzip::decompressed(file),
        DumpForm::Sql | DumpForm::Archive => Box::new(file),
    };
    let mut session = open_writer(address, stop)?;
    // What a file does not say is meant as for everybody who runs it.
    session.run("SET search_path = public; SET row_security = on; SET client_min_messages = error")?;
    let mut script = Script::new(BufReader::with_capacity(1 << 20, from));
    let mut loading =
        Loading { path, loaded: Loaded::default(), left_out: [0; 3], connected_to: None, first: [const { None }; 3] };
    loop {
        stop.check()?;
        let piece = script.next().map_err(|source| cut_or_ours(path, source))?;
        progress(script.bytes);
        match piece {
            None => break,
            Some(Piece::Command(text, line)) => loading.command(&text, line)?,
            Some(Piece::Statement(sql, line)) => loading.statement(&mut session, &sql, line)?,
            Some(Piece::Copy(sql, line)) => {
                let copied = session.copy_in(&sql, &mut script.rows(), &|_| ());
                loading.loaded.brought_rows += 1;
                match copied {
                    Ok(_) => {}
                    Err(PgError::Ours { source, .. }) => return Err(cut_or_ours(path, source)),
                    Err(error) => {
                        return Err(about(error, &format!("load the rows after line {line} of {}", path.display())));
                    }
                }
            }
        }
    }
    if script.trailers < script.headings {
        let found = "the line that ends every dump is missing: it was cut, or pg_dump did not finish".to_owned();
        return Err(PgError::Damaged { what: path.display().to_string(), found });
    }
    Ok(loading.ended())
}

struct Loading<'a> {
    path: &'a Path,
    loaded: Loaded,
    /// How many statements of each kind were left out, and what was said of the first.
    left_out: [u64; 3],
    first: [Option<String>; 3],
    connected_to: Option<String>,
}

/// Why a statement is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeftOut {
    OfTheServer = 0,
    OwnersAndGrants = 1,
    NotThere = 2,
}

impl Loading<'_> {
    /// Lines that newer versions of `pg_dump` write for newer versions of `psql` mean nothing here. Nothing else is obeyed.
    fn command(&mut self, text: &str, line: u64) -> Result<(), PgError> {
        let mut words = text.split_whitespace();
        match words.next().unwrap_or_default() {
            "\\restrict" | "\\unrestrict" | "\\encoding" | "\\set" | "\\echo" | "\\." => Ok(()),
            "\\connect" | "\\c" => {
                let name = words.find(|word| !word.starts_with("-")).unwrap_or_default().trim_matches('"').to_owned();
                match &self.connected_to {
                    Some(other) if *other != name && self.loaded.tables > 0 => Err(refused(
                        format!("line {line} of {} goes on with a second database, {name}", self.path.display()),
                        "dump one database alone: pg_dump DATABASE",
                    )),
                    _ => {
                        self.connected_to = Some(name);
                        Ok(())
                    }
                }
            }
            other => Err(refused(
                format!("line {line} of {} is a command of psql that is not carried out: {other}", self.path.display()),
                "take the line out when you know what it is for; dumps of pg_dump have none",
            )),
        }
    }

    fn statement(&mut self, session: &mut Session, sql: &str, line: u64) -> Result<(), PgError> {
        let head = Head::of(sql);
        if head.reads_files_of_the_server() {
            return Err(refused(
                format!("line {line} of {} reads a file or starts a program on the server", self.path.display()),
                "dumps of pg_dump have no such line; make the dump with pg_dump",
            ));
        }
        if head.is_of_the_server() {
            self.leave_out(LeftOut::OfTheServer, sql);
            return Ok(());
        }
        match session.run(sql) {
            Ok(()) => {
                self.loaded.statements += 1;
                self.loaded.tables += u64::from(head.makes_a_table());
                self.loaded.brought_rows += u64::from(head.first() == "insert");
                Ok(())
            }
            Err(error) => match head.may_fail(error.class(), error.code()) {
                Some(why) => {
                    self.leave_out(why, &error.to_string());
                    Ok(())
                }
                None => Err(about(error, &format!("run line {line} of {}", self.path.display()))),
            },
        }
    }

    fn leave_out(&mut self, why: LeftOut, said: &str) {
        let at = why as usize;
        self.left_out[at] += 1;
        self.first[at].get_or_insert_with(|| said.lines().next().unwrap_or_default().chars().take(160).collect());
    }

    fn ended(mut self) -> Loaded {
        let about = [
            "about roles, databases, tablespaces or the server are left out: only this database is taken in",
            "about owners and grants are left out; make the roles first to keep them",
            "that remove what is not there are left out",
        ];
        for (at, what) in about.into_iter().enumerate() {
            if let (count @ 1.., Some(first)) = (self.left_out[at], &self.first[at]) {
                self.loaded.notes.push(format!("{count} statements {what} (the first: {first})."));
            }
        }
        self.loaded
    }
}

/// The first words of a statement, in small letters.
struct Head(Vec<String>);

impl Head {
    fn of(sql: &str) -> Head {
        let word = |text: &str| text.trim_matches(['(', ')', ';']).to_ascii_lowercase();
        Head(sql.split_whitespace().take(40).map(word).collect())
    }

    fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    fn is(&self, words: &[&[&str]]) -> bool {
        words.iter().enumerate().all(|(at, any)| self.0.get(at).is_some_and(|word| any.contains(&word.as_str())))
    }

    fn has(&self, two: [&str; 2]) -> bool {
        self.0.windows(2).any(|pair| pair[0] == two[0] && pair[1] == two[1])
    }

    fn makes_a_table(&self) -> bool {
        self.is(&[&["create"], &["table"]]) || self.is(&[&["create"], &["unlogged"], &["table"]])
    }

    fn reads_files_of_the_server(&self) -> bool {
        self.first() == "copy"
            && (self.has(["from", "program"])
                || self.has(["to", "program"])
                || !self.0.iter().any(|word| word == "stdout"))
    }

    /// What is not this database's own: it would change the server, or the live database by its name.
    fn is_of_the_server(&self) -> bool {
        let changes: &[&str] = &["create", "alter", "drop"];
        let role = self.is(&[changes, &["role", "user", "group"]]) && !self.is(&[changes, &["user"], &["mapping"]]);
        let server = self.is(&[changes, &["database", "tablespace", "system"]]);
        let about = self.is(&[&["comment"], &["on"], &["database", "role", "tablespace"]])
            || self.is(&[&["security"], &["label"]]);
        let granted = matches!(self.first(), "grant" | "revoke");
        let grants = granted
            && (self.has(["on", "database"]) || self.has(["on", "tablespace"]) || self.has(["on", "parameter"]));
        // GRANT a TO b: membership of a role.
        role || server || about || grants || (granted && !self.0.iter().any(|word| word == "on"))
    }

    /// Whether a failure of it is known noise.
    fn may_fail(&self, class: Option<FailureClass>, code: Option<&str>) -> Option<LeftOut> {
        let gives = matches!(self.first(), "grant" | "revoke")
            || self.has(["owner", "to"])
            || self.is(&[&["alter"], &["default"], &["privileges"]]);
        let lacks =
            matches!(class, Some(FailureClass::MissingRole | FailureClass::Permission | FailureClass::Extension));
        let removes = self.first() == "drop" || (self.first() == "alter" && self.0.iter().any(|word| word == "drop"));
        let comment = self.is(&[&["comment"], &["on"], &["extension"]]);
        let public = self.is(&[&["create"], &["schema"], &["public"]]) && code == Some("42P06");
        let setting = self.first() == "set" && class == Some(FailureClass::Version);
        match () {
            () if gives && lacks => Some(LeftOut::OwnersAndGrants),
            () if removes && class == Some(FailureClass::MissingRelation) => Some(LeftOut::NotThere),
            () if comment && lacks || public || setting => Some(LeftOut::NotThere),
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_the_server_are_known() {
        for sql in [
            "CREATE ROLE app",
            "ALTER USER app SET x = 1",
            "DROP DATABASE shop",
            "ALTER SYSTEM SET x = 1",
            "GRANT app TO web",
            "GRANT CONNECT ON DATABASE shop TO app",
            "COMMENT ON DATABASE shop IS 'x'",
            "CREATE TABLESPACE fast LOCATION '/x'",
        ] {
            assert!(Head::of(sql).is_of_the_server(), "{sql}");
        }
        for sql in [
            "CREATE TABLE role (a int)",
            "GRANT SELECT ON TABLE t TO app",
            "CREATE USER MAPPING FOR app SERVER s",
            "ALTER TABLE t OWNER TO app",
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app",
            "COMMENT ON TABLE t IS 'database'",
        ] {
            assert!(!Head::of(sql).is_of_the_server(), "{sql}");
        }
        assert!(Head::of("COPY t FROM '/etc/passwd'").reads_files_of_the_server());
        assert!(Head::of("COPY t FROM PROGRAM 'id'").reads_files_of_the_server());
        assert!(!Head::of("INSERT INTO t SELECT 1").reads_files_of_the_server());
    }

    #[test]
    fn only_known_noise_may_fail() {
        let may = |sql: &str, class| Head::of(sql).may_fail(class, None);
        assert_eq!(
            may("ALTER TABLE public.t OWNER TO app", Some(FailureClass::MissingRole)),
            Some(LeftOut::OwnersAndGrants)
        );
        assert_eq!(
            may("GRANT SELECT ON TABLE t TO app", Some(FailureClass::Permission)),
            Some(LeftOut::OwnersAndGrants)
        );
        assert_eq!(may("DROP TABLE public.t", Some(FailureClass::MissingRelation)), Some(LeftOut::NotThere));
        assert_eq!(may("SET transaction_timeout = 0", Some(FailureClass::Version)), Some(LeftOut::NotThere));
        assert_eq!(may("CREATE TABLE t (a missing)", Some(FailureClass::MissingRelation)), None);
        assert_eq!(may("ALTER TABLE public.t OWNER TO app", Some(FailureClass::MissingRelation)), None);
        assert_eq!(may("INSERT INTO t VALUES (1)", Some(FailureClass::DuplicateKey)), None);
    }
}
