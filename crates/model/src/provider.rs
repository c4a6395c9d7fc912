//! A restore that somebody else carries out: the provider of a database, to a point in time. What we can do is to ask for it so
//! that nothing is missing, and to keep who was asked for what until it is known how it ended.

use serde::{Deserialize, Serialize};

use crate::{id::OperationId, resource::ResourceName, time::Timestamp};

/// What is said about such a restore. Its name is that of the operation in which it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum ProviderStep {
    /// It is asked for.
    Ask {
        /// Which resource.
        resource: ResourceName,
        /// What the provider calls the project; what the address tells, when nobody says it.
        project: Option<String>,
        /// The instant to which the database is to go back.
        to: Timestamp,
        /// Why.
        reason: String,
    },
    /// The provider has answered with a number.
    Ticket {
        /// Which restore.
        request: OperationId,
        /// The number.
        ticket: String,
    },
    /// It is known how it ended.
    Outcome {
        /// Which restore.
        request: OperationId,
        /// Whether the database was brought back; else it was refused, or given up.
        restored: bool,
        /// What there is to say.
        note: String,
    },
}

/// How such a restore ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderOutcome {
    /// When it was put on record.
    pub at: Timestamp,
    /// Whether the database was brought back.
    pub restored: bool,
    /// What was said.
    pub note: String,
}

/// A restore by a provider as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRestore {
    /// The operation in which it was asked for.
    pub id: OperationId,
    /// When.
    pub asked_at: Timestamp,
    /// Which resource.
    pub resource: ResourceName,
    /// The instant to which it is to go back.
    pub to: Timestamp,
    /// Why.
    pub reason: String,
    /// The provider's number for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// How it ended; nothing while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ProviderOutcome>,
}

impl ProviderRestore {
    /// `open`, `restored` or `not restored`.
    pub fn state(&self) -> &'static str {
        match &self.outcome {
            None => "open",
            Some(outcome) if outcome.restored => "restored",
            Some(_) => "not restored",
        }
    }
}

/// Puts together what was said, oldest first: when, by which operation.
pub fn provider_restores(
    said: impl IntoIterator<Item = (Timestamp, OperationId, ProviderStep)>,
) -> Vec<ProviderRestore> {
    let mut known: Vec<ProviderRestore> = Vec::new();
    for (at, operation, step) in said {
        match step {
            ProviderStep::Ask { resource, to, reason, project: _ } => {
                let (ticket, outcome) = (None, None);
                known.push(ProviderRestore { id: operation, asked_at: at, resource, to, reason, ticket, outcome });
            }
            ProviderStep::Ticket { request, ticket } => {
                if let Some(found) = known.iter_mut().find(|one| one.id == request) {
                    found.ticket = Some(ticket);
                }
            }
            ProviderStep::Outcome { request, restored, note } => {
                if let Some(found) = known.iter_mut().find(|one| one.id == request) {
                    found.outcome.get_or_insert(ProviderOutcome { at, restored, note });
                }
            }
        }
    }
    known
}

/// Who runs a database, as far as the name of its host tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provider {
    /// What it is called.
    pub name: &'static str,
    /// Where its own backups are, and how one asks for a point in time.
    pub way: &'static str,
}

/// The provider behind a host, where its name is known.
pub fn provider_of(host: &str) -> Option<Provider> {
    /// How the name of a host ends, who it is, and the way there. From the providers' manuals.
    const KNOWN: [(&str, &str, &str); 13] = [
        (".supabase.co", "Supabase", "dashboard: Database, Backups; Point in Time is an add-on of the project"),
        (".supabase.com", "Supabase", "dashboard: Database, Backups; Point in Time is an add-on of the project"),
        (
            ".rds.amazonaws.com",
            "Amazon RDS",
            "console: Automated backups, Restore to point in time; it makes a new instance",
        ),
        (".neon.tech", "Neon", "console: Branches, Restore; or a new branch from a time in the history"),
        (".render.com", "Render", "dashboard: the database, Recovery"),
        (".ondigitalocean.com", "DigitalOcean", "control panel: Backups, Restore to a new cluster"),
        (".postgres.database.azure.com", "Azure", "portal: the server, Restore; it makes a new server"),
        (".aivencloud.com", "Aiven", "console: Backups, Fork or restore to a point in time"),
        (".postgresbridge.com", "Crunchy Bridge", "dashboard: Backups, fork at a time"),
        (".db.fly.io", "Fly.io", "fly mpg backup list; fly volumes snapshots list for a database that runs as an app"),
        (".flycast", "Fly.io", "fly mpg backup list; fly volumes snapshots list for a database that runs as an app"),
        (".railway.app", "Railway", "dashboard: the volume, Backups"),
        (".rlwy.net", "Railway", "dashboard: the volume, Backups"),
    ];
    let found = KNOWN.iter().find(|(end, ..)| host.ends_with(end));
    found.map(|(_, name, way)| Provider { name, way })
}

