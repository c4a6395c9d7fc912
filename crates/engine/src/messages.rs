//! The outbox: messages lie in a folder of the state, each in a file of its own, from before they are sent. A channel that is down
//! is tried again later; whatever becomes of a message, what it tells of goes on.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use lifeboat_io::{Invocation, Io, Stop, files, post_over_the_web};
use lifeboat_model::{
    Action, Failure, FailureKind, Operation, OperationId, OperationState, Request, StepState, Timestamp, VersionAsk,
    message::{self, Channel, MESSAGE_SCHEMA, Message, Notice, Occasion, OnRecord, Way},
    release,
};
use secrecy::ExposeSecret;

use crate::{Engine, act::path_failure, setup::Vaults};

/// How long a program that takes a mail may need.
const MAIL_LIMIT: Duration = Duration::from_secs(10);

impl Engine {
    /// Every message there is, oldest first.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub fn messages(&self) -> Result<Vec<Message>, Failure> {
        self.outbox().all()
    }

    /// Tries what was not delivered yet, and gives every message that was tried.
    ///
    /// # Errors
    /// When the outbox cannot be read or written; a channel that is down is no error.
    pub fn send_messages(&self, stop: &Stop) -> Result<Vec<Message>, Failure> {
        let outbox = self.outbox();
        let waiting = outbox.all()?.into_iter().filter(|one| one.sent_at.is_none());
        waiting.map(|one| outbox.send(one, stop)).collect()
    }

    /// Reminds of what is due in open incidents, who is to be called in them and what is overdue after them, and tries again what was not delivered and has rested. Gives what was tried.
    ///
    /// # Errors
    /// When incidents, decisions or the outbox cannot be read.
    pub fn tend_messages(&self, stop: &Stop) -> Result<Vec<Message>, Failure> {
        let (outbox, now) = (self.outbox(), self.io.clock.now());
        let mut tried = Vec::new();
        if !self.setup.channels.is_empty() {
            for (of, notice) in self.due_notices(now)? {
                for channel in self.setup.channels.iter().filter(|channel| channel.wants(notice.occasion)) {
                    let one = outbox.written(Some(&of), channel, &notice, false)?;
                    if one.tries == 0 {
                        tried.push(outbox.send(one, stop)?);
                    }
                }
            }
        }
        for one in outbox.all()?.into_iter().filter(|one| message::is_to_be_tried(one, now)) {
            if !tried.iter().any(|other| other.key == one.key) {
                tried.push(outbox.send(one, stop)?);
            }
        }
        Ok(tried)
    }

    /// What people are to be told by now without being asked: what is not on record of an open incident, who is to be called in it, and
    /// what is overdue after one. Everything comes from journals, so whoever asks next knows as much.
    fn due_notices(&self, now: Timestamp) -> Result<Vec<(OperationId, Notice)>, Failure> {
        let scope = &self.setup.scope;
        let mut notices = Vec::new();
        for incident in self.incidents()?.into_iter().filter(|incident| incident.state() == "open") {
            let recorded = self.decisions()?;
            let since: Vec<_> = recorded.iter().filter(|one| one.at >= incident.since).collect();
            let on_record = OnRecord {
                impact: since.iter().any(|one| one.impact().is_some()),
                decision: since.iter().any(|one| one.decision().is_some()),
            };
            let answered = self.answered(&incident.id)?;
            let said = (incident.title.as_str(), incident.since);
            let call = message::to_call(scope, said, now, &self.setup.contacts, &answered);
            let due = message::due(scope, &incident.title, incident.since, now, on_record);
            notices.extend(due.into_iter().chain(call).map(|notice| (incident.id.clone(), notice)));
        }
        let overdue = self.open_deadlines()?.into_iter().filter(|one| one.overdue);
        notices.extend(overdue.map(|one| (one.of.clone(), message::overdue(scope, &one, now))));
        Ok(notices)
    }

    /// Sends a message to try every channel, or one.
    ///
    /// # Errors
    /// There is no such channel; the outbox cannot be written.
    pub fn try_channels(&self, name: Option<&str>, stop: &Stop) -> Result<Vec<Message>, Failure> {
        let channels = &self.setup().channels;
        let meant: Vec<&Channel> =
            channels.iter().filter(|channel| name.is_none_or(|name| channel.name == name)).collect();
        if meant.is_empty() {
            let message = name.map_or("there is no channel".to_owned(), |name| format!("there is no channel {name}"));
            let known: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
            let hint = match known.as_slice() {
                [] => "write [notify.chat] with webhook, file or sendmail into lifeboat.toml".to_owned(),
                known => format!("there are: {}", known.join(", ")),
            };
            return Err(Failure::new(FailureKind::Usage, message).hint(hint));
        }
        let notice = message::test(&self.setup().scope);
        let outbox = self.outbox();
        meant.into_iter().map(|channel| outbox.send(outbox.written(None, channel, &notice, true)?, stop)).collect()
    }

    fn outbox(&self) -> Outbox<'_> {
        Outbox { io: &self.io, root: self.state.root(), vaults: &*self.vaults }
    }
}

