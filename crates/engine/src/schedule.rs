//! Doing by itself what the schedule says. What is due is decided in the model; here is what is remembered of runs, in one
//! file, and the one turn that a daemon makes again and again. Every run is an ordinary operation, asked for by `schedule`.

use std::{collections::BTreeMap, path::PathBuf};

use lifeboat_io::{Stop, files};
use lifeboat_model::{
    BackupChoice, BackupId, BackupReason, Failure, FailureKind, Lease, Operation, OperationState, Request,
    ResourceName, Timestamp, Tri, choose_backup,
    schedule::{self, Job, JobStatus, Next, Record, Run, Task},
};
use serde::{Deserialize, Serialize};

use crate::{Engine, Watch};

/// Who asks for what happens by itself.
pub const BY: &str = "schedule";

/// The schema tag of the file.
const SCHEMA: &str = "lifeboat/schedule-records@1";

/// What is remembered of all jobs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Records {
    #[serde(default)]
    schema: String,
    jobs: BTreeMap<String, Record>,
}

/// What came of a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// A job has run.
    Ran {
        /// Which.
        job: String,
        /// How it went.
        run: Run,
    },
    /// A job is due, and somebody else is at work; it is tried again soon.
    Busy {
        /// Which.
        job: String,
        /// Who is in the way.
        why: Failure,
    },
    /// Nothing is due before this instant; nothing at all when there is none.
    Waits(Option<Timestamp>),
}

impl Engine {
    /// Plans and carries out what is asked for, to its end; nothing when there is nothing to do.
    ///
    /// # Errors
    /// Why it did not come to its end.
    pub fn bring_about(
        &self,
        request: &Request,
        by: &str,
        watch: &dyn Watch,
        stop: &Stop,
    ) -> Result<Option<Operation>, Failure> {
        let plan = self.plan(request)?;
        if plan.steps().next().is_none() {
            return Ok(None);
        }
        let operation = self.run(&plan, by, watch, stop).map_err(|error| error.failure)?;
        match &operation.state {
            OperationState::Done => Ok(Some(operation)),
            OperationState::PutBack { why: Some(why) }
            | OperationState::TurningBack { why }
            | OperationState::HandedOver { why }
            | OperationState::Paused { why } => Err(why.clone()),
            OperationState::PutBack { why: None } | OperationState::Running => {
                Err(Failure::new(FailureKind::Unknown, format!("{} is not over", operation.id)))
            }
        }
    }

    /// How each job stands.
    ///
    /// # Errors
    /// When what is remembered of runs cannot be read.
    pub fn jobs(&self) -> Result<Vec<JobStatus>, Failure> {
        let schedule = &self.setup.schedule;
        if schedule.jobs.is_empty() {
            return Ok(Vec::new());
        }
        let (records, now) = (self.records()?, self.io.clock.now());
        // Only a daemon at work holds it.
        let runs = self.schedule_lock()?.is_none();
        let status = |job: &Job| schedule::status(job, records.jobs.get(&job.name), &schedule.zone, runs, now);
        Ok(schedule.jobs.iter().map(status).collect())
    }

