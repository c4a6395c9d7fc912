//! Looking at what is live: is it sound, are its tables there, do the questions of the settings have the right answers?
//!
//! A database is looked at through a consistent copy in the state folder, so that the app is not held up and the live
//! file is not touched; the copy goes afterwards - or, when we are killed meanwhile, with the next operation.

use jiff::tz::TimeZone;
use lifeboat_io::{Stop, database::sqlite, files, lease::Process};
use lifeboat_model::{
    BackupChoice, BackupId, Category, Check, Content, Duration, Failure, Manifest, PlanId, Resource, ResourceKind,
    ResourceName, SqliteFacts, TableFacts, Timestamp, Tri, choose_backup,
    compare::{TablePolicy, check_policy},
    time::since,
};
use serde::Serialize;

use crate::{
    Engine,
    act::{path_failure, sqlite_failure},
    assertions::{self, Asserted, Assertions},
};

/// The note in a working folder that says which process works there.
const OWNER: &str = "owner.json";

/// Longer than this no look at live data takes.
const LOOK_MAX: Duration = Duration::from_secs(86_400);
/// How closely to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closely {
    /// Structure, references, counts of rows, the settings' questions.
    Quick,
    /// Every row too: digests, the rules of the schema, and the newest good backup for comparison.
    #[default]
    Full,
}

impl Closely {
    /// How long it may take; longer is told.
    pub fn budget(self) -> Duration {
        match self {
            Closely::Quick => Duration::from_secs(120),
            Closely::Full => Duration::from_secs(600),
        }
    }
}

/// What is looked at, and compared with what.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// How closely.
    pub closely: Closely,
    /// The data was just restored from this backup, and must be as it was then: nothing newer, the same samples.
    pub against: Option<BackupId>,
    /// By how much the number of rows of a table may differ from a backup, in percent.
    pub tolerance: Option<u32>,
    /// What a person asserts besides; for databases on servers.
    pub assertions: Assertions,
}

/// Rows of a table may differ by less than this, in percent, when nobody says otherwise.
pub const TOLERANCE: u32 = 50;

/// What a look at a live resource found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The resource.
    pub resource: ResourceName,
    /// Everything that was looked at.
    pub checks: Vec<Check>,
    /// The same, summed up under the lines of a validation report; a line that nothing was looked at for is not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<CategoryLine>,
    /// What a person asserts besides, with the answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assertions: Vec<Asserted>,
    /// The worst of it; unknown is not good. Assertions that are minor and do not hold count in the score alone.
    pub outcome: Tri,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A line of a validation report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CategoryLine {
    /// Which.
    pub category: Category,
    /// The worst of what counts under it.
    pub outcome: Tri,
    /// The threshold in percent, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
}

impl Engine {
    /// Looks at live resources; at all of them when none is named.
    ///
    /// # Errors
    /// A name that is not known; a backup to compare with that cannot be read; a state folder that cannot be written. What is
    /// wrong with a resource is its answer.
    pub fn verify(&self, names: &[ResourceName], look: &Look, stop: &Stop) -> Result<Vec<Verified>, Failure> {
        let chosen: Vec<&Resource> = match names {
            [] => self.setup.resources.iter().collect(),
            names => names.iter().map(|name| self.setup.resource(name)).collect::<Result<_, _>>()?,
        };
        chosen.into_iter().map(|resource| self.verify_one(resource, look, stop)).collect()
    }

