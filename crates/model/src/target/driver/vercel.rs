//! Vercel: a version is a deployment. Going back is `rollback`, and coming back from that is `promote`. Variables are part of
//! what was built: taking one away changes nothing that runs.

use super::{Instance, Looked, words};

/// How long the platform may take to lead its domain to another deployment.
const PATIENCE: &str = "3m";

pub(super) fn call(rest: &[&str], scope: Option<&str>) -> Vec<String> {
    let mut argv = words(&["vercel"]);
    argv.extend(words(rest));
    argv.extend(scope.iter().flat_map(|scope| words(&["--scope", scope])));
    argv
}

/// Asks for a deployment, by its id, its address or a domain that leads to it.
pub fn vercel_inspect(what: &str, scope: Option<&str>) -> Vec<String> {
    call(&["inspect", what], scope)
}

/// Says of a fresh folder which project it belongs to.
pub fn vercel_link(project: &str, scope: Option<&str>) -> Vec<String> {
    call(&["link", "--yes", "--project", project], scope)
}

/// Builds the folder in which it runs for production, and leads the domain there; ends when that is over.
pub fn vercel_build(scope: Option<&str>) -> Vec<String> {
    call(&["deploy", "--prod", "--yes"], scope)
}

pub(super) fn build_log(domain: &str, scope: Option<&str>) -> Vec<String> {
    call(&["inspect", domain, "--logs"], scope)
}

pub(super) fn list(project: &str, scope: Option<&str>) -> Vec<String> {
    call(&["list", project, "--prod"], scope)
}

pub(super) fn switch(deployment: &str, scope: Option<&str>, back: bool) -> Vec<String> {
    let verb = if back { "promote" } else { "rollback" };
    call(&[verb, deployment, "--yes", "--timeout", PATIENCE], scope)
}

/// A deployment as `vercel inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VercelDeployment {
    /// Its id, which nothing else can take.
    pub id: String,
    /// `ready`, `error`, ...
    pub state: String,
    /// Whether it was built for production.
    pub is_production: bool,
}

impl VercelDeployment {
    /// As something that runs.
    pub(super) fn instance(self) -> Instance {
        let is_up = self.state == "ready";
        Instance { id: self.id.clone(), is_up, state: self.state, version: Some(self.id), process: None }
    }

    /// Whether it can be gone back to.
    pub fn can_run(&self) -> bool {
        self.state == "ready" && self.is_production
    }
}

/// Reads it. It is written for people, on standard error: lines with a word and what belongs to it.
///
/// # Errors
/// There is no deployment in it; in words.
pub fn vercel_deployment(said: &Looked) -> Result<VercelDeployment, String> {
    let text = plain(&format!("{}\n{}", said.err, said.out));
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (word, value) = line.trim().split_once(char::is_whitespace)?;
            (word == name).then(|| value.trim().to_owned())
        })
    };
    let id = field("id").filter(|id| id.starts_with("dpl_")).ok_or("it names no deployment")?;
    let state = field("status").ok_or("it tells no status")?;
    let state = state.trim_start_matches(|letter: char| !letter.is_ascii_alphabetic()).to_ascii_lowercase();
    let is_production = field("target").is_some_and(|target| target == "production");
    Ok(VercelDeployment { id, state, is_production })
}

/// The addresses that `vercel list` prints where nobody looks on, newest first.
pub fn vercel_urls(said: &Looked) -> Vec<String> {
    let lines = said.out.lines().map(str::trim);
    lines.filter(|line| line.starts_with("https://") && !line.contains(' ')).map(str::to_owned).collect()
}

/// A text without the colours of a terminal.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        out += before;
        rest = after.split_once(|letter: char| letter.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    out + rest
}
