//! The mirror of a SQLite file in a PostgreSQL database. The file is always right; the cloud follows, holds still while it
//! is away, and gets every change once.
//!
//! Changes wait in the file itself (`io`'s outbox), how far they are delivered stands in the cloud (its watermark), and
//! what cannot be delivered is remembered on this host (`store`'s memory of the mirror). Switching, clearing, attaching
//! and re-syncing are operations with a plan and a journal; delivering is not: its journal is the watermark.

mod cloud;
mod compare;
mod copy;
mod dedupe;
mod deliver;
mod drill;
mod isolate;
mod merge;
mod parents;
mod queue;
mod salvage;
mod stream;
mod widen;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use lifeboat_io::{
    Io, Stop,
    database::sqlite::{Attachment, Identity, Outbox, Shapes},
    files,
};
use lifeboat_model::{
    Failure, FailureKind, ResourceName, Scope,
    sync::{Breaker, BreakerState, Link, Mode, QueueStatus, Reach, Said, Switch, SyncStatus, Tier},
    variables::value_of,
};
use lifeboat_store::{MirrorError, MirrorMemory, StateFolder};

use self::cloud::Cloud;
use crate::{Engine, Vaults, act::sqlite_failure};

pub use compare::{Compared, TableCompared};
pub use merge::Standings;

/// How long somebody who compares or re-syncs waits for a worker to come to the end of its batch.
const TURN_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(30);
const TURN_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// One link, ready to deliver, compare and answer.
pub struct Mirror {
    link: Link,
    scope: Scope,
    io: Io,
    vaults: Arc<dyn Vaults>,
    state: StateFolder,
    memory: MirrorMemory,
    /// The tables as they were at this number of the schema.
    shapes: Option<(i64, Shapes)>,
    cloud: Option<Cloud>,
    breaker: Breaker,
    rows_at_once: u32,
    /// How streams of rows went so far.
    streams: stream::Streams,
    /// Who we are to the cloud: another one for each mirror that is opened.
    owner: String,
    /// Where rows go that the cloud has otherwise, while they are being saved.
    saving: Option<files::AppendFile>,
}

impl Mirror {
    /// Opens what is remembered of a link; nothing is sent anywhere.
    ///
    /// # Errors
    /// When either cannot be opened.
    pub fn open(
        link: &Link,
        scope: &Scope,
        io: &Io,
        state: &StateFolder,
        vaults: &Arc<dyn Vaults>,
    ) -> Result<Mirror, Failure> {
        let memory = MirrorMemory::open(&state.mirror(scope, &link.name)).map_err(|error| memory_failure(&error))?;
        Ok(Mirror {
            link: link.clone(),
            scope: scope.clone(),
            io: io.clone(),
            vaults: vaults.clone(),
            state: state.clone(),
            memory,
            shapes: None,
            cloud: None,
            breaker: Breaker::default(),
            rows_at_once: link.batch_rows,
            streams: stream::Streams::default(),
            owner: random_name(io),
            saving: None,
        })
    }

    /// Who the file will be to the cloud, when nobody has said it yet.
    pub(crate) fn fresh_identity(&self) -> Identity {
        Identity { database: random_name(&self.io), token: random_name(&self.io) }
    }

    /// The file, for one piece of work in it: never kept while the cloud is asked for something.
    pub(crate) fn outbox(&self) -> Result<Outbox, Failure> {
        Outbox::open(&self.link.file).map_err(|error| sqlite_failure(&error))
    }

    /// What attaching would put into the file.
    pub(crate) fn plan_attach(&self) -> Result<Attachment, Failure> {
        let fresh = self.fresh_identity();
        self.outbox()?.plan_attach(&self.link.tables, &fresh).map_err(|error| sqlite_failure(&error))
    }

    /// The link.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The name under which the cloud knows this file.
    fn source(&self) -> String {
        format!("{}/{}", self.scope, self.link.name)
    }

