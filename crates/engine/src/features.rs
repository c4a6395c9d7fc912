//! Which features of the app are off, since when, by whom and why: by what is on record.

use lifeboat_model::{
    Action, Failure, FailureKind, Feature, FeatureState, Incident, Operation, OperationId, OperationState, Request,
    ResourceName, StepState, time::Timestamp,
};

use crate::Engine;

/// Operations of these kinds may have switched one.
const KINDS: [&str; 3] = ["feature", "undo", "incident"];

impl Engine {
    /// The feature of this name.
    ///
    /// # Errors
    /// There is none; the names there are come with it.
    pub(crate) fn feature(&self, name: &ResourceName) -> Result<&Feature, Failure> {
        self.setup.features.iter().find(|feature| &feature.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.setup.features.iter().map(|feature| feature.name.as_str()).collect();
            let failure = Failure::new(FailureKind::Usage, format!("{} has no feature {name}", self.setup.scope));
            match known.as_slice() {
                [] => failure.hint(format!("write [features.{name}] with off and on into lifeboat.toml")),
                known => failure.hint(format!("it has: {}", known.join(", "))),
            }
        })
    }

    /// How every feature of the settings stands, and every other one that is off by the record.
    ///
    /// # Errors
    /// A journal cannot be read: then nobody knows.
    pub fn features(&self) -> Result<Vec<FeatureState>, Failure> {
        let mut switched = self.switched()?;
        let mut states = Vec::new();
        for feature in &self.setup.features {
            let at = switched.iter().position(|state| state.feature == feature.name);
            states.push(at.map_or_else(|| never(&feature.name), |at| switched.swap_remove(at)));
        }
        switched.retain(|state| !state.on);
        states.extend(switched);
        states.sort_by(|one, other| one.feature.as_str().cmp(other.feature.as_str()));
        Ok(states)
    }

    /// Those that are off.
    ///
    /// # Errors
    /// As [`Engine::features`].
    pub fn features_off(&self) -> Result<Vec<FeatureState>, Failure> {
        Ok(self.features()?.into_iter().filter(|state| !state.on).collect())
    }

    /// Each that was ever switched, as it was switched last.
    fn switched(&self) -> Result<Vec<FeatureState>, Failure> {
        let scope = self.setup.scope.to_string();
        let mut found: Vec<FeatureState> = Vec::new();
        for row in self.look().operations(usize::MAX)? {
            if row.scope != scope || !row.closed || !KINDS.contains(&row.kind.as_str()) {
                continue;
            }
            let operation = self.look().operation(&row.id)?;
            if operation.state != OperationState::Done {
                continue;
            }
            for state in states_in(&operation) {
                if !found.iter().any(|known| known.feature == state.feature) {
                    found.push(state);
                }
            }
        }
        Ok(found)
    }

    /// The incident that is open, when there is one: the one that began last.
    ///
    /// # Errors
    /// The index of the journals cannot be read.
    pub fn open_incident(&self) -> Result<Option<OperationId>, Failure> {
        let mut open: Vec<Incident> = self.incidents()?;
        open.retain(|incident| incident.state() == "open");
        Ok(open.into_iter().max_by_key(|incident| incident.since).map(|incident| incident.id))
    }
}

fn never(name: &ResourceName) -> FeatureState {
    FeatureState { feature: name.clone(), on: true, since: None, by: None, why: None, incident: None, operation: None }
}

/// What an operation that came to its end has switched.
fn states_in(operation: &Operation) -> Vec<FeatureState> {
    let (why, incident) = match &operation.plan.request {
        Request::Feature { why, incident, .. } => (why.clone(), incident.clone()),
        _other => (operation.plan.title.clone(), None),
    };
    let since: Timestamp = operation.last_at;
    let done = operation.plan.steps().zip(&operation.steps);
    done.filter_map(|(step, state)| match (&step.action, state) {
        (Action::Feature(seen), StepState::Done { .. }) => Some(FeatureState {
            feature: seen.feature.clone(),
            on: seen.on,
            since: Some(since),
            by: Some(operation.by.clone()),
            why: Some(why.clone()),
            incident: incident.clone().filter(|_| !seen.on),
            operation: Some(operation.id.clone()),
        }),
        _other => None,
    })
    .collect()
}

/// In one sentence, what is off and what switches it on again.
pub fn sentence(state: &FeatureState) -> String {
    let since = state.since.map(|at| at.strftime(" since %Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default();
    let by = state.by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
    let why = state.why.as_ref().filter(|why| !why.is_empty()).map(|why| format!(": {why}")).unwrap_or_default();
    format!("feature {} is off{since}{by}{why}; lifeboat feature on {}", state.feature, state.feature)
}
