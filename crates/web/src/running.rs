//! Operations that this daemon works on: each on a thread of its own, none of them on a request.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use lifeboat_engine::{Engine, RunError, Watch, ways::Handover};
use lifeboat_io::Stop;
use lifeboat_model::{Failure, FailureKind, Operation, OperationId, OperationState, Plan, PlanId, Request, VersionAsk};
use lifeboat_store::keys::{self, KeptKey, KeyError, Keys};

use crate::{
    Log,
    rolling::{self, Cleared, RollBack},
};

/// How long a request waits for its operation to have begun: another may have to be put back first.
const BEGIN_WAIT_MAX: Duration = Duration::from_secs(30);

/// So many rollbacks that are over are known with their ways.
const GONE_MAX: usize = 64;

/// All of them.
pub struct Running {
    /// Asks all of them to stop.
    stop: Stop,
    state: Mutex<State>,
    /// Held while one is begun, so that of two requests with one key the second finds the first.
    beginning: Mutex<()>,
    keys: Keys,
}

#[derive(Default)]
struct State {
    flows: BTreeMap<OperationId, Arc<Flow>>,
    threads: Vec<JoinHandle<()>>,
    /// Plans whose operation has not begun yet, or runs.
    plans: BTreeSet<PlanId>,
    /// Rollbacks that came to their end, the newest last: who asked for one may look later.
    gone: VecDeque<Arc<Flow>>,
}

/// One of them.
struct Flow {
    stop: Stop,
    /// To be put back as soon as it has stopped.
    aborts: AtomicBool,
    /// Plans that follow when a rollback failed and was put back.
    next: Mutex<BTreeSet<PlanId>>,
    went: Mutex<Ways>,
}

/// Which ways a rollback went.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// Each an operation of its own, the first that was asked for first.
    pub ways: Vec<OperationId>,
    /// Whether none follows.
    pub over: bool,
    /// Ways that were passed over, each with the reason.
    pub not_tried: Vec<String>,
    /// What a person takes over when none is left.
    pub handover: Option<Handover>,
}

