//! Messages to people: that a rollback has begun, is over, or has failed. A message is written down before it is sent, so that a
//! channel that is down is told later and holds nothing up.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    due::Deadline,
    escalation::{self, Answered, Contacts, OnDuty, Role},
    id::OperationId,
    release::DRILL,
    resource::Scope,
    time::{Timestamp, since},
};

/// The schema tag of a message in the outbox. Fields are only added within one number.
pub const MESSAGE_SCHEMA: &str = "lifeboat/message@1";

/// What a message tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// A rollback has begun; nobody should change anything.
    RollbackBegun,
    /// It is over, and what runs was looked at.
    RollbackOver,
    /// It did not come to its end, and everything is as before.
    RollbackFailed,
    /// It did not come to its end, and waits for a person.
    RollbackWaits,
    /// Nobody has said yet how far an incident reaches, and it is time.
    ImpactDue,
    /// A quick fix has had its time.
    FixDue,
    /// Nobody has decided yet, and it is time.
    DecisionDue,
    /// Nobody has answered for so long that the backups are called.
    BackupCalled,
    /// Nobody of them has answered either.
    EverybodyCalled,
    /// It is not over after half an hour.
    ExecutiveCalled,
    /// Something that was due after a rollback or an incident is overdue.
    Overdue,
    /// Somebody tries the channel.
    Test,
}

impl Occasion {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Occasion::RollbackBegun => "rollback-begun",
            Occasion::RollbackOver => "rollback-over",
            Occasion::RollbackFailed => "rollback-failed",
            Occasion::RollbackWaits => "rollback-waits",
            Occasion::ImpactDue => "impact-due",
            Occasion::FixDue => "fix-due",
            Occasion::DecisionDue => "decision-due",
            Occasion::BackupCalled => "backup-called",
            Occasion::EverybodyCalled => "everybody-called",
            Occasion::ExecutiveCalled => "executive-called",
            Occasion::Overdue => "overdue",
            Occasion::Test => "test",
        }
    }
}

/// Where messages go. Secrets of it are elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// What the settings call it.
    pub name: String,
    /// How.
    pub way: Way,
    /// Of what it is told; of everything when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub occasions: Vec<Occasion>,
}

impl Channel {
    /// Whether it is told of this.
    pub fn wants(&self, occasion: Occasion) -> bool {
        occasion == Occasion::Test || self.occasions.is_empty() || self.occasions.contains(&occasion)
    }
}

/// How a message reaches people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Way {
    /// A line of JSON at the end of a file: for a status page, or for somebody who watches it.
    File {
        /// The file.
        path: PathBuf,
    },
    /// A POST with `{"text": ...}`, as chats take it. The address is a secret.
    Webhook,
    /// A mail, handed to a program that takes it as `sendmail -t` does.
    Mail {
        /// The program and its words.
        command: Vec<String>,
        /// Whom it is from.
        from: String,
        /// Whom it is to.
        to: Vec<String>,
    },
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What it tells of.
    pub occasion: Occasion,
    /// One line.
    pub subject: String,
    /// All of it.
    pub text: String,
    /// Which of several of the same occasion it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matter: Option<String>,
}

impl Notice {
    /// The same, marked as a drill where it is one: nobody has to be woken by it.
    #[must_use]
    pub fn marked(self, is_drill: bool) -> Notice {
        match is_drill {
            true => {
                Notice { subject: format!("{DRILL} {}", self.subject), text: format!("{DRILL} {}", self.text), ..self }
            }
            false => self,
        }
    }
}

/// A message to one channel, as it lies in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// [`MESSAGE_SCHEMA`].
    pub schema: String,
    /// Operation, occasion and channel: said twice, it is one message.
    pub key: String,
    /// The operation it tells of; nothing for a test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// Where it goes.
    pub channel: Channel,
    /// What it says.
    pub notice: Notice,
    /// When it was written down.
    pub made_at: Timestamp,
    /// How often it was tried.
    #[serde(default)]
    pub tries: u32,
    /// When it was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<Timestamp>,
    /// When it was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// Why it was not, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

