//! Variables as platforms take them: all in one batch, by standard input. An argument could be read by everybody on the host, and
//! each call of `fly secrets set` would be a release of its own.

use std::fmt;

use super::{Driver, vercel, words};

/// One call of a platform's program about variables.
#[derive(Clone, PartialEq, Eq)]
pub struct VariablesCall {
    /// Program and arguments; names of variables may be in it, values never.
    pub argv: Vec<String>,
    /// What it is given to read: values.
    pub stdin: Option<String>,
}

/// Without what it is given to read.
impl fmt::Debug for VariablesCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VariablesCall").field("argv", &self.argv).finish_non_exhaustive()
    }
}

/// Which variables a platform is to have, and which not any more.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Names and values.
    pub set: &'a [(String, String)],
    /// Names.
    pub remove: &'a [String],
    /// The deployment that is in use, where values are built in.
    pub deployment: Option<&'a str>,
}

impl Driver {
    /// The call that shows whether its variables may be changed; it prints no values. Nothing where a platform has none of its own.
    pub fn variables(&self) -> Option<Vec<String>> {
        match self {
            Driver::Fly { app } => Some(words(&["fly", "secrets", "list", "--app", app])),
            Driver::Vercel { scope, .. } => Some(vercel::call(&["env", "ls", "production"], scope.as_deref())),
            Driver::SupabaseFunctions { project, .. } => {
                Some(words(&["supabase", "secrets", "list", "--project-ref", project]))
            }
            Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } | Driver::Pm2 { .. } => None,
            Driver::Systemd { .. } | Driver::Docker { .. } | Driver::Compose { .. } => None,
        }
    }

    /// Whether variables are the platform's own by that name, and nobody else can set them.
    pub fn owns_variable(&self, name: &str) -> bool {
        match self {
            Driver::SupabaseFunctions { .. } => name.starts_with("SUPABASE_"),
            Driver::Vercel { .. } => name == "VERCEL" || name.starts_with("VERCEL_"),
            Driver::Fly { .. } => name.starts_with("FLY_"),
            Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } | Driver::Pm2 { .. } => false,
            Driver::Systemd { .. } | Driver::Docker { .. } | Driver::Compose { .. } => false,
        }
    }

    /// The calls that give a platform a batch of variables: one release, or one deployment, whatever is in it.
    ///
    /// # Errors
    /// Its program cannot be given that value; in words, without it.
    pub fn give_variables(&self, batch: &Batch<'_>) -> Result<Vec<VariablesCall>, String> {
        match self {
            Driver::Fly { app } => fly(app, batch),
            Driver::Vercel { scope, .. } => vercel(scope.as_deref(), batch),
            Driver::SupabaseFunctions { project, .. } => Ok(supabase(project, batch)),
            Driver::Command { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } | Driver::Pm2 { .. } => {
                Ok(Vec::new())
            }
            Driver::Systemd { .. } | Driver::Docker { .. } | Driver::Compose { .. } => Ok(Vec::new()),
        }
    }
}

fn silent(argv: Vec<String>) -> VariablesCall {
    VariablesCall { argv, stdin: None }
}

/// What goes is staged, so that it goes with the release of what comes.
fn fly(app: &str, batch: &Batch<'_>) -> Result<Vec<VariablesCall>, String> {
    let mut calls = Vec::new();
    if !batch.remove.is_empty() {
        let mut argv = words(&["fly", "secrets", "unset", "--app", app]);
        argv.extend((!batch.set.is_empty()).then(|| "--stage".to_owned()));
        argv.extend(batch.remove.iter().cloned());
        calls.push(silent(argv));
    }
    if !batch.set.is_empty() {
        let lines = batch.set.iter().map(|(name, value)| fly_line(name, value)).collect::<Result<String, _>>()?;
        calls.push(VariablesCall { argv: words(&["fly", "secrets", "import", "--app", app]), stdin: Some(lines) });
    }
    Ok(calls)
}

