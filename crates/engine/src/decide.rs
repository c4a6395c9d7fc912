//! Facts for the decision whether a release is rolled back: measured where the settings say, never guessed. Who cannot be
//! asked leaves a fact unknown, with the reason.

mod access;
mod failed;

use std::{collections::BTreeMap, time::Duration};

use lifeboat_io::{
    HttpRequest, Invocation, Io, Stop, ask_over_http,
    database::postgres::{self, Address, Session},
    listens,
};
use lifeboat_model::{
    Failure, FailureKind, KnownRelease, OperationId, Plan, Profile, ReleaseState, Request, Timestamp, VersionAsk,
    baseline::{self, Compared},
    decision::{
        Basis, Decision, DecisionRecord, Fact, Hidden, Impact, Limit, Matrix, Number, QuickFix, Rule, Severity, Source,
        Value, Verdict,
    },
    release,
    time::since,
};
use secrecy::ExposeSecret;

use crate::{Engine, setup::Vaults};

/// What was assessed or decided longer ago than this is another matter: a "no" from before may be none by now.
const SAME_MATTER: Duration = Duration::from_secs(1_800);
/// So long a decision that led to nothing is told of.
const REMIND: Duration = Duration::from_secs(2 * 3_600);
/// How the reason of a rollback begins that nobody has typed.
const BY_ITSELF: &str = "decided by the rules: ";
/// How long a command that measures may take: all of a decision has to be there within a few breaths.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// One connection that is refused tells nothing: so many are tried, with a pause between them.
const CONNECTIONS: u32 = 3;
/// That pause.
const CONNECT_PAUSE: Duration = Duration::from_millis(500);
/// So many operations back a decision is looked for.
const LOOK_BACK: usize = 200;

/// Something on record about a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The operation that put it there.
    pub operation: OperationId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub record: DecisionRecord,
}

impl Recorded {
    /// The decision, if it is one.
    pub fn decision(&self) -> Option<&Decision> {
        match &self.record {
            DecisionRecord::Decision(decision) => Some(decision),
            DecisionRecord::Impact { .. } => None,
        }
    }

    /// The form, if it is one, and when the matter was noticed.
    pub fn impact(&self) -> Option<(Timestamp, &Impact)> {
        match &self.record {
            DecisionRecord::Impact { detected, impact } => Some((*detected, impact)),
            DecisionRecord::Decision(_) => None,
        }
    }
}

/// What a person says for a decision.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// What is known, by the rules' keys.
    pub facts: BTreeMap<String, Fact>,
    /// No to everything that is neither measured nor said.
    pub rest_is_fine: bool,
    /// When it was noticed.
    pub detected: Option<Timestamp>,
    /// How long a quick fix would take.
    pub quick_fix: Option<Duration>,
    /// A verdict against the rules, and why.
    pub instead: Option<(Verdict, String)>,
    /// As what the person decides.
    pub role: String,
    /// Who says so.
    pub by: String,
}

