//! JSON files of the vault: sealed, named by their digest, compressed since format version 2.

use std::io::Read;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Core, Id, VaultError};

/// Decompressed JSON beyond this is not believed.
const PLAIN_BYTES_MAX: u64 = 2 << 30;

/// Marks compressed JSON. Anything else must begin like JSON itself.
const COMPRESSED: u8 = 2;

/// The object's key.
pub(crate) fn object_key(folder: &str, id: Id) -> String {
    format!("{folder}/{id}")
}

/// A listed object's id, when its name is one. Others are left alone, as restic does.
pub(crate) fn listed_id(key: &str) -> Option<Id> {
    Id::from_hex(key.rsplit('/').next()?)
}

impl Core {
    /// Ids of the files in a folder. An incomplete listing is an error.
    pub fn list(&self, folder: &'static str) -> Result<Vec<Id>, VaultError> {
        let listed = self.store.list(folder).map_err(VaultError::object(format!("list the vault's {folder}")))?;
        // Objects without a byte are what an interrupted upload leaves in places that do not store all or nothing.
        Ok(listed.iter().filter(|object| object.size > 0).filter_map(|object| listed_id(&object.key)).collect())
    }

    /// Reads a file's stored bytes and checks them against its name.
    pub fn read_raw(&self, folder: &'static str, id: Id) -> Result<Bytes, VaultError> {
        let key = object_key(folder, id);
        let raw = self.store.get(&key).map_err(VaultError::object(format!("read one of the vault's {folder}")))?;
        if Id::of(&raw) != id {
            return Err(VaultError::damaged(key, "its content is not what its name says"));
        }
        Ok(raw)
    }

    /// Reads a JSON file.
    pub fn read_json<T: DeserializeOwned>(&self, folder: &'static str, id: Id) -> Result<T, VaultError> {
        self.parse_json(folder, id, &self.read_raw(folder, id)?)
    }

    /// Opens and reads a JSON file's stored bytes.
    pub fn parse_json<T: DeserializeOwned>(&self, folder: &'static str, id: Id, raw: &[u8]) -> Result<T, VaultError> {
        let damaged = |what: String| VaultError::damaged(object_key(folder, id), what);
        let mut sealed = raw.to_vec();
        let plain = self.sealer.open(&mut sealed);
        let plain =
            plain.ok_or_else(|| damaged("it was not sealed with this vault's key, or has changed".to_owned()))?;
        match plain.split_first() {
            Some((&COMPRESSED, packed)) => {
                let json = decompress(packed).map_err(|error| damaged(format!("it does not decompress: {error}")))?;
                serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))
            }
            Some((b'{' | b'[', _)) => serde_json::from_slice(plain).map_err(|error| damaged(error.to_string())),
            Some((other, _)) => Err(damaged(format!("it has the unknown encoding {other}"))),
            None => Err(damaged("it is empty".to_owned())),
        }
    }

    /// Seals and stores a JSON file.
    pub fn write_json(&self, folder: &'static str, value: &impl Serialize) -> Result<Id, VaultError> {
        let failed = |error: std::io::Error| VaultError::Start { what: "the compressor", source: error };
        let json = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
        let plain = if self.config.compresses() {
            let mut plain = vec![COMPRESSED];
            plain.extend(zstd::bulk::compress(&json, 1).map_err(failed)?);
            plain
        } else {
            json
        };
        let sealed = self.sealer.seal(&plain);
        let id = Id::of(&sealed);
        self.store
            .put(&object_key(folder, id), sealed.into())
            .map_err(VaultError::object(format!("write one of the vault's {folder}")))?;
        Ok(id)
    }

    /// Deletes a file; one that is not there is fine.
    pub fn delete(&self, folder: &'static str, id: Id) -> Result<(), VaultError> {
        let deleted = self.store.delete(&object_key(folder, id));
        deleted.map_err(VaultError::object(format!("delete one of the vault's {folder}")))
    }
}

/// Decompresses without believing the length that the compressed bytes declare.
fn decompress(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::new(packed)?.take(PLAIN_BYTES_MAX + 1);
    decoder.read_to_end(&mut plain)?;
    if plain.len() as u64 > PLAIN_BYTES_MAX {
        return Err(std::io::Error::other("it is larger than any such file may be"));
    }
    Ok(plain)
}