/// The name of the message by which a channel hears of this; the same thing is told once.
pub fn key(operation: Option<&OperationId>, notice: &Notice, channel: &str) -> String {
    let of = operation.map_or_else(|| "test".to_owned(), ToString::to_string);
    let matter = notice.matter.as_ref().map(|matter| format!("-{matter}")).unwrap_or_default();
    format!("{of}.{}{matter}.{channel}", notice.occasion.word())
}

/// What stands in a notice that somebody has typed: one line, not too long.
fn said(why: &str) -> String {
    let line: String = why.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    line.trim().chars().take(300).collect()
}

/// A rollback begins.
pub fn begun(scope: &Scope, to: &str, why: &str, expected: Option<&str>) -> Notice {
    let why = said(why);
    let because = if why.is_empty() { String::new() } else { format!(" due to {why}") };
    let subject = format!("[{scope}] ROLLBACK IN PROGRESS - do not make changes");
    let expected =
        expected.map_or("how long it takes is not known".to_owned(), |expected| format!("expected to take {expected}"));
    let text =
        format!("A rollback of {scope} to {to} was begun{because}; {expected}. Do not make changes until it is over.");
    Notice { occasion: Occasion::RollbackBegun, subject, text, matter: None }
}

/// It is over. What was looked at before that is said here, and nothing more.
pub fn over(scope: &Scope, to: &str, was_verified: bool) -> Notice {
    let (subject, looked) = match was_verified {
        true => ("Rollback complete: stable on", "what runs was verified"),
        false => ("Rollback complete, NOT VERIFIED:", "nobody has said how it is looked at, so nothing was verified"),
    };
    Notice {
        occasion: Occasion::RollbackOver,
        subject: format!("[{scope}] {subject} {to}"),
        text: format!("The rollback of {scope} to {to} is complete; {looked}. Changes may be made again."),
        matter: None,
    }
}

/// It did not come to its end.
pub fn failed(scope: &Scope, title: &str, waits: bool, why: &str) -> Notice {
    let (occasion, what_is) = match waits {
        false => (Occasion::RollbackFailed, "everything is as it was before"),
        true => (Occasion::RollbackWaits, "it waits for a person: lifeboat status"),
    };
    Notice {
        occasion,
        subject: format!("[{scope}] ROLLBACK FAILED: {what_is}"),
        text: format!("What failed: {title}. Why: {}. Now: {what_is}. Somebody has to look at it.", said(why)),
        matter: None,
    }
}

/// What was put on record about an open incident since it was noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnRecord {
    /// How far it reaches.
    pub impact: bool,
    /// What was decided.
    pub decision: bool,
}

/// How long each has, from the moment at which it was noticed: the form, the quick fix, the decision.
pub const LIMITS_MIN: [(Occasion, u64); 3] =
    [(Occasion::ImpactDue, 5), (Occasion::FixDue, 15), (Occasion::DecisionDue, 30)];

/// What is due in an open incident and not on record.
pub fn due(scope: &Scope, title: &str, noticed: Timestamp, now: Timestamp, on_record: OnRecord) -> Vec<Notice> {
    let passed = since(noticed, now).as_secs() / 60;
    let open = LIMITS_MIN.iter().filter(|(occasion, minutes)| {
        let is_done = match occasion {
            Occasion::ImpactDue => on_record.impact,
            _decided => on_record.decision,
        };
        passed >= *minutes && !is_done
    });
    open.map(|(occasion, minutes)| {
        let (what, command) = match occasion {
            Occasion::ImpactDue => ("the impact assessment is due", "lifeboat assess"),
            Occasion::FixDue => ("a quick fix has had its time", "lifeboat decide"),
            _decision => ("the decision is due", "lifeboat decide"),
        };
        let subject = format!("[{scope}] {minutes} minutes: {what}");
        let text = format!("{}, noticed {}: {what}. {command}", said(title), noticed.strftime("%Y-%m-%d %H:%M UTC"));
        Notice { occasion: *occasion, subject, text, matter: None }
    })
    .collect()
}

