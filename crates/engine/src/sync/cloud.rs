//! The cloud as one mirror sees it: its session, its tables beside the file's, and the place that is ours there.

use std::collections::BTreeMap;

use lifeboat_io::{
    Stop,
    database::{
        postgres::{
            self, CloudTable, PgError, Session, Watermark, cloud_tables, mirror_table_sql, prepare_mirror,
            set_watermark, watermark,
        },
        sqlite::{Identity, Shapes, TableShape},
    },
    files,
};
use lifeboat_model::{Failure, FailureKind, sync::cloud_type_for};

use super::{Mirror, memory_failure, not_attached, random_name};
use crate::act::{postgres_failure, sqlite_failure};

/// A connected cloud.
pub(super) struct Cloud {
    pub session: Session,
    pub held: Watermark,
    pub tables: BTreeMap<String, Mapped>,
    /// Tables that cannot hold what the file has, and why.
    pub unfit: BTreeMap<String, String>,
    /// The order in which rows are written.
    pub order: Vec<String>,
}

/// A table on both sides.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    pub shape: TableShape,
    pub cloud: CloudTable,
    /// Which of the file's columns are written.
    pub local: Vec<usize>,
    /// The cloud's columns for them.
    pub columns: Vec<usize>,
    /// The cloud's columns of the key, in the order of the file's key.
    pub key: Vec<usize>,
}

/// What is missing in the cloud, as statements that make it, and what cannot be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lacking {
    pub statements: Vec<String>,
    pub unfit: Vec<(String, String)>,
}

impl Mirror {
    pub(super) fn session(&self, stop: &Stop) -> Result<Session, Failure> {
        let address = self.vaults.database(&self.link.cloud)?;
        let mut session = Session::open(&address, stop).map_err(|error| self.cloud_failure(&error))?;
        // Rows that a policy refuses are told one by one. Where rows are compared, hidden ones are an error instead.
        session.run("SET row_security = on").map_err(|error| self.cloud_failure(&error))?;
        Ok(session)
    }

    /// What the cloud said, without any secret in it.
    pub(super) fn cloud_failure(&self, error: &PgError) -> Failure {
        let mut failure = postgres_failure(error);
        failure.message = self.vaults.scrub(&failure.message);
        failure.causes = failure.causes.iter().map(|cause| self.vaults.scrub(cause)).collect();
        failure
    }

    /// Connects, looks at the tables, and takes the place that is ours: whoever had it before loses it.
    pub(super) fn connect(&mut self, stop: &Stop) -> Result<(), Failure> {
        if self.cloud.is_some() {
            return Ok(());
        }
        let mut session = self.session(stop)?;
        let failed = |mirror: &Mirror, error: PgError| mirror.cloud_failure(&error);
        prepare_mirror(&mut session, &self.link.schema).map_err(|error| failed(self, error))?;
        let lacking = self.lacking(&mut session)?;
        for statement in &lacking.statements {
            session.run(statement).map_err(|error| failed(self, error))?;
        }
        let held = self.claim(&mut session)?;
        let (tables, order) = self.mapped(&mut session)?;
        let unfit = lacking.unfit.into_iter().collect();
        self.cloud = Some(Cloud { session, held, tables, unfit, order });
        Ok(())
    }

    /// Makes what is missing in the cloud; fails when what is there cannot hold what the file has. Nobody's place there
    /// changes.
    pub(crate) fn prepare_cloud(&mut self, stop: &Stop) -> Result<(), Failure> {
        let mut session = self.session(stop)?;
        prepare_mirror(&mut session, &self.link.schema).map_err(|error| self.cloud_failure(&error))?;
        let lacking = self.lacking(&mut session)?;
        if !lacking.unfit.is_empty() {
            let message = format!("the tables of {} in the cloud cannot hold what the file has", self.link.schema);
            let failure = Failure::new(FailureKind::Refused, message);
            let failure =
                lacking.unfit.iter().fold(failure, |failure, (table, why)| failure.because(format!("{table}: {why}")));
            return Err(failure.hint(
                "make them fit, leave them out with `tables`, or let Lifeboat make its own: makes_tables = true",
            ));
        }
        for statement in &lacking.statements {
            session.run(statement).map_err(|error| self.cloud_failure(&error))?;
        }
        Ok(())
    }