impl Engine {
    /// Puts together what is said, measured, and on record about the same matter, and decides. Nothing is put on record
    /// here.
    ///
    /// # Errors
    /// When the journals cannot be read.
    pub fn decide(&self, said: Said, recorded: &[Recorded], now: Timestamp, stop: &Stop) -> Result<Decision, Failure> {
        let rules = &self.setup.matrix.rules;
        let fresh = |at: Timestamp| since(at, now) < SAME_MATTER;
        let impact = recorded.iter().find_map(Recorded::impact).filter(|(detected, _)| fresh(*detected));
        // What a deploy has taken back by itself is over.
        let is_open = |one: &&Recorded| one.decision().is_some_and(|decision| !failed::is_over(decision));
        let last = recorded.iter().find(is_open).filter(|one| fresh(one.at));
        let last = last.and_then(Recorded::decision);
        let before = impact.map(|(detected, _)| detected).max(last.map(|last| last.basis.detected));
        let detected = said.detected.map_or_else(|| self.noticed(now, before), Ok)?;
        // What was said of the same matter before still holds, until somebody says or measures something else.
        let last = last.filter(|last| last.basis.detected == detected);
        let mut facts = last.map(|last| last.basis.facts.clone()).unwrap_or_default();
        facts.retain(|key, _| rules.iter().any(|rule| rule.key == *key)); // the settings may have lost a rule since
        for (key, fact) in self.measure_facts(stop) {
            // What cannot be measured now does not take away what somebody said.
            if !matches!(fact.value, Value::Unknown(_)) || !facts.contains_key(&key) {
                facts.insert(key, fact);
            }
        }
        let by = |fact: Fact| Fact { source: said.by.clone(), ..fact };
        facts.extend(said.facts.into_iter().map(|(key, fact)| (key, by(fact))));
        if said.rest_is_fine {
            let no = || by(Fact { value: Value::No, ..Fact::unknown("") });
            rules.iter().for_each(|rule| _ = facts.entry(rule.key.clone()).or_insert_with(no));
        }
        let assessed = impact.filter(|(of, _)| *of == detected).map(|(_, impact)| impact.clone()).unwrap_or_default();
        let assessed_fix = match assessed.quick_fix {
            Some(QuickFix::Takes(time)) => Some(time),
            Some(QuickFix::No) | None => None,
        };
        let fixing = last.filter(|last| last.verdict() == Verdict::TryFix);
        let basis = Basis {
            rules: rules.clone(),
            facts,
            detected,
            at: now,
            quick_fix: said.quick_fix.or(last.and_then(|last| last.basis.quick_fix)).or(assessed_fix),
            fix_begun: fixing.map(|last| last.basis.fix_begun.unwrap_or(last.basis.at)),
            planned: self.closed()?.map(|closed| closed.why).filter(|why| !why.is_empty()),
        };
        let decided = basis.decide();
        Ok(Decision { basis, decided, role: said.role, instead: said.instead, impact: assessed, path: None })
    }

    /// The newest decision of the last hours that no restore or rollback has followed.
    pub(crate) fn last_decision(&self, now: Timestamp) -> Result<Option<(OperationId, Decision)>, Failure> {
        let scope = self.setup.scope.to_string();
        for row in
            self.look().operations(LOOK_BACK)?.into_iter().filter(|row| row.scope == scope && row.state == "done")
        {
            match row.kind.as_str() {
                "restore" | "undo" | "level" | "rollback" => return Ok(None),
                "decide" if since(row.started_at, now) >= REMIND => return Ok(None),
                "decide" => {}
                _other => continue,
            }
            if let Request::Decide { about: DecisionRecord::Decision(decision) } =
                self.look().operation(&row.id)?.plan.request
                && !failed::is_over(&decision)
            {
                if self.deploy_gone_since(row.started_at)? {
                    return Ok(None);
                }
                return Ok(Some((row.id, *decision)));
            }
        }
        Ok(None)
    }

