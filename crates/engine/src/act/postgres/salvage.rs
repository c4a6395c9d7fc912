//! Rows that left with an operation: looked at, brought back, taken away again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::{Path, PathBuf},
};

use lifeboat_io::{
    Stop,
    database::postgres::{self, BringBack, BroughtIn, PgError, Session},
    files,
};
use lifeboat_model::{
    Failure, FailureKind, OperationId, Resource, Salvage, SalvagedTable,
    salvage::{BroughtBack, SALVAGE_SCHEMA},
};
use serde_json::{Value, json};

use super::{
    super::{
        Hands,
        errors::{path_failure, postgres_failure},
    },
    keeping::MANIFEST,
};
use crate::{Engine, perform::Context};

/// What was inserted by which operation: rows of a file by table.
type Rows = BTreeMap<String, BTreeSet<u64>>;

impl Engine {
    /// Everything that operations keep of rows that left, the newest first.
    ///
    /// # Errors
    /// When the state folder cannot be read.
    pub fn salvages(&self) -> Result<Vec<Salvage>, Failure> {
        let folder = self.state.root().join("salvage");
        let folders = files::list_folder(&folder).map_err(|error| path_failure(&error))?;
        let whole = folders.into_iter().filter(|folder| files::exists(&folder.join(MANIFEST)));
        let mut all = whole.map(|folder| read(&folder)).collect::<Result<Vec<_>, _>>()?;
        all.sort_by(|one, other| (other.at, &other.operation).cmp(&(one.at, &one.operation)));
        Ok(all)
    }

    /// What one operation keeps, and the folder with its files.
    ///
    /// # Errors
    /// When it keeps nothing.
    pub fn salvage(&self, operation: &OperationId) -> Result<(Salvage, PathBuf), Failure> {
        let folder = self.state.salvage(operation);
        if !files::exists(&folder.join(MANIFEST)) {
            let failure = Failure::new(FailureKind::Refused, format!("{operation} keeps no rows that left"));
            return Err(failure.hint("lifeboat salvage list"));
        }
        Ok((read(&folder)?, folder))
    }

    /// What would become of rows if they were brought back now, those that had changed (`overwrite`) and gone (`deletes`)
    /// among them. Nothing stays.
    ///
    /// # Errors
    /// When the database or the files cannot be read.
    pub fn try_bring_back(
        &self,
        operation: &OperationId,
        tables: &[String],
        (overwrite, deletes): (bool, bool),
    ) -> Result<BroughtBack, Failure> {
        let (salvage, folder) = self.salvage(operation)?;
        let (resource, url) = self.home_of(&salvage)?;
        let tables = chosen(&salvage, tables, is_chosen)?;
        let open = opener(folder);
        let moved = &resource.salvage_columns;
        let what = BringBack { tables: &tables, open: &open, moved, trial: true, overwrite, deletes };
        let failed = |error: PgError| postgres_failure(&error);
        let mut session = Session::open(&self.vaults.database(&url)?, &Stop::default()).map_err(failed)?;
        postgres::bring_back(&mut session, &what, &mut |_done| Ok(())).map_err(failed)
    }

    /// The resource whose rows these are, as the settings describe it now, and its address.
    pub(crate) fn home_of(&self, salvage: &Salvage) -> Result<(Resource, String), Failure> {
        let resource = self.setup.resource(&salvage.resource)?.clone();
        let lifeboat_model::ResourceKind::Postgres { url, .. } = &resource.kind else {
            let message = format!("{} is no database on a server any more", resource.name);
            return Err(Failure::new(FailureKind::Refused, message));
        };
        let url = url.clone();
        Ok((resource, url))
    }
}

fn read(folder: &Path) -> Result<Salvage, Failure> {
    let path = folder.join(MANIFEST);
    let body = files::read(&path).map_err(|error| path_failure(&error))?;
    let salvage: Salvage = serde_json::from_slice(&body).map_err(|error| {
        let message = format!("{} cannot be understood", path.display());
        Failure::new(FailureKind::Damaged, message).because(error.to_string())
    })?;
    if salvage.schema != SALVAGE_SCHEMA {
        let message =
            format!("{} is of the kind {}, and this version reads {SALVAGE_SCHEMA}", path.display(), salvage.schema);
        return Err(Failure::new(FailureKind::Usage, message));
    }
    Ok(salvage)
}

/// Whether a word means a table: its whole name, or that without the schema.
pub fn is_meant(table: &str, word: &str) -> bool {
    table == word || table.split_once('.').is_some_and(|(_, name)| name == word)
}

/// Whether rows of a table are brought back when these words were said. Without any word all are but the ledger of migrations: with its
/// rows the database would claim to have a schema that it does not have.
pub fn is_chosen(table: &str, words: &[String]) -> bool {
    words.is_empty() && !postgres::is_ledger(table)
}

/// The tables that words name; without any those of which that is to be said.
fn chosen(
    salvage: &Salvage,
    words: &[String],
    unnamed: fn(&str, &[String]) -> bool,
) -> Result<Vec<SalvagedTable>, Failure> {
    let unknown = words.iter().find(|word| !salvage.tables.iter().any(|table| is_meant(&table.table, word)));
    if let Some(word) = unknown {
        let known: Vec<&str> = salvage.tables.iter().map(|table| table.table.as_str()).collect();
        let failure = Failure::new(FailureKind::Usage, format!("no rows of a table {word} are kept"));
        return Err(failure.hint(format!("there are: {}", known.join(", "))));
    }
    let is_one =
        |table: &&SalvagedTable| unnamed(&table.table, words) || words.iter().any(|word| is_meant(&table.table, word));
    Ok(salvage.tables.iter().filter(is_one).cloned().collect())
}