    /// Where queues are saved.
    fn queues(&self) -> PathBuf {
        self.state.queues(&self.scope, &self.link.name)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.io.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What the environment says, and the app's file of variables as it is now: a daemon need not be started again for it.
    pub fn said(&self) -> Said {
        said(&self.link, &self.io)
    }

    /// Whether the HTTP side of a Supabase project answers; nothing when `SUPABASE_URL` names none, or no connection may be
    /// opened.
    pub fn reach(&self) -> Option<Reach> {
        let url = variable(&self.io, &variables(&self.link)?, "SUPABASE_URL")?;
        let asked = format!("{}/rest/v1/", url.trim_end_matches('/'));
        (!self.said().local_only).then(|| Reach::of(lifeboat_io::answers_over_the_web(&asked)))
    }

    /// What the cloud's tables cannot hold of the file's, and how much of them is missing and will be made.
    ///
    /// # Errors
    /// When either side cannot be asked.
    pub fn schema_drift(&mut self, stop: &Stop) -> Result<(Vec<String>, usize), Failure> {
        let mut session = self.session(stop)?;
        let lacking = self.lacking(&mut session)?;
        let unfit = lacking.unfit.into_iter().map(|(table, why)| format!("{table}: {why}")).collect();
        Ok((unfit, lacking.statements.len()))
    }

    /// Whether changes are delivered: what the environment says wins over the switch.
    ///
    /// # Errors
    /// When the switch cannot be read.
    pub fn is_enabled(&self) -> Result<bool, Failure> {
        Ok(self.said().refusal().is_none() && self.switch()?.is_some_and(|switch| switch.enabled))
    }

    /// How it is switched; nothing when it has never been attached.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn switch(&self) -> Result<Option<Switch>, Failure> {
        self.memory.switch().map_err(|error| memory_failure(&error))
    }

    /// Switches it, or forgets that it ever was.
    pub(crate) fn set_switch(&self, switch: Option<&Switch>) -> Result<(), Failure> {
        self.memory.set_switch(switch).map_err(|error| memory_failure(&error))
    }

    /// Why nothing may be delivered; nothing when it may.
    fn refusal(&self) -> Result<Option<Failure>, Failure> {
        if let Some(setting) = self.said().refusal() {
            let failure =
                Failure::new(FailureKind::Refused, format!("{setting} keeps the mirror {} off", self.link.name));
            return Ok(Some(
                failure.hint("take it out of the environment or the app's .env, and start Lifeboat again"),
            ));
        }
        Ok(match self.switch()? {
            Some(switch) if switch.enabled => None,
            Some(switch) => {
                let message = format!("the mirror {} is switched off", self.link.name);
                let since = switch.since.strftime("%Y-%m-%d %H:%M:%S UTC");
                let because = match switch.why.is_empty() {
                    true => format!("{}, {since}", switch.by),
                    false => format!("{}, {since}: {}", switch.by, switch.why),
                };
                Some(Failure::new(FailureKind::Refused, message).because(because).hint("lifeboat sync enable"))
            }
            None => Some(not_attached(&self.link)),
        })
    }

    /// Looks at the file's tables again when its schema has changed.
    fn shapes(&mut self) -> Result<&Shapes, Failure> {
        let outbox = self.outbox()?;
        let version = outbox.schema_version().map_err(|error| sqlite_failure(&error))?;
        if self.shapes.as_ref().is_none_or(|(known, _)| *known != version) {
            let shapes = outbox.shapes().map_err(|error| sqlite_failure(&error))?;
            self.shapes = Some((version, shapes));
        }
        match &self.shapes {
            Some((_, shapes)) => Ok(shapes),
            None => Err(Failure::new(FailureKind::Bug, "the tables were read and are not there")),
        }
    }

