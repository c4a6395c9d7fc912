//! Whether a release is rolled back: rules as data, facts as they were measured or said, and what follows from both.
//!
//! Nothing here asks anybody or looks at a clock: who has the rules, the facts and the instants of a decision comes to the
//! same one again, later, in the review.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::time::{Duration, Timestamp, parse_duration, show_duration};

/// How bad what a rule speaks of is. Another scale than the priority of incidents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// No reason for a rollback: it is mended later.
    Minor,
    /// A rollback within a time, unless it is mended sooner.
    Major,
    /// A rollback at once.
    Critical,
}

impl Severity {
    /// One word for people.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Minor => "minor",
            Severity::Major => "major",
            Severity::Critical => "critical",
        }
    }
}

/// A measured number, in millionths: limits are compared exactly, 5.01 is above 5 and 5.0 is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Number(i64);

/// Millionths of one.
const ONE: i64 = 1_000_000;

impl Number {
    /// A whole number.
    pub const fn whole(number: i64) -> Number {
        Number(number.saturating_mul(ONE))
    }

    /// So many times as much.
    pub const fn times(self, count: i64) -> Number {
        Number(self.0.saturating_mul(count))
    }

    /// So many of so many, in percent, rounded up: what is above a limit by less than a millionth is above it.
    pub fn percent(part: u64, of: u64) -> Option<Number> {
        let of = i128::from(of);
        let scaled = i128::from(part) * 100 * i128::from(ONE);
        let rounded = (scaled + of - 1).checked_div(of)?;
        i64::try_from(rounded).ok().map(Number)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0.unsigned_abs() / ONE as u64, self.0.unsigned_abs() % ONE as u64);
        let sign = if self.0 < 0 { "-" } else { "" };
        let digits = format!("{rest:06}");
        match digits.trim_end_matches('0') {
            "" => write!(out, "{sign}{whole}"),
            digits => write!(out, "{sign}{whole}.{digits}"),
        }
    }
}

impl FromStr for Number {
    type Err = String;
    fn from_str(text: &str) -> Result<Number, String> {
        let bad = || format!("{text:?} is no number");
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(rest) || rest.len() > 6 {
            return Err(bad());
        }
        let whole: i64 = whole.parse().map_err(|_| bad())?;
        let rest: i64 = format!("{rest:0<6}").parse().map_err(|_| bad())?;
        let all = whole.checked_mul(ONE).and_then(|whole| whole.checked_add(rest)).ok_or_else(bad)?;
        Ok(Number(if text.starts_with('-') { -all } else { all }))
    }
}

impl TryFrom<String> for Number {
    type Error = String;
    fn try_from(text: String) -> Result<Number, String> {
        text.parse()
    }
}

impl From<Number> for String {
    fn from(number: Number) -> String {
        number.to_string()
    }
}

/// When a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// As soon as it is so at all.
    Any,
    /// Beyond this number; at the number itself it does not hold.
    Above(Number),
    /// Up to this number, without the number itself. From there on it is more than the rule speaks of, and a person has
    /// to judge.
    Below(Number),
}

/// A row of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its fact: `error_rate`.
    pub key: String,
    /// What it speaks of, for people.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// When it holds.
    pub limit: Limit,
    /// What numbers of it count: `%`, `s`, `min`; empty for plain counts, and where there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Fewer samples than these tell nothing.
    #[serde(default)]
    pub min_samples: u64,
    /// What was measured over less time tells nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_window: Option<Duration>,
    /// It counts only within this time after the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_release: Option<Duration>,
}