/// A message is tried again after half a minute, then after twice as long each time, and at least once in an hour.
pub fn is_to_be_tried(message: &Message, now: Timestamp) -> bool {
    let rest_s = 30u64.saturating_mul(1 << message.tries.min(7)).min(3_600);
    message.sent_at.is_none() && since(message.tried_at.unwrap_or(message.made_at), now).as_secs() >= rest_s
}

/// A try.
pub fn test(scope: &Scope) -> Notice {
    let subject = format!("[{scope}] a message to try this channel");
    Notice { occasion: Occasion::Test, text: format!("{subject}; nothing has happened."), subject, matter: None }
}

/// A mail as `sendmail -t` takes it: heads, an empty line, the text. A line break in a head would begin another one.
pub fn mail(from: &str, to: &[String], notice: &Notice, date: &str, id: &str) -> String {
    let head =
        |text: &str| text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect::<String>();
    let subject = head(&notice.subject);
    // Letters beyond ASCII have to be wrapped in a head.
    let subject = match subject.is_ascii() {
        true => subject,
        false => format!("=?UTF-8?Q?{}?=", quoted_printable(&subject)),
    };
    format!(
        "From: {}\nTo: {}\nSubject: {subject}\nDate: {date}\nMessage-ID: <{id}@lifeboat>\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nAuto-Submitted: auto-generated\n\n{}\n",
        head(from),
        head(&to.join(", ")),
        notice.text.replace("\r\n", "\n")
    )
}

fn quoted_printable(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-/:.,![]".contains(&byte);
    text.bytes()
        .map(|byte| match byte {
            b' ' => "_".to_owned(),
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("={byte:02X}"),
        })
        .collect()
}

/// Who is to be called by now in an incident that is open: backups after five minutes without an answer of theirs, everybody after ten,
/// the executive when it is not over after thirty. Nobody is told where nobody has a role.
pub fn to_call(
    scope: &Scope,
    (title, began): (&str, Timestamp),
    now: Timestamp,
    contacts: &Contacts,
    answered: &[Answered],
) -> Vec<Notice> {
    let minutes = since(began, now).as_secs() / 60;
    let open = escalation::unanswered(contacts, answered);
    let mut notices = Vec::new();
    if contacts.roles.is_empty() {
        return notices;
    }
    let name = |who: &Option<String>| who.clone().unwrap_or_else(|| "nobody is named".to_owned());
    let began = began.strftime("%Y-%m-%d %H:%M UTC");
    let mut tell = |occasion: Occasion, subject: String, lines: Vec<String>| {
        let text = format!(
            "{}, noticed {began}. {}. Who has it says so: lifeboat escalation ack",
            said(title),
            lines.join("; ")
        );
        notices.push(Notice { occasion, subject: format!("[{scope}] {subject}"), text, matter: None });
    };
    if minutes >= escalation::BACKUP_MIN && !open.is_empty() {
        let call = |(role, duty): &(&Role, &OnDuty)| {
            let (primary, backup, phone) = (name(&duty.primary), name(&duty.backup), name(&duty.phone));
            format!("{}: {primary} has not answered, call {backup}, {phone}", role.title)
        };
        let subject = format!("{} minutes without an answer: call the backups", escalation::BACKUP_MIN);
        tell(Occasion::BackupCalled, subject, open.iter().map(call).collect());
    }
    if minutes >= escalation::EVERYBODY_MIN && !open.is_empty() {
        let call = |(role, duty): &(&Role, &OnDuty)| {
            let (primary, backup, phone) = (name(&duty.primary), name(&duty.backup), name(&duty.phone));
            format!("{}: neither {primary} nor {backup} has answered, {phone}", role.title)
        };
        let subject = format!("{} minutes without an answer: call everybody", escalation::EVERYBODY_MIN);
        tell(Occasion::EverybodyCalled, subject, open.iter().map(call).collect());
    }
    if minutes >= escalation::EXECUTIVE_MIN {
        let has: Vec<&str> = answered.iter().map(|one| one.by.as_str()).collect();
        let has =
            if has.is_empty() { "nobody has answered".to_owned() } else { format!("at work: {}", has.join(", ")) };
        let subject = format!("{} minutes and not over: call the executive", escalation::EXECUTIVE_MIN);
        tell(Occasion::ExecutiveCalled, subject, vec![format!("call {}", name(&contacts.executive)), has]);
    }
    notices
}