/// `fly secrets import` takes one pair of quotes off, knows `"""` for more than one line, and - in newer versions - ends a value at
/// a `#` unless an odd number of quotes stands before it.
fn fly_line(name: &str, value: &str) -> Result<String, String> {
    if value.contains(['\n', '\r']) {
        let ends_early = value.split('\n').any(|line| line.ends_with("\"\"\""));
        let first = value.lines().next().and_then(|line| line.split_once('#'));
        let is_cut = first.is_some_and(|(before, _)| before.matches('"').count() % 2 == 1);
        return match ends_early || is_cut || value.contains('\r') {
            true => Err(format!("fly cannot be given {name}: its lines would be read otherwise than they are meant")),
            false => Ok(format!("{name}=\"\"\"{value}\"\"\"\n")),
        };
    }
    let quotes_before = value.split_once('#').map(|(before, _)| before.matches('"').count());
    let is_plain = match quotes_before {
        Some(count) => count % 2 == 1,
        None => true,
    };
    let is_trimmed = value.starts_with([' ', '"', '\'']) || value.ends_with([' ', '"', '\'']);
    match (is_plain, is_trimmed) {
        (true, false) => Ok(format!("{name}={value}\n")),
        // Three quotes at its beginning would begin a value of more than one line.
        (_, _) if value.starts_with("\"\"") => Err(format!("fly cannot be given {name}: it begins with two quotes")),
        (true, true) if quotes_before.is_some() => {
            Err(format!("fly cannot be given {name}: it has quotes and a # in a way that is read otherwise"))
        }
        (_, _) => Ok(format!("{name}=\"{value}\"\n")),
    }
}

/// Each is given by itself, and nothing that runs notices; they are built in by one deployment in the end.
fn vercel(scope: Option<&str>, batch: &Batch<'_>) -> Result<Vec<VariablesCall>, String> {
    let mut calls = Vec::new();
    for (name, value) in batch.set {
        if value.is_empty() {
            return Err(format!("vercel cannot be given {name}: it is empty"));
        }
        let argv = vercel::call(&["env", "add", name, "production", "--force"], scope);
        // No end of a line: it would be a part of the value.
        calls.push(VariablesCall { argv, stdin: Some(value.clone()) });
    }
    for name in batch.remove {
        calls.push(silent(vercel::call(&["env", "rm", name, "production", "--yes"], scope)));
    }
    if let Some(deployment) = batch.deployment.filter(|_| !calls.is_empty()) {
        calls.push(silent(vercel::call(&["redeploy", deployment], scope)));
    }
    Ok(calls)
}

fn supabase(project: &str, batch: &Batch<'_>) -> Vec<VariablesCall> {
    let mut calls = Vec::new();
    if !batch.set.is_empty() {
        let lines: String = batch.set.iter().map(|(name, value)| dotenv_line(name, value)).collect();
        let argv = words(&["supabase", "secrets", "set", "--env-file", "/dev/stdin", "--project-ref", project]);
        calls.push(VariablesCall { argv, stdin: Some(lines) });
    }
    if !batch.remove.is_empty() {
        let mut argv = words(&["supabase", "secrets", "unset", "--yes", "--project-ref", project]);
        argv.extend(batch.remove.iter().cloned());
        calls.push(silent(argv));
    }
    calls
}

