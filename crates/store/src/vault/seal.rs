//! Sealing: AES-256-CTR with Poly1305-AES, laid out as nonce, ciphertext, tag. One master key per vault.

use std::{fmt, sync::Arc};

use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce, Tag, aead::AeadInPlace};
use lifeboat_io::Random;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes in front of the ciphertext.
pub(crate) const NONCE: usize = 16;
/// Bytes that sealing adds.
pub(crate) const OVERHEAD: usize = NONCE + 16;

/// A key in restic's order: 32 bytes for AES-256, then Poly1305-AES's `k` and `r`, 16 bytes each.
pub(crate) type RawKey = Zeroizing<[u8; 64]>;

/// Seals and opens with one key.
pub(crate) struct Sealer {
    cipher: Aes256CtrPoly1305Aes,
    key: RawKey,
    random: Arc<dyn Random>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Sealer")
    }
}

impl Sealer {
    pub fn new(key: RawKey, random: Arc<dyn Random>) -> Sealer {
        Sealer { cipher: Aes256CtrPoly1305Aes::new(Key::from_slice(&*key)), key, random }
    }

    /// Seals what follows `start + NONCE` in the buffer, in place; the [`NONCE`] bytes at `start` are room for the nonce.
    pub fn seal_in_place(&self, buffer: &mut Vec<u8>, start: usize) {
        let mut nonce = [0; NONCE];
        loop {
            self.random.fill(&mut nonce);
            // The counter is the nonce's second half here and the whole nonce in restic: the same unless that half
            // runs over. One nonce in 2^32 could; we take another.
            if nonce[8..12] != [0xff; 4] {
                break;
            }
        }
        buffer[start..start + NONCE].copy_from_slice(&nonce);
        let body = &mut buffer[start + NONCE..];
        let tag = self
            .cipher
            .encrypt_in_place_detached(Nonce::from_slice(&nonce), &[], body)
            .expect("sealing fails only with associated data, and there is none");
        buffer.extend_from_slice(&tag);
    }

    /// A sealed copy.
    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD);
        sealed.resize(NONCE, 0);
        sealed.extend_from_slice(plain);
        self.seal_in_place(&mut sealed, 0);
        sealed
    }

    /// Opens in place and gives the plain part; nothing when the bytes were not sealed with this key or have changed.
    pub fn open<'a>(&self, sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let body = sealed.len().checked_sub(OVERHEAD)?;
        let (nonce, rest) = sealed.split_at_mut(NONCE);
        let (body, tag) = rest.split_at_mut(body);
        let opened = self.cipher.decrypt_in_place_detached(Nonce::from_slice(nonce), &[], body, Tag::from_slice(tag));
        opened.ok().map(|()| body)
    }

    /// A secret for another purpose: HMAC-SHA256 of the purpose under the master key.
    pub fn derive(&self, purpose: &[&[u8]]) -> [u8; 32] {
        // The key is exactly one block of SHA-256, so HMAC needs neither padding nor hashing of it.
        let inner_key: Zeroizing<[u8; 64]> = Zeroizing::new(self.key.map(|byte| byte ^ 0x36));
        let outer_key: Zeroizing<[u8; 64]> = Zeroizing::new(self.key.map(|byte| byte ^ 0x5c));
        let mut inner = Sha256::new_with_prefix(&inner_key[..]);
        purpose.iter().for_each(|part| inner.update(part));
        Sha256::new_with_prefix(&outer_key[..]).chain_update(inner.finalize()).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_io::SystemRandom;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(Zeroizing::new([byte; 64]), Arc::new(SystemRandom))
    }

    #[test]
    fn what_is_sealed_opens_and_every_flipped_bit_is_seen() {
        for plain in [&b""[..], b"x", b"some words that are longer than one block of the cipher"] {
            let sealed = sealer(1).seal(plain);
            assert_eq!(sealed.len(), plain.len() + OVERHEAD);
            assert_eq!(sealer(1).open(&mut sealed.clone()).unwrap(), plain);
            assert!(sealer(2).open(&mut sealed.clone()).is_none(), "another key");
            for bit in 0..sealed.len() * 8 {
                let mut flipped = sealed.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(sealer(1).open(&mut flipped).is_none(), "bit {bit}");
            }
        }
        assert!(sealer(1).open(&mut [0; OVERHEAD - 1]).is_none());
    }

    #[test]
    fn derived_secrets_are_hmac_sha256() {
        // Computed with Python's hmac.new(bytes([1]) * 64, b"env-digest", "sha256").
        let expected = "f2786846a0b913b7377eb4cc3552fe74f1a9306d0a7fc581f0f6a3d4c08208e3";
        assert_eq!(hex::encode(sealer(1).derive(&[b"env-", b"digest"])), expected);
        assert_ne!(sealer(1).derive(&[b"a"]), sealer(1).derive(&[b"b"]));
        assert_ne!(sealer(1).derive(&[b"a"]), sealer(2).derive(&[b"a"]));
    }
}
