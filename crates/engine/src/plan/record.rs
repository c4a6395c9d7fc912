//! Planning what is only put on record: that a secret has leaked, that a person has looked at something, that the app is
//! closed, whether a release is rolled back.

use lifeboat_model::{
    Action, Failure, FailureKind, Lease, OperationState, Plan, Request, StepClass, Undo,
    decision::{Decision, DecisionRecord},
};

use super::steps::{self, phase, step};
use crate::{Engine, facts::Common};

pub(crate) fn gather(engine: &Engine) -> Result<Common, Failure> {
    engine.common()
}

/// Plans a record. Its journal is the record; nothing else changes.
///
/// # Errors
/// A variable without a name, a reason or a note without words.
pub fn plan(common: &Common, request: &Request) -> Result<Plan, Failure> {
    let empty = |what: &str| Failure::new(FailureKind::Usage, format!("{what} is missing"));
    let mut lease = Lease::Environment;
    let (title, lines) = match request {
        Request::Compromise { secret, since, before, why, withdrawn } => {
            if secret.trim().is_empty() || secret.contains(['=', '\n']) {
                return Err(
                    empty("the name of the variable").hint("its name only, such as STRIPE_KEY; never its value")
                );
            }
            if why.trim().is_empty() {
                return Err(empty("the reason"));
            }
            let from = since.map_or_else(|| "the first backup".to_owned(), steps::instant);
            match withdrawn {
                true => (format!("take back that {secret} is compromised"), vec![why.clone()]),
                false => {
                    let until = steps::instant(*before);
                    let span = format!("values of {secret} from {from} until {until} are not to come back");
                    (format!("mark {secret} as compromised in {}", common.scope), vec![span, why.clone()])
                }
            }
        }
        Request::Attest { about, report, note } => {
            if note.trim().is_empty() {
                return Err(empty("what you have to say"));
            }
            // A rollback that goes step by step waits for just that.
            lease = Lease::Notice;
            let lines = report.iter().cloned().chain([note.clone()]).collect();
            (format!("attest that {about} of {} was reviewed", common.scope), lines)
        }
        Request::Maintenance { on, why, until } => {
            if *on && why.trim().is_empty() {
                return Err(empty("the reason"));
            }
            // Whatever else is at work, everybody can be told.
            lease = Lease::Notice;
            let until = until.map(|at| format!("until about {}", steps::instant(at)));
            let lines = until.into_iter().chain((!why.is_empty()).then(|| why.clone())).collect();
            let title = if *on { "close" } else { "open" };
            (format!("{title} {} for everybody who comes through the gateway", common.scope), lines)
        }
        Request::Decide { about } => {
            // Whatever is at work, a decision can be put on record.
            lease = Lease::Notice;
            match about {
                DecisionRecord::Impact { impact, .. } => {
                    let unset = impact.unset();
                    let missing = (!unset.is_empty()).then(|| format!("not said: {}", unset.join(", ")));
                    (format!("put on record how far it reaches in {}", common.scope), missing.into_iter().collect())
                }
                DecisionRecord::Decision(decision) => {
                    if decision.instead.as_ref().is_some_and(|(_, why)| why.trim().is_empty()) {
                        return Err(empty("the reason").hint("who decides against the rules says why"));
                    }
                    let verdict = decision.verdict().words();
                    (format!("put on record what was decided about {}: {verdict}", common.scope), lines(decision))
                }
            }
        }
        _other => return Err(steps::wrong_planner()),
    };
    let mut plan = steps::new_plan(common, request, title, lease);
    let say = step("say", "put it on record", StepClass::Idempotent, Action::Say { lines }, Undo::Nothing);
    plan.phases = vec![phase(common, "record", vec![], vec![say])];
    Ok(plan)
}

/// What a decision rests on, in lines.
fn lines(decision: &Decision) -> Vec<String> {
    let decided = &decision.decided;
    let holds = decided.matched.iter().map(|(key, says)| format!("{key}: {says}"));
    let missing = decided.missing.iter().map(|what| format!("not known: {what}"));
    let instead = decision.instead.iter().map(|(verdict, why)| {
        format!("decided by a person against the rules ({}): {}; {why}", decided.verdict.words(), verdict.words())
    });
    holds.chain(missing).chain(decided.because.iter().cloned()).chain(instead).collect()
}

/// Whether a line about something was put on record in this scope.
pub(crate) fn recorded(engine: &Engine, about: &str, line: &str) -> Result<bool, Failure> {
    let scope = engine.setup().scope.to_string();
    for row in engine.look().operations(usize::MAX)? {
        if row.kind != "attest" || row.scope != scope || !row.closed {
            continue;
        }
        let operation = engine.look().operation(&row.id)?;
        if let (Request::Attest { about: said, report, .. }, OperationState::Done) =
            (&operation.plan.request, &operation.state)
            && said == about
            && report.iter().any(|known| known == line)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