/// Opens files of a salvage by their names.
fn opener(folder: PathBuf) -> impl Fn(&str) -> io::Result<Box<dyn Read>> {
    move |name: &str| {
        let file = files::open(&folder.join(name)).map_err(io::Error::other)?;
        Ok(Box::new(io::BufReader::with_capacity(256 << 10, file)))
    }
}

/// Rows of an operation on their way back.
pub(super) struct What<'a> {
    pub url: &'a str,
    pub from: &'a OperationId,
    pub resource: &'a Resource,
    pub tables: &'a [String],
    pub overwrite: bool,
    pub deletes: bool,
}

fn record(hands: &Hands, from: &OperationId, by: &OperationId) -> PathBuf {
    hands.state.salvage(from).join(format!("brought-back-by-{by}.json"))
}

/// What an operation has brought in so far.
fn recorded(path: &Path) -> Result<BroughtIn, Failure> {
    if !files::exists(path) {
        return Ok(BroughtIn::default());
    }
    let body = files::read(path).map_err(|error| path_failure(&error))?;
    // Before rows could be written over, it was a list of inserted ones by table.
    let plain =
        |_error| serde_json::from_slice::<Rows>(&body).map(|inserted| BroughtIn { inserted, ..BroughtIn::default() });
    serde_json::from_slice::<Record>(&body).map(|record| record.brought_in).or_else(plain).map_err(|error| {
        let message = format!("{} cannot be understood", path.display());
        Failure::new(FailureKind::Damaged, message).because(error.to_string())
    })
}

/// How it is written down.
#[derive(serde::Serialize, serde::Deserialize)]
struct Record {
    brought_in: BroughtIn,
}

/// Inserts rows again. What is inserted is on disk before it is committed, so that it can be taken away again.
pub(super) fn bring_back(hands: &Hands, what: &What<'_>, context: &Context<'_>) -> Result<Value, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let folder = hands.state.salvage(what.from);
    let tables = chosen(&read(&folder)?, what.tables, is_chosen)?;
    let path = record(hands, what.from, &context.operation.id);
    let mut record = Record { brought_in: recorded(&path)? };
    let (open, moved) = (opener(folder), &what.resource.salvage_columns);
    let (overwrite, deletes) = (what.overwrite, what.deletes);
    let ask = BringBack { tables: &tables, open: &open, moved, trial: false, overwrite, deletes };
    let mut session = Session::open(&hands.vaults.database(what.url)?, context.stop).map_err(failed)?;
    let mut write_down = |done: &BroughtBack| {
        record.brought_in.add(done);
        let body = serde_json::to_vec(&record).map_err(io::Error::other)?;
        files::write_with_mode(&path, &body, 0o600).map_err(io::Error::other)
    };
    let mut done = postgres::bring_back(&mut session, &ask, &mut write_down).map_err(failed)?;
    tell(&done, context);
    // Which rows they are is in the file.
    for table in &mut done.tables {
        [&mut table.rows, &mut table.overwritten_rows, &mut table.removed_rows].into_iter().for_each(Vec::clear);
    }
    serde_json::to_value(&done)
        .map_err(|error| Failure::new(FailureKind::Bug, "the result cannot be written").because(error.to_string()))
}

fn tell(done: &BroughtBack, context: &Context<'_>) {
    let (inserted, there, refused) = done.counts();
    context.watch.note(&format!("{inserted} rows were inserted, {there} were there already, {refused} were refused."));
    let (overwritten, removed, conflicts) = done.counts_over();
    if overwritten + removed + conflicts > 0 {
        context.watch.note(&format!(
            "{overwritten} rows were written over, {removed} were taken away, {conflicts} were touched since and left."
        ));
    }
    done.notes.iter().for_each(|note| context.watch.note(note));
}

/// Takes away what was inserted, as long as nobody has changed it since.
pub(super) fn take_away(
    hands: &Hands,
    what: &What<'_>,
    by: Option<&OperationId>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let rows = recorded(&record(hands, what.from, by.unwrap_or(&context.operation.id)))?;
    if rows.is_empty() {
        return Ok(json!({ "taken_away": 0 }));
    }
    let folder = hands.state.salvage(what.from);
    // Whatever was brought in goes.
    let tables = chosen(&read(&folder)?, what.tables, |_table, words| words.is_empty())?;
    let open = opener(folder);
    let (moved, overwrite, deletes) = (&what.resource.salvage_columns, false, false);
    let ask = BringBack { tables: &tables, open: &open, moved, trial: false, overwrite, deletes };
    let mut session = Session::open(&hands.vaults.database(what.url)?, context.stop).map_err(failed)?;
    let done = postgres::take_away(&mut session, &ask, &rows).map_err(failed)?;
    let ((gone, _, stay), (back, again, conflicts)) = (done.counts(), done.counts_over());
    let stay = stay + conflicts;
    if stay > 0 {
        context.watch.note(&format!("{stay} rows stay as they are: they were changed since, or others refer to them."));
    }
    Ok(json!({ "taken_away": gone, "written_back": back, "put_in_again": again, "stay": stay, "tables": done.tables }))
}