impl Flow {
    fn went(&self) -> MutexGuard<'_, Ways> {
        self.went.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> MutexGuard<'_, BTreeSet<PlanId>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a request must not be done twice: who sends it, what they call it, and what it says.
#[derive(Clone, Debug)]
pub struct Once {
    /// Who, and the key.
    pub name: (String, String),
    /// The body.
    pub body: Vec<u8>,
}

/// What is to be done with an operation.
pub enum Work {
    /// A new one.
    Run(Box<Plan>),
    /// A rollback, before which others make way.
    RollBack(Box<RollBack>),
    /// One that stopped goes on.
    Resume(OperationId),
    /// One that stopped is put back.
    Abort(OperationId),
}

impl Running {
    /// None yet. Requests that are not to be done twice are remembered in that list.
    pub fn new(stop: &Stop, keys: Keys) -> Running {
        Running { stop: stop.clone(), state: Mutex::default(), beginning: Mutex::default(), keys }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations it works on now.
    pub fn count(&self) -> usize {
        self.state().flows.len()
    }

    /// Whether it works on this one.
    pub fn works_on(&self, id: &OperationId) -> bool {
        self.state().flows.contains_key(id)
    }

    /// Begins, and tells the operation's name once it is on disk. With `once`, one that was begun before is told again.
    ///
    /// # Errors
    /// When it cannot be begun; or the same key came with other words.
    pub fn begin(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        by: &str,
        once: Option<Once>,
        log: &Log,
        plan: impl FnOnce() -> Result<Work, Failure>,
    ) -> Result<OperationId, Failure> {
        let _one_at_a_time = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = once.as_ref().map(|once| self.known(engine, once)).transpose()?.flatten() {
            return Ok(known);
        }
        let mut work = plan()?;
        // On disk before the operation: a daemon that ends in between has begun nothing, or knows what.
        let mut kept = match (once, &work) {
            (Some(once), Work::Run(plan)) => Some(once.kept(&plan.id, engine)),
            (Some(once), Work::RollBack(back)) => Some(once.kept(&back.known_as, engine)),
            _ => None,
        };
        kept.iter().try_for_each(|kept| self.keys.put(kept.clone())).map_err(|error| key_failure(&error))?;
        if let Work::RollBack(back) = &mut work {
            back.kept = kept.clone();
        }
        let begun = self.start(engine, by, log, work);
        let begun = begun.recv_timeout(BEGIN_WAIT_MAX).unwrap_or_else(|_too_long| {
            let failure = Failure::new(FailureKind::Busy, "the operation has not begun yet");
            Err(failure.hint("what was interrupted before may be put back first; look at /api/operations"))
        })?;
        if let Some(kept) = &mut kept {
            kept.operation = Some(begun.clone());
            // Without it, the operation is found by its plan.
            if let Err(error) = self.keys.put(kept.clone()) {
                log.say(&format!("{begun}: {}", key_failure(&error)));
            }
        }
        Ok(begun)
    }

    fn ended(&self, flow: &Arc<Flow>) {
        let mut state = self.state();
        state.flows.retain(|_id, other| !Arc::ptr_eq(other, flow));
        if !flow.went().ways.is_empty() {
            state.gone.push_back(flow.clone());
        }
        if state.gone.len() > GONE_MAX {
            state.gone.pop_front();
        }
    }

    fn known(&self, engine: &Engine, once: &Once) -> Result<Option<OperationId>, Failure> {
        let kept = self.keys.find(&once.name.0, &once.name.1).map_err(|error| key_failure(&error))?;
        let Some(kept) = kept else { return Ok(None) };
        let operation = match kept.operation.clone() {
            Some(operation) => Some(operation),
            None => operation_of(engine, &kept)?,
        };
        let is_beginning = self.state().plans.contains(&kept.plan);
        match operation {
            None if !is_beginning => Ok(None),
            _ if kept.body_sha256 != keys::digest_of(&once.body) => {
                let what = operation.map_or_else(|| kept.plan.to_string(), |operation| operation.to_string());
                let message = format!("this Idempotency-Key was used for {what} with another body");
                Err(Failure::new(FailureKind::Refused, message).hint("use a new key"))
            }
            None => Err(Failure::new(FailureKind::Busy, "the operation has not begun yet").hint("ask again soon")),
            Some(operation) => Ok(Some(operation)),
        }
    }

    fn start(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        by: &str,
        log: &Log,
        work: Work,
    ) -> Receiver<Result<OperationId, Failure>> {
        let (tell, begun) = sync_channel(1);
        let (running, engine, by, log) = (self.clone(), engine.clone(), by.to_owned(), log.clone());
        let flow = Arc::new(Flow {
            stop: self.stop.below(),
            aborts: AtomicBool::new(false),
            next: Mutex::default(),
            went: Mutex::default(),
        });
        let plan = match &work {
            Work::Run(plan) => Some(plan.id.clone()),
            Work::RollBack(back) => Some(back.known_as.clone()),
            Work::Resume(_) | Work::Abort(_) => None,
        };
        let is_it: Box<IsIt> = match &work {
            Work::Run(plan) => {
                let plan = plan.id.clone();
                Box::new(move |operation| operation.plan.id == plan)
            }
            Work::RollBack(back) => {
                let begun = back.begun.clone();
                Box::new(move |operation| begun.get() == Some(&operation.plan.id))
            }
            Work::Resume(id) | Work::Abort(id) => {
                let id = id.clone();
                Box::new(move |operation| operation.id == id)
            }
        };
        let became = match &work {
            Work::RollBack(back) => Some(back.begun.clone()),
            Work::Run(_) | Work::Resume(_) | Work::Abort(_) => None,
        };
        let watch = Opened { running: self.clone(), flow: flow.clone(), is_it, tell: tell.clone(), log: log.clone() };
        self.state().plans.extend(plan.clone());
        let thread = std::thread::spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(|| go(&engine, &by, &watch, &flow, work)));
            flow.went().over = true;
            running.ended(&flow);
            let became = became.as_ref().and_then(|became| became.get());
            became.into_iter().for_each(|plan| {
                running.state().plans.remove(plan);
            });
            if let Some(plan) = &plan {
                running.state().plans.remove(plan);
            }
            match ended {
                Ok(Ok(operation)) => {
                    let _ = tell.try_send(Ok(operation.id.clone())); // a deploy that was taken back, and that was all
                    log.say(&format!("{} {}", operation.id, ended_how(&operation)));
                }
                Ok(Err(failure)) => {
                    log.say(&format!("an operation of {by} did not come to its end: {failure}"));
                    let _ = tell.try_send(Err(failure)); // when it had begun, that was told instead
                }
                Err(_panic) => {
                    log.say(&format!("an operation of {by} broke off by a defect; its journal says where"));
                    let bug = Failure::new(FailureKind::Bug, "the operation broke off by a defect in Lifeboat");
                    let _ = tell.try_send(Err(bug));
                }
            }
        });
        let mut state = self.state();
        state.threads.retain(|thread| !thread.is_finished());
        state.threads.push(thread);
        begun
    }

    /// What was asked for by a key has become this plan.
    fn keep(&self, back: &RollBack, plan: &PlanId, operation: Option<&OperationId>) -> Result<(), Failure> {
        let Some(kept) = &back.kept else { return Ok(()) };
        let kept = KeptKey { plan: plan.clone(), operation: operation.cloned(), ..kept.clone() };
        self.state().plans.insert(plan.clone());
        self.keys.put(kept).map_err(|error| key_failure(&error))
    }

    /// The ways of the rollback that this operation is, or is a way of.
    pub fn ways(&self, id: &OperationId) -> Option<Ways> {
        let state = self.state();
        let flow =
            state.flows.get(id).or_else(|| state.gone.iter().rev().find(|flow| flow.went().ways.contains(id)))?;
        let went = flow.went().clone();
        (!went.ways.is_empty()).then_some(went)
    }

    /// The way of that rollback that is gone now; nothing when it is not worked on here.
    pub fn last_way(&self, id: &OperationId) -> Option<OperationId> {
        let state = self.state();
        state.flows.get(id)?.went().ways.last().cloned()
    }

    /// Asks one that is worked on here to stop, and to be put back then; false when it is not worked on here.
    pub fn abort(&self, id: &OperationId, now: bool) -> bool {
        let Some(flow) = self.state().flows.get(id).cloned() else { return false };
        flow.aborts.store(true, Ordering::SeqCst);
        if now {
            flow.stop.now()
        } else {
            flow.stop.at_safe_point()
        }
        true
    }

    /// Waits until all of them have stopped, as the daemon was asked to.
    pub fn end(&self) {
        let threads = std::mem::take(&mut self.state().threads);
        for thread in threads {
            let _ = thread.join(); // one that broke has told so
        }
    }
}

