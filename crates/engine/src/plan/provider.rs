//! Planning what is said about a restore that a provider carries out. Its journal is the record: the request's text, the
//! provider's number for it, how it ended.

use lifeboat_model::{
    Action, Failure, FailureKind, Lease, Plan, ProviderStep, Request, ResourceKind, StepClass, Undo,
    provider::{ProviderRequest, provider_of},
};

use super::steps::{self, phase, step};
use crate::Engine;

/// Plans a record about a restore by a provider.
///
/// # Errors
/// Words that are missing, an instant that lies ahead, a project that nobody can know, a request that is not there or is over.
pub(crate) fn plan(engine: &Engine, request: &Request, about: &ProviderStep) -> Result<Plan, Failure> {
    let common = engine.common()?;
    let missing = |what: &str| Failure::new(FailureKind::Usage, format!("{what} is missing"));
    let (title, lines) = match about {
        ProviderStep::Ask { resource, project, to, reason } => {
            if reason.trim().is_empty() {
                return Err(missing("the reason").hint("--reason \"what happened\"; the provider asks for it"));
            }
            if *to > common.now {
                return Err(Failure::new(FailureKind::Usage, "nobody can go back to an instant that lies ahead"));
            }
            let found = &engine.setup().resource(resource)?.kind;
            let ResourceKind::Postgres { url, .. } = found else {
                let message = format!("{resource} is on no server, and no provider has backups of it");
                return Err(Failure::new(FailureKind::Usage, message));
            };
            let address = engine.vaults.database(url)?;
            let named = project.clone().or_else(|| project_of(&address.host, &address.user));
            let Some(project) = named.filter(|project| !project.trim().is_empty()) else {
                let failure = missing("what the provider calls the project or instance");
                return Err(failure.hint(format!("lifeboat provider ask {resource} --project NAME ...")));
            };
            let text = ProviderRequest {
                scope: &common.scope.to_string(),
                project: &project,
                place: &address.to_string(),
                provider: provider_of(&address.host),
                to: *to,
                reason,
                now: common.now,
            }
            .text();
            let title =
                format!("ask the provider to restore {resource} of {} to {}", common.scope, steps::instant(*to));
            (title, text.lines().map(str::to_owned).collect())
        }
        ProviderStep::Ticket { request, ticket } => {
            if ticket.trim().is_empty() {
                return Err(missing("the number"));
            }
            let found = engine.open_provider_restore(request)?;
            let line = format!("the provider's number for {} is {ticket}", found.id);
            (format!("record the number of restore {} by the provider", found.id), vec![line])
        }
        ProviderStep::Outcome { request, restored, note } => {
            if note.trim().is_empty() {
                return Err(missing("how it ended").hint("--note \"restored up to 14:02, new instance\""));
            }
            let found = engine.open_provider_restore(request)?;
            let how = if *restored { "restored" } else { "not restored" };
            (format!("record how restore {} by the provider ended: {how}", found.id), vec![note.clone()])
        }
    };
    let mut plan = steps::new_plan(&common, request, title, Lease::Notice);
    let say = step("say", "put it on record", StepClass::Idempotent, Action::Say { lines }, Undo::Nothing);
    plan.phases = vec![phase(&common, "record", vec![], vec![say])];
    if let ProviderStep::Outcome { request, restored: true, .. } = about {
        let resource = engine.open_provider_restore(request)?.resource;
        plan.notes.push(format!(
            "What came back is compared with the newest backup by: lifeboat verify {resource}; where it is another place, change its \
             address first."
        ));
    }
    Ok(plan)
}

/// What Supabase calls a project is in the name of its host, or of the role that its pooler wants.
fn project_of(host: &str, user: &str) -> Option<String> {
    let of_host = host.strip_prefix("db.").and_then(|rest| rest.strip_suffix(".supabase.co"));
    let of_pooler = user.split_once('.').filter(|_| host.ends_with(".supabase.com")).map(|(_, project)| project);
    of_host.or(of_pooler).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::project_of;

    #[test]
    fn supabases_name_for_a_project_is_in_the_address() {
        assert_eq!(project_of("db.abcdef.supabase.co", "postgres").as_deref(), Some("abcdef"));
        assert_eq!(project_of("aws-0-eu.pooler.supabase.com", "postgres.abcdef").as_deref(), Some("abcdef"));
        assert_eq!(project_of("localhost", "postgres.abcdef"), None);
    }
}
