//! By what it is decided whether a release is rolled back, as settings say it: limits other than the matrix', rules of
//! one's own, and where facts are measured.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use lifeboat_model::{
    Failure, FailureKind, Resource, ResourceKind,
    decision::{Limit, Matrix, Number, Rule, Severity, Source},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Span;
use crate::outside;

/// Whether a release is rolled back: limits other than the matrix', and where facts are measured.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideSettings {
    /// Over which time it is measured. Default: `5m`.
    pub window: Option<Span>,
    /// Whether `lifeboat decide --execute` may carry out what the rules call critical: the application alone, once for each
    /// release. Default: no.
    pub execute: Option<bool>,
    /// Rules, by name: one of the matrix' with another limit, or one of your own.
    #[serde(default)]
    #[schemars(extend("x-names" = "a rule"))]
    pub rules: BTreeMap<String, RuleSettings>,
    /// Where facts are measured, by the names of their rules. What is not measured has to be said.
    #[serde(default)]
    #[schemars(extend("x-names" = "a rule"))]
    pub facts: BTreeMap<String, FactSettings>,
}

/// A row of the matrix.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// What it speaks of, for people.
    pub title: Option<String>,
    /// `critical`: a rollback at once; `major`: within 30 minutes, unless it is mended sooner; `minor`: none.
    #[schemars(extend("x-kind" = "choice"))]
    pub severity: Option<SeveritySettings>,
    /// It holds beyond this number, such as `"2.5"`, and not at it. Without a number it is a matter of yes or no.
    #[schemars(extend("x-kind" = "decimal"))]
    pub above: Option<String>,
    /// It holds below this number; from there on a person has to judge.
    #[schemars(extend("x-kind" = "decimal"))]
    pub below: Option<String>,
    /// What numbers of it count: `%`, `s`, `min`.
    pub unit: Option<String>,
    /// Fewer samples tell nothing.
    pub min_samples: Option<u64>,
    /// What was measured over less time tells nothing.
    pub min_window: Option<Span>,
    /// It counts only within this time after the release.
    pub after_release: Option<Span>,
}

/// How bad what a rule speaks of is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SeveritySettings {
    /// A rollback at once.
    Critical,
    /// A rollback within 30 minutes, unless it is mended sooner.
    Major,
    /// No rollback.
    Minor,
}

/// Where a fact is measured: one of these.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FactSettings {
    /// A command that prints it as `lifeboat decide --fact` takes it: `61/1200,window=5m`, `yes`, `unknown`.
    #[schemars(extend("x-kind" = "command"))]
    pub command: Option<Vec<String>>,
    /// A web server's access log: tells `error_rate`, and `response_time` when lines end with the seconds it took.
    #[schemars(extend("x-kind" = "path"))]
    pub access_log: Option<PathBuf>,
    /// A Prometheus server: `http://127.0.0.1:9090`.
    pub prometheus: Option<String>,
    /// What the Prometheus server is asked.
    pub query: Option<String>,
    /// What the Prometheus server is asked to learn from how many samples.
    pub samples: Option<String>,
    /// A question to a PostgreSQL database; its first answer is read as that of a command: `61/1200,window=5m`, true, false.
    pub sql: Option<String>,
    /// Which resource `sql` asks. Default: the only PostgreSQL database.
    pub resource: Option<String>,
    /// `HOST:PORT`; yes when nobody accepts connections there.
    pub tcp: Option<String>,
}

/// Decides what is in effect.
///
/// # Errors
/// A rule of one's own without a severity, two limits, a fact that no rule speaks of, a source that is none.
pub fn resolve(what: &DecideSettings, folder: &Path, resources: &[Resource]) -> Result<Matrix, Failure> {
    let usage = |message: String| Failure::new(FailureKind::Usage, message);
    let mut matrix = Matrix::default();
    if let Some(window) = &what.window {
        matrix.window = window.length;
    }
    matrix.executes = what.execute.unwrap_or(matrix.executes);
    for (key, said) in &what.rules {
        let known = matrix.rules.iter().position(|rule| rule.key == *key);
        let severity = said.severity.map(Severity::from);
        let at = match (known, severity) {
            (Some(at), _) => at,
            (None, Some(severity)) => {
                matrix.rules.push(Rule {
                    key: key.clone(),
                    title: key.replace('_', " "),
                    severity,
                    limit: Limit::Any,
                    unit: String::new(),
                    min_samples: 0,
                    min_window: None,
                    after_release: None,
                });
                matrix.rules.len() - 1
            }
            (None, None) => {
                let failure =
                    usage(format!("decide.rules.{key} is no rule of the matrix and does not say how bad it is"));
                return Err(failure.hint("severity = \"major\", for example"));
            }
        };
        change(&mut matrix.rules[at], key, said)?;
    }
    for (key, said) in &what.facts {
        if !matrix.rules.iter().any(|rule| rule.key == *key) {
            let keys: Vec<&str> = matrix.rules.iter().map(|rule| rule.key.as_str()).collect();
            return Err(usage(format!("decide.facts.{key} is a fact that no rule speaks of"))
                .hint(format!("rules speak of {}", keys.join(", "))));
        }
        let rule = matrix.rules.iter().find(|rule| rule.key == *key);
        let yes_or_no = rule.is_some_and(|rule| rule.limit == Limit::Any);
        matrix.sources.insert(key.clone(), source(key, said, yes_or_no, folder, resources)?);
    }
    Ok(matrix)
}

