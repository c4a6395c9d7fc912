//! Objects in memory.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::objects::{ObjectError, ObjectErrorKind, ObjectInfo, ObjectStore};

/// Objects in memory.
#[derive(Debug, Default)]
pub struct MemoryObjects {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryObjects {
    /// No objects.
    pub fn new() -> MemoryObjects {
        MemoryObjects::default()
    }

    /// These objects.
    pub fn with(objects: BTreeMap<String, Bytes>) -> MemoryObjects {
        MemoryObjects { objects: Mutex::new(objects) }
    }

    /// All objects as they are now. (Bodies are shared, not copied.)
    pub fn all(&self) -> BTreeMap<String, Bytes> {
        self.lock().clone()
    }

    /// Changes an object behind everybody's back.
    pub fn damage(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut objects = self.lock();
        let mut body = objects.get(key).map(|body| body.to_vec()).unwrap_or_default();
        change(&mut body);
        objects.insert(key.to_owned(), body.into());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, key: &str, kind: ObjectErrorKind, why: &'static str) -> ObjectError {
        ObjectError { kind, place: self.place(), key: key.to_owned(), doing: "read", source: why.into() }
    }
}

impl ObjectStore for MemoryObjects {
    fn place(&self) -> String {
        "memory".into()
    }

    fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        self.lock().insert(key.to_owned(), body);
        Ok(())
    }

    fn put_new(&self, key: &str, body: Bytes) -> Result<bool, ObjectError> {
        let mut objects = self.lock();
        let free = !objects.contains_key(key);
        if free {
            objects.insert(key.to_owned(), body);
        }
        Ok(free)
    }

    fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        let missing = || self.error(key, ObjectErrorKind::Missing, "there is no such object");
        self.lock().get(key).cloned().ok_or_else(missing)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let body = self.get(key)?;
        if range.start > range.end || range.end > body.len() as u64 {
            return Err(self.error(key, ObjectErrorKind::Damaged, "the object ends before the wanted part"));
        }
        Ok(body.slice(range.start as usize..range.end as usize))
    }

    fn size(&self, key: &str) -> Result<u64, ObjectError> {
        Ok(self.get(key)?.len() as u64)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let objects = self.lock();
        let inside = objects.iter().filter(|(key, _)| key.starts_with(&folder));
        Ok(inside.map(|(key, body)| ObjectInfo { key: key.clone(), size: body.len() as u64 }).collect())
    }

    fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.lock().remove(key);
        Ok(())
    }
}
