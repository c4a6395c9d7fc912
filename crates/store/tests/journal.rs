//! Journals: what a crash, a full disk or a flipped bit leaves, and what is made of it.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests look at the world from outside")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lifeboat_io::{Io, testing::twin_io};
use lifeboat_model::{
    Action, BackupId, BackupMark, Entry, Event, Failure, FailureKind, Lease, OnFailure, OperationId, OperationState,
    Outcome, Phase, Plan, PlanId, Request, Scope, Step, StepClass, Timestamp, Undo, plan::PLAN_SCHEMA,
};
use lifeboat_store::{Journal, JournalError, JournalFile};

fn opened() -> Event {
    let action = Action::Mark { backup: BackupId::from_random(1), mark: BackupMark::Unhold };
    let step = Step {
        id: "mark".into(),
        title: "mark it".into(),
        class: StepClass::Idempotent,
        action: action.clone(),
        undo: Undo::By(Box::new(action)),
        on_failure: OnFailure::Unwind,
        hint: None,
    };
    let plan = Plan {
        schema: PLAN_SCHEMA.into(),
        id: PlanId::from_random(1),
        request: Request::Retention,
        scope: Scope { app: "shop".into(), environment: "production".into() },
        lease: Lease::Environment,
        title: "é \"quoted\"\nplan".into(),
        made_at: Timestamp::UNIX_EPOCH,
        facts: vec![],
        phases: vec![Phase { name: "mark".into(), budget_ms: None, expected: None, steps: vec![step] }],
        losses: vec![],
        notes: vec![],
    };
    let (digest, plan) = (plan.digest(), Box::new(plan));
    Event::Opened { plan, digest, by: "ann".into(), host: "a1".into(), pid: 1, version: "0".into() }
}

fn id() -> OperationId {
    OperationId::from_random(7)
}

fn started() -> Event {
    Event::StepStarted { step: "mark".into(), attempt: 1 }
}

fn finished() -> Event {
    Event::StepFinished { step: "mark".into(), took_ms: 12, output: serde_json::json!({ "bytes": 3 }) }
}

fn closed() -> Event {
    Event::Closed { state: Outcome::Done }
}

fn begin(path: &Path, io: &Io) -> Journal {
    Journal::create(path, &id(), 3, opened(), io).unwrap()
}

/// A folder with the journal of an operation that is done.
fn done() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("o-1.ndjson");
    let mut journal = begin(&path, &twin_io());
    for event in [started(), finished(), closed()] {
        journal.append(event).unwrap();
    }
    (home, path)
}

fn entries(path: &Path) -> Vec<Entry> {
    JournalFile::read(path).unwrap().entries
}

#[test]
fn what_was_written_is_read_and_the_chain_holds() {
    let (_home, path) = done();
    let file = JournalFile::read(&path).unwrap();
    assert_eq!((file.entries.len(), file.torn_bytes), (4, 0));
    assert_eq!(file.operation(&path).unwrap().state, OperationState::Done);
    assert_eq!(file.entries[0].prev.len(), "sha256:".len() + 64);
    // One line per entry, whatever is in the texts; for its owner's eyes only.
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn aud_01_every_changed_byte_of_a_closed_journal_is_found_or_changes_no_entry() {
    let (_home, path) = done();
    let (bytes, before) = (fs::read(&path).unwrap(), entries(&path));
    let mut found = 0;
    for at in 0..bytes.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            match JournalFile::parse(&path, &changed).and_then(|file| file.operation(&path).map(|_| file)) {
                Err(_) => found += 1,
                Ok(file) if file.torn_bytes > 0 => found += 1, // the last line feed: told as a torn end
                Ok(file) => assert_eq!(file.entries, before, "byte {at} changed by {flip:#x} went unseen"),
            }
        }
    }
    assert_eq!(found, 4 * bytes.len(), "every change is found");
}

