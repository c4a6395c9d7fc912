//! Planning what is changed about row-level security: a policy replaced in one transaction, a table opened for a while and
//! closed again. Row-level security is switched off by none of it.

use lifeboat_model::{
    Action, Failure, FailureKind, Lease, PgAction, Plan, Request, ResourceKind, ResourceName, Step, StepClass, Undo,
    policy::{Guarded, OPEN, OPEN_MS_MAX, Policy, PolicyAsk, PolicyChange, not_an_expression},
    time::{Duration, show_duration},
};

use super::steps::{self, by, phase, read, step};
use crate::Engine;

impl Engine {
    /// The address of a database whose policies are meant: that of a resource on a server, or of a link's cloud; of the only
    /// one when none is named.
    ///
    /// # Errors
    /// There is none of that name, or several and none is named.
    pub fn guarded_database(&self, name: Option<&ResourceName>) -> Result<(ResourceName, String), Failure> {
        let on_server = self.setup().resources.iter().filter_map(|one| match &one.kind {
            ResourceKind::Postgres { url, .. } => Some((one.name.clone(), url.clone())),
            ResourceKind::Sqlite { .. } | ResourceKind::Files { .. } | ResourceKind::Env { .. } => None,
        });
        let clouds = self.setup().links.iter().map(|link| (link.name.clone(), link.cloud.clone()));
        let all: Vec<_> = on_server.chain(clouds).collect();
        let found = match (name, all.as_slice()) {
            (Some(name), all) => all.iter().find(|(known, _)| known == name).cloned(),
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
            let scope = &self.setup().scope;
            let message = match (name, names.as_slice()) {
                (_, []) => format!("{scope} has no database on a server, and mirrors to none"),
                (Some(name), _) => format!("{scope} has no database {name} on a server"),
                (None, _) => format!("{scope} has several databases on servers"),
            };
            Failure::new(FailureKind::Usage, message).hint(format!("say which with --database: {}", names.join(", ")))
        })
    }
}

pub(crate) fn plan(
    engine: &Engine,
    request: &Request,
    (database, table): (&ResourceName, &str),
    about: &PolicyAsk,
) -> Result<Plan, Failure> {
    let (_, url) = engine.guarded_database(Some(database))?;
    let common = engine.common()?;
    let there = engine.policies(&url, table)?;
    let acts = Acts { url: &url, table };
    let name = format!("{}.{}", there.schema, there.table);
    let mut notes = Vec::new();
    if !there.is_on {
        notes.push(format!(
            "Row-level security of {name} is off now; it is on afterwards, and stays on when this is undone."
        ));
    }
    let mut first = None;
    let (title, done) = match about {
        PolicyAsk::Replace { change } => {
            (format!("replace the policy {:?} of {name}", change.name), acts.replace(&there, change, &mut notes)?)
        }
        PolicyAsk::Open { roles, for_ms, why } => {
            let title = open_title(&name, *for_ms, why)?;
            notes.push(
                "It ends by the server's clock, whatever becomes of this program; row-level security stays on.".into(),
            );
            let restrict: Vec<&str> =
                there.policies.iter().filter(|one| !one.is_permissive).map(|one| one.name.as_str()).collect();
            if !restrict.is_empty() {
                notes.push(format!("These policies restrict all the same: {}.", restrict.join(", ")));
            }
            if !there.is_on {
                let failure =
                    Failure::new(FailureKind::Refused, format!("{name} is open: its row-level security is off"));
                return Err(failure.hint(format!("lifeboat policy close {table} switches it on")));
            }
            // To make one is to find the one that is there, when it is done again: also one that is over long since.
            if there.policies.iter().any(|one| one.name.starts_with(OPEN)) {
                notes.push("What has opened it before, over or not, is taken away first.".into());
                first = Some(acts.close());
            }
            (title, acts.open(roles, *for_ms))
        }
        PolicyAsk::Close => (format!("close {name}: row-level security on, and nothing that opens it"), acts.close()),
    };
    let mut plan = steps::new_plan(&common, request, title, Lease::Environment);
    let look = PgAction::CheckPolicies { url: url.clone(), table: table.to_owned() };
    let look = read("look", format!("row-level security of {name} is on"), Action::Postgres(look));
    plan.phases = vec![phase(&common, "policy", vec![], first.into_iter().chain([done, look]).collect())];
    plan.notes = notes;
    Ok(plan)
}