/// The rules when nobody says anything else: the fifteen rows of the matrix, and the five minor matters that were listed
/// apart from it.
pub fn default_rules() -> Vec<Rule> {
    use Severity::{Critical, Major, Minor};
    let rule = |key: &str, title: &str, severity, limit, unit: &str| Rule {
        key: key.to_owned(),
        title: title.to_owned(),
        severity,
        limit,
        unit: unit.to_owned(),
        min_samples: 0,
        min_window: None,
        after_release: None,
    };
    let above = |number| Limit::Above(Number::whole(number));
    let minutes = |count: u64| Some(Duration::from_secs(count * 60));
    vec![
        rule("database_corruption", "the database is corrupt", Critical, Limit::Any, ""),
        rule("system_unavailable", "the system is unavailable", Critical, above(5), "min"),
        rule("data_loss", "data is lost", Critical, Limit::Any, ""),
        rule("security_breach", "security is breached", Critical, Limit::Any, ""),
        rule("migration_failure", "a migration has failed", Critical, Limit::Any, ""),
        Rule { min_samples: 100, min_window: minutes(5), ..rule("error_rate", "requests fail", Major, above(5), "%") },
        Rule {
            min_samples: 100,
            min_window: minutes(5),
            ..rule("response_time", "answers are slow, consistently", Major, above(3), "s")
        },
        rule("core_workflow_broken", "a core workflow is broken", Major, Limit::Any, ""),
        Rule {
            after_release: minutes(60),
            ..rule("critical_bugs", "critical bugs in the first hour", Major, above(3), "")
        },
        rule("rls_policy_failure", "a row level security policy fails", Major, Limit::Any, ""),
        rule("single_noncritical_bug", "a single bug that is not critical", Minor, Limit::Any, ""),
        rule("minor_ui", "a minor matter of the user interface", Minor, Limit::Any, ""),
        rule("email_delay", "e-mails are late", Minor, Limit::Any, ""),
        rule("perf_affects_users", "it is slow for a part of the users", Minor, Limit::Below(Number::whole(10)), "%"),
        rule("noncritical_feature", "a feature that is not critical does not work", Minor, Limit::Any, ""),
    ]
}

/// What is known about what a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// How it is.
    pub value: Value,
    /// From how many samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// Over which time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Duration>,
    /// How long after the release the last of them came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// Who says so: a person, a command, a log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// How something is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// It is not so.
    No,
    /// It is so.
    Yes,
    /// So much of it.
    Number(Number),
    /// Nobody could tell, and why.
    Unknown(String),
}

impl Fact {
    /// What nobody could tell.
    pub fn unknown(why: impl Into<String>) -> Fact {
        Fact { value: Value::Unknown(why.into()), n: None, window: None, after: None, source: String::new() }
    }

    /// Reads what a person or a command says: `yes`, `no`, `unknown`, `5.01,n=1200,window=5m`, `61/1200,window=5m` (so many
    /// of so many, in percent), `4,after=40m`, `6m` where minutes or seconds are counted.
    ///
    /// # Errors
    /// What cannot be read, in one sentence.
    pub fn parse(rule: &Rule, text: &str) -> Result<Fact, String> {
        let mut parts = text.split(',').map(str::trim);
        let first = parts.next().unwrap_or_default();
        let mut fact = Fact::unknown("somebody said so");
        fact.value = match first {
            "yes" | "true" => Value::Yes,
            "no" | "false" => Value::No,
            "unknown" | "" => Value::Unknown("somebody said so".to_owned()),
            ratio if ratio.contains('/') => {
                let (part, of) = ratio.split_once('/').unwrap_or_default();
                let count = |text: &str| text.trim().parse::<u64>().map_err(|_| format!("{text:?} is no count"));
                let (part, of) = (count(part)?, count(of)?);
                if rule.unit != "%" {
                    return Err(format!("{} is no share of something: say a number", rule.key));
                }
                fact.n = Some(of);
                match Number::percent(part, of) {
                    Some(percent) if part <= of => Value::Number(percent),
                    Some(_) => return Err(format!("{ratio} is more than all")),
                    None => Value::Unknown("there was nothing to count".to_owned()),
                }
            }
            number => Value::Number(rule.number(number)?),
        };
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let duration = || parse_duration(value).map_err(|error| error.to_string());
            match key {
                "n" => fact.n = Some(value.parse().map_err(|_| format!("n={value} is no count"))?),
                "window" => fact.window = Some(duration()?),
                "after" => fact.after = Some(duration()?),
                _other => return Err(format!("{part:?} is none of n=COUNT, window=TIME and after=TIME")),
            }
        }
        let says_how_many = matches!(fact.value, Value::Number(_));
        if says_how_many && matches!(rule.limit, Limit::Any) {
            return Err(format!("{} is a matter of yes or no", rule.key));
        }
        if !says_how_many && matches!(fact.value, Value::Yes) && !matches!(rule.limit, Limit::Any) {
            return Err(format!("{} is a matter of how much: {}=NUMBER", rule.key, rule.key));
        }
        Ok(fact)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::No => out.write_str("no")?,
            Value::Yes => out.write_str("yes")?,
            Value::Number(number) => write!(out, "{number}")?,
            Value::Unknown(why) => write!(out, "unknown: {why}")?,
        }
        let duration = |name: &str, time: Option<Duration>| time.map(|time| format!("{name}={}", show_duration(time)));
        let n = self.n.map(|n| format!("n={n}"));
        let more = [n, duration("window", self.window), duration("after", self.after)];
        more.into_iter().flatten().try_for_each(|more| write!(out, ", {more}"))
    }
}

