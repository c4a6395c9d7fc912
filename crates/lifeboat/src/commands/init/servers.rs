//! Databases on PostgreSQL servers, as variables name them. Their addresses are compared and never repeated.

use std::path::PathBuf;

use lifeboat_io::Io;

use super::{Found, FoundResource, free_name};

/// Variables of the process that hold an address, by the names hosts and frameworks give them.
const OF_PROCESS: &[&str] =
    &["DATABASE_URL", "DIRECT_URL", "POSTGRES_URL_NON_POOLING", "POSTGRES_URL", "SUPABASE_DB_URL"];

/// Addresses of PostgreSQL databases.
#[derive(Default)]
pub struct Addresses {
    all: Vec<OneAddress>,
}

struct OneAddress {
    variable: String,
    /// The file it stands in; nothing when it was set.
    file: Option<String>,
    value: String,
    /// It stands in what looks like a copy of a file.
    in_copy: bool,
}

impl Addresses {
    /// Takes a variable of a file, when it is an address. Without the file's name it is one that looks like a copy.
    pub fn is_one(&mut self, variable: &str, value: &str, file: Option<&str>) -> bool {
        let is_address = ["postgres://", "postgresql://"].iter().any(|scheme| value.starts_with(scheme));
        if is_address {
            self.all.push(OneAddress {
                variable: variable.to_owned(),
                file: file.map(str::to_owned),
                value: value.to_owned(),
                in_copy: file.is_none(),
            });
        }
        is_address
    }

    /// Takes what is set in the process, when no file says the same.
    pub fn of_process(&mut self, io: &Io) {
        for name in OF_PROCESS {
            let value = io.env.var(name).and_then(|value| value.into_string().ok()).unwrap_or_default();
            if !self.all.iter().any(|known| known.value == value) {
                let before = self.all.len();
                if self.is_one(name, &value, None) {
                    self.all[before].in_copy = false;
                }
            }
        }
    }

    /// Adds a resource for each database. One behind a pooler is left out where its direct address is there too.
    pub fn tell(self, environment: &str, found: &mut Found) {
        let mut told: Vec<&str> = Vec::new();
        let has_direct = self.all.iter().any(|address| !address.is_pooled() && !address.in_copy);
        for address in self.all.iter().filter(|address| !address.in_copy) {
            if told.contains(&address.value.as_str()) {
                continue;
            }
            told.push(&address.value);
            if address.is_pooled() {
                if !has_direct {
                    let place = address.file.as_deref().map_or_else(String::new, |file| format!(" in {file}"));
                    found.not_yet.push(format!(
                        "{}{place} names a PostgreSQL database through a pooler in transaction mode; Lifeboat needs its direct address (port 5432)",
                        address.variable
                    ));
                }
                continue;
            }
            let about = address.file.as_deref().and_then(|file| of_another(file, environment));
            found.resources.push(FoundResource {
                name: free_name("db", "db", &found.resources),
                kind: "postgres",
                path: address.file.as_ref().map(|file| PathBuf::from(".").join(file)).unwrap_or_default(),
                variable: Some(address.variable.clone()),
                certain: about.is_none(),
                about: about.unwrap_or_default(),
            });
        }
    }
}

impl OneAddress {
    /// Snapshots and settings do not hold there.
    fn is_pooled(&self) -> bool {
        self.value.contains(":6543") || self.value.contains("pgbouncer=true")
    }
}

/// What speaks against a file's database being the one of this environment: its name is another environment's.
fn of_another(file: &str, environment: &str) -> Option<String> {
    let rest = file.strip_prefix(".env.")?;
    let named = rest.strip_suffix(".local").unwrap_or(rest);
    let general = ["local", environment].contains(&named);
    (!general).then(|| format!("belongs to {named}, by its name: write it below [environments.{named}.resources.db]"))
}