/// Where a provider is asked for help, by what it is called: Supabase and Fly.io as the documents give them, of the others the
/// public entrance, which may move. Whoever the settings name comes first.
pub fn support_of(name: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 6] = [
        ("Supabase", "https://supabase.com/support"),
        ("Fly.io", "https://fly.io/docs/about/support/"),
        ("Amazon RDS", "https://console.aws.amazon.com/support"),
        ("DigitalOcean", "https://cloud.digitalocean.com/support"),
        ("Azure", "https://portal.azure.com, Help + support"),
        ("Vercel", "https://vercel.com/help"),
    ];
    KNOWN.iter().find(|(known, _)| *known == name).map(|(_, contact)| *contact)
}

/// The words of a request, ready to be sent: all that a provider asks back for.
pub struct ProviderRequest<'a> {
    /// The app and its environment.
    pub scope: &'a str,
    /// What the provider calls the project.
    pub project: &'a str,
    /// Host, port and database; nothing secret.
    pub place: &'a str,
    /// The provider, where it is known.
    pub provider: Option<Provider>,
    /// The instant to which it is to go back.
    pub to: Timestamp,
    /// Why.
    pub reason: &'a str,
    /// When it was written.
    pub now: Timestamp,
}

impl ProviderRequest<'_> {
    /// The text.
    pub fn text(&self) -> String {
        let to_whom = self.provider.map_or("the provider of the database", |provider| provider.name);
        format!(
            "To {to_whom}: request for a restore to a point in time\n\
             \n\
             Project:       {project}\n\
             Database:      {place}\n\
             Restore to:    {to} (UTC)\n\
             Reason:        {reason}\n\
             Application:   {scope}\n\
             Requested at:  {now} (UTC)\n\
             \n\
             Please restore into a NEW database or instance, and leave the present one as it is: it holds what was written since.\n\
             If that cannot be done, please tell us before anything is replaced, and take a backup of the present state first.\n\
             \n\
             Please tell us with the answer:\n\
             - the number of this request,\n\
             - the exact instant up to which the restored data is complete,\n\
             - how we connect to it,\n\
             - how long WAL and backups of that time are kept, and that they are kept until this request is closed.\n",
            project = self.project,
            place = self.place,
            to = self.to.strftime("%Y-%m-%dT%H:%M:%SZ"),
            reason = self.reason,
            scope = self.scope,
            now = self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn rst_24_it_is_open_until_its_outcome_is_known() {
        let id = |name: &str| OperationId::from_random(name.bytes().map(u64::from).sum());
        let ask = |to: i64| ProviderStep::Ask {
            resource: ResourceName::new("db").unwrap(),
            project: None,
            to: at(to),
            reason: "a bad migration".into(),
        };
        let mut said = vec![(at(100), id("o-1"), ask(50)), (at(110), id("o-2"), ask(60))];
        let ticket = ProviderStep::Ticket { request: id("o-2"), ticket: "4711".into() };
        said.push((at(120), id("o-3"), ticket));
        let states = |said: &[(Timestamp, OperationId, ProviderStep)]| -> Vec<&'static str> {
            provider_restores(said.to_vec()).iter().map(ProviderRestore::state).collect()
        };
        assert_eq!(states(&said), ["open", "open"]);
        assert_eq!(provider_restores(said.clone())[1].ticket.as_deref(), Some("4711"));
        let end = |request: &str, restored| ProviderStep::Outcome { request: id(request), restored, note: "x".into() };
        said.push((at(130), id("o-4"), end("o-2", true)));
        said.push((at(140), id("o-5"), end("o-1", false)));
        said.push((at(150), id("o-6"), end("o-1", true)));
        assert_eq!(states(&said), ["not restored", "restored"], "the first word about an end counts");
    }

    #[test]
    fn rst_24_the_request_says_all_that_is_asked_back_for() {
        assert_eq!(provider_of("db.abcdefgh.supabase.co").map(|one| one.name), Some("Supabase"));
        assert_eq!(provider_of("localhost"), None);
        let request = ProviderRequest {
            scope: "shop/production",
            project: "abcdefgh",
            place: "db.abcdefgh.supabase.co:5432/postgres",
            provider: provider_of("db.abcdefgh.supabase.co"),
            to: at(1_790_000_000),
            reason: "orders were deleted",
            now: at(1_790_003_600),
        };
        let text = request.text();
        for part in ["To Supabase", "Project:       abcdefgh", "2026-09-21T14:13:20Z", "orders were deleted"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
