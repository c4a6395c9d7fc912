//! A rollback that was asked for over HTTP: whoever works there makes way, a deploy that is not over is taken back, and then it begins,
//! as `lifeboat rollback` does it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use lifeboat_engine::{
    Engine, Hold, Watch,
    ways::{self, Handover, NextWay},
};
use lifeboat_io::Stop;
use lifeboat_model::{
    Failure, FailureKind, Operation, OperationId, OperationState, Plan, PlanId, Request, VersionAsk,
    decision::DecisionRecord,
};
use lifeboat_store::keys::KeptKey;

/// How long whoever works there may take to the next safe point; after that the running step is broken off.
const WAIT: Duration = Duration::from_secs(60);

/// Whether who asked has agreed to a plan.
type Agrees = dyn Fn(&Plan) -> Result<(), Failure> + Send;

/// A rollback that is to begin.
pub struct RollBack {
    request: Request,
    agrees: Box<Agrees>,
    /// Its plan is made when everybody has made way; until then it goes by this.
    pub known_as: PlanId,
    /// The plan that it has become.
    pub begun: Arc<OnceLock<PlanId>>,
    /// By which key it was asked for.
    pub kept: Option<KeptKey>,
}

/// What there is to do when everybody has made way.
pub enum Cleared<'a> {
    /// Nothing more: where the deploy began is where it was to lead to.
    Ended(Box<Operation>),
    /// This, under the lease that is held for it.
    GoesOn(Box<Plan>, Hold<'a>),
}

impl RollBack {
    /// Of this request; `agrees` is asked about the plan that comes of it.
    pub fn new(engine: &Engine, request: Request, agrees: Box<Agrees>) -> RollBack {
        let known_as = PlanId::from_random(engine.io().random.bits());
        RollBack { request, agrees, known_as, begun: Arc::default(), kept: None }
    }

    /// Has others make way, and takes a deploy back that is not over.
    ///
    /// # Errors
    /// Who works there does not make way; there is nothing to roll back to; nobody has agreed to what it means by now.
    pub fn clear_the_way<'a>(
        &self,
        engine: &'a Engine,
        by: &str,
        watch: &dyn Watch,
        stop: &Stop,
    ) -> Result<Cleared<'a>, Failure> {
        let (to, reason) = self.what();
        let scope = &engine.setup().scope;
        let why = match reason.trim() {
            "" => format!("roll {scope} back"),
            reason => format!("roll {scope} back: {reason}"),
        };
        let hold = engine.make_way(by, &why, WAIT, watch, stop)?;
        if let Some(open) = engine.standing()?.deploy {
            let done = engine.take_over(&open.operation, by, reason, watch).map_err(|error| error.failure)?;
            put_failure_on_record(engine, &open.operation, by, watch)?;
            let is_put_back = matches!(done.state, OperationState::PutBack { .. });
            // Who names no release wanted to be rid of that one.
            if is_put_back && to.map_or(Ok(true), |release| engine.stands_at(release))? {
                return Ok(Cleared::Ended(Box::new(done)));
            }
        }
        let plan = engine.plan(&self.request)?;
        engine.must_be_acknowledged(&plan)?;
        (self.agrees)(&plan)?;
        Ok(Cleared::GoesOn(Box::new(plan), hold))
    }

    /// To which release, and why.
    fn what(&self) -> (Option<&str>, &str) {
        match &self.request {
            Request::Version { about: VersionAsk::RollBack { to, why, .. } } => (to.as_deref(), why),
            _other => (None, ""),
        }
    }
}

/// Is told what follows a rollback that failed and was put back.
pub trait Tell {
    /// This plan is next; these ways come before it and are not taken.
    fn follows(&self, what: &str, plan: &Plan, passed_over: &[String]);
    /// Nothing is tried by itself any more.
    fn none_follows(&self, because: &[String], handover: Option<&Handover>);
}

/// Carries a rollback out; when it fails and is put back, goes on to the next way that loses no more than was agreed to (RST-21).
///
/// # Errors
/// When one cannot be begun, or its journal cannot be written.
pub fn carry_out(
    engine: &Engine,
    plan: Plan,
    by: &str,
    watch: &dyn Watch,
    stop: &Stop,
    told: &dyn Tell,
) -> Result<Operation, Failure> {
    let (mut next, mut tried) = (plan.clone(), Vec::new());
    loop {
        let operation = engine.run(&next, by, watch, stop).map_err(|error| error.failure)?;
        if ways::put_back(&operation).is_none() {
            return Ok(operation);
        }
        // Who asks to stop wants none of the others either.
        if stop.wanted() {
            told.none_follows(&["no other way is tried by itself: somebody asked to stop".to_owned()], None);
            return Ok(operation);
        }
        tried.push(operation);
        match engine.next_way(&plan, &tried) {
            NextWay::Take { what, plan: other, passed_over } => {
                told.follows(&what, &other, &passed_over);
                next = *other;
            }
            NextWay::Stop { because, handover } => {
                told.none_follows(&because, handover.as_ref());
                return tried.pop().ok_or_else(|| Failure::new(FailureKind::Bug, "nothing was tried"));
            }
        }
    }
}

/// MIG-08: a migration that failed is a decision on record, whoever brought its deploy to an end.
fn put_failure_on_record(engine: &Engine, deploy: &OperationId, by: &str, watch: &dyn Watch) -> Result<(), Failure> {
    let Some(decision) = engine.decided_by_failure(&engine.look().operation(deploy)?)? else { return Ok(()) };
    let plan = engine.plan(&Request::Decide { about: DecisionRecord::Decision(Box::new(decision)) })?;
    let done = engine.run(&plan, by, watch, &Stop::default()).map_err(|error| error.failure)?;
    match done.state {
        OperationState::Done => Ok(()),
        _other => Err(Failure::new(FailureKind::Unknown, format!("what {deploy} failed by was not put on record"))),
    }
}
