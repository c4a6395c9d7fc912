//! Files for somebody else's eyes only: encrypted for people's public keys, in the format of `age`, whose own program opens
//! them. There is no key of ours in it.

use std::{
    io::{Read, Write},
    path::Path,
};

use crate::{PathError, Stop, files};

/// Why a file could not be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A word that is no public key.
    #[error("{text:?} is no public key of age: {why}")]
    Recipient {
        /// The word.
        text: String,
        /// Why not.
        why: &'static str,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It was stopped.
    #[error(transparent)]
    Stopped(#[from] crate::Stopped),
}

fn recipient(text: &str) -> Result<age::x25519::Recipient, SealError> {
    text.parse().map_err(|why| SealError::Recipient { text: text.to_owned(), why })
}

/// Looks whether all words are public keys (`age1...`).
///
/// # Errors
/// The first that is none.
pub fn check_recipients(texts: &[String]) -> Result<(), SealError> {
    texts.iter().try_for_each(|text| recipient(text).map(|_| ()))
}

/// Writes an encrypted copy of a file, for its owner's eyes only; whoever has the secret key of one of these public ones
/// can open it. Gives the bytes that were read.
///
/// # Errors
/// No public key, a file that cannot be read or written, [`Stop`].
pub fn encrypt(from: &Path, to: &Path, recipients: &[String], stop: &Stop) -> Result<u64, SealError> {
    let recipients: Vec<age::x25519::Recipient> =
        recipients.iter().map(|text| recipient(text)).collect::<Result<_, _>>()?;
    let nobody = |_error| SealError::Recipient { text: String::new(), why: "nobody is named" };
    let encryptor =
        age::Encryptor::with_recipients(recipients.iter().map(|one| one as &dyn age::Recipient)).map_err(nobody)?;
    let mut source = files::open(from)?;
    let reading = |source| PathError { path: from.to_owned(), source };
    let copied = files::write_stream(to, 0o600, |target| -> Result<u64, SealError> {
        let writing = |source| PathError { path: to.to_owned(), source };
        let mut sealed = encryptor.wrap_output(target).map_err(writing)?;
        let (mut piece, mut bytes) = (vec![0; 1 << 20], 0);
        loop {
            stop.check()?;
            let read = source.read(&mut piece).map_err(reading)?;
            if read == 0 {
                break;
            }
            sealed.write_all(&piece[..read]).map_err(writing)?;
            bytes += read as u64;
        }
        sealed.finish().map_err(writing)?;
        Ok(bytes)
    });
    copied?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_it() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, sealed) = (folder.path().join("plain"), folder.path().join("sealed.age"));
        let text = b"personal data, again and again; ".repeat(100_000);
        std::fs::write(&plain, &text).unwrap();
        let (key, other) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
        let bytes = encrypt(&plain, &sealed, &[key.to_public().to_string()], &Stop::default()).unwrap();
        assert_eq!(bytes, text.len() as u64);
        let body = std::fs::read(&sealed).unwrap();
        assert!(!body.windows(13).any(|part| part == b"personal data"));
        assert_eq!(age::decrypt(&key, &body).unwrap(), text);
        assert!(age::decrypt(&other, &body).is_err());
        assert!(encrypt(&plain, &sealed, &["age1nonsense".into()], &Stop::default()).is_err());
        assert!(encrypt(&plain, &sealed, &[], &Stop::default()).is_err());
    }
}