    /// Looks at the cloud's tables again.
    pub(super) fn look_again(&mut self) -> Result<(), Failure> {
        let Some(mut cloud) = self.cloud.take() else { return Ok(()) };
        let lacking = self.lacking(&mut cloud.session)?;
        for statement in &lacking.statements {
            cloud.session.run(statement).map_err(|error| self.cloud_failure(&error))?;
        }
        (cloud.tables, cloud.order) = self.mapped(&mut cloud.session)?;
        cloud.unfit = lacking.unfit.into_iter().collect();
        self.cloud = Some(cloud);
        Ok(())
    }

    pub(super) fn mapped(&mut self, session: &mut Session) -> Result<(BTreeMap<String, Mapped>, Vec<String>), Failure> {
        let tables = cloud_tables(session, &self.link.schema).map_err(|error| self.cloud_failure(&error))?;
        let order = postgres::parents_first(&tables);
        let wanted = self.link.tables.clone();
        let shapes = self.shapes()?;
        let found = tables.into_iter().filter_map(|cloud| {
            let shape = shapes.table(&cloud.name).filter(|shape| is_wanted(&wanted, &shape.name))?;
            Some((cloud.name.clone(), map(shape, cloud).ok()?))
        });
        Ok((found.collect(), order))
    }

    /// What the cloud lacks so that it could hold what the file has.
    pub(crate) fn lacking(&mut self, session: &mut Session) -> Result<Lacking, Failure> {
        let tables = cloud_tables(session, &self.link.schema).map_err(|error| self.cloud_failure(&error))?;
        let (schema, makes, wanted) = (self.link.schema.clone(), self.link.makes_tables, self.link.tables.clone());
        Ok(lacking(self.shapes()?, &tables, &schema, makes, &wanted))
    }

    /// Takes our place at the watermark. A file that took the place of the one we knew begins anew: what waits in it was
    /// delivered long ago, or is older than what was; it is saved and not sent, and the tables are to be compared.
    fn claim(&mut self, session: &mut Session) -> Result<Watermark, Failure> {
        let sqlite = |error| sqlite_failure(&error);
        let memory = |error| memory_failure(&error);
        let identity = self.outbox()?.identity().map_err(sqlite)?.ok_or_else(|| not_attached(&self.link))?;
        // Also of a file that a restore has brought back from before this version: whoever compares is the first to see it.
        if self.outbox()?.has_layout_before().map_err(sqlite)? {
            self.make_triggers()?;
        }
        if let Some(layout) = self.outbox()?.foreign_layout().map_err(sqlite)? {
            let file = self.link.file.display();
            let message =
                format!("what notes changes in {file} was made by another version of Lifeboat (layout {layout})");
            let failure = Failure::new(FailureKind::Refused, message);
            return Err(failure.hint("run that version; everything goes on waiting, and nothing is lost"));
        }
        let waiting = self.outbox()?.waiting().map_err(sqlite)?;
        let source = self.source();
        let mark = watermark(session, &source).map_err(|error| self.cloud_failure(&error))?;
        let (fresh, owner) = (random_name(&self.io), self.owner.clone());
        let place = |epoch, seq| Watermark {
            database: identity.database.clone(),
            epoch,
            seq,
            owner: owner.clone(),
            token: fresh.clone(),
            consistent: false,
        };
        let after = match &mark {
            None => place(1, waiting.over),
            Some(mark) if mark.database != identity.database => {
                let message = format!("the cloud holds the mirror of another database as {source}");
                let failure = Failure::new(FailureKind::Refused, message);
                return Err(
                    failure.hint("name this link otherwise, or let go of the other with lifeboat sync detach there")
                );
            }
            Some(mark) if !self.is_same_file(&identity, mark, waiting.newest)? => {
                let saved = self.clear_into(&self.queue_file())?;
                let tables = self.outbox()?.numbers().map_err(sqlite)?.into_values().collect::<Vec<_>>();
                self.memory.set_verified(&tables, false).map_err(memory)?;
                self.memory.forget_seen().map_err(memory)?;
                place(mark.epoch + 1, saved.over.max(waiting.over))
            }
            Some(mark) => Watermark { consistent: mark.consistent, ..place(mark.epoch, mark.seq) },
        };
        self.memory.set_tokens(&fresh, &identity.token).map_err(memory)?;
        self.memory.set_file(&file_number(&self.link.file)).map_err(memory)?;
        self.outbox()?.set_token(&fresh).map_err(sqlite)?;
        if !set_watermark(session, &source, mark.as_ref(), &after).map_err(|error| self.cloud_failure(&error))? {
            let failure = Failure::new(FailureKind::Busy, format!("somebody else delivers as {source} at this moment"));
            return Err(failure.hint("look for a second Lifeboat that works on a copy of this file"));
        }
        // What was applied although we never heard of it is over.
        self.outbox()?.prune(after.seq).map_err(sqlite)?;
        Ok(after)
    }