    /// The answer of `/api/sync/status`. It changes nothing in the file: plans ask it, too.
    ///
    /// # Errors
    /// When the file or the memory cannot be read.
    pub fn status(&self) -> Result<SyncStatus, Failure> {
        let failed = |error: MirrorError| memory_failure(&error);
        let outbox = self.outbox()?;
        let attached = outbox.is_attached().map_err(|error| sqlite_failure(&error))?;
        let switch = self.switch()?;
        let now = self.io.clock.now();
        let mut queue = QueueStatus::default();
        if attached {
            let waiting = outbox.waiting().map_err(|error| sqlite_failure(&error))?;
            self.memory.see(waiting.newest, waiting.over, now).map_err(failed)?;
            queue.queue_size = waiting.changes();
            if queue.queue_size > 0 {
                let seen = self.memory.seen_at(waiting.over + 1).map_err(failed)?;
                let waited = seen.map(|seen| lifeboat_model::time::since(seen, now).as_millis());
                queue.oldest_ms = waited.and_then(|waited| u64::try_from(waited).ok());
            }
            queue.tables = waiting.tables;
        }
        (queue.total_failed, queue.rls_violations) = self.memory.letter_counts().map_err(failed)?;
        queue.failed_ever = self.memory.letters_ever().map_err(failed)?;
        queue.tier = Tier::of(queue.queue_size);
        let reason = match (self.said().refusal(), &switch) {
            (Some(setting), _) => setting.to_owned(),
            (None, Some(switch)) => {
                let what = if switch.enabled { "enabled" } else { "disabled" };
                let why = if switch.why.is_empty() { String::new() } else { format!(": {}", switch.why) };
                format!("{what} by {} at {}{why}", switch.by, switch.since)
            }
            (None, None) => "never attached".to_owned(),
        };
        Ok(SyncStatus {
            link: self.link.name.clone(),
            enabled: self.is_enabled()?,
            reason,
            paused_since: switch.filter(|switch| !switch.enabled).map(|switch| switch.since),
            mode: if self.said().local_only { Mode::LocalOnly } else { Mode::Hybrid },
            attached,
            queue,
            last_sync: self.memory.last_sync().map_err(failed)?,
            last_error: self.memory.last_error().map_err(failed)?,
            breaker: self.breaker.state(self.now_ms()),
            held_deletes: self.memory.held().map_err(failed)?,
            unverified: self.memory.unverified().map_err(failed)?,
            resync: self.memory.resync().map_err(failed)?,
        })
    }

    /// Makes entries of new rows that no trigger has noted: all of what came up to now is in the outbox then.
    pub(crate) fn note_new_rows(&self) -> Result<(), Failure> {
        self.outbox()?.note_new_rows(u64::MAX).map(drop).map_err(|error| sqlite_failure(&error))
    }

    /// Does the same as far as it goes at once, also while nothing may be delivered: so it is known since when something waits,
    /// and what is new does not pile up unseen.
    pub fn look(&self) {
        if let Ok(outbox) = self.outbox() {
            outbox.note_new_rows_soon();
        }
    }

    /// Whether something may be tried now, or the cloud is left alone for a while.
    pub fn may_try(&self) -> bool {
        self.breaker.may_try(self.now_ms())
    }

    /// Whether the cloud is being tried.
    pub fn breaker(&self) -> BreakerState {
        self.breaker.state(self.now_ms())
    }

    /// Somebody wants it tried now.
    pub fn try_now(&mut self) {
        self.breaker.try_now();
    }

    /// Takes the place of the one who delivers again and again from this host; nobody else does, as long as it is held.
    ///
    /// # Errors
    /// Another process has it.
    pub fn be_worker(&self) -> Result<files::LockedFile, Failure> {
        let path = self.state.mirror(&self.scope, &self.link.name).with_extension("worker");
        match files::lock_file(&path).map_err(|error| Failure::from_error(FailureKind::Outside, &error))? {
            Some(place) => Ok(place),
            None => {
                let message = format!("another process delivers for the mirror {} already", self.link.name);
                Err(Failure::new(FailureKind::Busy, message)
                    .hint("end it first: lifeboat serve and lifeboat sync run deliver"))
            }
        }
    }

    /// The turn, as soon as whoever has it is at a safe point; a worker needs at most a batch for that.
    fn turn_soon(&self, stop: &Stop) -> Result<files::LockedFile, Failure> {
        let began = self.io.clock.elapsed();
        loop {
            match self.turn() {
                Err(failure)
                    if failure.kind == FailureKind::Busy
                        && self.io.clock.elapsed().saturating_sub(began) < TURN_WAIT_MAX =>
                {
                    self.io
                        .clock
                        .sleep(TURN_PAUSE, stop)
                        .map_err(|_| Failure::new(FailureKind::Interrupted, "broken off on request"))?;
                }
                other => return other,
            }
        }
    }