impl Once {
    fn kept(self, plan: &PlanId, engine: &Engine) -> KeptKey {
        let (caller, key) = self.name;
        let (plan, at) = (plan.clone(), engine.io().clock.now());
        KeptKey { caller, key, body_sha256: keys::digest_of(&self.body), plan, operation: None, at }
    }
}

/// What a plan became, of which the daemon could not say so before it ended.
fn operation_of(engine: &Engine, kept: &KeptKey) -> Result<Option<OperationId>, Failure> {
    let look = engine.look();
    for row in look.operations(usize::MAX)? {
        if look.operation(&row.id)?.plan.id == kept.plan {
            return Ok(Some(row.id));
        }
    }
    Ok(None)
}

fn key_failure(error: &KeyError) -> Failure {
    let kind = match error {
        KeyError::Path(_) => FailureKind::Outside,
        KeyError::Json { .. } => FailureKind::Damaged,
    };
    Failure::from_error(kind, error).hint("without an Idempotency-Key the request is done, each time it is sent")
}

/// Carries it out; what belongs to a backup follows it.
fn go(engine: &Engine, by: &str, watch: &Opened, flow: &Flow, work: Work) -> Result<Operation, Failure> {
    let failed = |error: RunError| error.failure;
    let operation = match work {
        Work::Run(plan) => engine.run(&plan, by, watch, &flow.stop).map_err(failed)?,
        Work::RollBack(back) => match back.clear_the_way(engine, by, watch, &flow.stop)? {
            Cleared::Ended(operation) => {
                watch.running.keep(&back, &operation.plan.id, Some(&operation.id))?;
                return Ok(*operation);
            }
            Cleared::GoesOn(plan, _hold) => {
                watch.running.keep(&back, &plan.id, None)?;
                let _ = back.begun.set(plan.id.clone()); // nobody else has
                rolling::carry_out(engine, *plan, by, watch, &flow.stop, &Tells { flow, log: &watch.log })?
            }
        },
        Work::Resume(id) => engine.resume(&id, by, watch, &flow.stop).map_err(failed)?,
        Work::Abort(id) => return engine.abort(&id, by, watch).map_err(failed),
    };
    let stopped = matches!(&operation.state, OperationState::Paused { why } if why.kind == FailureKind::Interrupted);
    if stopped && flow.aborts.load(Ordering::SeqCst) {
        return engine.abort(&operation.id, by, watch).map_err(failed);
    }
    if let (Request::Backup { resources, .. }, OperationState::Done) = (&operation.plan.request, &operation.state) {
        let (_operations, notes) = engine.after_backup(resources, by, &crate::scheduler::Notes(&watch.log), &flow.stop);
        notes.iter().for_each(|note| watch.log.say(note));
    }
    Ok(operation)
}

