//! Key files: the master key, sealed with a key that scrypt makes from a password. A vault may have several.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use lifeboat_io::{Io, Random};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::seal::{RawKey, Sealer};

/// The folder they lie in.
pub(crate) const FOLDER: &str = "keys";

/// What new key files use; what restic uses at least. 32 MiB and a tenth of a second.
const LOG_N: u8 = 15;
const R: u32 = 8;
const P: u32 = 1;

/// Beyond these a key file is hostile rather than careful: 512 MiB, and about ten seconds.
const MEMORY_BYTES_MAX: u64 = 512 << 20;
const WORK_MAX: u64 = 1 << 25;

/// A key file as restic writes it.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    created: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

/// The master key inside, JSON as restic writes it.
#[derive(Serialize, Deserialize)]
struct MasterKey {
    mac: MacKey,
    encrypt: String,
}

#[derive(Serialize, Deserialize)]
struct MacKey {
    k: String,
    r: String,
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.mac.k.zeroize();
        self.mac.r.zeroize();
        self.encrypt.zeroize();
    }
}

/// What a password says to a key file.
pub(crate) enum Opened {
    /// The master key.
    Key(RawKey),
    /// The file is whole, but this is not its password.
    WrongPassword,
    /// The file cannot be used with any password, and why.
    Damaged(String),
}

/// Bytes of a new key file for the master key.
pub(crate) fn write(master: &RawKey, password: &SecretString, io: &Io) -> Result<Vec<u8>, serde_json::Error> {
    let mut salt = [0; 64];
    io.random.fill(&mut salt);
    let params = scrypt::Params::new(LOG_N, R, P).expect("these parameters are scrypt's own example");
    let wrapping = Sealer::new(stretch(password, &salt, &params), io.random.clone());
    let json = Zeroizing::new(serde_json::to_vec(&MasterKey {
        mac: MacKey { k: BASE64.encode(&master[32..48]), r: BASE64.encode(&master[48..]) },
        encrypt: BASE64.encode(&master[..32]),
    })?);
    serde_json::to_vec(&KeyFile {
        created: io.clock.now().to_string(),
        username: io.env.user(),
        hostname: io.env.host(),
        kdf: "scrypt".to_owned(),
        n: 1 << LOG_N,
        r: R,
        p: P,
        salt: BASE64.encode(salt),
        data: BASE64.encode(wrapping.seal(&json)),
    })
}

/// A new master key.
pub(crate) fn random_master(random: &dyn Random) -> RawKey {
    let mut key = Zeroizing::new([0; 64]);
    random.fill(&mut *key);
    clamp(&mut key);
    key
}

/// Clears the bits of `r` that Poly1305 does not use. restic does so before it writes a key, and secrets that are derived from
/// the master key must not depend on who wrote the key file.
fn clamp(key: &mut RawKey) {
    for place in [3, 7, 11, 15] {
        key[48 + place] &= 0x0f;
    }
    for place in [4, 8, 12] {
        key[48 + place] &= 0xfc;
    }
}

/// Tries a password on a key file.
pub(crate) fn open(file: &[u8], password: &SecretString, random: &Arc<dyn Random>) -> Opened {
    let parsed = match serde_json::from_slice::<KeyFile>(file) {
        Ok(parsed) => parsed,
        Err(error) => return Opened::Damaged(error.to_string()),
    };
    let params = match checked_params(&parsed) {
        Ok(params) => params,
        Err(why) => return Opened::Damaged(why),
    };
    let (Ok(salt), Ok(mut data)) = (BASE64.decode(&parsed.salt), BASE64.decode(&parsed.data)) else {
        return Opened::Damaged("its salt or data is not base64".to_owned());
    };
    let wrapping = Sealer::new(stretch(password, &salt, &params), random.clone());
    let Some(json) = wrapping.open(&mut data) else { return Opened::WrongPassword };
    let master = read_master(json);
    json.zeroize();
    master.map_or_else(|| Opened::Damaged("what is sealed in it is no master key".to_owned()), Opened::Key)
}

fn checked_params(file: &KeyFile) -> Result<scrypt::Params, String> {
    if file.kdf != "scrypt" {
        return Err(format!("its key derivation {:?} is not known", file.kdf));
    }
    let block = 128 * u64::from(file.r);
    let memory = file.n.checked_add(u64::from(file.p)).and_then(|blocks| blocks.checked_mul(block));
    let work = file.n.checked_mul(u64::from(file.r)).and_then(|work| work.checked_mul(u64::from(file.p)));
    if memory.is_none_or(|bytes| bytes > MEMORY_BYTES_MAX) || work.is_none_or(|work| work > WORK_MAX) {
        return Err(format!("its scrypt parameters N={} r={} p={} are beyond all reason", file.n, file.r, file.p));
    }
    if !file.n.is_power_of_two() || file.n < 2 {
        return Err(format!("its scrypt parameter N={} is not a power of two", file.n));
    }
    let params = scrypt::Params::new(file.n.ilog2() as u8, file.r, file.p);
    params.map_err(|_| format!("its scrypt parameters N={} r={} p={} are invalid", file.n, file.r, file.p))
}

fn stretch(password: &SecretString, salt: &[u8], params: &scrypt::Params) -> RawKey {
    let mut key = Zeroizing::new([0; 64]);
    scrypt::scrypt(password.expose_secret().as_bytes(), salt, params, &mut *key)
        .expect("64 bytes are a length that scrypt gives");
    key
}

fn read_master(json: &[u8]) -> Option<RawKey> {
    let master: MasterKey = serde_json::from_slice(json).ok()?;
    let mut key = Zeroizing::new([0; 64]);
    for (range, text) in [(0..32, &master.encrypt), (32..48, &master.mac.k), (48..64, &master.mac.r)] {
        let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
        key[range.clone()].copy_from_slice(bytes.get(..).filter(|bytes| bytes.len() == range.len())?);
    }
    clamp(&mut key);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn a_password_opens_its_own_key_file_and_no_other_does() {
        let io = Io::system();
        let master = random_master(&*io.random);
        let file = write(&master, &password("open sesame"), &io).unwrap();
        assert!(matches!(open(&file, &password("open sesame"), &io.random), Opened::Key(key) if key == master));
        assert!(matches!(open(&file, &password("Open sesame"), &io.random), Opened::WrongPassword));
    }

    #[test]
    fn hostile_and_broken_key_files_are_damaged_not_obeyed() {
        let io = Io::system();
        let file = write(&random_master(&*io.random), &password("p"), &io).unwrap();
        let text = String::from_utf8(file).unwrap();
        for (from, to) in [
            ("\"N\":32768", "\"N\":1099511627776"),
            ("\"N\":32768", "\"N\":32767"),
            ("\"N\":32768", "\"N\":0"),
            ("\"N\":32768", "\"N\":18446744073709551615"),
            ("\"r\":8", "\"r\":4294967295"),
            ("\"r\":8", "\"r\":0"),
            ("\"p\":1", "\"p\":4294967295"),
            ("\"p\":1", "\"p\":0"),
            ("scrypt", "md5"),
            ("\"salt\":\"", "\"salt\":\"!"),
            ("{", ""),
        ] {
            let broken = text.replacen(from, to, 1);
            assert_ne!(broken, text);
            let opened = open(broken.as_bytes(), &password("p"), &io.random);
            assert!(matches!(opened, Opened::Damaged(_)), "{from} -> {to}");
        }
    }
}