/// What a rule says to a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Says {
    Holds(String),
    HoldsNot,
    /// What would have to be known.
    Needs(String),
}

impl Rule {
    /// Reads a number of this rule's unit; times may also be written as `6m` or `3.1s`.
    fn number(&self, text: &str) -> Result<Number, String> {
        let per = match self.unit.as_str() {
            "min" => 60_000_000,
            "s" => 1_000_000,
            _ => return text.trim_end_matches('%').parse(),
        };
        if let Ok(number) = text.parse() {
            return Ok(number);
        }
        let time = parse_duration(text).map_err(|error| error.to_string())?;
        let micros = i64::try_from(time.as_micros()).map_err(|_| format!("{text:?} is too long"))?;
        Ok(Number((i128::from(micros) * i128::from(ONE) / per) as i64))
    }

    /// What would have to be known before a fact says anything, if something has.
    pub fn asks(&self, fact: &Fact) -> Option<String> {
        match self.judge(Some(fact)) {
            Says::Needs(ask) => Some(ask),
            Says::Holds(_) | Says::HoldsNot => None,
        }
    }

    fn judge(&self, fact: Option<&Fact>) -> Says {
        let Some(fact) = fact else { return Says::Needs(format!("{}: nobody has said", self.key)) };
        let holds = |what: String| Says::Holds(format!("{}: {what}", self.title));
        let number = match &fact.value {
            Value::Unknown(why) => return Says::Needs(format!("{}: {why}", self.key)),
            Value::No => return Says::HoldsNot,
            Value::Yes => return holds("yes".to_owned()),
            Value::Number(number) => *number,
        };
        if let Some(within) = self.after_release {
            match fact.after {
                Some(after) if after > within => return Says::HoldsNot,
                Some(_) => {}
                None => {
                    let ask = format!(
                        "{}: say how long after the release the last one came, {}={number},after=40m",
                        self.key, self.key
                    );
                    return Says::Needs(ask);
                }
            }
        }
        if self.min_samples > 0 && fact.n.is_none_or(|n| n < self.min_samples) {
            let had = fact.n.map_or_else(|| "nobody says of how many".to_owned(), |n| format!("it is of {n}"));
            let ask =
                format!("{}: {number} {} tells nothing: {had}, and it takes {}", self.key, self.unit, self.min_samples);
            return Says::Needs(ask);
        }
        if let Some(least) = self.min_window
            && fact.window.is_none_or(|window| window < least)
        {
            let had = fact.window.map_or_else(
                || "nobody says over which time".to_owned(),
                |time| format!("it is over {}", show_duration(time)),
            );
            let ask = format!(
                "{}: {number} {} tells nothing: {had}, and it takes {}",
                self.key,
                self.unit,
                show_duration(least)
            );
            return Says::Needs(ask);
        }
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        match self.limit {
            Limit::Any => Says::Needs(format!("{}: it is a matter of yes or no", self.key)),
            Limit::Above(limit) if number > limit => holds(format!("{number}{unit}, more than {limit}{unit}")),
            Limit::Above(_) => Says::HoldsNot,
            Limit::Below(_) if number <= Number::whole(0) => Says::HoldsNot,
            Limit::Below(limit) if number < limit => holds(format!("{number}{unit}, less than {limit}{unit}")),
            Limit::Below(limit) => Says::Needs(format!(
                "{}: {number}{unit} is {limit}{unit} or more, which is no minor matter; a person has to judge",
                self.key
            )),
        }
    }
}

/// A quick fix is tried for so long at most, in seconds (the matrix: 15 minutes).
pub const FIX_S: u64 = 15 * 60;
/// A major matter ends in a rollback so long after it was noticed, in seconds (the matrix: 30 minutes).
pub const MAJOR_S: u64 = 30 * 60;

