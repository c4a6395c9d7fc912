//! What the quarterly tests try of a mirror: changes of our own that change no value, and whether they went where they should.

use std::{path::Path, time::Duration};

use lifeboat_io::Stop;
use lifeboat_model::{Failure, FailureKind};
use serde_json::{Value, json};

use super::{Mirror, stopped};
use crate::act::sqlite_failure;

/// How often it is looked whether another process has delivered.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Mirror {
    /// Writes a row of each mirrored table over itself, in at most so many tables; fails unless each is noted.
    pub(crate) fn try_changes(&mut self, tables_max: u32) -> Result<Value, Failure> {
        let failed = |error| sqlite_failure(&error);
        self.note_new_rows()?;
        let outbox = self.outbox()?;
        let before = outbox.newest().map_err(failed)?.unwrap_or(0);
        let mirrored: Vec<String> = outbox.numbers().map_err(failed)?.into_values().collect();
        let shapes = outbox.shapes().map_err(failed)?;
        let mut changed = Vec::new();
        for shape in shapes.tables.iter().filter(|shape| mirrored.contains(&shape.name)) {
            if changed.len() < tables_max as usize && outbox.touch(shape).map_err(failed)? {
                changed.push(shape.name.clone());
            }
        }
        if changed.is_empty() {
            let failure = Failure::new(FailureKind::Refused, "no mirrored table has a row to try a change with");
            return Err(failure.hint("let the app write something first"));
        }
        let noted = outbox.entries(before, u32::MAX).map_err(failed)?;
        let missed: Vec<&str> = changed
            .iter()
            .filter(|table| !noted.iter().any(|entry| entry.table == **table))
            .map(String::as_str)
            .collect();
        match missed.is_empty() {
            true => Ok(json!({ "tables": changed, "noted": noted.len() })),
            false => {
                let message = format!("a change in {} was written and not noted", missed.join(", "));
                Err(Failure::new(FailureKind::Damaged, message).hint("lifeboat sync attach makes the triggers again"))
            }
        }
    }

    /// Fails unless a saved queue can be read, holds something, and nothing of it waits any more.
    pub(crate) fn check_cleared(&mut self, saved: &Path) -> Result<Value, Failure> {
        let entries = super::queue::read_queue(saved)?.entries;
        let Some(newest) = entries.iter().map(|entry| entry.id).max() else {
            let message = format!("{} holds nothing, although changes waited", saved.display());
            return Err(Failure::new(FailureKind::Damaged, message));
        };
        let (waiting, _) = self.queue(1)?;
        match waiting.first() {
            Some(first) if first.id <= newest => {
                let message = format!("change {} was saved, and waits all the same", first.id);
                Err(Failure::new(FailureKind::Damaged, message).hint("lifeboat sync queue list"))
            }
            _later => Ok(json!({ "saved": entries.len() })),
        }
    }

    /// Delivers, or lets the process that does; fails unless what waited when it began has arrived within the limit.
    pub(crate) fn check_delivers(&mut self, limit_ms: u64, stop: &Stop) -> Result<Value, Failure> {
        let failed = |error| sqlite_failure(&error);
        self.note_new_rows()?;
        let newest = self.outbox()?.newest().map_err(failed)?.unwrap_or(0);
        let began = self.now_ms();
        self.try_now();
        loop {
            stopped(stop)?;
            let last = match self.drain(stop) {
                Ok(_) => None,
                // A daemon delivers: what waits says how it does.
                Err(failure) if failure.kind == FailureKind::Busy => None,
                Err(failure) => Some(failure),
            };
            let over = self.outbox()?.over().map_err(failed)?;
            let took_ms = self.now_ms().saturating_sub(began);
            if over >= newest && last.is_none() {
                return Ok(json!({ "delivered_upto": over, "took_ms": took_ms }));
            }
            if took_ms >= limit_ms || last.as_ref().is_some_and(|failure| failure.kind != FailureKind::Outside) {
                let message = format!("changes up to {newest} have not arrived, but for those up to {over}");
                let failure = Failure::new(FailureKind::Refused, message).hint("lifeboat sync status");
                return Err(last.into_iter().fold(failure, |failure, last| failure.because(last.to_string())));
            }
            self.io
                .clock
                .sleep(LOOK_EVERY, stop)
                .map_err(|_| Failure::new(FailureKind::Interrupted, "broken off on request"))?;
        }
    }
}