/// Writes a notice down for each channel and tries to deliver it: how many were, and which were not.
pub(crate) fn tell(
    outbox: &Outbox<'_>,
    operation: &OperationId,
    channels: &[Channel],
    notice: &Notice,
    stop: &Stop,
) -> (u64, Vec<String>) {
    let (mut sent, mut waiting) = (0, Vec::new());
    for channel in channels.iter().filter(|channel| channel.wants(notice.occasion)) {
        let tried = outbox.written(Some(operation), channel, notice, false).and_then(|one| outbox.send(one, stop));
        match tried {
            Ok(one) if one.sent_at.is_some() => sent += 1,
            Ok(one) => waiting.push(format!("{}: {}", channel.name, one.why_not.unwrap_or_default())),
            Err(failure) => waiting.push(format!("{}: {failure}", channel.name)),
        }
    }
    (sent, waiting)
}

/// Tells of a rollback that did not come to its end, where its beginning was told.
pub(crate) fn tell_of_failure(outbox: &Outbox<'_>, operation: &Operation) {
    let Request::Version { about: VersionAsk::RollBack { .. } | VersionAsk::Platform(_) } = operation.plan.request
    else {
        return;
    };
    let steps = operation.plan.steps().zip(&operation.steps);
    let begun =
        steps.filter(|(_, state)| !matches!(state, StepState::Planned)).find_map(|(step, _)| match &step.action {
            Action::Notify { channels, notice } if notice.occasion == Occasion::RollbackBegun => Some(channels),
            _other => None,
        });
    let (waits, why) = match &operation.state {
        // Somebody stands there and knows.
        OperationState::Paused { why } if why.kind == FailureKind::Interrupted => return,
        OperationState::PutBack { why } => (false, why.as_ref()),
        OperationState::Paused { why } | OperationState::TurningBack { why } => (true, Some(why)),
        OperationState::HandedOver { why } => (true, Some(why)),
        OperationState::Done | OperationState::Running => return,
    };
    if let Some(channels) = begun {
        let why = why.map_or_else(|| "somebody broke it off".to_owned(), |why| outbox.vaults.scrub(&why.message));
        let notice = message::failed(&operation.plan.scope, &operation.plan.title, waits, &why)
            .marked(release::is_rehearsal(&operation.plan));
        tell(outbox, &operation.id, channels, &notice, &Stop::default());
    }
}

/// The folder of messages, and what is needed to deliver them.
pub(crate) struct Outbox<'a> {
    pub io: &'a Io,
    /// The state folder.
    pub root: &'a Path,
    pub vaults: &'a dyn Vaults,
}