/// As files of variables are read: between single quotes nothing means anything else.
fn dotenv_line(name: &str, value: &str) -> String {
    if !value.contains(['\'', '\n', '\r', '\\']) {
        return format!("{name}='{value}'\n");
    }
    let mut quoted = String::new();
    for letter in value.chars() {
        match letter {
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\\' | '"' | '$' => quoted.extend(['\\', letter]),
            other => quoted.push(other),
        }
    }
    format!("{name}=\"{quoted}\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// What fly's own reader makes of a line, in its older and its newer form.
    fn read_by_fly(line: &str, is_newer: bool) -> String {
        let text = line.split_once('=').unwrap().1.strip_suffix('\n').unwrap();
        if let Some(inside) = text.strip_prefix("\"\"\"") {
            return inside.strip_suffix("\"\"\"").unwrap().to_owned();
        }
        let mut text = text.to_owned();
        if is_newer {
            text = text.trim_start_matches(' ').to_owned();
            let before = text.split_once('#').map(|(before, _)| before.to_owned());
            if let Some(before) = before.filter(|before| before.matches('"').count() % 2 == 0) {
                text = before.trim_end_matches(' ').to_owned();
            }
        }
        let quotes: &[char] = if is_newer { &['"', '\''] } else { &['"'] };
        match quotes.iter().find(|quote| text.len() > 1 && text.starts_with(**quote) && text.ends_with(**quote)) {
            Some(_) => text[1..text.len() - 1].to_owned(),
            None => text,
        }
    }

    /// ENV-07: whatever the value is, fly reads the same, or is not given it.
    #[test]
    fn env_07_fly_reads_what_was_meant() {
        for value in [
            "",
            "plain",
            "with space",
            "a=b==",
            "postgres://u:p#1@h/d?x=1",
            "#begins",
            " spaces ",
            "'single'",
            "\"double\"",
            "in \"side\" x",
            "odd\" # x",
            "first\nsecond\n",
            "-----BEGIN KEY-----\nabc#d\n-----END KEY-----",
            "$HOME `x` \\n",
            "ends\"",
        ] {
            let line = fly_line("NAME", value).unwrap_or_else(|why| panic!("{value:?}: {why}"));
            for is_newer in [false, true] {
                assert_eq!(read_by_fly(&line, is_newer), value, "{line:?}, newer: {is_newer}");
            }
        }
        for value in ["a\"\"\"\nb", "a\" #\nb", "a\r\nb", "\"\"twice", "odd\" # x\""] {
            let why = fly_line("NAME", value).unwrap_err();
            assert!(why.contains("NAME") && !why.contains(value), "{why}");
        }
    }

    /// ENV-07 (D-22): no value is an argument, and there is one call that makes a release.
    #[test]
    fn env_07_a_batch_is_one_release_and_no_value_is_an_argument() {
        let (set, remove) = (set(&[("A", "canary-1"), ("B", "canary '2'\n$x")]), ["C".to_owned()]);
        let batch = Batch { set: &set, remove: &remove, deployment: Some("dpl_1") };
        let said = |driver: &Driver, batch: &Batch<'_>| -> Vec<String> {
            let calls = driver.give_variables(batch).unwrap();
            assert!(!format!("{calls:?}").contains("canary"));
            calls.iter().map(|call| call.argv.join(" ")).collect()
        };
        let fly = Driver::Fly { app: "shop".into() };
        assert_eq!(said(&fly, &batch), ["fly secrets unset --app shop --stage C", "fly secrets import --app shop"]);
        assert_eq!(said(&fly, &Batch { set: &[], ..batch }), ["fly secrets unset --app shop C"]);
        let vercel = Driver::Vercel { project: "shop".into(), domain: "d".into(), scope: None };
        assert_eq!(
            said(&vercel, &batch),
            [
                "vercel env add A production --force",
                "vercel env add B production --force",
                "vercel env rm C production --yes",
                "vercel redeploy dpl_1"
            ]
        );
        let supabase = Driver::SupabaseFunctions {
            project: "ref".into(),
            functions: vec!["f".into()],
            releases: "r".into(),
            current: "c".into(),
        };
        assert_eq!(
            said(&supabase, &batch),
            [
                "supabase secrets set --env-file /dev/stdin --project-ref ref",
                "supabase secrets unset --yes --project-ref ref C"
            ]
        );
        let calls = supabase.give_variables(&batch).unwrap();
        assert_eq!(calls[0].stdin.as_deref(), Some("A='canary-1'\nB=\"canary '2'\\n\\$x\"\n"));
        assert!(supabase.owns_variable("SUPABASE_URL") && !fly.owns_variable("SUPABASE_URL"));
    }
}