    /// Runs the job whose time has come first, if there is one.
    ///
    /// # Errors
    /// When what is remembered of runs cannot be read or written. A job that fails is no error here.
    pub fn run_due(&self, watch: &dyn Watch, stop: &Stop) -> Result<Turn, Failure> {
        const OTHERS: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);
        let Some(_lock) = self.schedule_lock()? else {
            return Ok(Turn::Waits(self.io.clock.now().checked_add(OTHERS).ok())); // another daemon is at it
        };
        let now = self.io.clock.now();
        let mut records = self.look_after(now)?;
        let schedule = &self.setup.schedule;
        let (mut first, mut wake): (Option<(Timestamp, &Job)>, Option<Timestamp>) = (None, None);
        for job in &schedule.jobs {
            match schedule::next(job, &records.jobs[&job.name], &schedule.zone, now) {
                Next::Run(due) => {
                    let earlier = first.is_none_or(|(at, other)| (due, &job.task) < (at, &other.task));
                    first = if earlier { Some((due, job)) } else { first };
                }
                Next::Wait(until) => wake = Some(wake.map_or(until, |wake| wake.min(until))),
                Next::Never => {}
            }
        }
        let Some((due, job)) = first else { return Ok(Turn::Waits(wake)) };
        // Nothing of its own begins while the app is closed; the job is late then, and says so.
        if let Some(closed) = self.closed()? {
            let since = closed.since.strftime("%Y-%m-%d %H:%M UTC");
            let message = format!("the app is closed on purpose since {since}; nothing begins by itself");
            let hint = "when it is over: lifeboat fence off, or lifeboat resume";
            return Ok(Turn::Busy { job: job.name.clone(), why: Failure::new(FailureKind::Busy, message).hint(hint) });
        }
        self.run_job(job, due, &mut records, watch, stop)
    }

    fn run_job(
        &self,
        job: &Job,
        due: Timestamp,
        records: &mut Records,
        watch: &dyn Watch,
        stop: &Stop,
    ) -> Result<Turn, Failure> {
        let before = records.jobs[&job.name].clone();
        let mut record = before.clone();
        let mut run = Run::begin(due, self.io.clock.now());
        record.last = Some(run.clone());
        records.jobs.insert(job.name.clone(), record.clone());
        self.remember(records)?;
        let done = self.do_task(&job.task, &mut run, watch, stop);
        run.ended = Some(self.io.clock.now());
        let put_off = matches!(&done, Err(failure) if is_put_off(failure));
        match &done {
            // It has not failed: it has not had its turn.
            Err(_) if put_off => record = before,
            Ok(()) => record = Record { served: Some(due), failures: 0, last: Some(run.clone()), ..record },
            Err(failure) => {
                run.why = Some(failure.to_string());
                record.failures += 1;
                record.last = Some(run.clone());
            }
        }
        records.jobs.insert(job.name.clone(), record);
        self.remember(records)?;
        let job = job.name.clone();
        Ok(match done {
            Err(why) if put_off => Turn::Busy { job, why },
            Ok(()) | Err(_) => Turn::Ran { job, run },
        })
    }

    fn do_task(&self, task: &Task, run: &mut Run, watch: &dyn Watch, stop: &Stop) -> Result<(), Failure> {
        let bring_about = |request: Request, run: &mut Run| -> Result<Option<Operation>, Failure> {
            let operation = self.bring_about(&request, BY, watch, stop)?;
            run.operations.extend(operation.iter().map(|operation| operation.id.to_string()));
            Ok(operation)
        };
        match task {
            Task::Backup { resources } => {
                let (resources, reason) = (resources.clone(), BackupReason::Scheduled);
                bring_about(Request::Backup { resources: resources.clone(), reason, label: None }, run)?;
                let (operations, notes) = self.after_backup(&resources, BY, watch, stop);
                run.operations.extend(operations);
                run.notes.extend(notes);
                Ok(())
            }
            Task::Retention => bring_about(Request::Retention, run).map(|_operation| ()),
            Task::Prune => bring_about(Request::Prune, run).map(|_operation| ()),
            Task::Copy => {
                let copies = self.setup.copies.iter().map(|copy| Request::Copy { to: copy.name.clone() });
                let plain = self.setup.elsewhere.keys().map(|name| Request::Send { resource: name.clone() });
                let copied = copies.chain(plain).map(|request| bring_about(request, run));
                // Each is tried: one that does not answer keeps no other from being served.
                let failed: Vec<Failure> = copied.filter_map(Result::err).collect();
                failed.into_iter().next().map_or(Ok(()), Err)
            }
            Task::Prove { resources } => {
                for (backup, resources) in self.newest_backups(resources)? {
                    let request = Request::Prove { backup: BackupChoice::Exactly(backup.clone()), resources };
                    let Some(operation) = bring_about(request, run)? else { continue };
                    let kind = match Tri::worst(Engine::proofs_of(&operation).iter().map(|proof| proof.outcome)) {
                        Tri::Pass => continue,
                        Tri::Fail => FailureKind::Damaged,
                        Tri::Unknown => FailureKind::Unknown,
                    };
                    let failure = Failure::new(kind, format!("the proof of {backup} did not pass"));
                    return Err(failure.hint(format!("lifeboat watch {}", operation.id)));
                }
                Ok(())
            }
        }
    }

    /// What belongs to a backup and does not make it less good when it fails: files beside databases and second vaults are
    /// renewed. Gives the operations it was, and what went wrong.
    pub fn after_backup(
        &self,
        resources: &[ResourceName],
        by: &str,
        watch: &dyn Watch,
        stop: &Stop,
    ) -> (Vec<String>, Vec<String>) {
        let (mut operations, mut notes) = (Vec::new(), Vec::new());
        let meant = |name: &ResourceName| resources.is_empty() || resources.contains(name);
        let aliases = self.setup.resources.iter().filter(|one| self.setup.aliases.contains(&one.name));
        for database in aliases.filter(|one| meant(&one.name)) {
            if let Err(failure) = self.renew_alias(database, by, watch, stop) {
                notes.push(format!("the copy beside {} was not renewed: {failure}", database.name));
            }
        }
        let dated = self.setup.resources.iter().filter(|one| self.setup.dated.contains_key(&one.name));
        for database in dated.filter(|one| meant(&one.name)) {
            if let Err(failure) = self.dated_copy(database, by, watch, stop) {
                notes.push(format!("no copy of the day was made beside {}: {failure}", database.name));
            }
        }
        for copy in self.setup.copies.iter().filter(|copy| copy.after_backup) {
            match self.bring_about(&Request::Copy { to: copy.name.clone() }, by, watch, stop) {
                Ok(operation) => operations.extend(operation.iter().map(|operation| operation.id.to_string())),
                Err(failure) => notes.push(format!("the copy {} was not brought up to date: {failure}", copy.name)),
            }
        }
        (operations, notes)
    }

    /// The newest good backup of each resource, with the resources that are in it.
    fn newest_backups(&self, named: &[ResourceName]) -> Result<BTreeMap<BackupId, Vec<ResourceName>>, Failure> {
        let (all, mut found) = (self.backups()?, BTreeMap::<BackupId, Vec<ResourceName>>::new());
        let meant = self.setup.resources.iter().map(|resource| &resource.name);
        for name in meant.filter(|name| named.is_empty() || named.contains(name)) {
            let newest = choose_backup(&all, &self.setup.scope, name, &BackupChoice::Latest)
                .map_err(|error| Failure::from_error(FailureKind::Refused, &error))?;
            found.entry(newest.id.clone()).or_default().push(name.clone());
        }
        Ok(found)
    }

    /// The file about this environment, named as its lease is.
    fn schedule_file(&self, end: &str) -> PathBuf {
        let lease = self.state.lease(&self.setup.scope, Lease::Environment);
        let name = lease.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.state.root().join(format!("schedule.{name}.{end}"))
    }

    fn schedule_lock(&self) -> Result<Option<files::LockedFile>, Failure> {
        files::lock_file(&self.schedule_file("lock")).map_err(|error| self.failure(&error))
    }

    fn records(&self) -> Result<Records, Failure> {
        let path = self.schedule_file("json");
        if !files::exists(&path) {
            return Ok(Records::default());
        }
        let body = files::read(&path).map_err(|error| self.failure(&error))?;
        serde_json::from_slice(&body).map_err(|error| {
            let failure = Failure::from_error(FailureKind::Damaged, &error);
            let failure = failure.while_doing(format!("{} cannot be understood", path.display()));
            failure.hint("move it away: the schedule begins anew, and nothing that was missed is made up for")
        })
    }

    /// What is remembered, with every job that is new from now on.
    fn look_after(&self, now: Timestamp) -> Result<Records, Failure> {
        let known = self.records()?;
        let mut records = Records { schema: SCHEMA.to_owned(), ..known.clone() };
        for job in &self.setup.schedule.jobs {
            let record = records.jobs.remove(&job.name).unwrap_or_else(|| Record::new(job, now));
            records.jobs.insert(job.name.clone(), record.at_times_of(job, now));
        }
        if records.jobs != known.jobs {
            self.remember(&records)?;
        }
        Ok(records)
    }

    fn remember(&self, records: &Records) -> Result<(), Failure> {
        let body = serde_json::to_vec_pretty(records).map_err(|error| {
            Failure::new(FailureKind::Bug, "the schedule cannot be written").because(error.to_string())
        })?;
        files::write(&self.schedule_file("json"), &body).map_err(|error| self.failure(&error))
    }
}

/// Somebody else is at work, or wants us to end.
fn is_put_off(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Busy | FailureKind::Interrupted)
}