    fn verify_one(&self, resource: &Resource, look: &Look, stop: &Stop) -> Result<Verified, Failure> {
        let begin = self.io.clock.elapsed();
        let mut answered = Vec::new();
        let checks = match &resource.kind {
            ResourceKind::Sqlite { path } => self.verify_sqlite(resource, path, look, stop)?,
            ResourceKind::Files { path, .. } | ResourceKind::Env { path } => {
                let readable = files::can_read(path);
                let detail = readable.as_ref().err().map_or("can be read".to_owned(), |error| error.source.to_string());
                vec![Check::new("readable", Tri::from_bool(readable.is_ok()), detail)]
            }
            ResourceKind::Postgres { url, .. } => {
                let (address, mut rows) = (self.vaults.database(url)?, Default::default());
                let mut checks = crate::act::postgres::verify(&address, resource, stop, &mut rows);
                if let Some(manifest) = self.compared_with(resource, look)?.filter(|_| !rows.is_empty()) {
                    checks.extend(crate::diagnose::counts(self, resource, &manifest, &rows, look.tolerance));
                }
                if !look.assertions.all.is_empty() {
                    let (asserted, score) = assertions::ask(&address, &look.assertions, stop);
                    answered = asserted;
                    checks.extend(score);
                }
                checks
            }
        };
        let outcome = Tri::worst(checks.iter().map(|check| check.outcome).chain(assertions::outcomes(&answered)));
        let took_ms = self.io.clock.elapsed().saturating_sub(begin).as_millis() as u64;
        let categories = categories(resource, &checks);
        Ok(Verified { resource: resource.name.clone(), checks, categories, assertions: answered, outcome, took_ms })
    }

    fn verify_sqlite(
        &self,
        resource: &Resource,
        path: &std::path::Path,
        look: &Look,
        stop: &Stop,
    ) -> Result<Vec<Check>, Failure> {
        let backup = self.compared_with(resource, look)?;
        self.sweep_staging()?;
        let folder = self.state.staging(&PlanId::from_random(self.io.random.bits()));
        files::create_private_folder(&folder).map_err(|error| path_failure(&error))?;
        // It has no journal: whoever finds the folder later has to know whose it was.
        let owner = serde_json::to_vec(&Process::this()).unwrap_or_default();
        files::write(&folder.join(OWNER), &owner).map_err(|error| path_failure(&error))?;
        let copy = folder.join("live.sqlite");
        let mut checks = self.look_through_copy(resource, path, &copy, look.closely, stop);
        if let Some(manifest) = backup.filter(|_| checks.iter().all(|check| check.name != "copy")) {
            let compared = Compared { resource, copy: &copy, manifest: &manifest, look, now: self.io.clock.now() };
            checks.extend(compared.checks(stop));
        }
        files::remove_any(&folder).map_err(|error| path_failure(&error))?;
        Ok(checks)
    }

    /// Takes away what a look at live data left behind whose process is gone. Working copies of operations have no such
    /// note: their journals know them.
    pub(crate) fn sweep_staging(&self) -> Result<(), Failure> {
        let staging = self.state.root().join("staging");
        for folder in files::list_folder(&staging).map_err(|error| path_failure(&error))? {
            let Ok(note) = files::read(&folder.join(OWNER)) else { continue };
            let Ok(owner) = serde_json::from_slice::<Process>(&note) else { continue };
            let is_old = files::modified(&folder).is_ok_and(|at| since(at, self.io.clock.now()) > LOOK_MAX);
            let is_gone = match owner.is_alive() {
                Tri::Pass => false,
                Tri::Fail => true,
                // Before a restart of this host, or in a container: no look takes that long.
                Tri::Unknown => is_old,
            };
            if is_gone && self.state.may_remove(&folder) {
                files::remove_any(&folder).map_err(|error| path_failure(&error))?;
            }
        }
        Ok(())
    }

    /// The manifest to compare with: of the backup that was named, else of the newest good one when there is one.
    fn compared_with(&self, resource: &Resource, look: &Look) -> Result<Option<Manifest>, Failure> {
        if let Some(backup) = &look.against {
            return self.manifest(backup).map(Some);
        }
        if look.closely == Closely::Quick {
            return Ok(None);
        }
        // Nothing to compare with is no fault of what is live.
        let Ok(backups) = self.backups() else { return Ok(None) };
        let newest = choose_backup(&backups, &self.setup.scope, &resource.name, &BackupChoice::Latest);
        newest.ok().map(|backup| self.manifest(&backup.id)).transpose()
    }