    /// Holds the turn to deliver from this host: one at a time, whether it drains, compares or re-syncs.
    fn turn(&self) -> Result<files::LockedFile, Failure> {
        let path = self.state.mirror(&self.scope, &self.link.name).with_extension("turn");
        match files::lock_file(&path).map_err(|error| Failure::from_error(FailureKind::Outside, &error))? {
            Some(turn) => Ok(turn),
            None => {
                let message = format!("another process delivers for the mirror {} just now", self.link.name);
                Err(Failure::new(FailureKind::Busy, message)
                    .hint("wait for it; lifeboat sync status shows how far it is"))
            }
        }
    }
}

/// What the environment says about a mirror, and the app's file of variables as it is now.
pub(crate) fn said(link: &Link, io: &Io) -> Said {
    if link.env_file.is_none() {
        return link.said.clone();
    }
    match variables(link) {
        Some(text) => Said::of(|name| variable(io, &text, name)),
        // It may say that nothing is to be delivered.
        None => Said { unknown: true, ..Said::of(|name| variable(io, "", name)) },
    }
}

/// The app's file of variables, empty when there is none; nothing when it cannot be read.
fn variables(link: &Link) -> Option<String> {
    match link.env_file.as_ref().filter(|file| files::exists(file)) {
        Some(file) => files::read_text(file).ok(),
        None => Some(String::new()),
    }
}

fn variable(io: &Io, file: &str, name: &str) -> Option<String> {
    let set = io.env.var(name).and_then(|value| value.into_string().ok());
    set.or_else(|| value_of(file, name))
}

/// A name that nobody has had before.
fn random_name(io: &Io) -> String {
    format!("{:016x}{:016x}", io.random.bits(), io.random.bits())
}

fn not_attached(link: &Link) -> Failure {
    let message = format!("{} has no triggers of a mirror yet", link.file.display());
    Failure::new(FailureKind::Refused, message).hint("lifeboat sync attach")
}

pub(crate) fn memory_failure(error: &MirrorError) -> Failure {
    Failure::from_error(FailureKind::Outside, error)
}

/// Columns by name, as the queue and its dead letters tell keys.
fn named(names: &[&str], values: &[lifeboat_model::sync::Value]) -> BTreeMap<String, lifeboat_model::sync::Value> {
    names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

impl Engine {
    /// The link of that name; the only one when none is named.
    ///
    /// # Errors
    /// There is none, or there are several and none is named.
    pub fn link(&self, name: Option<&ResourceName>) -> Result<&Link, Failure> {
        let links = &self.setup.links;
        let known: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        match (name, links.as_slice()) {
            (_, []) => {
                let failure = Failure::new(FailureKind::Usage, format!("{} mirrors nothing", self.setup.scope));
                Err(failure.hint(format!(
                    "write [environments.{}.links.cloud] with from and to into lifeboat.toml",
                    self.setup.scope.environment
                )))
            }
            (None, [only]) => Ok(only),
            (None, _several) => {
                let failure = Failure::new(FailureKind::Usage, format!("{} has several mirrors", self.setup.scope));
                Err(failure.hint(format!("say which with --link: {}", known.join(", "))))
            }
            (Some(name), _) => links.iter().find(|link| link.name == *name).ok_or_else(|| {
                let failure = Failure::new(FailureKind::Usage, format!("{} has no mirror {name}", self.setup.scope));
                failure.hint(format!("it has: {}", known.join(", ")))
            }),
        }
    }

    /// Opens the mirror of that name; the only one when none is named.
    ///
    /// # Errors
    /// As [`Engine::link`] and [`Mirror::open`].
    pub fn mirror(&self, name: Option<&ResourceName>) -> Result<Mirror, Failure> {
        Mirror::open(self.link(name)?, &self.setup.scope, &self.io, &self.state, &self.vaults)
    }
}

/// Broken off on request.
fn stopped(stop: &Stop) -> Result<(), Failure> {
    stop.check().map_err(|_| Failure::new(FailureKind::Interrupted, "broken off on request"))
}
