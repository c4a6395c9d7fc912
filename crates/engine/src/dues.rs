//! What is due after rollbacks and incidents, and what of it is done: recorded by a step of theirs, ticked off by a person, by the
//! collection of evidence, or by a review.

use lifeboat_model::{
    Action, Deadline, Failure, FailureKind, IncidentStep, Operation, OperationId, OperationState, Request, Timestamp,
    VersionAsk,
    due::{self, CATEGORIES, Due, EVIDENCE, ITEMS, POST_MORTEM, REVIEW, ROOT_CAUSE, Ticked},
    release,
};

use crate::Engine;

/// Something that was said of a deadline, or did it.
struct Word {
    about: String,
    report: Vec<String>,
    ticked: Ticked,
}

impl Engine {
    /// Every deadline there is: overdue ones first, then what is due next, what is done last.
    ///
    /// # Errors
    /// A journal cannot be read: then nobody knows.
    pub fn deadlines(&self) -> Result<Vec<Deadline>, Failure> {
        let (recorded, words, now) = (self.with_deadlines()?, self.words()?, self.io.clock.now());
        let incidents = if recorded.is_empty() { Vec::new() } else { self.incidents()? };
        let mut all = Vec::new();
        for operation in &recorded {
            let incident = match &operation.plan.request {
                Request::Incident { about: IncidentStep::Close { incident, .. } } => Some(incident.clone()),
                _rollback => {
                    let over = |closed: &lifeboat_model::Said| operation.started_at <= closed.at;
                    let during = incidents.iter().rev().find(|incident| {
                        operation.started_at >= incident.since && incident.closed.as_ref().is_none_or(over)
                    });
                    during.map(|incident| incident.id.clone())
                }
            };
            let reviewed = incidents.iter().find(|one| Some(&one.id) == incident.as_ref());
            let reviewed = reviewed.and_then(|one| one.reviewed.clone());
            for item in recorded_in(operation) {
                let Some(until) =
                    operation.last_at.checked_add(lifeboat_model::Duration::from_secs(item.within_s)).ok()
                else {
                    continue;
                };
                let review = reviewed.as_ref().filter(|_| [REVIEW, POST_MORTEM].contains(&item.key.as_str()));
                let done = said_of(&words, item, operation).or_else(|| {
                    review.map(|said| Ticked { at: said.at, by: "the review".to_owned(), note: said.note.clone() })
                });
                all.push(Deadline {
                    key: item.key.clone(),
                    title: item.title.clone(),
                    of: operation.id.clone(),
                    incident: incident.clone(),
                    due: until,
                    overdue: done.is_none() && now >= until,
                    done,
                });
            }
        }
        due::sort(&mut all);
        Ok(all)
    }

    /// Those that are not done.
    ///
    /// # Errors
    /// As [`Engine::deadlines`].
    pub fn open_deadlines(&self) -> Result<Vec<Deadline>, Failure> {
        Ok(self.deadlines()?.into_iter().filter(|one| one.done.is_none()).collect())
    }

    /// What puts on record that something is done.
    ///
    /// # Errors
    /// There is no such deadline, or it has another way of being done; a root cause without one of the five categories.
    pub fn tick_off(
        &self,
        key: &str,
        of: Option<&OperationId>,
        category: Option<&str>,
        note: &str,
    ) -> Result<Request, Failure> {
        let usage = |message: String, hint: String| Failure::new(FailureKind::Usage, message).hint(hint);
        if !ITEMS.iter().any(|item| item.key == key) {
            let keys: Vec<&str> = ITEMS.iter().map(|item| item.key).collect();
            return Err(usage(
                format!("nothing that is due is called {key}"),
                format!("there are: {}", keys.join(", ")),
            ));
        }
        if key == REVIEW {
            let message = "a review has a record of its own".to_owned();
            return Err(usage(message, "lifeboat incident review --note 'WHAT IT FOUND'".to_owned()));
        }
        let category = match (key, category) {
            (ROOT_CAUSE, Some(said)) => {
                let known = CATEGORIES.iter().find(|known| known.eq_ignore_ascii_case(said));
                let known = known.ok_or_else(|| {
                    usage(
                        format!("{said:?} is no category of root causes"),
                        format!("one of: {}", CATEGORIES.join(", ")),
                    )
                })?;
                Some(format!("category: {known}"))
            }
            (ROOT_CAUSE, None) => {
                let message = "a root cause needs its category".to_owned();
                return Err(usage(message, format!("--category, one of: {}", CATEGORIES.join(", "))));
            }
            (_, Some(_)) => {
                return Err(usage(format!("{key} has no category"), format!("only {ROOT_CAUSE} has one")));
            }
            (_, None) => None,
        };
        let open = self.open_deadlines()?;
        let mut meant = open.iter().filter(|one| one.key == key && of.is_none_or(|of| *of == one.of));
        let found = meant.next().ok_or_else(|| {
            let failure = Failure::new(FailureKind::Refused, format!("no {key} is due"));
            failure.hint("lifeboat incident show")
        })?;
        if let Some(other) = meant.next() {
            let message = format!("{key} is due after {} and after {}", found.of, other.of);
            return Err(usage(message, format!("say which: --of {}", found.of)));
        }
        let report = std::iter::once(found.title.clone()).chain(category).collect();
        Ok(Request::Attest { about: about(key, &found.of), report, note: note.to_owned() })
    }

