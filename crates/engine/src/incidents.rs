//! What follows from incidents: which there are, and that nothing of them is deleted before they are reviewed.

use lifeboat_model::{
    Failure, FailureKind, Incident, OperationId, OperationState, Plan, Request,
    escalation::{Answered, ROLES},
};

use crate::Engine;

impl Engine {
    /// The incidents of this scope as they stand, oldest first.
    ///
    /// # Errors
    /// When the index of the journals cannot be read.
    pub fn incidents(&self) -> Result<Vec<Incident>, Failure> {
        self.catalog()?.incidents(&self.setup.scope).map_err(|error| self.failure(&error))
    }

    /// Who has answered in an incident, the first of them first.
    ///
    /// # Errors
    /// A journal cannot be read: then nobody knows.
    pub fn answered(&self, incident: &OperationId) -> Result<Vec<Answered>, Failure> {
        let (scope, its) = (self.setup.scope.to_string(), answer_about(incident, None));
        let mut answered = Vec::new();
        for row in self.look().operations(usize::MAX)? {
            if row.kind != "attest" || row.scope != scope || !row.closed {
                continue;
            }
            let operation = self.look().operation(&row.id)?;
            let (Request::Attest { about, note, .. }, OperationState::Done) =
                (&operation.plan.request, &operation.state)
            else {
                continue;
            };
            let Some(rest) = about.strip_prefix(&its) else { continue };
            answered.push(Answered {
                role: rest.strip_prefix('.').map(str::to_owned),
                by: operation.by.clone(),
                at: operation.started_at,
                note: note.clone(),
            });
        }
        answered.reverse();
        Ok(answered)
    }

    /// What puts on record that somebody has answered, for a role or for all.
    ///
    /// # Errors
    /// No incident is open; there is no such role.
    pub fn answer(&self, role: Option<&str>, note: Option<&str>) -> Result<Request, Failure> {
        let Some(incident) = self.open_incident()? else {
            let failure = Failure::new(FailureKind::Refused, "no incident is open, so nobody is waited for");
            return Err(failure.hint("lifeboat incident open 'WHAT IS WRONG'"));
        };
        let role = role.map(|said| said.replace('-', "_"));
        if let Some(unknown) = role.as_ref().filter(|key| !ROLES.iter().any(|role| role.key == key.as_str())) {
            let keys: Vec<&str> = ROLES.iter().map(|role| role.key).collect();
            let failure = Failure::new(FailureKind::Usage, format!("there is no role {unknown}"));
            return Err(failure.hint(format!("there are: {}", keys.join(", "))));
        }
        let report = vec![match &role {
            Some(role) => format!("answered as {role}"),
            None => "answered for every role".to_owned(),
        }];
        let note = note.unwrap_or("answered").to_owned();
        Ok(Request::Attest { about: answer_about(&incident, role.as_deref()), report, note })
    }
}

fn answer_about(incident: &OperationId, role: Option<&str>) -> String {
    let role = role.map(|role| format!(".{role}")).unwrap_or_default();
    format!("answered.{incident}{role}")
}

/// Refuses to delete for good what an operation set aside during an incident that is not reviewed: it is evidence, and the
/// way back.
///
/// # Errors
/// [`FailureKind::Refused`], naming the incident.
pub(crate) fn guard(engine: &Engine, plan: &Plan) -> Result<(), Failure> {
    let Request::Release { operation } = &plan.request else { return Ok(()) };
    let kept = engine.look().operation(operation)?;
    let Some(why) = engine.incidents()?.iter().find_map(|incident| incident.holds(kept.last_at)) else {
        return Ok(());
    };
    let failure = Failure::new(FailureKind::Refused, format!("what {operation} set aside is held: {why}"));
    Err(failure.hint("lifeboat incident close, then lifeboat incident review, let it go"))
}