    /// Whether a deploy has ended since, and not as it was meant: what was decided of it is done.
    fn deploy_gone_since(&self, at: Timestamp) -> Result<bool, Failure> {
        let scope = self.setup.scope.to_string();
        for row in self.look().operations(LOOK_BACK)? {
            let is_gone = row.scope == scope && row.kind == "deploy" && row.closed && row.state != "done";
            if is_gone && self.look().operation(&row.id)?.last_at >= at {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rollback that a decision leads to by itself: of the application alone, so that no row is lost, and once for each
    /// release.
    ///
    /// # Errors
    /// The settings do not allow it; the rules did not call it critical; the release was left by itself before; another way
    /// back than the application's alone is needed.
    pub fn by_itself(&self, decision: &Decision) -> Result<Plan, Failure> {
        let why = self.may_by_itself(decision)?;
        self.application_alone(None, why)
    }

    /// A rollback of the application alone, by which no row can be lost; to this release, else to the one that is next.
    ///
    /// # Errors
    /// There is none; the shortest way back is another.
    pub(crate) fn application_alone(&self, to: Option<String>, why: String) -> Result<Plan, Failure> {
        let plan =
            self.plan(&Request::Version { about: VersionAsk::RollBack { to, profile: None, why, backup: None } })?;
        match Profile::of(&plan) {
            Some(Profile::AppOnly) if plan.losses.is_empty() => Ok(plan),
            other => {
                let word = other.map_or("another way", Profile::word);
                let failure =
                    self.a_person_can(format!("the shortest way back is {word}, and rows might be lost by it"));
                Err(failure.because("without a person only the application goes back".to_owned()))
            }
        }
    }

    fn a_person_can(&self, message: String) -> Failure {
        let by_hand = format!("a person can: lifeboat rollback --env {} --dry-run", self.setup.scope.environment);
        Failure::new(FailureKind::Refused, message).hint(by_hand)
    }

    /// Whether the settings and what was done so far let a decision be carried out without a person; and in which words it is put on record.
    ///
    /// # Errors
    /// Why they do not.
    pub fn may_by_itself(&self, decision: &Decision) -> Result<String, Failure> {
        let refused = |message: String| self.a_person_can(message);
        if !self.setup.matrix.executes {
            let failure = refused(format!("{} rolls nothing back without a person", self.setup.scope));
            return Err(failure.because("decide.execute is not true in the settings".to_owned()));
        }
        if decision.instead.is_some() || decision.decided.severity != Some(Severity::Critical) {
            return Err(refused("only what the rules call critical is rolled back without a person".to_owned()));
        }
        if let Some(open) = self.standing()?.deploy.filter(|open| open.past_point_of_no_return) {
            let failure = refused(format!("{} is not over, and cannot be taken back", open.operation));
            return Err(failure.because("without a person only what loses nothing is taken back".to_owned()));
        }
        let scope = self.setup.scope.to_string();
        // Newest first: what was sealed after a rollback is another release.
        for row in
            self.look().operations(usize::MAX)?.into_iter().filter(|row| row.scope == scope && row.state == "done")
        {
            match (row.kind.as_str(), self.look().operation(&row.id)?.plan.request) {
                ("checkpoint", _) => break,
                (_, Request::Version { about: VersionAsk::RollBack { why, .. } }) if is_by_itself(&why) => {
                    let failure =
                        refused("once for each release is enough: the next rollback is a person's".to_owned());
                    return Err(
                        failure.because(format!("{} was decided by itself, and nothing was sealed since", row.id))
                    );
                }
                _other => {}
            }
        }
        let keys: Vec<&str> = decision.decided.matched.iter().map(|(key, _)| key.as_str()).collect();
        Ok(format!("{BY_ITSELF}{}", keys.join(", ")))
    }

    /// When it was noticed, when nobody says: as the open incident began, else as what is on record says, else now.
    ///
    /// # Errors
    /// When the incidents cannot be read.
    pub fn noticed(&self, now: Timestamp, before: Option<Timestamp>) -> Result<Timestamp, Failure> {
        let incidents = self.incidents()?;
        let open = incidents.iter().filter(|incident| incident.state() == "open").map(|incident| incident.since).max();
        Ok(open.or(before).filter(|at| *at <= now).unwrap_or(now))
    }

    /// What is on record about decisions of this scope, the newest first.
    ///
    /// # Errors
    /// When the journals cannot be listed.
    pub fn decisions(&self) -> Result<Vec<Recorded>, Failure> {
        let scope = self.setup.scope.to_string();
        let mut found = Vec::new();
        for row in self.look().operations(LOOK_BACK)? {
            if row.kind != "decide" || row.scope != scope || row.state != "done" {
                continue;
            }
            let operation = self.look().operation(&row.id)?;
            if let Request::Decide { about } = operation.plan.request {
                found.push(Recorded { operation: operation.id, at: operation.started_at, record: about });
            }
        }
        Ok(found)
    }

    /// The release of which something was measured when it was sealed: the named one, else what runs, else the newest good one;
    /// and what is measured now beside it.
    ///
    /// # Errors
    /// There is no such release, or nothing was measured of it.
    pub fn against_baseline(
        &self,
        wanted: Option<&str>,
        stop: &Stop,
    ) -> Result<(KnownRelease, Vec<Compared>), Failure> {
        let all = self.releases()?;
        let has_one = |one: &&KnownRelease| !one.release.baseline.is_empty();
        let known = match wanted {
            Some(_) => release::choose(&all, wanted, &[])?,
            None => {
                let live = all.iter().find(|one| one.is_live).filter(has_one);
                let good = || all.iter().rev().filter(has_one).find(|one| one.state == ReleaseState::Good);
                live.or_else(good).ok_or_else(|| {
                    let message =
                        format!("nothing was measured of what runs in {} when it was sealed", self.setup.scope);
                    Failure::new(FailureKind::Refused, message).hint(
                        "say where error_rate and response_time are measured, in [environments.NAME.decide.facts] of \
                         lifeboat.toml, and seal it: lifeboat checkpoint",
                    )
                })?
            }
        };
        if !has_one(&known) {
            let message = format!("nothing was measured of {} when it was sealed", known.release.shown());
            return Err(Failure::new(FailureKind::Refused, message).hint("lifeboat releases list"));
        }
        let now = self.measure_facts(stop);
        let compared = baseline::compare(&self.setup.matrix.rules, &known.release.baseline, &now);
        Ok((known.clone(), compared))
    }

    /// Measures what can be measured, by the rules' keys. What cannot be is unknown, with the reason.
    pub fn measure_facts(&self, stop: &Stop) -> BTreeMap<String, Fact> {
        measured(&self.io, &ready(&self.setup.matrix, &*self.vaults), stop)
    }
}

/// Whether a rollback with this reason was decided by the rules, and not by a person.
pub(crate) fn is_by_itself(why: &str) -> bool {
    why.starts_with(BY_ITSELF)
}

/// A matrix whose databases can be asked: with their passwords, for as long as it lasts.
pub(crate) fn ready(matrix: &Matrix, vaults: &dyn Vaults) -> Matrix {
    let mut ready = matrix.clone();
    for source in ready.sources.values_mut() {
        if let Source::Sql { url, password, .. } = source {
            // Where there is none to be had, the server will say so when it is asked.
            let address = vaults.database(url).ok();
            *password =
                address.and_then(|address| address.password).map(|secret| Hidden(secret.expose_secret().to_owned()));
        }
    }
    ready
}

/// The same, for whoever has the doors.
pub(crate) fn measured(io: &Io, matrix: &Matrix, stop: &Stop) -> BTreeMap<String, Fact> {
    let measured = matrix.sources.iter().filter_map(|(key, source)| {
        let rule = matrix.rules.iter().find(|rule| rule.key == *key)?;
        let measured = match source {
            Source::Command(words) => command(io, rule, words, stop),
            Source::AccessLog(path) => access::measure(path, key, io.clock.now(), matrix.window, stop),
            Source::Prometheus { url, query, samples } => {
                prometheus(rule, url, query, samples.as_deref(), matrix.window)
            }
            Source::Sql { url, sql, password } => answered(io, rule, url, sql, password.as_ref(), stop),
            Source::Tcp { host, port } => reached(io, rule, host, *port, stop),
        };
        Some((key.clone(), measured.unwrap_or_else(Fact::unknown)))
    });
    measured.collect()
}

fn command(io: &Io, rule: &Rule, words: &[String], stop: &Stop) -> Result<Fact, String> {
    let (program, args) = words.split_first().ok_or("its command has no words")?;
    let invocation = Invocation::new(program, COMMAND_LIMIT).args(args);
    let exit = io.exec.run(&invocation, None, stop).map_err(|error| error.to_string())?;
    let shown = invocation.to_string();
    if exit.code != 0 {
        return Err(format!("{shown} failed"));
    }
    let out = String::from_utf8_lossy(&exit.stdout_tail).into_owned();
    let line = out.lines().next().unwrap_or_default().trim();
    let fact = Fact::parse(rule, line).map_err(|why| format!("{shown} printed {line:?}: {why}"))?;
    Ok(Fact { source: shown, ..fact })
}

/// Asks a database.
fn answered(
    io: &Io,
    rule: &Rule,
    url: &str,
    sql: &str,
    password: Option<&Hidden>,
    stop: &Stop,
) -> Result<Fact, String> {
    let mut address = Address::parse(url, &*io.env).map_err(|error| error.to_string())?;
    address.password = password.map(|hidden| hidden.0.clone().into()).or(address.password);
    address.connect_timeout = CONNECT_LIMIT;
    let source = format!("{address}: {sql}");
    let asked = Session::open(&address, stop)
        .and_then(|mut session| postgres::ask_rows_within(&mut session, sql, COMMAND_LIMIT));
    let (_, first) = asked.map_err(|error| format!("{address} cannot be asked: {error}"))?;
    let text = first.ok_or_else(|| format!("{source} answers nothing"))?;
    // As PostgreSQL writes truth.
    let said = match text.trim() {
        "t" => "yes",
        "f" => "no",
        other => other,
    };
    let fact = Fact::parse(rule, said).map_err(|why| format!("{source} answers {text:?}: {why}"))?;
    Ok(Fact { source, ..fact })
}

/// Whether nobody accepts connections there, however often it is tried.
fn reached(io: &Io, rule: &Rule, host: &str, port: u16, stop: &Stop) -> Result<Fact, String> {
    if !matches!(rule.limit, Limit::Any) {
        return Err(format!("{} is a matter of how much, and a connection tells yes or no", rule.key));
    }
    let mut source = format!("{host}:{port}");
    for attempt in 1..=CONNECTIONS {
        match listens(host, port, CONNECT_LIMIT) {
            Ok(()) => return Ok(Fact { value: Value::No, source, ..Fact::unknown("") }),
            Err(why) if attempt == CONNECTIONS => source = format!("{source}: {why}, {CONNECTIONS} times"),
            Err(_) => io.clock.sleep(CONNECT_PAUSE, stop).map_err(|_stopped| "broken off on request".to_owned())?,
        }
    }
    Ok(Fact { value: Value::Yes, source, ..Fact::unknown("") })
}

/// Asks a Prometheus server for one number.
fn prometheus(rule: &Rule, url: &str, query: &str, samples: Option<&str>, window: Duration) -> Result<Fact, String> {
    let ask = |query: &str| {
        let url = format!("{}/api/v1/query?query={}", url.trim_end_matches('/'), encoded(query));
        let request = HttpRequest { method: "GET", url: &url, headers: &[], body: None };
        let answer = ask_over_http(&request)?;
        number_in(answer.status, &answer.body)
    };
    let value = ask(query)?;
    let n = samples.map(ask).transpose()?;
    let n = n.flatten().and_then(|text| text.split('.').next()?.parse().ok());
    let value = match value {
        Some(text) => Value::Number(rounded(&text).ok_or_else(|| format!("{url} answers {text:?}"))?),
        None => Value::Unknown(format!("{url} has no such series: {query}")),
    };
    let source = format!("{url}: {query}");
    Ok(Fact { value, n, window: rule.min_window.map(|least| least.max(window)), after: None, source })
}

/// The one number of an answer; nothing for an empty one and for what is none (`NaN`: nothing was counted).
fn number_in(status: u16, body: &[u8]) -> Result<Option<String>, String> {
    let json: serde_json::Value =
        serde_json::from_slice(body).map_err(|_| format!("the answer ({status}) is no JSON"))?;
    if status != 200 || json["status"] != "success" {
        return Err(format!("the answer is {status}: {}", json["error"].as_str().unwrap_or("no reason")));
    }
    let result = &json["data"]["result"];
    let one = match json["data"]["resultType"].as_str() {
        Some("scalar") => &result[1],
        Some("vector") => match result.as_array().map(Vec::as_slice) {
            Some([]) => return Ok(None),
            Some([one]) => &one["value"][1],
            _several => return Err("the answer has several series: ask for one number, with sum(...)".to_owned()),
        },
        _other => return Err("the answer is no number: ask for an instant vector or a scalar".to_owned()),
    };
    let text = one.as_str().ok_or("the answer has no value")?;
    Ok((text.parse::<f64>().is_ok_and(f64::is_finite)).then(|| text.to_owned()))
}

/// A number as Prometheus writes it, to a millionth.
fn rounded(text: &str) -> Option<Number> {
    let number: f64 = text.parse().ok()?;
    format!("{number:.6}").parse().ok()
}

/// A query as it stands in an address.
fn encoded(query: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    query.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_prometheus_is_one_number_or_none() {
        let vector =
            |result: &str| format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}}}}"#);
        let read = |body: &str| number_in(200, body.as_bytes());
        assert_eq!(read(&vector(r#"[{"metric":{},"value":[1,"5.25"]}]"#)), Ok(Some("5.25".to_owned())));
        assert_eq!(read(&vector("[]")), Ok(None));
        assert_eq!(read(&vector(r#"[{"value":[1,"NaN"]}]"#)), Ok(None));
        assert!(read(&vector(r#"[{"value":[1,"1"]},{"value":[1,"2"]}]"#)).unwrap_err().contains("several series"));
        assert!(read("<html>").unwrap_err().contains("no JSON"));
        let error = br#"{"status":"error","error":"parse error"}"#;
        assert_eq!(number_in(400, error).unwrap_err(), "the answer is 400: parse error");
        assert_eq!(rounded("1.5e-3").map(|number| number.to_string()), Some("0.0015".to_owned()));
        assert_eq!(encoded("a{b=\"c\"}[5m]"), "a%7Bb%3D%22c%22%7D%5B5m%5D");
    }
}