impl Outbox<'_> {
    fn folder(&self) -> PathBuf {
        self.root.join("outbox")
    }

    fn place(&self, key: &str) -> PathBuf {
        self.folder().join(format!("{key}.json"))
    }

    fn all(&self) -> Result<Vec<Message>, Failure> {
        let files = files::list_folder(&self.folder()).map_err(|error| path_failure(&error))?;
        let messages = files.iter().filter(|path| path.extension().is_some_and(|end| end == "json")).map(|path| {
            let text = files::read_text(path).map_err(|error| path_failure(&error))?;
            serde_json::from_str(&text).map_err(|error| {
                let message = format!("{} is no message", path.display());
                Failure::new(FailureKind::Damaged, message).because(error.to_string()).hint("move it out of the outbox")
            })
        });
        let mut all: Vec<Message> = messages.collect::<Result<_, Failure>>()?;
        all.sort_by(|one, other| (one.made_at, &one.key).cmp(&(other.made_at, &other.key)));
        Ok(all)
    }

    /// A message that is there is the one that was written down before.
    fn written(
        &self,
        operation: Option<&OperationId>,
        channel: &Channel,
        notice: &Notice,
        anew: bool,
    ) -> Result<Message, Failure> {
        let key = message::key(operation, notice, &channel.name);
        let place = self.place(&key);
        if !anew
            && let Ok(text) = files::read_text(&place)
            && let Ok(there) = serde_json::from_str(&text)
        {
            return Ok(there);
        }
        let subject = self.vaults.scrub(&notice.subject);
        let notice = Notice { subject, text: self.vaults.scrub(&notice.text), ..notice.clone() };
        let message = Message {
            schema: MESSAGE_SCHEMA.to_owned(),
            key,
            operation: operation.cloned(),
            channel: channel.clone(),
            notice,
            made_at: self.io.clock.now(),
            tries: 0,
            tried_at: None,
            sent_at: None,
            why_not: None,
        };
        self.keep(&message)?;
        Ok(message)
    }

    fn keep(&self, message: &Message) -> Result<(), Failure> {
        files::create_private_folder(&self.folder()).map_err(|error| path_failure(&error))?;
        let body = serde_json::to_vec_pretty(message).map_err(|error| {
            Failure::new(FailureKind::Bug, "a message cannot be written").because(error.to_string())
        })?;
        files::write_with_mode(&self.place(&message.key), &body, 0o600).map_err(|error| path_failure(&error))
    }

    /// Delivers one; what is delivered is not delivered again.
    fn send(&self, mut message: Message, stop: &Stop) -> Result<Message, Failure> {
        if message.sent_at.is_some() {
            return Ok(message);
        }
        message.tries += 1;
        message.tried_at = Some(self.io.clock.now());
        match self.deliver(&message, stop) {
            Ok(()) => (message.sent_at, message.why_not) = (Some(self.io.clock.now()), None),
            Err(why) => message.why_not = Some(self.vaults.scrub(&why)),
        }
        self.keep(&message)?;
        Ok(message)
    }

    fn deliver(&self, message: &Message, stop: &Stop) -> Result<(), String> {
        let notice = &message.notice;
        match &message.channel.way {
            Way::File { path } => {
                let line = serde_json::json!({
                    "schema": MESSAGE_SCHEMA, "at": message.made_at, "key": message.key, "occasion": notice.occasion,
                    "subject": notice.subject, "text": notice.text,
                });
                files::append_text(path, &format!("{line}\n")).map_err(|error| error.to_string())
            }
            Way::Webhook => {
                let url = self.vaults.webhook(&message.channel.name).map_err(|failure| failure.message)?;
                let body = serde_json::json!({ "text": format!("{}\n{}", notice.subject, notice.text) }).to_string();
                match post_over_the_web(url.expose_secret(), &body)? {
                    200..300 => Ok(()),
                    status => Err(format!("it answered with {status}")),
                }
            }
            Way::Mail { command, from, to } => {
                let (program, words) = command.split_first().ok_or("its command has no words")?;
                let date = message.made_at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
                let mail = message::mail(from, to, notice, &date, &message.key);
                let call = Invocation::new(program, MAIL_LIMIT).args(words);
                let exit = self.io.exec.run(&call, Some(mail.as_bytes()), stop).map_err(|error| error.to_string())?;
                match exit.ok() {
                    true => Ok(()),
                    false => Err(format!("`{call}` failed with code {}: {}", exit.code, exit.stderr_text())),
                }
            }
        }
    }
}