    /// Operations that came to their end and have put on record what is due after them.
    fn with_deadlines(&self) -> Result<Vec<Operation>, Failure> {
        let scope = self.setup.scope.to_string();
        let mut found = Vec::new();
        for row in self.look().operations(usize::MAX)? {
            if row.scope != scope || !row.closed || !["rollback", "incident"].contains(&row.kind.as_str()) {
                continue;
            }
            let operation = self.look().operation(&row.id)?;
            if operation.state == OperationState::Done && recorded_in(&operation).next().is_some() {
                found.push(operation);
            }
        }
        Ok(found)
    }

    fn words(&self) -> Result<Vec<Word>, Failure> {
        let scope = self.setup.scope.to_string();
        let mut words = Vec::new();
        for row in self.look().operations(usize::MAX)? {
            if row.kind != "attest" || row.scope != scope || !row.closed {
                continue;
            }
            let operation = self.look().operation(&row.id)?;
            if let (Request::Attest { about, report, note }, OperationState::Done) =
                (&operation.plan.request, &operation.state)
                && (about == EVIDENCE || about.starts_with("due."))
            {
                let ticked = Ticked { at: operation.started_at, by: operation.by.clone(), note: note.clone() };
                words.push(Word { about: about.clone(), report: report.clone(), ticked });
            }
        }
        Ok(words)
    }

    /// What is due after what a plan does: after a rollback, and when an incident is over. What a rollback during the incident has put on
    /// record already is not due twice.
    pub(crate) fn due_after(&self, request: &Request) -> Result<Vec<Due>, Failure> {
        let times = &self.setup.due_times;
        match request {
            Request::Version { about: VersionAsk::RollBack { .. } } => Ok(due::due(times, |item| item.of_rollback)),
            Request::Incident { about: IncidentStep::Close { incident, .. } } => {
                let known = self.deadlines()?;
                let by_rollback = known.iter().any(|one| one.incident.as_ref() == Some(incident));
                Ok(due::due(times, |item| item.of_incident && (!by_rollback || !item.of_rollback)))
            }
            _nothing => Ok(Vec::new()),
        }
    }
}

/// What an operation has put on record.
fn recorded_in(operation: &Operation) -> impl Iterator<Item = &Due> {
    // Who rehearses owes nobody a report.
    let counts = !release::is_rehearsal(&operation.plan);
    operation.plan.steps().filter(move |_| counts).flat_map(|step| match &step.action {
        Action::Due { items } => items.as_slice(),
        _other => &[],
    })
}

fn about(key: &str, of: &OperationId) -> String {
    format!("due.{key}.{of}")
}

/// By whom and when a deadline was met. Evidence is kept when it was collected of that operation, or at all since it began.
fn said_of(words: &[Word], item: &Due, operation: &Operation) -> Option<Ticked> {
    let its = about(&item.key, &operation.id);
    let is_evidence = |word: &Word| {
        let since: Timestamp = operation.started_at;
        word.about == EVIDENCE
            && (word.ticked.at >= since || word.report.iter().any(|line| *line == operation.id.as_str()))
    };
    // The newest comes first, and the first word counts.
    let word = words.iter().rev().find(|word| word.about == its || (item.key == EVIDENCE && is_evidence(word)));
    word.map(|word| Ticked { note: noted(word), ..word.ticked.clone() })
}

/// The category of a root cause belongs to what was said.
fn noted(word: &Word) -> String {
    let category = word.report.iter().find_map(|line| line.strip_prefix("category: "));
    category.map_or_else(|| word.ticked.note.clone(), |category| format!("{category}: {}", word.ticked.note))
}
