//! The two places for notes inside a lock file, and how the newest whole one is found.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::LockNote;

const SLOT_BYTES: usize = 4096;
const SLOTS: usize = 2;

/// What a lock file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slots {
    /// The note with the greatest epoch, of those that are whole.
    pub(super) newest: Option<LockNote>,
    /// How many slots hold something that is no note: of a grant that was cut off, or of a failing disk.
    pub(super) broken: u64,
}

impl Slots {
    /// The epoch of the next grant; none when both slots are unreadable and any number could have been given before.
    pub(super) fn next_epoch(&self) -> Option<u64> {
        match (&self.newest, self.broken) {
            (Some(note), 0) => Some(note.epoch + 1),
            // The unreadable slot's epoch was one more, and may have been in use. Two more than that goes into its
            // place.
            (Some(note), _) => Some(note.epoch + 3),
            (None, 0) => Some(1),
            (None, 1) => Some(3),
            (None, _) => None,
        }
    }
}

/// A note as it is written: the digest tells a whole one from the mixture that a crash leaves.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    note: LockNote,
    digest: String,
}

pub(super) fn read(file: &File) -> io::Result<Slots> {
    let mut found = Vec::new();
    let mut broken = 0;
    for number in 0..SLOTS {
        let slot = read_slot(file, number)?;
        if slot.iter().all(|byte| *byte == 0) {
            continue;
        }
        match whole_note(&slot) {
            Some(note) => found.push(note),
            None => broken += 1,
        }
    }
    Ok(Slots { newest: found.into_iter().max_by_key(|note| note.epoch), broken })
}

pub(super) fn write(file: &File, note: &LockNote) -> io::Result<()> {
    let written = Written { note: note.clone(), digest: digest(note) };
    let mut slot = serde_json::to_vec(&written)?;
    if slot.len() >= SLOT_BYTES {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the note about the lock's holder is too long"));
    }
    slot.resize(SLOT_BYTES - 1, b' ');
    slot.push(b'\n');
    file.write_all_at(&slot, offset(number_of(note.epoch)))?;
    file.sync_all()
}

fn number_of(epoch: u64) -> usize {
    usize::from(!epoch.is_multiple_of(2))
}

fn offset(number: usize) -> u64 {
    (number * SLOT_BYTES) as u64
}

fn read_slot(file: &File, number: usize) -> io::Result<Vec<u8>> {
    let mut slot = vec![0; SLOT_BYTES];
    let mut filled = 0;
    while filled < SLOT_BYTES {
        match file.read_at(&mut slot[filled..], offset(number) + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(slot)
}

fn whole_note(slot: &[u8]) -> Option<LockNote> {
    let text = std::str::from_utf8(slot).ok()?;
    let written: Written = serde_json::from_str(text.trim()).ok()?;
    (digest(&written.note) == written.digest).then_some(written.note)
}

fn digest(note: &LockNote) -> String {
    // The fields of a note are always written in the order of its type.
    let body = serde_json::to_vec(note).unwrap_or_default();
    hex::encode(&Sha256::digest(&body)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::holder::Process;

    fn note(epoch: u64) -> LockNote {
        LockNote {
            epoch,
            who: "ann".into(),
            host: "a1".into(),
            process: Process { id: 7, started_ticks: Some(3), boot: None, namespace: None },
            since: "2026-11-20T02:11:07Z".parse().unwrap(),
            operation: None,
            why: "a test".into(),
            makes_way: false,
        }
    }

    fn file() -> File {
        tempfile::tempfile().unwrap()
    }

    #[test]
    fn the_newest_note_is_found_and_a_torn_one_leaves_the_one_before() {
        let file = file();
        assert_eq!(read(&file).unwrap().next_epoch(), Some(1));
        for epoch in 1..=5 {
            write(&file, &note(epoch)).unwrap();
            assert_eq!(read(&file).unwrap(), Slots { newest: Some(note(epoch)), broken: 0 });
        }
        // Every length at which writing epoch 6 can be cut off: its slot holds the beginning of 6 and the rest of 4.
        let whole = {
            let other = self::file();
            write(&other, &note(6)).unwrap();
            read_slot(&other, number_of(6)).unwrap()
        };
        let before = read_slot(&file, number_of(6)).unwrap();
        let mut broken = 0;
        for cut in 0..SLOT_BYTES {
            let torn = [&whole[..cut], &before[cut..]].concat();
            file.write_all_at(&torn, offset(number_of(6))).unwrap();
            let slots = read(&file).unwrap();
            broken += slots.broken;
            assert!([Some(note(5)), Some(note(6))].contains(&slots.newest), "cut at {cut}: {slots:?}");
            assert!(slots.next_epoch().unwrap() > 5);
        }
        assert!(broken > 100, "most of the cuts do leave a broken slot: {broken}");
    }

    #[test]
    fn no_epoch_is_ever_given_twice_when_a_slot_is_unreadable() {
        let file = file();
        file.write_all_at(b"{\"epoch\":1,", offset(number_of(1))).unwrap();
        assert_eq!(read(&file).unwrap().next_epoch(), Some(3), "1 may have been in use");
        write(&file, &note(4)).unwrap();
        assert_eq!(read(&file).unwrap().next_epoch(), Some(7), "5 may have been in use");
        file.write_all_at(b"garbage", offset(number_of(4))).unwrap();
        assert_eq!(read(&file).unwrap().next_epoch(), None);
    }
}