    fn look_through_copy(
        &self,
        resource: &Resource,
        path: &std::path::Path,
        copy: &std::path::Path,
        closely: Closely,
        stop: &Stop,
    ) -> Vec<Check> {
        let failed = |name: &str, failure: Failure| {
            // A place that does not answer says nothing about the data; a file that is no database does.
            let outcome = match failure.kind {
                lifeboat_model::FailureKind::Refused | lifeboat_model::FailureKind::Damaged => Tri::Fail,
                _cannot_tell => Tri::Unknown,
            };
            vec![Check::new(name, outcome, failure.to_string())]
        };
        let options = sqlite::CaptureOptions::default();
        if let Err(error) = sqlite::capture(path, copy, options, &*self.io.clock, stop, &|_, _| ()) {
            return failed("copy", sqlite_failure(&error));
        }
        let mut checks = sqlite::check_copy(copy, stop);
        let facts = match closely {
            Closely::Full => sqlite::inspect(copy, stop, &|_, _| ()),
            Closely::Quick => sqlite::count_rows(copy).map(only_counts),
        };
        match facts {
            Ok(facts) => checks.extend(check_policy(&facts, TablePolicy::of(resource))),
            Err(error) => checks.extend(failed("content", sqlite_failure(&error))),
        }
        if closely == Closely::Full {
            checks.extend(sqlite::check_rules(copy, stop));
        }
        checks.extend(resource.checks.iter().map(|(name, question)| sqlite::ask(copy, name, question, stop)));
        checks
    }
}

/// Counts of rows alone, in the shape in which policies look at them.
fn only_counts(rows: std::collections::BTreeMap<String, u64>) -> SqliteFacts {
    let tables = rows.into_iter().map(|(name, rows)| (name, TableFacts { rows, ..TableFacts::default() }));
    SqliteFacts { tables: tables.collect(), ..SqliteFacts::default() }
}

/// Sums checks up under the lines of a report: SQLite's own, and those that the settings put there.
fn categories(resource: &Resource, checks: &[Check]) -> Vec<CategoryLine> {
    let of = |category: Category| {
        let own = match category {
            Category::ReferentialIntegrity => "foreign keys",
            Category::RequiredFields => "required fields",
            Category::UniqueConstraints => "unique constraints",
            Category::DataQuality => "",
        };
        let counts = |check: &&Check| {
            let said = resource.checks.get(&check.name).and_then(|question| question.category);
            check.name == own || said == Some(category)
        };
        let outcomes: Vec<Tri> = checks.iter().filter(counts).map(|check| check.outcome).collect();
        let asked = resource.checks.values().filter(|question| question.category == Some(category));
        let percent = asked.filter_map(|question| question.percent).min();
        (!outcomes.is_empty()).then(|| CategoryLine { category, outcome: Tri::worst(outcomes), percent })
    };
    Category::ALL.into_iter().filter_map(of).collect()
}

/// What is live, beside what a backup says was there.
struct Compared<'a> {
    resource: &'a Resource,
    copy: &'a std::path::Path,
    manifest: &'a Manifest,
    look: &'a Look,
    now: Timestamp,
}