/// That something which was due is overdue.
pub fn overdue(scope: &Scope, deadline: &Deadline, now: Timestamp) -> Notice {
    let subject = format!("[{scope}] overdue: {}", deadline.title);
    let text = format!("After {}: {}", deadline.of, deadline.sentence(now));
    Notice { occasion: Occasion::Overdue, subject, text, matter: Some(deadline.key.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope { app: "shop".into(), environment: "production".into() }
    }

    /// DRL-08: what is sent in a drill says so first.
    #[test]
    fn drl_08_a_drill_is_marked() {
        let notice = over(&scope(), "v1", true);
        let marked = notice.clone().marked(true);
        assert!(marked.subject.starts_with("[DRILL] [shop/production] Rollback complete"), "{}", marked.subject);
        assert!(marked.text.starts_with("[DRILL] The rollback of shop/production"), "{}", marked.text);
        assert_eq!(notice.clone().marked(false), notice);
    }

    /// PHS-03, INC-09: what somebody typed becomes one line, and cannot make a head of its own.
    #[test]
    fn phs_03_what_is_said() {
        let notice = begun(&scope(), "r-1 (v1)", "orders\nBcc: all@example.com", Some("3 min"));
        assert_eq!(notice.subject, "[shop/production] ROLLBACK IN PROGRESS - do not make changes");
        assert!(notice.text.contains("due to orders Bcc: all@example.com; expected to take 3 min"), "{}", notice.text);
        let odd = Notice { subject: "Zurück\nBcc: x".into(), ..over(&scope(), "v1", true) };
        let mail = mail("a@b\nBcc: x", &["c@d".to_owned()], &odd, "now", "1");
        let heads = mail.split("\n\n").next().unwrap();
        assert!(heads.lines().all(|line| !line.starts_with("Bcc")), "{mail}");
        assert!(heads.contains("Subject: =?UTF-8?Q?Zur=C3=BCck_Bcc:_x?="), "{mail}");
        assert!(begun(&scope(), "v1", "", None).text.contains("how long it takes is not known"));
    }

    /// PHS-20: at 5, 15 and 30 minutes, unless it is on record by then.
    #[test]
    fn phs_20_what_is_due_when() {
        let noticed = Timestamp::UNIX_EPOCH;
        let at = |minutes: i64, on_record: OnRecord| -> Vec<&'static str> {
            let now = Timestamp::from_second(minutes * 60).unwrap();
            due(&scope(), "orders", noticed, now, on_record).iter().map(|one| one.occasion.word()).collect()
        };
        let none = OnRecord::default();
        assert_eq!(at(4, none), [""; 0]);
        assert_eq!(at(5, none), ["impact-due"]);
        assert_eq!(at(15, none), ["impact-due", "fix-due"]);
        assert_eq!(at(30, OnRecord { impact: true, decision: false }), ["fix-due", "decision-due"]);
        assert_eq!(at(90, OnRecord { impact: true, decision: true }), [""; 0]);
    }

    #[test]
    fn a_channel_hears_of_what_it_wants() {
        let channel = |occasions| Channel { name: "chat".into(), way: Way::Webhook, occasions };
        assert!(channel(vec![]).wants(Occasion::RollbackOver));
        assert!(!channel(vec![Occasion::RollbackBegun]).wants(Occasion::RollbackOver));
        assert!(channel(vec![Occasion::RollbackBegun]).wants(Occasion::Test));
        let id = OperationId::from_random(1);
        let notice = begun(&scope(), "v1", "", None);
        assert_eq!(key(Some(&id), &notice, "chat"), format!("{id}.rollback-begun.chat"));
        let overdue = Notice { occasion: Occasion::Overdue, matter: Some("report".into()), ..notice };
        assert_eq!(key(Some(&id), &overdue, "chat"), format!("{id}.overdue-report.chat"));
    }
}