    /// Whether this is the file that was delivered from last, and not an older copy of it.
    fn is_same_file(&self, identity: &Identity, mark: &Watermark, newest: i64) -> Result<bool, Failure> {
        let (now, before) = self.memory.tokens().map_err(|error| memory_failure(&error))?;
        // We died between giving the file a new token and telling the cloud.
        let half_way = now.as_ref() == Some(&identity.token) && before.as_ref() == Some(&mark.token);
        let known = identity.token == mark.token || half_way;
        let file = self.memory.file().map_err(|error| memory_failure(&error))?;
        let moved = file.is_some_and(|file| file != file_number(&self.link.file));
        Ok(known && newest >= mark.seq && !moved)
    }
}

/// The system's number for a file: another one when a file was put in its place.
fn file_number(path: &std::path::Path) -> String {
    files::identity(path).ok().flatten().map_or_else(String::new, |(device, number)| format!("{device}:{number}"))
}

fn is_wanted(wanted: &[String], name: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|one| one == name)
}

/// Finds each column of the file in the cloud.
fn map(shape: &TableShape, cloud: CloudTable) -> Result<Mapped, String> {
    let place = |name: &str| cloud.columns.iter().position(|column| column.name == name);
    let (mut local, mut columns, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (at, column) in shape.columns.iter().enumerate() {
        match place(&column.name) {
            Some(there) if cloud.columns[there].generated => {}
            Some(there) => {
                local.push(at);
                columns.push(there);
            }
            None if column.generated => {}
            None => missing.push(column.name.as_str()),
        }
    }
    if !missing.is_empty() {
        return Err(format!("the cloud's table has no column {}", missing.join(", ")));
    }
    let names = shape.key_names();
    if !cloud.is_unique_over(&names) {
        return Err(format!("the cloud's table has no primary key or unique constraint over {}", names.join(", ")));
    }
    let needed = cloud.columns.iter().enumerate().find(|(at, column)| column.needed && !columns.contains(at));
    if let Some((_, column)) = needed {
        return Err(format!("the cloud demands {}, which the file does not have", column.name));
    }
    let key = names.iter().filter_map(|name| place(name)).collect();
    Ok(Mapped { shape: shape.clone(), cloud, local, columns, key })
}

fn lacking(shapes: &Shapes, tables: &[CloudTable], schema: &str, makes: bool, wanted: &[String]) -> Lacking {
    let mut lacking = Lacking::default();
    for shape in shapes.tables.iter().filter(|shape| is_wanted(wanted, &shape.name)) {
        let Some(cloud) = tables.iter().find(|table| table.name == shape.name) else {
            match makes {
                true => lacking.statements.push(table_sql(schema, shape)),
                false => lacking.unfit.push((shape.name.clone(), "the cloud has no such table".to_owned())),
            }
            continue;
        };
        if makes {
            let new = shape.columns.iter().filter(|column| cloud.column(&column.name).is_none());
            lacking.statements.extend(new.map(|column| {
                let name = postgres::quoted(&column.name);
                format!("ALTER TABLE {} ADD COLUMN {name} {}", cloud.sql_name(), cloud_type_for(&column.declared).1)
            }));
            continue;
        }
        if let Err(why) = map(shape, cloud.clone()) {
            lacking.unfit.push((shape.name.clone(), why));
        }
    }
    lacking
}

fn table_sql(schema: &str, shape: &TableShape) -> String {
    // Keys in the order of their bytes, which is the file's: so the index finds ranges that are compared.
    let type_of = |(at, column): (usize, &lifeboat_io::database::sqlite::ColumnShape)| match (
        cloud_type_for(&column.declared).1,
        shape.key.contains(&at),
    ) {
        ("text", true) => "text COLLATE \"C\"",
        (other, _) => other,
    };
    let columns = shape.columns.iter().enumerate();
    let columns: Vec<(&str, &str)> =
        columns.map(|(at, column)| (column.name.as_str(), type_of((at, column)))).collect();
    mirror_table_sql(schema, &shape.name, &columns, &shape.key_names())
}