/// What was said, by its place below `decide`, and its value for people.
pub fn shown<'a>(what: &'a DecideSettings, matrix: &Matrix) -> Vec<(Vec<&'a str>, String)> {
    let mut shown = Vec::new();
    if let Some(window) = &what.window {
        shown.push((vec!["window"], window.text.clone()));
    }
    if let Some(execute) = what.execute {
        shown.push((vec!["execute"], if execute { "yes" } else { "no" }.to_owned()));
    }
    for key in what.rules.keys() {
        let Some(rule) = matrix.rules.iter().find(|rule| rule.key == *key) else { continue };
        let unit = if rule.unit.is_empty() { String::new() } else { format!(" {}", rule.unit) };
        let limit = match rule.limit {
            Limit::Any => "yes or no".to_owned(),
            Limit::Above(limit) => format!("above {limit}{unit}"),
            Limit::Below(limit) => format!("below {limit}{unit}"),
        };
        shown.push((vec!["rules", key], format!("{}, {limit}", rule.severity.word())));
    }
    for (key, source) in what.facts.keys().filter_map(|key| Some((key, matrix.sources.get(key)?))) {
        let value = match source {
            Source::Command(words) => words.join(" "),
            Source::AccessLog(path) => path.display().to_string(),
            Source::Prometheus { url, query, .. } => format!("{url}: {query}"),
            Source::Sql { url, sql, .. } => format!("{url}: {sql}"),
            Source::Tcp { host, port } => format!("{host}:{port}"),
        };
        shown.push((vec!["facts", key], value));
    }
    shown
}

impl From<SeveritySettings> for Severity {
    fn from(severity: SeveritySettings) -> Severity {
        match severity {
            SeveritySettings::Critical => Severity::Critical,
            SeveritySettings::Major => Severity::Major,
            SeveritySettings::Minor => Severity::Minor,
        }
    }
}

fn change(rule: &mut Rule, key: &str, said: &RuleSettings) -> Result<(), Failure> {
    let usage = |message: String| Failure::new(FailureKind::Usage, message);
    let number = |text: &str| text.parse::<Number>().map_err(|why| usage(format!("decide.rules.{key}: {why}")));
    rule.limit = match (said.above.as_deref(), said.below.as_deref()) {
        (Some(_), Some(_)) => return Err(usage(format!("decide.rules.{key} has two limits: above and below"))),
        (Some(above), None) => Limit::Above(number(above)?),
        (None, Some(below)) => Limit::Below(number(below)?),
        (None, None) => rule.limit,
    };
    rule.severity = said.severity.map_or(rule.severity, Severity::from);
    rule.title = said.title.clone().unwrap_or_else(|| std::mem::take(&mut rule.title));
    rule.unit = said.unit.clone().unwrap_or_else(|| std::mem::take(&mut rule.unit));
    rule.min_samples = said.min_samples.unwrap_or(rule.min_samples);
    rule.min_window = said.min_window.as_ref().map(|span| span.length).or(rule.min_window);
    rule.after_release = said.after_release.as_ref().map(|span| span.length).or(rule.after_release);
    Ok(())
}

fn source(
    key: &str,
    said: &FactSettings,
    yes_or_no: bool,
    folder: &Path,
    resources: &[Resource],
) -> Result<Source, Failure> {
    let usage = |message: String| Failure::new(FailureKind::Usage, format!("decide.facts.{key} {message}"));
    let FactSettings { command, access_log, prometheus, query, samples, sql, resource, tcp } = said;
    let only = |ways: &[bool]| ways.iter().filter(|way| **way).count() == 1;
    let one = only(&[command.is_some(), access_log.is_some(), prometheus.is_some(), sql.is_some(), tcp.is_some()]);
    let fits = prometheus.is_some() == query.is_some()
        && (samples.is_none() || prometheus.is_some())
        && (resource.is_none() || sql.is_some());
    if !one || !fits {
        let ways = "is measured by one of: command; access_log; prometheus with query; sql; tcp";
        return Err(usage(ways.to_owned()).hint("command = [\"./scripts/error-rate\"], for example"));
    }
    if let Some(words) = command {
        return match words.is_empty() {
            true => Err(usage("has a command without words".to_owned())),
            false => Ok(Source::Command(words.clone())),
        };
    }
    if let Some(path) = access_log {
        return match ["error_rate", "response_time"].contains(&key) {
            true => Ok(Source::AccessLog(outside::plain_path(&folder.join(path)))),
            false => Err(usage("is nothing that an access log tells: error_rate and response_time are".to_owned())),
        };
    }
    if let Some(sql) = sql {
        let url = asked(resource.as_deref(), resources).map_err(usage)?;
        return Ok(Source::Sql { url, sql: sql.clone(), password: None });
    }
    if let Some(place) = tcp {
        let found = place
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?)));
        return match (found, yes_or_no) {
            (Some((host, port)), true) if !host.is_empty() => Ok(Source::Tcp { host, port }),
            (Some(_), false) => Err(usage("is a matter of how much, and tcp tells yes or no".to_owned())),
            _none => Err(usage(format!("asks {place:?}, which is no HOST:PORT"))),
        };
    }
    let (url, query) = (prometheus.clone().unwrap_or_default(), query.clone().unwrap_or_default());
    match url.starts_with("http://") {
        true => Ok(Source::Prometheus { url, query, samples: samples.clone() }),
        false => Err(usage(format!("asks {url:?}, and can be asked over http:// only"))),
    }
}