/// What a decision is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// The rules that held.
    pub rules: Vec<Rule>,
    /// What was known, by the rules' keys.
    pub facts: BTreeMap<String, Fact>,
    /// When it was noticed.
    pub detected: Timestamp,
    /// When it is decided.
    pub at: Timestamp,
    /// How long somebody thinks that a quick fix takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quick_fix: Option<Duration>,
    /// When the quick fix was begun; the decision's own time when it begins now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix_begun: Option<Timestamp>,
    /// Why the app is closed on purpose, when it is: what was planned triggers nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<String>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Roll back.
    RollBack,
    /// Try the quick fix until the deadline, then roll back.
    TryFix,
    /// Do not roll back.
    Stay,
    /// It cannot be said: something has to be known first.
    Undecided,
}

impl Verdict {
    /// A few words for people.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::RollBack => "roll back",
            Verdict::TryFix => "try the quick fix",
            Verdict::Stay => "no rollback",
            Verdict::Undecided => "undecided",
        }
    }
}

/// What follows from a basis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// What to do.
    pub verdict: Verdict,
    /// How bad it is; nothing where no rule holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Until when it has to be done: the rollback begun, the quick fix over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Keys of the rules that hold, the worst first, and what they say.
    pub matched: Vec<(String, String)>,
    /// What would have to be known, of rules that might still make it worse.
    pub missing: Vec<String>,
    /// Why, in sentences.
    pub because: Vec<String>,
}

impl Basis {
    /// Decides. The worst rule that holds counts; what is not known is never taken for fine.
    pub fn decide(&self) -> Decided {
        let mut rules: Vec<&Rule> = self.rules.iter().collect();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.severity)); // stable: in the matrix' order within one severity
        let mut decided = Decided {
            verdict: Verdict::Stay,
            severity: None,
            deadline: None,
            matched: Vec::new(),
            missing: Vec::new(),
            because: Vec::new(),
        };
        if let Some(why) = &self.planned {
            decided
                .because
                .push(format!("The app is closed on purpose ({why}): what was planned triggers no rollback."));
            return decided;
        }
        for rule in rules {
            match rule.judge(self.facts.get(&rule.key)) {
                Says::Holds(what) => {
                    decided.severity = decided.severity.max(Some(rule.severity));
                    decided.matched.push((rule.key.clone(), what));
                }
                Says::HoldsNot => {}
                // A minor matter that nobody spoke of changes nothing; one that somebody measured may.
                Says::Needs(what) if rule.severity > Severity::Minor || self.is_measured(&rule.key) => {
                    decided.missing.push(what);
                }
                Says::Needs(_) => {}
            }
        }
        self.conclude(&mut decided);
        decided
    }

    fn is_measured(&self, key: &str) -> bool {
        self.facts.get(key).is_some_and(|fact| matches!(fact.value, Value::Number(_)))
    }

    fn conclude(&self, decided: &mut Decided) {
        let after = |from: Timestamp, seconds: u64| from.checked_add(Duration::from_secs(seconds)).unwrap_or(from);
        match decided.severity {
            Some(Severity::Critical) => {
                decided.verdict = Verdict::RollBack;
                decided.deadline = Some(self.detected);
                decided.because.push("A critical trigger: roll back at once.".to_owned());
            }
            Some(Severity::Major) => self.major(decided, after(self.detected, MAJOR_S)),
            Some(Severity::Minor) | None if !decided.missing.is_empty() => {
                decided.verdict = Verdict::Undecided;
                decided.because.push("What is not known is not taken for fine.".to_owned());
            }
            Some(Severity::Minor) => {
                decided.because.push("Minor matters only: mend them later.".to_owned());
            }
            None => decided.because.push("No trigger: nothing of what the rules speak of is so.".to_owned()),
        }
    }

    fn major(&self, decided: &mut Decided, latest: Timestamp) {
        decided.verdict = Verdict::RollBack;
        decided.deadline = Some(latest);
        let Some(estimate) = self.quick_fix else {
            decided.because.push("A major trigger: roll back within 30 minutes of its detection.".to_owned());
            return;
        };
        if estimate > Duration::from_secs(FIX_S) {
            let shown = show_duration(estimate);
            decided
                .because
                .push(format!("A quick fix may take 15 minutes, and this one would take {shown}: roll back."));
            return;
        }
        let begun = self.fix_begun.unwrap_or(self.at);
        let until = begun.checked_add(Duration::from_secs(FIX_S)).unwrap_or(begun).min(latest);
        if self.at >= until {
            decided
                .because
                .push("The time for the quick fix is over, and the trigger is still there: roll back.".to_owned());
            return;
        }
        decided.verdict = Verdict::TryFix;
        decided.deadline = Some(until);
        decided.because.push(
            "A major trigger, and a fix that takes at most 15 minutes: try it; when its time is over, roll back."
                .to_owned(),
        );
    }
}