#[test]
fn aud_01_lines_that_are_missing_doubled_or_swapped_are_found() {
    let (_home, path) = done();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let stories: [&[usize]; 6] =
        [&[1, 2, 3], &[0, 2, 3], &[0, 1, 1, 2, 3], &[0, 2, 1, 3], &[0, 1, 3], &[0, 1, 2, 3, 3]];
    for story in stories {
        let text: String = story.iter().map(|line| lines[*line]).collect();
        let error = JournalFile::parse(&path, text.as_bytes()).unwrap_err();
        assert!(matches!(error, JournalError::BrokenChain { .. }), "{story:?}: {error}");
    }
}

#[test]
fn a_sentence_says_which_line_is_damaged() {
    let (_home, path) = done();
    let text = fs::read_to_string(&path).unwrap();
    let changed = text.replacen("\"took_ms\":12", "\"took_ms\":13", 1);
    let error = JournalFile::parse(Path::new("o-1.ndjson"), changed.as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "line 3 of o-1.ndjson was changed, or one before it was: the chain of digests breaks there");
    let error = JournalFile::parse(Path::new("x"), b"{}\n").unwrap_err().to_string();
    assert_eq!(error, "line 1 of x is not a journal entry");
}

#[test]
fn lines_of_the_time_before_sums_are_read() {
    let (_home, path) = done();
    // As an older version wrote them: no sums, the chain over the lines as they were.
    let mut old = String::new();
    let mut prev = entries(&path)[0].prev.clone();
    for entry in entries(&path) {
        let line = serde_json::to_string(&Entry { prev, sum: None, ..entry }).unwrap();
        prev = format!("sha256:{}", hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&line)));
        old.push_str(&line);
        old.push('\n');
    }
    let file = JournalFile::parse(&path, old.as_bytes()).unwrap();
    assert_eq!(file.operation(&path).unwrap().state, OperationState::Done);
}

#[test]
fn the_journal_of_an_old_version_is_read_and_continued() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("o-1.ndjson");
    let old = include_str!("../../model/tests/fixtures/journal-1.ndjson");
    fs::write(&path, old).unwrap();
    assert_eq!(JournalFile::read(&path).unwrap().operation(&path).unwrap().state, OperationState::Done);
    // Cut off after any line, as a death would leave it, this version goes on with it.
    let lines: Vec<&str> = old.split_inclusive('\n').collect();
    for left in 1..lines.len() {
        fs::write(&path, lines[..left].concat()).unwrap();
        let mut journal = Journal::reopen(&path, 9, &twin_io()).unwrap();
        journal.append(Event::Resumed { by: "bob".into(), pid: 2, gap_ms: 0 }).unwrap();
        assert_eq!(entries(&path).len(), left + 1);
    }
}

#[test]
fn torn_at_every_byte_of_its_last_line_it_is_read_and_continued() {
    let home = tempfile::tempdir().unwrap();
    let io = twin_io();
    let whole = home.path().join("whole.ndjson");
    let mut journal = begin(&whole, &io);
    journal.append(started()).unwrap();
    let kept = fs::metadata(&whole).unwrap().len() as usize;
    journal.append(finished()).unwrap();
    let bytes = fs::read(&whole).unwrap();
    for end in kept..bytes.len() {
        let path = home.path().join("o-1.ndjson");
        fs::write(&path, &bytes[..end]).unwrap();
        let torn = JournalFile::read(&path).unwrap();
        assert_eq!((torn.entries.len(), torn.torn_bytes), (2, end - kept), "cut at {end}");
        let mut again = Journal::reopen(&path, 4, &io).unwrap();
        again.append(Event::Resumed { by: "bob".into(), pid: 2, gap_ms: 0 }).unwrap();
        again.append(finished()).unwrap();
        let mended = JournalFile::read(&path).unwrap();
        assert_eq!((mended.entries.len(), mended.torn_bytes), (4, 0), "cut at {end}");
        let aside = path.with_extension("torn-4");
        assert_eq!(fs::read(&aside).unwrap_or_default(), &bytes[kept..end], "the half line is kept");
        let _ = fs::remove_file(aside);
    }
}

#[test]
fn without_a_whole_line_there_is_no_story() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("o-1.ndjson");
    for half in ["", "{\"schema\":"] {
        fs::write(&path, half).unwrap();
        let error = Journal::reopen(&path, 1, &twin_io()).unwrap_err();
        assert!(matches!(error, JournalError::Empty { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), half, "reading changes nothing");
    }
}