/// What is known of a rollback's ways, for who asks, and for the log.
struct Tells<'a> {
    flow: &'a Flow,
    log: &'a Log,
}

impl rolling::Tell for Tells<'_> {
    fn follows(&self, what: &str, plan: &Plan, passed_over: &[String]) {
        self.flow.next().insert(plan.id.clone());
        self.passed_over(passed_over);
        self.log.say(&format!("next way: {what}"));
    }

    fn none_follows(&self, because: &[String], handover: Option<&Handover>) {
        self.passed_over(because);
        if let Some(handover) = handover {
            handover.stands.iter().for_each(|line| self.log.say(&format!("stands: {line}")));
            handover.next.iter().for_each(|line| self.log.say(&format!("next: {line}")));
        }
        self.flow.went().handover = handover.cloned();
    }
}

impl Tells<'_> {
    fn passed_over(&self, ways: &[String]) {
        ways.iter().for_each(|way| self.log.say(&format!("not tried: {way}")));
        self.flow.went().not_tried.extend_from_slice(ways);
    }
}

fn ended_how(operation: &Operation) -> String {
    let title = &operation.plan.title;
    match &operation.state {
        OperationState::Done => format!("is done: {title}"),
        OperationState::PutBack { why: None } => format!("was put back: {title}"),
        OperationState::PutBack { why: Some(why) } => format!("was put back: {title}: {why}"),
        OperationState::Paused { why } | OperationState::TurningBack { why } => format!("waits: {title}: {why}"),
        OperationState::HandedOver { why } => format!("was left to what came after it: {title}: {why}"),
        OperationState::Running => format!("is not over: {title}"),
    }
}

/// Whether an operation is the one that was asked for: what was left over is put back before it.
type IsIt = dyn Fn(&Operation) -> bool + Send + Sync;

/// Tells that an operation is on disk.
struct Opened {
    running: Arc<Running>,
    flow: Arc<Flow>,
    is_it: Box<IsIt>,
    tell: SyncSender<Result<OperationId, Failure>>,
    log: Log,
}

impl Watch for Opened {
    fn opened(&self, operation: &Operation) {
        let follows = self.flow.next().contains(&operation.plan.id);
        if !follows && !(self.is_it)(operation) {
            return;
        }
        if let Request::Version { about: VersionAsk::RollBack { .. } } = &operation.plan.request {
            let mut went = self.flow.went();
            if !went.ways.contains(&operation.id) {
                went.ways.push(operation.id.clone());
            }
        }
        self.running.state().flows.insert(operation.id.clone(), self.flow.clone());
        let _ = self.tell.try_send(Ok(operation.id.clone())); // who went away finds it on the list
    }

    fn note(&self, text: &str) {
        self.log.say(text);
    }
}