impl Compared<'_> {
    fn checks(&self, stop: &Stop) -> Vec<Check> {
        let part = self.manifest.resource(&self.resource.name).map(|part| &part.content);
        let Some(Content::Sqlite(before)) = part else { return Vec::new() };
        let now = match sqlite::count_rows(self.copy) {
            Ok(now) => now,
            Err(error) => return vec![Check::new("rows", Tri::Unknown, sqlite_failure(&error).to_string())],
        };
        let mut checks = vec![self.counts(before, &now)];
        let facts = sqlite::inspect(self.copy, stop, &|_, _| ());
        match (&facts, &self.look.against) {
            (Ok(facts), against) => checks.push(self.times(facts, against.is_some())),
            (Err(error), Some(_)) => checks.push(Check::new("times", Tri::Unknown, sqlite_failure(error).to_string())),
            (Err(_), None) => {}
        }
        if self.look.against.is_some() {
            checks.extend(self.samples(stop));
        }
        checks
    }

    /// Rows of the critical tables, or of all that had some: not none, and not very different.
    fn counts(&self, before: &SqliteFacts, now: &std::collections::BTreeMap<String, u64>) -> Check {
        let tolerance = u64::from(self.look.tolerance.unwrap_or(TOLERANCE));
        let meant =
            |name: &&String| self.resource.critical_tables.is_empty() || self.resource.critical_tables.contains(name);
        let mut wrong = Vec::new();
        for (name, table) in before.tables.iter().filter(|(name, table)| meant(name) && table.rows > 0) {
            let rows = now.get(name).copied().unwrap_or(0);
            // A handful of rows doubles easily: a difference of less than ten says nothing.
            let far = rows.abs_diff(table.rows) * 100 >= table.rows * tolerance && rows.abs_diff(table.rows) >= 10;
            if rows == 0 || far {
                wrong.push(format!("{name} has {rows} rows, and {} had {}", self.manifest.backup, table.rows));
            }
        }
        match wrong.is_empty() {
            true => Check::new("record counts", Tri::Pass, format!("within {tolerance} % of {}", self.manifest.backup)),
            false => Check::new("record counts", Tri::Fail, wrong.join("; ")),
        }
    }

    /// Nothing in restored data is newer than the backup; what is dated in the future is told.
    fn times(&self, facts: &SqliteFacts, restored: bool) -> Check {
        let point = self.manifest.recovery_point;
        let (mut late, mut future) = (Vec::new(), Vec::new());
        for (table, of) in &facts.tables {
            for (column, text) in &of.newest {
                let Some(at) = time_of(text) else { continue };
                if at > self.now {
                    future.push(format!("{table}.{column} {text}"));
                } else if restored && at.as_second() > point.as_second() {
                    late.push(format!("{table}.{column} {text}"));
                }
            }
        }
        let told =
            if future.is_empty() { String::new() } else { format!("; dated in the future: {}", future.join(", ")) };
        match (late.is_empty(), restored) {
            (true, true) => Check::new("times", Tri::Pass, format!("nothing is newer than {point}{told}")),
            (true, false) => Check::new("times", Tri::Pass, format!("looked at{told}")),
            (false, _) => Check::new("times", Tri::Fail, format!("newer than {point}: {}{told}", late.join(", "))),
        }
    }

    /// Rows that somebody chose as samples are those of the backup.
    fn samples(&self, stop: &Stop) -> Vec<Check> {
        let kept = self.manifest.samples.get(&self.resource.name);
        let asked = self.resource.checks.iter().filter(|(_, question)| question.sample);
        asked
            .map(|(name, question)| {
                let name = format!("sample {name}");
                let now = sqlite::sample_digest(self.copy, &question.sql, stop);
                match (now, kept.and_then(|kept| kept.get(name.trim_start_matches("sample ")))) {
                    (Ok(now), Some(before)) if now == *before => Check::new(name, Tri::Pass, "the rows of the backup"),
                    (Ok(_), Some(_)) => Check::new(name, Tri::Fail, "other rows than in the backup"),
                    (Ok(_), None) => Check::new(name, Tri::Unknown, "the backup has no digest of it"),
                    (Err(error), _) => Check::new(name, Tri::Unknown, sqlite_failure(&error).to_string()),
                }
            })
            .collect()
    }
}

/// An instant as apps write it: ISO 8601, without a zone in UTC; a day; seconds or milliseconds since 1970.
fn time_of(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return match number {
            10_000_000_000.. => Timestamp::from_millisecond(number).ok(),
            100_000_000.. => Timestamp::from_second(number).ok(),
            _small => None,
        };
    }
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|day| day.timestamp());
    crate::logs::time_in(text, &TimeZone::UTC).or_else(day)
}