/// Where a fact is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A command; the first line of what it prints is read as [`Fact::parse`] reads it.
    Command(Vec<String>),
    /// A web server's access log in the common or combined format: of `error_rate` the share of answers with 5xx, of
    /// `response_time` the 95th percentile of the number of seconds at the end of each line.
    AccessLog(PathBuf),
    /// A Prometheus server, asked for one number now.
    Prometheus {
        /// `http://HOST:PORT`.
        url: String,
        /// What is asked.
        query: String,
        /// What tells from how many samples.
        samples: Option<String>,
    },
    /// A question to a database on a server; the first column of its first row is read as [`Fact::parse`] reads it.
    Sql {
        /// Where it is, without a password.
        url: String,
        /// What is asked.
        sql: String,
        /// Its password, once it is about to be asked.
        password: Option<Hidden>,
    },
    /// Yes when nobody accepts connections there.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
}

/// A secret in memory; it prints as dots, and is never stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

/// By what an environment decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The rules.
    pub rules: Vec<Rule>,
    /// Where facts are measured, by the rules' keys.
    pub sources: BTreeMap<String, Source>,
    /// Over which time it is measured.
    pub window: Duration,
    /// Whether what the rules call critical may be carried out without a person.
    pub executes: bool,
}

impl Default for Matrix {
    fn default() -> Matrix {
        Matrix { rules: default_rules(), sources: BTreeMap::new(), window: Duration::from_secs(300), executes: false }
    }
}

/// How far something reaches: the form that is filled in first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impact {
    /// How bad.
    pub severity: Option<Severity>,
    /// Users that feel it, in percent.
    pub users_affected: Option<Number>,
    /// Systems that suffer.
    pub systems: Option<Vec<String>>,
    /// Whether data is in danger.
    pub data_at_risk: Option<bool>,
    /// Whether there is a quick fix, and how long it takes.
    pub quick_fix: Option<QuickFix>,
}

/// Whether there is a quick fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuickFix {
    /// There is none.
    No,
    /// One that takes this long.
    Takes(Duration),
}

impl Impact {
    /// The form is to be filled in within this time of the detection, in seconds (the document: 5 minutes).
    pub const LIMIT_S: u64 = 300;

    /// Fields that nobody has filled in.
    pub fn unset(&self) -> Vec<&'static str> {
        let fields = [
            ("severity", self.severity.is_none()),
            ("users affected", self.users_affected.is_none()),
            ("systems", self.systems.is_none()),
            ("data at risk", self.data_at_risk.is_none()),
            ("quick fix", self.quick_fix.is_none()),
        ];
        fields.into_iter().filter(|(_, unset)| *unset).map(|(name, _)| name).collect()
    }
}

/// What goes on record about a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum DecisionRecord {
    /// How far it reaches, as somebody filled it in.
    Impact {
        /// When it was noticed.
        detected: Timestamp,
        /// The form.
        impact: Impact,
    },
    /// What was decided.
    Decision(Box<Decision>),
}

/// A decision on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What it was made from.
    pub basis: Basis,
    /// What followed.
    pub decided: Decided,
    /// Who decided: `deployment lead`, `technical lead`, `product manager`, or what else people are called.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// What a person has said in place of the rules, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<(Verdict, String)>,
    /// How far it reaches, as far as it was said.
    #[serde(default)]
    pub impact: Impact,
    /// After a migration that failed: which way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
}

/// Which way back was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// `down`: what was applied is taken back by its scripts, or with its own transaction; `restore`: the backup comes back.
    pub way: String,
    /// Why that one.
    pub why: String,
    /// Whether it was gone already.
    pub taken: bool,
}

impl Decision {
    /// What counts: a person's word, and the rules' else.
    pub fn verdict(&self) -> Verdict {
        self.instead.as_ref().map_or(self.decided.verdict, |(verdict, _)| *verdict)
    }
}

#[cfg(test)]
mod tests;