#[test]
fn what_cannot_follow_is_not_written() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("o-1.ndjson");
    let mut journal = begin(&path, &twin_io());
    let before = fs::read(&path).unwrap();
    for event in [finished(), closed(), Event::UndoFinished { step: "mark".into(), took_ms: 1 }, opened()] {
        assert!(matches!(journal.append(event), Err(JournalError::Impossible { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    drop(journal);
    assert!(Journal::create(&path, &id(), 4, opened(), &twin_io()).is_err(), "a journal is never begun twice");
    assert_eq!(fs::read(&path).unwrap(), before);
    let mut older = Journal::reopen(&path, 2, &twin_io()).unwrap();
    assert!(older.append(started()).is_err(), "a line under an older lease than the one before");
}

#[test]
fn a_listener_hears_each_line_once_it_is_on_disk() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("o-1.ndjson");
    let mut journal = begin(&path, &twin_io());
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (ears, file) = (heard.clone(), path.clone());
    journal.tell(Box::new(move |entry| {
        assert!(JournalFile::read(&file).unwrap().entries.contains(entry));
        ears.lock().unwrap().push(entry.seq);
    }));
    journal.append(started()).unwrap();
    journal.append(finished()).unwrap();
    assert_eq!(*heard.lock().unwrap(), [1, 2]);
}

/// Set for the part of a test that runs in a process of its own, which may write no file longer than a few blocks.
const CHILD: &str = "LIFEBOAT_TEST_SHORT_FILES";

/// Runs one of these tests in a process whose files may not grow beyond so many blocks of 512 bytes.
fn in_a_process_with_short_files(test: &str, blocks: usize, path: &Path) {
    let limits = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --exact {test} --nocapture");
    let child =
        Command::new("sh").arg("-c").arg(limits).arg(std::env::current_exe().unwrap()).env(CHILD, path).output();
    let child = child.unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "the test was not found");
}

fn note(number: u32) -> Event {
    let why = Failure::new(FailureKind::Interrupted, format!("pause {number}"));
    if number.is_multiple_of(2) { Event::Paused { why } } else { Event::Resumed { by: "x".into(), pid: 1, gap_ms: 0 } }
}

#[test]
fn a_disk_that_fills_up_leaves_whole_lines_and_the_journal_goes_on_later() {
    if let Some(path) = std::env::var_os(CHILD) {
        let path = PathBuf::from(path);
        let mut journal = begin(&path, &Io::system());
        let mut written = 1;
        let error = (0..).find_map(|number| match journal.append(note(number)) {
            Ok(()) => {
                written += 1;
                None
            }
            Err(error) => Some(error),
        });
        assert!(matches!(error, Some(JournalError::Path(_))), "{error:?}");
        assert!(written > 3, "some lines fit: {written}");
        assert_eq!(journal.operation().lines, written, "what was not written has not happened");
        assert_eq!(JournalFile::read(&path).unwrap().entries.len() as u64, written);
        assert_eq!(JournalFile::read(&path).unwrap().torn_bytes, 0, "the half line was cut off");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("o-1.ndjson");
    in_a_process_with_short_files("a_disk_that_fills_up_leaves_whole_lines_and_the_journal_goes_on_later", 8, &path);
    let lines = entries(&path).len();
    let mut journal = Journal::reopen(&path, 4, &twin_io()).unwrap();
    let event = Event::Resumed { by: "x".into(), pid: 1, gap_ms: 0 };
    journal.append(event).unwrap();
    assert_eq!(entries(&path).len(), lines + 1);
}

#[test]
fn a_disk_without_room_for_the_first_line_leaves_no_journal() {
    if let Some(path) = std::env::var_os(CHILD) {
        let error = Journal::create(Path::new(&path), &id(), 1, opened(), &Io::system()).unwrap_err();
        assert!(matches!(error, JournalError::Path(_)), "{error}");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("o-1.ndjson");
    in_a_process_with_short_files("a_disk_without_room_for_the_first_line_leaves_no_journal", 1, &path);
    assert!(!path.exists(), "an operation that never began leaves nothing to be found later");
}
