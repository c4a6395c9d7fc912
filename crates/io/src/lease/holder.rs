//! Whether the process that a note names is the one that runs today.

use std::{fs, io};

use lifeboat_model::Tri;
use serde::{Deserialize, Serialize};

/// A process, told apart from later ones that get the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// When it began, in clock ticks since the computer's start; none where the kernel does not tell.
    pub started_ticks: Option<u64>,
    /// The computer's start: a random id that the kernel makes then. None where it does not tell.
    pub boot: Option<String>,
    /// The namespace that process numbers belong to: they mean something else inside a container.
    pub namespace: Option<String>,
}

impl Process {
    /// This process.
    pub fn this() -> Process {
        let id = std::process::id();
        Process { id, started_ticks: started_ticks(id).ok().flatten(), boot: boot(), namespace: namespace() }
    }

    /// Whether it is running: unknown when it belongs to another host or container, or the kernel does not tell.
    pub fn is_alive(&self) -> Tri {
        // Another boot id means another host, or this one before its restart; from here these two look the same.
        if self.boot.is_none() || self.boot != boot() || self.namespace != namespace() {
            return Tri::Unknown;
        }
        match (started_ticks(self.id), self.started_ticks) {
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Tri::Fail,
            (Err(_), _) | (Ok(None), _) | (Ok(_), None) => Tri::Unknown,
            (Ok(Some(now)), Some(then)) => Tri::from_bool(now == then),
        }
    }
}

/// When the process began, in clock ticks since the computer's start. A dead process that nobody has collected counts
/// as ended.
fn started_ticks(id: u32) -> io::Result<Option<u64>> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The second field is the program's name in brackets and may hold anything; what follows the last bracket is
    // regular.
    let Some((_, rest)) = stat.rsplit_once(')') else { return Ok(None) };
    let mut fields = rest.split_whitespace();
    if fields.next() == Some("Z") {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(fields.nth(18).and_then(|field| field.parse().ok()))
}

fn boot() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

fn namespace() -> Option<String> {
    Some(fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_one_that_got_its_number_later() {
        let this = Process::this();
        assert_eq!(this.is_alive(), Tri::Pass);
        let earlier = Process { started_ticks: this.started_ticks.map(|ticks| ticks - 1), ..this.clone() };
        assert_eq!(earlier.is_alive(), Tri::Fail, "the number is ours, but it began earlier");
        let elsewhere = Process { boot: Some("another".into()), ..this.clone() };
        assert_eq!(elsewhere.is_alive(), Tri::Unknown);
        let contained = Process { namespace: Some("pid:[1]".into()), ..this.clone() };
        assert_eq!(contained.is_alive(), Tri::Unknown);
        let nobody = Process { id: u32::MAX, ..this };
        assert_eq!(nobody.is_alive(), Tri::Fail);
    }
}
