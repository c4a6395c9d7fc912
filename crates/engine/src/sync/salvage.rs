//! What the cloud has and the file lacks: after a restore of an older file the cloud may hold the newest rows there are.
//! They are written into a file before anything there is changed.

use std::{path::Path, time::Duration};

use lifeboat_io::{Stop, files};
use lifeboat_model::{Failure, FailureKind};
use serde_json::{Value, json};

use super::{Mirror, compare::Mend, stopped};
use crate::{act::path_failure, perform::Watch};

/// How often the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

impl Mirror {
    /// Fails unless the cloud answers.
    pub(crate) fn must_answer(&self, stop: &Stop) -> Result<(), Failure> {
        self.session(stop).map(drop)
    }

    /// A free name for a file of rows that the cloud had.
    pub(crate) fn salvage_file(&self) -> std::path::PathBuf {
        let now = self.io.clock.now().strftime("%Y%m%d-%H%M%S");
        let name = |number: u32| match number {
            1 => format!("cloud-rows-{now}.ndjson"),
            number => format!("cloud-rows-{now}.{number}.ndjson"),
        };
        let mut number = 1;
        while files::exists(&self.queues().join(name(number))) {
            number += 1;
        }
        self.queues().join(name(number))
    }

    /// Writes every row of the cloud that the file lacks, or has with other values, one JSON line each.
    pub(crate) fn salvage(&mut self, into: &Path, watch: &dyn Watch, stop: &Stop) -> Result<Value, Failure> {
        let _turn = self.turn_soon(stop)?;
        self.local_only_refuses()?;
        self.connect(stop)?;
        let failed = |error| path_failure(&error);
        files::create_private_folder(files::parent(into)).map_err(failed)?;
        files::remove_any(into).map_err(failed)?;
        let file = files::AppendFile::create_new(into).map_err(failed)?;
        files::set_mode(into, 0o600).map_err(failed)?;
        self.saving = Some(file);
        let walked = self.walk(&[], Mend::Nothing, watch, stop);
        self.saving = None;
        let compared = walked?;
        let held = compared.tables.iter().filter(|table| table.orphans + table.different > 0);
        let held = held
            .map(|table| (table.table.clone(), json!({ "only_there": table.orphans, "different": table.different })));
        let tables: serde_json::Map<String, Value> = held.collect();
        for (table, rows) in &tables {
            watch.note(&format!(
                "The cloud has {} rows of {table} that the file lacks, and {} with other values.",
                rows["only_there"], rows["different"]
            ));
        }
        if !tables.is_empty() {
            watch.note(&format!(
                "Which of them can come into the file: lifeboat sync merge {} --dry-run",
                into.display()
            ));
        }
        let only_there: u64 = compared.tables.iter().map(|table| table.orphans).sum();
        let different: u64 = compared.tables.iter().map(|table| table.different).sum();
        Ok(json!({ "saved": into, "only_there": only_there, "different": different, "tables": tables }))
    }

    /// Delivers what waits, again and again; fails unless nothing waited at least once near the end.
    pub(crate) fn watch_queue(&mut self, for_ms: u64, watch: &dyn Watch, stop: &Stop) -> Result<Value, Failure> {
        let began = self.io.clock.elapsed();
        let limit = Duration::from_millis(for_ms);
        let mut drained = false;
        let mut last = String::new();
        loop {
            stopped(stop)?;
            match self.drain(stop) {
                Ok(report) => drained = report.drained,
                // A daemon delivers: what waits says how it does.
                Err(failure) if failure.kind == FailureKind::Busy => {}
                Err(failure) => last = failure.to_string(),
            }
            let status = self.status()?;
            drained = drained || status.queue.queue_size == 0;
            let spent = self.io.clock.elapsed().saturating_sub(began);
            watch.progress(spent.as_secs(), Some(limit.as_secs()));
            if spent >= limit {
                let waiting = status.queue.queue_size;
                if drained && waiting <= u64::from(self.link.batch_rows) && status.last_error.is_none() {
                    return Ok(json!({ "queue_size": waiting }));
                }
                let failure =
                    Failure::new(FailureKind::Refused, format!("the queue does not drain: {waiting} changes wait"));
                let why = status.last_error.unwrap_or(last);
                return Err(failure.because(why).hint("lifeboat sync status"));
            }
            let pause = LOOK_EVERY.min(limit.saturating_sub(spent));
            self.io
                .clock
                .sleep(pause, stop)
                .map_err(|_| Failure::new(FailureKind::Interrupted, "broken off on request"))?;
        }
    }
}