fn open_title(name: &str, for_ms: u64, why: &str) -> Result<String, Failure> {
    if for_ms == 0 || for_ms > OPEN_MS_MAX {
        let message = format!("a table is open for at most {}", show_duration(Duration::from_millis(OPEN_MS_MAX)));
        return Err(Failure::new(FailureKind::Usage, message).hint("say --time 10m, and again when that is over"));
    }
    if why.trim().is_empty() {
        return Err(Failure::new(FailureKind::Usage, "a table is opened for a reason").hint("say why with --reason"));
    }
    Ok(format!("let everybody see and write all of {name} for {}: {why}", show_duration(Duration::from_millis(for_ms))))
}

struct Acts<'a> {
    url: &'a str,
    table: &'a str,
}

impl Acts<'_> {
    fn replacing(&self, name: &str, wanted: Option<Policy>, before: Option<Policy>, or_leave: bool) -> Action {
        let (url, table, name) = (self.url.to_owned(), self.table.to_owned(), name.to_owned());
        Action::Postgres(PgAction::ReplacePolicy { url, table, name, wanted, before, or_leave })
    }

    fn opening(&self, roles: &[String], for_ms: Option<u64>) -> Action {
        let (url, table, roles) = (self.url.to_owned(), self.table.to_owned(), roles.to_vec());
        Action::Postgres(PgAction::OpenTable { url, table, roles, for_ms })
    }

    fn replace(&self, there: &Guarded, change: &PolicyChange, notes: &mut Vec<String>) -> Result<Step, Failure> {
        let before = there.policies.iter().find(|policy| policy.name == change.name);
        let wanted = change.applied_to(before);
        for text in [&wanted.using, &wanted.check].into_iter().flatten() {
            if let Some(why) = not_an_expression(text) {
                let message = format!("{text:?} is not one SQL expression: {why}");
                return Err(Failure::new(FailureKind::Usage, message)
                    .hint("write only what is true for the rows that are meant"));
            }
        }
        if wanted.using.is_none() && wanted.check.is_none() {
            let message = format!("nobody has said which rows {:?} is about", change.name);
            return Err(Failure::new(FailureKind::Usage, message).hint("say --using SQL, --check SQL, or both"));
        }
        notes.push(match before {
            Some(before) => format!("Now: {}.", show(before)),
            None => "There is no policy of that name now.".to_owned(),
        });
        notes.push(format!("Then: {}.", show(&wanted)));
        notes.push("When anything fails, the former one holds; nobody sees the table without a policy.".to_owned());
        let undo = by(self.replacing(&change.name, before.cloned(), Some(wanted.clone()), true));
        let title = format!("replace {:?} in one transaction", change.name);
        let action = self.replacing(&change.name, Some(wanted), before.cloned(), false);
        Ok(step("replace", title, StepClass::Idempotent, action, undo))
    }

    fn open(&self, roles: &[String], for_ms: u64) -> Step {
        let title = "make a policy that ends by itself";
        step("open", title, StepClass::Idempotent, self.opening(roles, Some(for_ms)), by(self.opening(roles, None)))
    }

    fn close(&self) -> Step {
        step("close", "take away what opens it", StepClass::Idempotent, self.opening(&[], None), Undo::Nothing)
    }
}

/// A policy in a sentence.
fn show(policy: &Policy) -> String {
    let kind = if policy.is_permissive { "" } else { "restricts " };
    let using = policy.using.as_ref().map(|text| format!(" using ({text})")).unwrap_or_default();
    let check = policy.check.as_ref().map(|text| format!(" with check ({text})")).unwrap_or_default();
    format!("{kind}{} to {}{using}{check}", policy.command, policy.roles.join(", "))
}
