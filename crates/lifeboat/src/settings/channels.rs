//! Channels: where messages go, as settings say it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use lifeboat_model::{
    Failure, FailureKind,
    message::{Channel, LIMITS_MIN, Occasion, Way},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PasswordSettings, resolve::source_of};
use crate::{outside, secrets::PasswordSource};

/// Where messages go: exactly one of `file`, `webhook` and `sendmail`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelSettings {
    /// A file that gets a line of JSON for each.
    #[schemars(extend("x-kind" = "path"))]
    pub file: Option<PathBuf>,
    /// Where the address of a webhook is, which takes `{"text": ...}`; it is a secret: one of `env`, `file`, `cmd`.
    pub webhook: Option<PasswordSettings>,
    /// The command that takes a mail as `sendmail -t` does.
    #[schemars(extend("x-kind" = "command"))]
    pub sendmail: Option<Vec<String>>,
    /// Mail: whom it is from. Default: lifeboat@localhost.
    pub from: Option<String>,
    /// Mail: whom it is to.
    #[serde(default)]
    pub to: Vec<String>,
    /// Of what it is told: `begun`, `over`, `failed`, `reminders`, `escalation`, `overdue`. Default: of all.
    #[serde(default, rename = "for")]
    pub occasions: Vec<String>,
}

/// A channel in effect, and where the address of its webhook is.
pub type Found = (Channel, Option<PasswordSource>);

/// Decides what is in effect.
///
/// # Errors
/// Nothing or several things are said of where messages go; a mail has nobody to go to.
pub fn resolve(all: &BTreeMap<String, ChannelSettings>, folder: &Path) -> Result<Vec<Found>, Failure> {
    all.iter().map(|(name, what)| one(name, what, folder)).collect()
}

fn one(name: &str, what: &ChannelSettings, folder: &Path) -> Result<Found, Failure> {
    let usage = |message: String, hint: &str| Failure::new(FailureKind::Usage, message).hint(hint);
    let (way, source) = match (&what.file, &what.webhook, &what.sendmail) {
        (Some(path), None, None) => (Way::File { path: outside::plain_path(&folder.join(path)) }, None),
        (None, Some(webhook), None) => (Way::Webhook, Some(source_of(webhook, folder)?)),
        (None, None, Some(command)) => {
            if what.to.is_empty() {
                return Err(usage(
                    format!("notify.{name} sends mails to nobody"),
                    "to = [\"team@shop.example\"], for example",
                ));
            }
            let from = what.from.clone().unwrap_or_else(|| "lifeboat@localhost".to_owned());
            (Way::Mail { command: command.clone(), from, to: what.to.clone() }, None)
        }
        _none_or_several => {
            let message = format!("notify.{name} has to say one of file, webhook and sendmail");
            return Err(usage(message, "webhook = { env = \"CHAT_WEBHOOK\" }, for example"));
        }
    };
    let mut occasions = Vec::new();
    for said in &what.occasions {
        match said.as_str() {
            "begun" => occasions.push(Occasion::RollbackBegun),
            "over" => occasions.push(Occasion::RollbackOver),
            "failed" => occasions.extend([Occasion::RollbackFailed, Occasion::RollbackWaits]),
            "reminders" => occasions.extend(LIMITS_MIN.iter().map(|(occasion, _)| *occasion)),
            "escalation" => {
                occasions.extend([Occasion::BackupCalled, Occasion::EverybodyCalled, Occasion::ExecutiveCalled]);
            }
            "overdue" => occasions.push(Occasion::Overdue),
            other => {
                let message = format!("notify.{name} is told of {other:?}, which is nothing that happens");
                let hint = "for = [\"begun\", \"over\", \"failed\", \"reminders\", \"escalation\", \"overdue\"], or some of them";
                return Err(usage(message, hint));
            }
        }
    }
    Ok((Channel { name: name.to_owned(), way, occasions }, source))
}

/// For people: where its messages go.
pub fn shown(channel: &Channel) -> String {
    match &channel.way {
        Way::File { path } => path.display().to_string(),
        Way::Webhook => "a webhook".to_owned(),
        Way::Mail { to, .. } => to.join(", "),
    }
}
