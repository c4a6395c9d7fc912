//! Planning what is said about an incident. Its journal is the record; what follows from it for backups and kept files is
//! worked out where those are looked at.

use lifeboat_model::{
    Action, Failure, FailureKind, FeatureState, Incident, IncidentStep, Lease, OperationId, Phase, Plan, Request,
    ResourceName, StepClass, Undo,
};

use super::{
    features,
    steps::{self, phase, step},
};
use crate::{Engine, facts::Common, features::sentence};

/// What is known when something is said about an incident.
pub struct Known {
    /// Common knowledge.
    pub common: Common,
    /// The incidents of this scope.
    pub incidents: Vec<Incident>,
    /// What is done before one is over: features that were switched off during it are switched on again.
    pub switch_on: Vec<Phase>,
    /// What a person should know of features that stay off.
    pub stay_off: Vec<String>,
}

pub(crate) fn gather(engine: &Engine, about: &IncidentStep) -> Result<Known, Failure> {
    let common = engine.common()?;
    let (mut switch_on, mut stay_off) = (Vec::new(), Vec::new());
    if let IncidentStep::Close { incident, leave_off, .. } = about {
        let (its, others): (Vec<FeatureState>, Vec<FeatureState>) = engine
            .features_off()?
            .into_iter()
            .partition(|state| !leave_off && state.incident.as_ref() == Some(incident));
        let names: Vec<ResourceName> = its.into_iter().map(|state| state.feature).collect();
        switch_on = features::switch_on(engine, &common, &names)?;
        stay_off = others.iter().map(|state| format!("It stays as it is: {}.", sentence(state))).collect();
    }
    Ok(Known { common, incidents: engine.incidents()?, switch_on, stay_off })
}

/// Plans a record about an incident.
///
/// # Errors
/// No words, a beginning that lies ahead, an incident that is not there, or is not where the step takes it from.
pub fn plan(known: &Known, request: &Request, about: &IncidentStep) -> Result<Plan, Failure> {
    let common = &known.common;
    let words = match about {
        IncidentStep::Open { title, .. } => title,
        IncidentStep::Close { note, .. } | IncidentStep::Review { note, .. } => note,
    };
    if words.trim().is_empty() {
        return Err(Failure::new(FailureKind::Usage, "a few words are missing").hint("say what happened"));
    }
    let (title, line) = match about {
        IncidentStep::Open { since, .. } if *since > common.now => {
            return Err(Failure::new(FailureKind::Usage, "an incident cannot begin later than now"));
        }
        IncidentStep::Open { title, since, provider_sla } => (
            format!("open an incident in {}: {title}", common.scope),
            format!(
                "since {}: nothing that was made from then on goes before it is reviewed{}",
                steps::instant(*since),
                provider_sla.as_ref().map_or(String::new(), |sla| format!("; the provider promises {sla}"))
            ),
        ),
        IncidentStep::Close { incident, note, .. } => {
            let incident = known.find(incident, "open")?;
            (format!("close incident {}: {}", incident.id, incident.title), note.clone())
        }
        IncidentStep::Review { incident, note } => {
            let incident = known.find(incident, "closed")?;
            (format!("record the review of incident {}: {}", incident.id, incident.title), note.clone())
        }
    };
    let mut plan = steps::new_plan(common, request, title, Lease::Environment);
    let say = step("say", "put it on record", StepClass::Idempotent, Action::Say { lines: vec![line] }, Undo::Nothing);
    plan.phases = known.switch_on.clone();
    plan.phases.push(phase(common, "record", vec![], vec![say]));
    plan.notes = known.stay_off.clone();
    Ok(plan)
}

impl Known {
    fn find(&self, id: &OperationId, state: &str) -> Result<&Incident, Failure> {
        let refused = |message: String, hint: String| Failure::new(FailureKind::Refused, message).hint(hint);
        let found = self.incidents.iter().find(|incident| incident.id == *id);
        let found = found.ok_or_else(|| {
            refused(format!("{} has no incident {id}", self.common.scope), "lifeboat incident list".to_owned())
        })?;
        match found.state() {
            is if is == state => Ok(found),
            "open" => Err(refused(
                format!("incident {id} is still open, and only one that is over can be reviewed"),
                format!("lifeboat incident close {id} --note \"how it ended\""),
            )),
            is => Err(refused(format!("incident {id} is {is} already"), "lifeboat incident list".to_owned())),
        }
    }
}