/// Where the database is that a question goes to.
fn asked(resource: Option<&str>, resources: &[Resource]) -> Result<String, String> {
    let places = resources.iter().filter_map(|known| match &known.kind {
        ResourceKind::Postgres { url, .. } => Some((known.name.as_str(), url)),
        ResourceKind::Sqlite { .. } | ResourceKind::Files { .. } | ResourceKind::Env { .. } => None,
    });
    let fits: Vec<_> = places.filter(|(name, _)| resource.is_none_or(|wanted| wanted == *name)).collect();
    match (fits.as_slice(), resource) {
        ([(_, url)], _) => Ok((*url).clone()),
        ([], Some(name)) => Err(format!("asks {name}, which is no PostgreSQL database of this environment")),
        ([], None) => Err("asks a PostgreSQL database, and this environment has none".to_owned()),
        (_several, _) => Err("does not say which database it asks: resource = \"NAME\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Matrix, String> {
        let said: DecideSettings = toml::from_str(toml).map_err(|error| error.message().to_owned())?;
        let kind = ResourceKind::Postgres { url: "postgres://app@h/shop".into(), schemas: vec![] };
        let db = Resource::plain(lifeboat_model::ResourceName::new("db").unwrap(), kind);
        resolve(&said, Path::new("/srv/app"), &[db]).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_limit_of_the_matrix_can_be_another_and_rules_can_be_added() {
        let matrix = read(
            "[rules.error_rate]\nabove = \"2.5\"\nmin_samples = 20\n[rules.checkout_down]\nseverity = \"critical\"\n\
             [facts.error_rate]\naccess_log = \"logs/access.log\"\n",
        )
        .unwrap();
        let rule = |key: &str| matrix.rules.iter().find(|rule| rule.key == key).unwrap();
        assert_eq!(rule("error_rate").limit, Limit::Above("2.5".parse().unwrap()));
        assert_eq!((rule("error_rate").min_samples, rule("error_rate").severity), (20, Severity::Major));
        assert_eq!((rule("checkout_down").title.as_str(), rule("checkout_down").limit), ("checkout down", Limit::Any));
        assert_eq!(matrix.rules.len(), 16);
        assert_eq!(matrix.sources["error_rate"], Source::AccessLog("/srv/app/logs/access.log".into()));
        let matrix = read("[facts.data_loss]\nsql = \"select true\"\n[facts.rls_policy_failure]\ntcp = \"[::1]:80\"\n");
        let sources = matrix.unwrap().sources;
        assert_eq!(sources["rls_policy_failure"], Source::Tcp { host: "::1".into(), port: 80 });
        let (url, sql) = ("postgres://app@h/shop".to_owned(), "select true".to_owned());
        assert_eq!(sources["data_loss"], Source::Sql { url, sql, password: None });
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        for (toml, why) in [
            ("[rules.mine]\nabove = \"1\"\n", "does not say how bad it is"),
            ("[rules.error_rate]\nabove = \"1\"\nbelow = \"2\"\n", "has two limits"),
            ("[facts.mine]\ncommand = [\"x\"]\n", "that no rule speaks of"),
            ("[facts.data_loss]\naccess_log = \"a\"\n", "nothing that an access log tells"),
            ("[facts.data_loss]\n", "is measured by one of"),
            ("[facts.data_loss]\ncommand = []\n", "without words"),
            ("[facts.error_rate]\nprometheus = \"https://p\"\nquery = \"q\"\n", "over http:// only"),
            ("[facts.error_rate]\nprometheus = \"http://p\"\n", "is measured by one of"),
            ("[facts.data_loss]\nsql = \"select 1\"\nresource = \"web\"\n", "which is no PostgreSQL database"),
            ("[facts.data_loss]\ntcp = \"localhost\"\n", "which is no HOST:PORT"),
            ("[facts.error_rate]\ntcp = \"localhost:1\"\n", "tcp tells yes or no"),
            ("[facts.data_loss]\ntcp = \"localhost:1\"\nsql = \"select true\"\n", "is measured by one of"),
        ] {
            let refused = read(toml).unwrap_err();
            assert!(refused.contains(why), "{toml}: {refused}");
        }
    }
}
