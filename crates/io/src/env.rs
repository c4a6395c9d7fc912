//! The environment: variables, who we are, where we are.

use std::ffi::OsString;

/// What the process was given. The twin in tests holds a map.
pub trait Env: Send + Sync {
    /// A variable, when it is set.
    fn var(&self, name: &str) -> Option<OsString>;
    /// Login name of the person, `unknown` when there is none.
    fn user(&self) -> String;
    /// Name of this host.
    fn host(&self) -> String;
}

/// The process's own environment.
#[derive(Debug, Default)]
pub struct SystemEnv;

impl Env for SystemEnv {
    fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn user(&self) -> String {
        let named = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
        named.unwrap_or_else(|| if rustix::process::getuid().is_root() { "root".into() } else { "unknown".into() })
    }

    fn host(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }
}
